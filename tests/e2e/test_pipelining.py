"""Requests that are sent before the answers to those in front of them have come: none is lost, none is answered early.

Source: spec/client-protocol.md sections 1.1, 2.2 (rule 5), 2.6 and 4.
"""

from lib import check, equal, until
import zk
from zk import Raw


def shared(t):
    return t.replica(config={"maxClientCnxns": 0, "coord.ioThreads": 3, "4lw.commands.whitelist": "*"})


def frame(xid, op, body=b""):
    payload = zk.i32(xid) + zk.i32(op) + body
    return zk.i32(len(payload)) + payload


def test_requests_behind_a_reconnect_are_processed(t):
    # Several, so that each I/O thread has one: the one of the core must not forget what it has read already.
    for n in range(6):
        first = Raw(t.shared)
        connect = Raw.connect_request(session=first.session, password=first.password)
        second = Raw(t.shared, connect=False, seconds=5)
        second.send(zk.i32(len(connect)) + connect + frame(1, zk.EXISTS, zk.ustr("/") + zk.flag(False)) +
                    frame(2, zk.CREATE, zk.create_body("/behind-%d" % n)) + frame(-2, zk.PING))
        equal(second.read_connected().session, first.session, "session of the second connection")
        for xid in (1, 2, -2):
            equal(second.reply(xid).err, 0, "request %d behind the ConnectRequest" % xid)
        second.close_socket()


def test_unknown_op_behind_writes_waits_for_its_turn(t):
    c = Raw(t.shared)
    for n in range(20):
        c.send(b"".join(frame(i + 1, zk.CREATE, zk.create_body("/unknown-%d-%d" % (n, i), b"x" * 2000))
                        for i in range(30)) +
               frame(31, zk.EXISTS, zk.ustr("/unknown-%d-29" % n) + zk.flag(False)) + frame(32, 999) +
               frame(33, zk.CREATE, zk.create_body("/unknown-%d-after" % n)))
        for i in range(31):
            equal(c.reply(i + 1).err, 0, "request %d before the unknown one" % (i + 1))
        last = c.reply(32)
        equal((last.err, last.zxid), (zk.UNIMPLEMENTED, -1), "the unknown one")
        check(c.closed(), "the connection must be closed behind it")
        c = Raw(t.shared)
        c.refused(zk.NO_NODE, zk.EXISTS, zk.ustr("/unknown-%d-after" % n) + zk.flag(False), "what came behind it")


def test_failed_authentication_behind_writes_waits_for_its_turn(t):
    for n in range(20):
        c = Raw(t.shared)
        c.send(b"".join(frame(i + 1, zk.CREATE, zk.create_body("/auth-%d-%d" % (n, i), b"x" * 2000))
                        for i in range(30)) +
               frame(-4, zk.AUTH, zk.i32(0) + zk.ustr("nonsense") + zk.buf(b"a")))
        for i in range(30):
            equal(c.reply(i + 1).err, 0, "request %d before the authentication" % (i + 1))
        equal(c.reply(-4).err, zk.AUTH_FAILED, "the authentication")
        check(c.closed(), "the connection must be closed behind it")


def test_close_session_behind_writes_and_reads(t):
    c = Raw(t.shared)
    other = Raw(t.shared)
    c.send(b"".join(frame(i + 1, zk.CREATE, zk.create_body("/close-%d" % i, b"x", flags=zk.EPHEMERAL))
                    for i in range(100)) +
           frame(101, zk.CHILDREN, zk.ustr("/") + zk.flag(False)) + frame(102, zk.CLOSE) +
           frame(103, zk.CREATE, zk.create_body("/close-after", flags=zk.EPHEMERAL)))
    for i in range(102):
        equal(c.reply(i + 1).err, 0, "request %d" % (i + 1))
    check(c.closed(), "closed after closeSession")
    left = [name for name in zk.Cursor(other.ok(zk.CHILDREN, zk.ustr("/") + zk.flag(False)).body).strings()
            if name.startswith("close-")]
    equal(left, [], "ephemerals of the closed session")


def resident_kib(pid):
    with open("/proc/%d/maps" % pid) as f:
        if "libasan" in f.read():
            return 0  # its quarantine keeps what was freed
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def test_pipelined_reads_of_a_large_node_take_little_memory(t):
    """3000 requests of 25 bytes ask for 3 GB: they are answered as the client reads, not into memory."""
    replica = t.replica(config={"maxClientCnxns": 0})
    big = Raw(replica, seconds=30, timeout=40000)
    big.ok(zk.CREATE, zk.create_body("/big", b"b" * 1000000))
    before = resident_kib(replica.pid)
    get = zk.ustr("/big") + zk.flag(False)
    for write in (b"", frame(1, zk.SET, zk.ustr("/big") + zk.buf(b"c" * 1000000) + zk.i32(-1))):
        c = Raw(replica, seconds=30, timeout=40000)
        c.send(write + b"".join(frame(i + 2, zk.GET, get) for i in range(3000)))
        for n in range(50):  # others are served while it does not read
            big.ok(zk.EXISTS, zk.ustr("/big") + zk.flag(False))
            big.ok(zk.CREATE, zk.create_body("/small-%d-%d" % (len(write), n)))
        grown = resident_kib(replica.pid) - before
        check(grown < 150 * 1024, "resident memory grew by %d KiB while a client did not read" % grown)
        if write:
            equal(c.reply(1).err, 0, "the write")
        for i in range(3000):
            got = c.reply(i + 2)
            equal((got.err, len(got.body)), (0, 4 + 1000000 + 68), "read %d" % i)
        c.close_socket()


def test_writes_among_throttled_reads_keep_their_order(t):
    replica = t.replica(config={"maxClientCnxns": 0})
    c = Raw(replica, seconds=30)
    c.ok(zk.CREATE, zk.create_body("/n", b"b" * 1000000))
    get = zk.ustr("/n") + zk.flag(False)
    data, expected = b"", []
    for i in range(300):
        data += frame(3 * i + 10, zk.CREATE, zk.create_body("/n/%d" % i)) + frame(3 * i + 11, zk.GET, get)
        data += frame(3 * i + 12, zk.CHILDREN2, get)
        expected += [3 * i + 10, 3 * i + 11, 3 * i + 12]
    data += frame(5000, zk.CLOSE)
    c.send(data)
    for xid in expected:
        got = c.reply(xid)
        equal(got.err, 0, "request %d" % xid)
        if xid % 3 == 0:  # xids 12, 15, ...: a read sees the writes before it
            names = zk.Cursor(got.body).strings()
            check(len(names) >= (xid - 12) // 3 + 1, "a read missed the write in front of it", xid, len(names))
    equal(c.reply(5000).err, 0, "closeSession")
    check(c.closed(), "closed after closeSession")


def test_memory_of_large_requests_is_given_back(t):
    replica = t.replica(config={"maxClientCnxns": 0})
    before = resident_kib(replica.pid)
    conns = [Raw(replica, seconds=30, timeout=40000) for _ in range(150)]
    conns[0].ok(zk.CREATE, zk.create_body("/v"))
    for c in conns:
        c.ok(zk.SET, zk.ustr("/v") + zk.buf(b"x" * 1000000) + zk.i32(-1))
        c.ok(zk.GET, zk.ustr("/v") + zk.flag(False))
    until(lambda: resident_kib(replica.pid) - before < 150 * 1024, 10,
          "150 connections that each sent and got a megabyte once do not keep it")
