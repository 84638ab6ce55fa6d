"""The replica at bad moments: stopped and continued, signals while it starts, sessions that move while they write, two
daemons that want the same, many nodes changed by one transaction, storms of reconnects.

Source: spec/client-protocol.md sections 2.4, 2.5, 9 and 17.1; design.md section 2.
"""

import os
import signal
import socket
import struct
import threading
import time

from lib import Failure, check, count, equal, free_port, program, run, until
import zk
from zk import Raw

BESIDE = 2


def frame(xid, op, body=b""):
    payload = zk.i32(xid) + zk.i32(op) + body
    return zk.i32(len(payload)) + payload


def exists(c, path):
    return c.call(zk.EXISTS, zk.ustr(path) + zk.flag(False)).err == 0


def test_writes_of_the_old_connection_end_when_the_session_moves(t):
    """What the old connection wrote is a prefix of what it sent, and nothing of it comes after the move."""
    replica = t.replica(config={"coord.ioThreads": 4, "maxClientCnxns": 0})
    watcher = Raw(replica)
    for n in range(count(15, 100)):
        old = Raw(replica)
        old.ok(zk.CREATE, zk.create_body("/m%d" % n))
        old.sock.settimeout(20)
        total = 3000
        data = b"".join(frame(i + 10, zk.CREATE, zk.create_body("/m%d/%05d" % (n, i), b"d" * 100))
                        for i in range(total))
        sender = threading.Thread(target=lambda: swallow(lambda: old.send(data)))
        sender.start()
        until(lambda: exists(watcher, "/m%d/00020" % n), 10, "writes have begun")
        new = Raw(replica, session=old.session, password=old.password)
        equal(new.session, old.session, "session taken over")
        new.ok(zk.CREATE, zk.create_body("/m%d/moved" % n))
        names = zk.Cursor(new.ok(zk.CHILDREN, zk.ustr("/m%d" % n) + zk.flag(False)).body).strings()
        written = sorted(int(name) for name in names if name != "moved")
        equal(written, list(range(len(written))), "the writes of the old connection have gaps")
        sender.join(20)
        while swallow(old.frame) is not None:  # until the server has closed
            pass
        again = zk.Cursor(new.ok(zk.CHILDREN, zk.ustr("/m%d" % n) + zk.flag(False)).body).strings()
        equal(len(again), len(names), "a write of the old connection was carried out after the session had moved")
        new.ok(zk.CLOSE)


def swallow(action):
    try:
        return action()
    except (OSError, Failure):
        return None


def test_minimum_session_timeout_of_zero(t):
    replica = t.replica(config={"minSessionTimeout": 0, "maxSessionTimeout": 5000})
    for wish in (0, -5, 1):
        c = Raw(replica, timeout=wish)
        check(c.connected.timeout > 0, "a timeout of 0 means an invalid session", c.connected)
        c.close_socket()
    check(replica.serving(), "still serving")


def test_write_on_its_way_when_the_session_moves(t):
    """One I/O thread is busy with slow reads of the old connection and has read the write behind them already."""
    replica = t.replica(config={"coord.ioThreads": 4, "maxClientCnxns": 0, "tickTime": 4000})
    setup = Raw(replica, seconds=30)
    setup.ok(zk.CREATE, zk.create_body("/many"))
    for n in range(10):
        ops = [(zk.CREATE, zk.create_body("/many/%d-%d" % (n, i))) for i in range(10000)]
        setup.ok(zk.MULTI, zk.multi_body(ops))
    slow = b"".join(frame(i + 1, zk.ALL_CHILDREN, zk.ustr("/many")) for i in range(150))
    overtaken, n = 0, 0
    # Connections go to the threads in turn: most pairs are on two of them. Which comes first is the machine's business,
    # so it is tried until the move has come first a few times.
    while overtaken < 3 and n < 100:
        n += 1
        old, new = Raw(replica, seconds=30), Raw(replica, seconds=30, connect=False)
        old.send(slow + frame(999, zk.CREATE, zk.create_body("/late%d" % n)))
        new.connected = new.handshake(session=old.session, password=old.password)
        equal(new.session, old.session, "session taken over")
        new.ok(zk.CREATE, zk.create_body("/before%d" % n))  # applied behind all that was proposed before the move
        before = exists(new, "/late%d" % n)
        while swallow(old.frame) is not None:  # until the server has closed
            pass
        new.ok(zk.CREATE, zk.create_body("/after%d" % n))  # behind whatever was on its way
        equal(exists(new, "/late%d" % n), before, "a write of the old connection was carried out after the move")
        overtaken += not before
        new.ok(zk.CLOSE)
    check(overtaken > 0, "the move never came first: this test has tried nothing")


def test_hangup_while_it_starts_does_not_end_it(t):
    """A reload may come at any moment: here while the configuration is being read."""
    replica = t.replica(start=False, config={})
    argv = replica.command()
    config = argv[argv.index("--config") + 1]
    with open(config, "rb") as f:
        text = f.read()
    os.unlink(config)
    os.mkfifo(config)
    replica.spawn(argv)
    pipe = until(lambda: open_pipe(config), 10, "coordd reads its configuration")
    for _ in range(20):
        os.kill(replica.pid, signal.SIGHUP)
    try:
        os.write(pipe, text)
    except BrokenPipeError:
        pass  # it is dead: what follows says so
    os.close(pipe)
    replica.wait_ready()
    for _ in range(20):
        os.kill(replica.pid, signal.SIGHUP)
    Raw(replica).ok(zk.CREATE, zk.create_body("/a"))
    equal(replica.terminate(), 0, "exit status after SIGTERM")


def open_pipe(path):
    """Its writing end, once somebody has opened the reading one."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_stopped_replica_blames_nobody(t):
    """Frozen for longer than the session timeout: live clients keep their sessions, the dead one still expires."""
    replica = t.replica(config={"tickTime": 500, "minSessionTimeout": 1000, "maxClientCnxns": 0})
    live = [Raw(replica, timeout=2000) for _ in range(20)]
    dead = Raw(replica, timeout=2000)
    for i, c in enumerate(live + [dead]):
        c.ok(zk.CREATE, zk.create_body("/e%d" % i, flags=zk.EPHEMERAL))
    dead.close_socket()
    os.kill(replica.pid, signal.SIGSTOP)
    time.sleep(4)
    os.kill(replica.pid, signal.SIGCONT)
    began = time.monotonic()
    while time.monotonic() - began < 6:
        for i, c in enumerate(live):
            equal(c.call(zk.PING, xid=-2).err, 0, "ping of a live client")
            check(exists(c, "/e%d" % i), "the ephemeral of a live client")
        time.sleep(0.3)
    check(not exists(live[0], "/e20"), "the dead session must be over")


def test_second_daemon_on_the_same_directory_or_socket(t):
    replica = t.replica()
    c = Raw(replica)
    c.ok(zk.CREATE, zk.create_body("/a"))
    for data, sock, word in ((replica.data_dir, t.path("s2.sock"), "in use by another process"),
                             (t.path("other"), replica.socket, "already listens")):
        done = run(program("coordd"), "--data-dir", data, "--client-port", str(free_port()), "--socket", sock, ok=False)
        equal(done.returncode, 1, "exit status of the second")
        check(word in done.out + done.err, "message of the second", done.out, done.err)
    # A full queue of a stopped daemon is not a stale socket.
    os.kill(replica.pid, signal.SIGSTOP)
    waiting = []
    try:
        for _ in range(5000):
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            try:
                s.connect(replica.socket)
                waiting.append(s)
            except BlockingIOError:
                s.close()
                break
        done = run(program("coordd"), "--data-dir", t.path("other2"), "--socket", replica.socket, ok=False, timeout=10)
        equal(done.returncode, 1, "exit status of the third")
    finally:
        os.kill(replica.pid, signal.SIGCONT)
        for s in waiting:
            s.close()
    Raw(replica, unix=True).ok(zk.CREATE, zk.create_body("/b"))
    check(exists(c, "/b"), "the first goes on")


def pipeline(c, frames, step=500):
    for at in range(0, len(frames), step):
        chunk = frames[at:at + step]
        c.send(b"".join(chunk))
        for _ in chunk:
            got = c.reply()
            equal(got.err, 0, "request %d" % got.xid)


def test_session_with_many_ephemerals_closes(t):
    many = count(30000, 100000)
    replica = t.replica(config={"maxClientCnxns": 0})
    other, owner = Raw(replica, seconds=30, timeout=40000), Raw(replica, seconds=30, timeout=40000)
    for d in range(10):
        other.ok(zk.CREATE, zk.create_body("/d%d" % d))
    pipeline(owner, [frame(i + 1, zk.CREATE, zk.create_body("/d%d/e%07d" % (i % 10, i), flags=zk.EPHEMERAL))
                     for i in range(many)])
    owner.ok(zk.CLOSE)
    began, worst = time.monotonic(), 0
    while time.monotonic() - began < 1.5:
        at = time.monotonic()
        other.ok(zk.SET, zk.ustr("/d0") + zk.buf(b"x") + zk.i32(-1))
        worst = max(worst, time.monotonic() - at)
    check(worst < 3, "a write waited %.2f s behind the fold" % worst)
    for again in range(2):
        total = sum(zk.Cursor(other.ok(zk.ALL_CHILDREN, zk.ustr("/d%d" % d)).body).i32() for d in range(10))
        equal(total, 0, "ephemerals left")
        replica.kill9()
        replica.restart()
        other = Raw(replica, seconds=30)


def test_reconnect_storm_after_kills(t):
    """200 kazoo-like clients over kill -9: every session goes on, every acknowledged write is there."""
    replica = t.replica(config={"maxClientCnxns": 0, "coord.ioThreads": 2})
    clients = [Raw(replica, timeout=30000) for _ in range(200)]
    acknowledged = []
    for n in range(3):
        for i, c in enumerate(clients):
            c.xid = 0
            c.ok(zk.CREATE, zk.create_body("/s%d-%d" % (n, i), flags=zk.EPHEMERAL))
            acknowledged.append("/s%d-%d" % (n, i))
        for i, c in enumerate(clients):
            c.post(zk.SET, zk.ustr("/s%d-%d" % (n, i)) + zk.buf(b"late") + zk.i32(-1))
        replica.kill9()
        replica.restart()
        fresh = []
        for c in clients:
            connect = Raw.connect_request(session=c.session, password=c.password, timeout=30000, last_zxid=c.zxid)
            again = Raw(replica, connect=False)
            again.send(zk.i32(len(connect)) + connect + frame(-2, zk.PING))
            fresh.append((c, again))
        clients = []
        for old, again in fresh:
            again.connected = again.read_connected()
            equal(again.session, old.session, "the session goes on")
            equal(again.reply(-2).err, 0, "the ping behind it")
            clients.append(again)
            old.close_socket()
        names = set(zk.Cursor(clients[0].ok(zk.CHILDREN, zk.ustr("/") + zk.flag(False)).body).strings())
        lost = [p for p in acknowledged if p[1:] not in names]
        equal(lost, [], "acknowledged nodes that are gone")


def test_hostile_prefixes_take_no_memory(t):
    replica = t.replica(config={"maxClientCnxns": 0})
    good = Raw(replica)
    with open("/proc/%d/status" % replica.pid) as f:
        before = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
    held = []
    for _ in range(450):
        c = Raw(replica)
        c.send(struct.pack(">i", 1048575) + b"\0" * 10)
        held.append(c)
    for _ in range(450):
        c = Raw(replica, connect=False)
        c.send(struct.pack(">i", 44) + b"\0" * 10)
        held.append(c)
    good.ok(zk.CREATE, zk.create_body("/fine"))
    with open("/proc/%d/status" % replica.pid) as f:
        grown = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) - before
    check(grown < 40 * 1024, "900 idle connections took %d KiB" % grown)
    # More than a connect request can need is not waited for.
    c = Raw(replica, connect=False)
    c.send(struct.pack(">i", 1048575))
    check(c.closed(), "a first frame of 1 MiB is refused")


def test_multi_read_is_bounded(t):
    replica = t.replica()
    c = Raw(replica, seconds=30)
    c.ok(zk.CREATE, zk.create_body("/big", b"b" * 1000000))
    one = zk.i32(zk.GET) + zk.flag(False) + zk.i32(-1) + zk.ustr("/big") + zk.flag(False)
    end = zk.i32(-1) + zk.flag(True) + zk.i32(-1)
    equal(len(zk.read_multi(c.ok(zk.MULTI_READ, one * 50 + end).body)), 50, "results")
    c.refused(-1, zk.MULTI_READ, one * 30000 + end)
    check(exists(c, "/big"), "the connection lives on")
