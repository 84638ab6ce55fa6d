"""Client protocol, section 1.1 and the items of section 18 about frames, paths and four-letter words."""

import os
import random
import re
import socket

import protocol
import zk
from lib import check, equal, until
from zk import buf, create_body, flag, i32, i64, ustr

JUTE_MAX = 0xfffff


def shared(t):
    return protocol.replica(t)


def serves(t):
    c = protocol.client(t)
    check(c.stat("/") is not None, "the server must go on serving")
    c.close()


def closes_without_reply(t, data, connected):
    c = protocol.client(t, connect=connected)
    c.send(data)
    check(c.closed(), "the server must close without a reply")
    serves(t)


def test_negative_length_closes(t):
    for connected in (False, True):
        closes_without_reply(t, i32(-1), connected)
        closes_without_reply(t, b"\x80\0\0\0", connected)


def test_length_above_jute_maxbuffer_closes(t):
    """18.27: oversize frame: close without reply."""
    for connected in (False, True):
        closes_without_reply(t, i32(JUTE_MAX + 1), connected)
        closes_without_reply(t, b"\x7f\xff\xff\xff", connected)


def test_zero_length_and_short_header_close(t):
    closes_without_reply(t, i32(0), False)
    closes_without_reply(t, i32(0), True)
    for size in range(1, 8):
        closes_without_reply(t, i32(size) + b"\0" * size, True)


def test_malformed_connect_request_closes(t):
    good = zk.Raw.connect_request()
    for cut in (1, 8, 20, 27, 30):
        closes_without_reply(t, i32(cut) + good[:cut], False)
    # A password longer than the frame.
    closes_without_reply(t, i32(28) + good[:24] + i32(1000), False)


def test_frame_of_exactly_jute_maxbuffer_is_processed(t):
    """18.27: a frame of exactly jute.maxbuffer is processed."""
    c = protocol.client(t)
    path = "/max"
    overhead = 8 + len(create_body(path, b""))
    data = os.urandom(JUTE_MAX - overhead)
    body = create_body(path, data)
    equal(8 + len(body), JUTE_MAX, "frame length")
    c.ok(zk.CREATE, body)
    got, stat = c.get(path)
    check(got == data and stat.data_length == len(data), "data of the largest frame comes back")
    c.delete(path)


def test_reply_may_exceed_jute_maxbuffer(t):
    """18.27: replies may exceed it by any amount (getChildren of 20 MB)."""
    c = protocol.client(t, seconds=60)
    home = protocol.home(t, c)
    total, batch = 10000, 100
    tail = "x" * 1990
    for start in range(0, total, batch):
        xids = [c.post(zk.CREATE, create_body("%s/%05d%s" % (home, i, tail))) for i in range(start, start + batch)]
        for xid in xids:
            equal(c.reply(xid).err, 0, "create")
    names = c.children(home)
    equal(len(names), total, "children")
    check(names[0] == "00000" + tail and names[-1] == "%05d%s" % (total - 1, tail), "all names are whole")


def test_garbage_body_is_marshalling_error_and_connection_lives(t):
    """18.28: garbage body: -5 and the connection lives on."""
    c = protocol.client(t)
    bodies = [
        (zk.CREATE, b""), (zk.CREATE, ustr("/g") + i32(1000)), (zk.CREATE, ustr("/g") + buf(b"") + i32(1)),
        (zk.CREATE, i32(-2)), (zk.CREATE2, b"\0\0"), (zk.DELETE, ustr("/g")), (zk.EXISTS, ustr("/g")),
        (zk.GET, i32(100) + b"/g"), (zk.SET, ustr("/g") + buf(b"x")), (zk.GET_ACL, b""), (zk.SET_ACL, ustr("/g")),
        (zk.CHILDREN, b"\0"), (zk.CHILDREN2, b""), (zk.SYNC, b"\0\0\0"), (zk.SET_WATCHES, i64(0)),
        (zk.SET_WATCHES2, i64(0)), (zk.ADD_WATCH, ustr("/g")), (zk.REMOVE_WATCHES, ustr("/g")),
        (zk.MULTI, b"\0\0"), (zk.ALL_CHILDREN, b"\0"), (zk.GET_EPHEMERALS, b"\0\0"),
        (zk.CREATE_TTL, create_body("/g", flags=5)), (zk.CREATE_CONTAINER, b"\7"),
    ]
    for op, body in bodies:
        c.refused(zk.MARSHALLING, op, body, "garbage body of")
    c.refused(zk.MARSHALLING, zk.GET, i32(-1) + flag(False), "null path in")
    c.refused(zk.MARSHALLING, zk.CHILDREN, i32(-1) + flag(False), "null path in")
    for mode in (-1, 2, 7):
        c.refused(zk.MARSHALLING, zk.ADD_WATCH, ustr("/g") + i32(mode), "bad mode in")
    for kind in (0, 6, -3):
        c.refused(zk.MARSHALLING, zk.REMOVE_WATCHES, ustr("/g") + i32(kind), "bad type in")
    check(c.stat("/") is not None, "the connection lives on")


def test_trailing_bytes_are_ignored(t):
    c = protocol.client(t)
    got = c.ok(zk.EXISTS, ustr("/") + flag(False) + b"surplus")
    equal(len(got.body), 68, "Stat")
    check(c.stat("/") is not None, "the connection lives on")


def test_negative_vector_length_decodes_as_empty(t):
    """Section 1: null is -1; other negative counts of a vector decode as empty, not as an error."""
    c = protocol.client(t)
    body = ustr("/vec") + buf(b"") + i32(-7) + i32(0)
    c.refused(zk.INVALID_ACL, zk.CREATE, body, "an empty ACL is")
    c.refused(zk.INVALID_ACL, zk.CREATE, ustr("/vec") + buf(b"") + i32(-1) + i32(0), "a null ACL is")


def test_undecodable_auth_closes(t):
    for op, body in ((zk.AUTH, b"\0\0"), (zk.AUTH, i32(0) + i32(500) + b"digest"), (zk.SASL, b"\0\0")):
        c = protocol.client(t)
        c.post(op, body, xid=-4 if op == zk.AUTH else None)
        check(c.closed(), "an undecodable body of auth or sasl closes the connection")
    serves(t)


def test_unknown_opcode_is_unimplemented_then_close(t):
    """18.28: unknown opcode (also 0, -1 and check outside multi): -6 with zxid -1, then close."""
    for op in (0, -1, zk.CHECK, 10, 50, 99, 108, 999, -2, 2**31 - 1, -2**31):
        c = protocol.client(t)
        body = ustr("/") + i32(-1) if op == zk.CHECK else b""
        got = c.call(op, body)
        equal((got.err, got.zxid, got.body), (zk.UNIMPLEMENTED, -1, b""), "answer to opcode %d" % op)
        check(c.closed(), "after an unknown opcode (%d) the connection closes" % op)
    serves(t)


def test_internal_opcodes_are_refused(t):
    """Section 3.1: deleteContainer stays internal; createSession never comes from clients."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    for op, body in ((zk.DELETE_CONTAINER, ustr(home)), (zk.CREATE_SESSION, i32(5000) + i64(1))):
        other = protocol.client(t)
        equal(other.call(op, body).err, zk.UNIMPLEMENTED, "internal opcode %d" % op)
    check(c.stat(home) is not None, "nothing was deleted")


def test_wrong_null_fields_never_crash(t):
    c = protocol.client(t)
    for op, body in ((zk.CREATE, i32(-1) + buf(b"") + zk.acls(zk.ANYONE) + i32(0)), (zk.DELETE, i32(-1) + i32(-1)),
                     (zk.SET, i32(-1) + buf(None) + i32(-1)), (zk.EXISTS, i32(-1) + flag(False)),
                     (zk.GET_ACL, i32(-1)), (zk.SET_ACL, i32(-1) + zk.acls(zk.ANYONE) + i32(-1))):
        got = c.call(op, body)
        check(got.err in (zk.MARSHALLING, zk.BAD_ARGUMENTS, zk.NO_NODE), "null path in op %d" % op, got)
    serves(t)


def test_pipelined_behind_connect(t):
    """18.38: bytes behind the ConnectRequest are processed after the session is up, in order."""
    c = protocol.client(t, connect=False)
    connect = c.connect_request()
    frames = [i32(1) + i32(zk.CREATE) + create_body("/pipelined", b"1"),
              i32(2) + i32(zk.SET) + ustr("/pipelined") + buf(b"2") + i32(0),
              i32(3) + i32(zk.GET) + ustr("/pipelined") + flag(False)]
    c.send(b"".join(i32(len(f)) + f for f in [connect] + frames))
    check(c.read_connected().session != 0, "session")
    equal([c.reply(x).err for x in (1, 2)], [0, 0], "create and set")
    cursor = zk.Cursor(c.reply(3).body)
    equal(cursor.buf(), b"2", "the read behind the write sees it")


def test_frame_in_single_bytes(t):
    c = protocol.client(t, connect=False)
    frame = c.connect_request()
    for at in range(len(frame) + 4):
        c.send((i32(len(frame)) + frame)[at:at + 1])
    check(c.read_connected().session != 0, "a handshake byte by byte")
    body = i32(1) + i32(zk.EXISTS) + ustr("/") + flag(False)
    for at in range(len(body) + 4):
        c.send((i32(len(body)) + body)[at:at + 1])
    equal(c.reply(1).err, 0, "a request byte by byte")


def test_replies_in_request_order(t):
    c = protocol.client(t)
    home = protocol.home(t, c)
    xids = []
    for number in range(300):
        xids.append(c.post(zk.CREATE, create_body("%s/n%d" % (home, number))))
        xids.append(c.post(zk.EXISTS, ustr("%s/n%d" % (home, number)) + flag(False)))
        xids.append(c.post(zk.SYNC, ustr("/")))
        xids.append(c.post(zk.PING, xid=-2))
    for xid in xids:
        equal(c.reply(xid).err, 0, "reply to xid %d (a read behind a write sees it)" % xid)


def test_path_rules(t):
    """18.25, 18.26 and section 10: which paths a create refuses."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    for name in ("\x01", "b\x1e", "b\x7f", "b\x80", "b\x9f", "\ue000", "\uf8ff", "\ufff0", "\ufffd", "\uffff",
                 "\U0001f600", ".", "..", "", "a//b"):
        parent_missing = name in ("a//b",)
        got = c.call(zk.CREATE, create_body("%s/%s" % (home, name)))
        check(got.err == zk.BAD_ARGUMENTS or (parent_missing and got.err == zk.NO_NODE),
              "create of %r must be refused with -8, got %d" % (name, got.err))
    equal(c.call(zk.CREATE, create_body(home + "/b\0")).err, zk.BAD_ARGUMENTS, "NUL in a path")
    equal(c.call(zk.CREATE, ustr(home.encode() + b"/\xff\xfe") + buf(b"") + zk.acls(zk.ANYONE) + i32(0)).err,
          zk.BAD_ARGUMENTS, "invalid UTF-8")
    for name in (" ", "a b", "..a", "a..", "...", "~", "\u00a0", "äh", "\ud7ff", "\uf900", "\uffef"):
        equal(c.create("%s/%s" % (home, name)), "%s/%s" % (home, name), "name of created node")
        check(name in c.children(home), "listed", name)


def test_create_special_paths(t):
    """18.25: create("/") -110, "noslash" -8, "a/b" -101, "/a/" -8, "/a/" with a sequence -> /a/0000000000."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    c.refused(zk.NODE_EXISTS, zk.CREATE, create_body("/"), "create of /")
    c.refused(zk.BAD_ARGUMENTS, zk.CREATE, create_body("noslash"), "create of noslash")
    c.refused(zk.NO_NODE, zk.CREATE, create_body("a/b"), "create of a/b")
    c.refused(zk.BAD_ARGUMENTS, zk.CREATE, create_body(home + "/"), "create of %s/" % home)
    c.refused(zk.NO_NODE, zk.CREATE, create_body("/absent/"), "create below nothing")
    equal(c.create(home + "/", flags=zk.SEQ), home + "/0000000000", "sequence below %s/" % home)


def test_create_flags(t):
    """Section 3: flags 0 to 6; anything else is BadArguments."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    for flags in (-1, 7, 8, 100, -2**31):
        c.refused(zk.BAD_ARGUMENTS, zk.CREATE, create_body(home + "/f", flags=flags), "flags %d in" % flags)
    check(c.stat(home + "/f") is None, "nothing was created")


def test_reads_do_not_validate_paths(t):
    """Section 3.1: getData of /a//b is NoNode."""
    c = protocol.client(t)
    c.refused(zk.NO_NODE, zk.GET, ustr("/a//b") + flag(False))
    c.refused(zk.NO_NODE, zk.CHILDREN, ustr("/a//b") + flag(False))
    c.refused(zk.BAD_ARGUMENTS, zk.EXISTS, ustr("/a\0b") + flag(False))
    c.refused(zk.BAD_ARGUMENTS, zk.SET, ustr("/a//b") + buf(b"") + i32(-1))


def test_four_letter_words(t):
    """18.40: ruok exactly imok, isro exactly rw; the formats of srvr, stat, mntr, conf, envi (section 12.1)."""
    r = t.shared
    equal(r.four("ruok"), b"imok", "ruok")
    equal(r.four("isro"), b"rw", "isro")
    c = protocol.client(t)
    srvr = r.four("srvr").decode()
    for pattern in (r"^Zookeeper version: \S.*", r"^Latency min/avg/max: \d+/\d+(\.\d+)?/\d+$", r"^Received: \d+$",
                    r"^Sent: \d+$", r"^Connections: \d+$", r"^Outstanding: \d+$", r"^Zxid: 0x[0-9a-f]+$",
                    r"^Mode: standalone$", r"^Node count: \d+$"):
        check(re.search(pattern, srvr, re.M), "srvr has no line like %s" % pattern, srvr)
    stat = r.four("stat").decode()
    check("Clients:" in stat and re.search(r"^ /127\.0\.0\.1:\d+\[\d+\]\(.*\)$", stat, re.M), "clients", stat)
    mntr = dict(line.split("\t", 1) for line in r.four("mntr").decode().splitlines())
    for key in ("zk_version", "zk_server_state", "zk_znode_count", "zk_watch_count", "zk_ephemerals_count",
                "zk_num_alive_connections", "zk_outstanding_requests", "zk_packets_received", "zk_packets_sent",
                "zk_avg_latency", "zk_max_latency", "zk_min_latency", "zk_approximate_data_size",
                "zk_open_file_descriptor_count", "zk_max_file_descriptor_count"):
        check(key in mntr, "mntr has no %s" % key, sorted(mntr))
    equal(mntr["zk_server_state"], "standalone", "zk_server_state")
    conf = dict(line.split("=", 1) for line in r.four("conf").decode().splitlines() if "=" in line)
    equal((conf["clientPort"], conf["tickTime"], conf["minSessionTimeout"], conf["maxSessionTimeout"]),
          (str(r.port), "2000", "4000", "40000"), "conf")
    envi = r.four("envi").decode().splitlines()
    equal(envi[0], "Environment:", "first line of envi")
    check(re.match(r"zookeeper\.version=\d+(\.\d+)+", envi[1]), "first key of envi is zookeeper.version", envi[:2])
    c.close()


def test_four_letter_word_survives_half_close(t):
    """Section 12.1: netcat half-closes at once; the answer comes nevertheless."""
    with socket.create_connection(("127.0.0.1", t.shared.port), timeout=5) as s:
        s.sendall(b"ruok")
        s.shutdown(socket.SHUT_WR)
        equal(s.recv(100), b"imok", "ruok behind a half-close")


def test_four_letter_words_need_the_whitelist(t):
    """18.40: default whitelist is srvr; others answer a sentence, not silence."""
    r = t.replica(config={"4lw.commands.whitelist": "srvr, ruok"})
    check(b"Mode:" in r.four("srvr"), "srvr is on the list")
    for word in ("mntr", "conf", "stat", "envi", "dump", "wchs"):
        equal(r.four(word), ("%s is not executed because it is not in the whitelist.\n" % word).encode(), word)


def test_sync_op_echoes_missing_path(t):
    """18.35: sync on a missing path succeeds and echoes it."""
    c = protocol.client(t)
    got = c.ok(zk.SYNC, ustr("/not_there"))
    equal(got.body, ustr("/not_there"), "body of sync")


def test_unknown_four_bytes_close(t):
    for word in (b"abcd", b"GET ", b"RUOK", b"\x16\x03\x01\x02"):
        c = protocol.client(t, connect=False)
        c.send(word)
        check(c.closed(), "%r is an oversize length" % word)


def test_idle_connection_without_handshake_does_not_block_others(t):
    idle = [protocol.client(t, connect=False) for _ in range(20)]
    for c in idle:
        c.send(i32(45) + b"\0" * 10)  # half a ConnectRequest
    serves(t)


def test_max_client_connections(t):
    """maxClientCnxns: above it the accept succeeds, then close; a place that becomes free can be used."""
    r = t.replica(config={"maxClientCnxns": 3, "4lw.commands.whitelist": "*"})
    held = [zk.Raw(r) for _ in range(3)]
    extra = zk.Raw(r, connect=False)
    t.undo.callback(extra.close_socket)

    def refused():
        try:
            return extra.handshake() is None
        except (BrokenPipeError, ConnectionResetError):
            return True
    check(refused(), "a connection above maxClientCnxns is closed")
    held[0].close()
    until(lambda: zk.Raw(r).session != 0 if zk.Raw(r, connect=False).handshake() else False, 10, "a free place is used")


def test_random_frames_to_every_opcode(t):
    """Section 1.1 for bodies: random bytes under a valid header never harm the server or another client."""
    good = protocol.client(t)
    home = protocol.home(t, good)
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    for _ in range(400):
        c = protocol.client(t)
        op = dice.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 17, 18, 19, 21, 22, 101, 103, 104, 105, 106, 107])
        body = bytes(dice.randrange(256) if dice.random() < 0.5 else 0 for _ in range(dice.randrange(60)))
        c.post(op, body)
        got = c.frame()
        if got is not None:
            check(len(got) >= 16, "seed %d: a reply header is 16 bytes" % seed, op, body, got)
        c.close_socket()
    check(good.stat(home) is not None, "seed %d: the other client is unaffected" % seed)
