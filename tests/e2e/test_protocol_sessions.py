"""Client protocol, section 2: connect, reconnect, expiry, close; with the items of section 18 about sessions."""

import contextlib
import time

import protocol
import zk
from lib import check, equal, until
from zk import create_body, flag, i32, i64, ustr

BESIDE = 2

INVALID = i32(0) + i32(0) + i64(0) + i32(16) + b"\0" * 16


def shared(t):
    return protocol.replica(t)


def test_connect_response_layout(t):
    """Section 2.1: 36 or 37 bytes; the readOnly byte iff the request carried it (18.16)."""
    for read_only, length in ((None, 36), (False, 37), (True, 37)):
        c = protocol.client(t, connect=False)
        got = c.handshake(read_only=read_only)
        equal(len(got.payload), length, "payload for readOnly=%r" % read_only)
        check(got.session != 0 and len(got.password) == 16, "session and password", got)
        equal(got.read_only, b"" if read_only is None else b"\0", "readOnly")
        c.close()


def test_timeout_is_clamped(t):
    """Section 2.2: clamp to 2 and 20 ticks of 2000 ms."""
    for asked, given in ((500, 4000), (4000, 4000), (12345, 12345), (40000, 40000), (10**6, 40000), (0, 4000),
                         (-5, 4000)):
        c = protocol.client(t, connect=False)
        equal(c.handshake(timeout=asked).timeout, given, "timeout for %d" % asked)
        c.close()


def test_null_or_empty_password_for_a_new_session(t):
    for password in (None, b""):
        c = protocol.client(t, connect=False)
        check(c.handshake(password=password).session != 0, "a new session with password %r" % password)
        c.close()


def test_session_ids_are_distinct_and_legal(t):
    """Section 2.3: never 0, never 0x8000000000000000, top byte never 0xff; ids count up."""
    ids = []
    for _ in range(50):
        c = protocol.client(t)
        ids.append(c.session)
        c.close()
    equal(len(set(ids)), 50, "distinct ids")
    for session in ids:
        unsigned = session & (2**64 - 1)
        check(unsigned not in (0, 1 << 63) and unsigned >> 56 != 0xff, "illegal session id %x" % unsigned)


def test_passwords_differ_between_sessions(t):
    first, second = protocol.client(t), protocol.client(t)
    check(first.password != second.password and first.password != b"\0" * 16, "passwords must not be guessable")


def test_last_zxid_in_the_future_closes(t):
    """18.15: TCP close with no bytes, not an expired response."""
    c = protocol.client(t, connect=False)
    check(c.handshake(last_zxid=1 << 60) is None, "a client that saw the future is closed without a byte")
    other = protocol.client(t)
    other.create("/zxid-probe")
    again = protocol.client(t, connect=False)
    check(again.handshake(last_zxid=other.zxid) is not None, "the zxid of a reply is accepted")
    other.delete("/zxid-probe")


def test_invalid_session_reply(t):
    """18.16: timeout 0, id 0, 16 zero bytes, then close; readOnly byte only if the request had it."""
    live = protocol.client(t)
    wrong = bytes([live.password[0] ^ 1]) + live.password[1:]
    cases = [(99999, b"\1" * 16), (live.session, wrong), (live.session, b"\0" * 16), (live.session, b""),
             (-5, b"\0" * 16), (live.session, live.password + b"x")]
    for session, password in cases:
        for read_only in (None, False):
            c = protocol.client(t, connect=False)
            got = c.handshake(session=session, password=password, read_only=read_only)
            check(got is not None, "an invalid session is answered, not closed", session)
            equal(got.payload, INVALID + (b"" if read_only is None else b"\0"), "reply for an invalid session")
            check(c.closed(), "close after the reply")


def test_reconnect_keeps_session_and_renegotiates_timeout(t):
    first = protocol.client(t, timeout=10000)
    first.create("/kept", flags=zk.EPHEMERAL)
    first.close_socket()
    second = protocol.client(t, connect=False)
    got = second.handshake(session=first.session, password=first.password, timeout=20000)
    equal((got.session, got.timeout, got.password), (first.session, 20000, first.password), "the renewed session")
    equal(second.stat("/kept").ephemeral_owner, first.session, "the ephemeral is still there")
    second.connected = got
    second.close()
    check(protocol.client(t).stat("/kept") is None, "gone with the session")


def test_reconnect_kills_the_older_connection(t):
    """18.17: a reconnect with the right id kills the older connection at once; the second can close for both."""
    first = protocol.client(t)
    first.create("/hijacked", flags=zk.EPHEMERAL)
    second = protocol.client(t, connect=False)
    equal(second.handshake(session=first.session, password=first.password).session, first.session, "session")
    check(first.closed(), "the older connection is closed")
    second.close()
    third = protocol.client(t, connect=False)
    got = third.handshake(session=first.session, password=first.password)
    equal(got.payload, INVALID + b"\0", "a closed session is expired")
    check(protocol.client(t).stat("/hijacked") is None, "its ephemeral is gone")


def test_close_session_replies_first(t):
    """18.18: reply with the request's xid before the close; ephemerals are gone when it arrives and share one zxid."""
    c, other = protocol.client(t), protocol.client(t)
    home = protocol.home(t, other)
    for number in range(5):
        c.create("%s/e%d" % (home, number), flags=zk.EPHEMERAL)
        check(other.stat("%s/e%d" % (home, number), watch=True) is not None, "there")
    xid = c.post(zk.CLOSE, xid=4711)
    got = c.reply(xid)
    equal((got.err, got.body), (0, b""), "closeSession")
    check(c.closed(), "then close")
    equal(other.children(home), [], "ephemerals are gone when the reply has come")
    equal(other.stat(home).pzxid, got.zxid, "they went with the zxid of the close")
    deleted = [e for e in other.early if e.type == zk.DELETED]
    equal(len(deleted), 5, "watch events of the deleted ephemerals")
    equal({e.zxid for e in deleted} - {-1}, {got.zxid} if deleted[0].zxid != -1 else set(), "zxids of the events")


def test_close_session_of_a_client_that_is_gone(t):
    """Section 2.6: if the client disappears before the reply, the session still closes."""
    c, other = protocol.client(t), protocol.client(t)
    c.create("/gone-closer", flags=zk.EPHEMERAL)
    c.post(zk.CLOSE)
    c.close_socket()
    until(lambda: other.stat("/gone-closer") is None, 3, "the session closes well before its timeout")


def test_create_behind_close_never_survives(t):
    """Section 2.5: an ephemeral create that races behind closeSession must never survive."""
    other = protocol.client(t)
    for _ in range(30):
        c = protocol.client(t, connect=False)
        frames = [c.connect_request(), i32(1) + i32(zk.CLOSE), i32(2) + i32(zk.CREATE) + create_body(
            "/racer", flags=zk.EPHEMERAL)]
        c.send(b"".join(i32(len(f)) + f for f in frames))
        while c.frame() is not None:
            pass
        check(other.stat("/racer") is None, "an ephemeral of a closed session")


def test_expiry_granularity(t):
    """18.19: timeout 4000 at tickTime 2000: dies between 4.0 and 6.0 s after the last sign of life, never earlier."""
    other = protocol.client(t, timeout=40000, seconds=20)
    silent = protocol.client(t, timeout=4000)
    silent.create("/silent", flags=zk.EPHEMERAL)
    start = time.monotonic()
    check(other.stat("/silent", watch=True) is not None, "there")
    event = other.event()
    took = time.monotonic() - start
    equal((event.type, event.path), (zk.DELETED, "/silent"), "event of the expiry")
    check(3.95 <= took <= 6.8, "expired after %.2f s" % took)
    check(silent.closed(), "the connection of an expired session is closed without a message")
    again = protocol.client(t, connect=False)
    equal(again.handshake(session=silent.session, password=silent.password).payload, INVALID + b"\0", "reconnect")


def test_ping_keeps_alive_and_auth_does_not(t):
    """18.37: ping: xid -2, current zxid, 16 bytes, keeps the session alive; auth alone does not."""
    pinging, knocking = protocol.client(t, timeout=4000), protocol.client(t, timeout=4000)
    pinging.create("/pinging", flags=zk.EPHEMERAL)
    knocking.create("/knocking", flags=zk.EPHEMERAL)
    other = protocol.client(t, timeout=40000)
    check(other.stat("/knocking", watch=True) is not None, "there")
    start = time.monotonic()

    def gone():
        pinging.send_frame(i32(-2) + i32(zk.PING))
        payload = pinging.frame()
        check(payload is not None and len(payload) == 16, "a ping reply is 16 bytes", payload)
        with contextlib.suppress(OSError):
            knocking.send_frame(i32(-4) + i32(zk.AUTH) + i32(0) + ustr("digest") + zk.buf(b"u:p"))
        time.sleep(0.1)  # the rhythm of the pings, not a wait for a state
        return other.stat("/knocking") is None
    until(gone, 8, "a session that only sends auth expires")
    check(time.monotonic() - start >= 3.9, "not earlier than its timeout")
    equal(pinging.stat("/pinging").ephemeral_owner, pinging.session, "the pinging session lives")
    payload_zxid = pinging.call(zk.PING, xid=-2).zxid
    other.create("/ping-zxid")
    check(pinging.call(zk.PING, xid=-2).zxid > payload_zxid, "the zxid of a ping is current")


def test_requests_touch_the_session(t):
    """Section 2.5: any request touches; a reader that never pings lives on."""
    reader = protocol.client(t, timeout=4000)
    reader.create("/reader", flags=zk.EPHEMERAL)
    end = time.monotonic() + 7
    while time.monotonic() < end:
        check(reader.stat("/reader") is not None, "the session of an active reader expired")
        time.sleep(0.2)  # the rhythm of the reads


def test_zxid_of_read_replies_is_last_processed(t):
    """18.44: the zxid in a read's reply is the server's, not the node's mzxid."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    made = c.stat(home).mzxid
    c.create(home + "/later")
    equal(c.ok(zk.GET, ustr(home) + flag(False)).zxid, c.zxid, "zxid")
    check(c.zxid > made, "LPZ is beyond the node's mzxid", c.zxid, made)


def test_session_survives_restart(t):
    """A clean restart and a kill -9 keep sessions and their ephemerals."""
    r = protocol.replica(t)
    for stop in (r.terminate, r.kill9):
        c = zk.Raw(r, timeout=20000)
        name = c.create("/survivor", flags=zk.EPHEMERAL_SEQ)
        stop()
        r.restart()
        again = zk.Raw(r, connect=False)
        got = again.handshake(session=c.session, password=c.password, timeout=20000, last_zxid=c.zxid)
        equal((got.session, got.password), (c.session, c.password), "the session after a restart")
        equal(again.stat(name).ephemeral_owner, c.session, "its ephemeral")
        again.connected = got
        again.close()
        check(zk.Raw(r).stat(name) is None, "gone with the session")


def test_dead_session_expires_after_restart(t):
    """A session whose client died with the server expires after the restart."""
    r = protocol.replica(t)
    c = zk.Raw(r, timeout=4000)
    c.create("/orphan", flags=zk.EPHEMERAL)
    r.kill9()
    r.restart()
    other = zk.Raw(r, timeout=40000)
    check(other.stat("/orphan", watch=True) is not None, "it gets its full timeout after a restart")
    equal(other.event().type, zk.DELETED, "then it expires")


def test_unix_socket_speaks_the_same(t):
    """Design section 4: the Unix socket serves the protocol; its caller is identified by scheme unix."""
    c = protocol.client(t, unix=True)
    home = protocol.home(t, c)
    c.set(home, b"x")
    equal(protocol.client(t).get(home)[0], b"x", "written over the socket, read over TCP")
    cursor = zk.Cursor(c.ok(zk.WHO_AM_I).body)
    ids = [(cursor.ustr(), cursor.ustr()) for _ in range(cursor.i32())]
    check(any(scheme == "unix" and "0" in user for scheme, user in ids), "whoAmI over the socket", ids)


def test_client_that_leaves_before_the_answer(t):
    """A client may go at any point of the handshake; nobody else notices."""
    r = protocol.replica(t)
    for unix in (True, False):
        for linger in (False, True):
            for _ in range(40):
                c = zk.Raw(r, unix=unix, connect=False)
                c.send_frame(c.connect_request(timeout=4000))
                if linger:
                    c.post(zk.CREATE, create_body("/left-", flags=zk.EPHEMERAL_SEQ))
                c.close_socket()
            check(zk.Raw(r, unix=unix).stat("/") is not None, "the server goes on serving")
            check(r.running(), "coordd lives")
