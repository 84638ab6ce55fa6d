"""A small blocking ZooKeeper client over a raw socket, for tests that look at codes, bytes and order.

It sends what it is told, also nonsense, and keeps every frame in the order of the wire. Not a client library.
Source: spec/client-protocol.md sections 1 to 3.
"""

import collections
import socket
import struct

from lib import Failure, check

CREATE, DELETE, EXISTS, GET, SET, GET_ACL, SET_ACL, CHILDREN, SYNC = 1, 2, 3, 4, 5, 6, 7, 8, 9
PING, CHILDREN2, CHECK, MULTI, CREATE2, RECONFIG, CHECK_WATCHES, REMOVE_WATCHES = 11, 12, 13, 14, 15, 16, 17, 18
CREATE_CONTAINER, DELETE_CONTAINER, CREATE_TTL, MULTI_READ = 19, 20, 21, 22
AUTH, SET_WATCHES, SASL, GET_EPHEMERALS, ALL_CHILDREN, SET_WATCHES2, ADD_WATCH, WHO_AM_I = range(100, 108)
CLOSE, CREATE_SESSION, ERROR = -11, -10, -1

PERSISTENT, EPHEMERAL, SEQ, EPHEMERAL_SEQ, CONTAINER, TTL, TTL_SEQ = range(7)

OK, RUNTIME, MARSHALLING, UNIMPLEMENTED, BAD_ARGUMENTS = 0, -2, -5, -6, -8
NO_NODE, NO_AUTH, BAD_VERSION, NO_CHILDREN_FOR_EPHEMERALS = -101, -102, -103, -108
NODE_EXISTS, NOT_EMPTY, SESSION_EXPIRED, INVALID_ACL, AUTH_FAILED, NO_WATCHER = -110, -111, -112, -114, -115, -121
RECONFIG_DISABLED, QUOTA_EXCEEDED = -123, -125

CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4
PERM_READ, PERM_WRITE, PERM_CREATE, PERM_DELETE, PERM_ADMIN, PERM_ALL = 1, 2, 4, 8, 16, 31
ANYONE = [(PERM_ALL, "world", "anyone")]

SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="  # password: test


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def buf(data):
    return i32(-1) if data is None else i32(len(data)) + data


def ustr(text):
    return buf(text.encode("utf-8") if isinstance(text, str) else text)


def flag(value):
    return b"\1" if value else b"\0"


def strings(values):
    return i32(-1) if values is None else i32(len(values)) + b"".join(ustr(v) for v in values)


def acls(entries):
    if entries is None:
        return i32(-1)
    return i32(len(entries)) + b"".join(i32(p) + ustr(s) + ustr(i) for p, s, i in entries)


def create_body(path, data=b"", acl=None, flags=PERSISTENT):
    return ustr(path) + buf(data) + acls(ANYONE if acl is None else acl) + i32(flags)


def multi_body(ops):
    """ops: (number, encoded record)."""
    out = b""
    for number, record in ops:
        out += i32(number) + b"\0" + i32(-1) + record
    return out + i32(-1) + b"\1" + i32(-1)


Stat = collections.namedtuple("Stat", "czxid mzxid ctime mtime version cversion aversion ephemeral_owner data_length "
                                      "num_children pzxid")
Event = collections.namedtuple("Event", "zxid type state path")
Reply = collections.namedtuple("Reply", "xid zxid err body events")
Connected = collections.namedtuple("Connected", "payload timeout session password read_only")


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        check(self.at + n <= len(self.data), "reply too short: wanted %d bytes at %d of %d" % (n, self.at,
                                                                                               len(self.data)))
        self.at += n
        return self.data[self.at - n:self.at]

    def i32(self):
        return struct.unpack(">i", self.take(4))[0]

    def i64(self):
        return struct.unpack(">q", self.take(8))[0]

    def flag(self):
        return self.take(1) != b"\0"

    def buf(self):
        n = self.i32()
        return None if n == -1 else self.take(n)

    def ustr(self):
        return self.buf().decode("utf-8")

    def stat(self):
        return Stat(*struct.unpack(">qqqqiiiqiiq", self.take(68)))

    def strings(self):
        return [self.ustr() for _ in range(self.i32())]

    def acls(self):
        return [(self.i32(), self.ustr(), self.ustr()) for _ in range(self.i32())]

    def end(self):
        check(self.at == len(self.data), "%d bytes too many in the reply: %r" % (len(self.data) - self.at,
                                                                               self.data[self.at:][:40]))


def read_multi(body):
    """[(type, header err, payload)]; the payload of an error is its code."""
    c, results = Cursor(body), []
    while True:
        kind, done, err = c.i32(), c.flag(), c.i32()
        if done:
            check(kind == -1 and err == -1, "terminator of multi must be (-1, true, -1)", (kind, done, err))
            c.end()
            return results
        if kind == ERROR:
            value = c.i32()
            check(value == err, "error result and its header differ", value, err)
        elif kind == CREATE:
            value = c.ustr()
        elif kind == CREATE2:
            value = (c.ustr(), c.stat())
        elif kind == SET:
            value = c.stat()
        elif kind in (DELETE, CHECK):
            value = None
        elif kind == GET:
            value = (c.buf(), c.stat())
        elif kind == CHILDREN:
            value = c.strings()
        else:
            raise Failure("unknown result type %d in multi" % kind)
        results.append((kind, err, value))


class Raw:
    """One connection. connect=False leaves the session handshake to the test."""

    def __init__(self, replica=None, unix=False, connect=True, timeout=10000, seconds=10, address=None, **handshake):
        if unix:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(seconds)
            self.sock.connect(replica.socket)
        else:
            self.sock = socket.create_connection(address or (replica.host, replica.port), timeout=seconds)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.xid = 0
        self.early = []  # events that arrived before somebody asked
        self.zxid = 0    # of the last reply
        self.connected = None
        self.buffered = b""
        if connect:
            self.connected = self.handshake(timeout=timeout, **handshake)
            check(self.connected is not None, "the server closed instead of answering the ConnectRequest")

    @property
    def session(self):
        return self.connected.session

    @property
    def password(self):
        return self.connected.password

    # --- frames ---
    def send(self, data):
        self.sock.sendall(data)

    def send_frame(self, payload):
        self.send(i32(len(payload)) + payload)

    def _exactly(self, n):
        while len(self.buffered) < n:
            piece = self.sock.recv(max(65536, n - len(self.buffered)))
            if not piece:
                return None
            self.buffered += piece
        out, self.buffered = self.buffered[:n], self.buffered[n:]
        return out

    def frame(self):
        """The payload of the next frame; None when the server has closed."""
        try:
            head = self._exactly(4)
            if head is None:
                check(not self.buffered, "the connection closed within a frame", self.buffered)
                return None
            return self._exactly(struct.unpack(">i", head)[0])
        except ConnectionResetError:
            return None
        except socket.timeout:
            raise Failure("no frame from the server within %s s" % self.sock.gettimeout()) from None

    def closed(self):
        """True when the server closes without another byte."""
        return self.frame() is None

    def close_socket(self):
        self.sock.close()

    # --- session ---
    @staticmethod
    def connect_request(timeout=10000, session=0, password=b"\0" * 16, last_zxid=0, read_only=False):
        body = i32(0) + i64(last_zxid) + i32(timeout) + i64(session) + buf(password)
        return body if read_only is None else body + flag(read_only)

    def handshake(self, **fields):
        self.send_frame(self.connect_request(**fields))
        return self.read_connected()

    def read_connected(self):
        payload = self.frame()
        if payload is None:
            return None
        c = Cursor(payload)
        check(c.i32() == 0, "protocolVersion must be 0")
        timeout, session, password = c.i32(), c.i64(), c.buf()
        rest = payload[c.at:]
        check(len(rest) <= 1, "ConnectResponse too long", payload)
        return Connected(payload, timeout, session, password, rest)

    # --- requests ---
    def post(self, op, body=b"", xid=None):
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.send_frame(i32(xid) + i32(op) + body)
        return xid

    def next(self):
        """The next frame as Event or Reply; None when closed."""
        payload = self.frame()
        if payload is None:
            return None
        c = Cursor(payload)
        xid, zxid, err = c.i32(), c.i64(), c.i32()
        if xid == -1:
            check(err == 0, "a notification's err must be 0", payload)
            event = Event(zxid, c.i32(), c.i32(), c.ustr())
            c.end()
            check(event.state == 3, "the only state a server sends is SyncConnected (3)", event)
            return event
        return Reply(xid, zxid, err, payload[16:], [])

    def reply(self, xid=None):
        """The next reply; events before it are in reply.events."""
        events = []
        while True:
            got = self.next()
            if got is None:
                raise Failure("the server closed instead of answering (events before: %r)" % events)
            if isinstance(got, Event):
                events.append(got)
                continue
            if xid is not None:
                check(got.xid == xid, "replies must come in the order of requests: expected xid %d" % xid, got)
            if got.zxid > 0:
                self.zxid = got.zxid
            self.early.extend(events)
            return got._replace(events=events)

    def call(self, op, body=b"", xid=None):
        return self.reply(self.post(op, body, xid))

    def ok(self, op, body=b""):
        got = self.call(op, body)
        check(got.err == 0, "op %d: expected success, got %d" % (op, got.err))
        return got

    def refused(self, err, op, body=b"", what=""):
        got = self.call(op, body)
        check(got.err == err, "%s op %d: expected %d, got %d" % (what, op, err, got.err))
        check(got.body == b"", "a refused request must have no body", got)
        return got

    def event(self):
        """The next frame must be an event."""
        got = self.next()
        check(isinstance(got, Event), "expected a watch event, got", got)
        return got

    def no_event(self):
        """A round trip with nothing before its answer."""
        got = self.reply(self.post(PING, xid=-2))
        check(not got.events, "unexpected events", got.events)

    # --- typed ---
    def create(self, path, data=b"", acl=None, flags=PERSISTENT):
        got = self.ok(CREATE, create_body(path, data, acl, flags))
        c = Cursor(got.body)
        name = c.ustr()
        c.end()
        return name

    def get(self, path, watch=False):
        c = Cursor(self.ok(GET, ustr(path) + flag(watch)).body)
        out = (c.buf(), c.stat())
        c.end()
        return out

    def set(self, path, data, version=-1):
        c = Cursor(self.ok(SET, ustr(path) + buf(data) + i32(version)).body)
        out = c.stat()
        c.end()
        return out

    def stat(self, path, watch=False):
        got = self.call(EXISTS, ustr(path) + flag(watch))
        if got.err == NO_NODE:
            return None
        check(got.err == 0, "exists %s: %d" % (path, got.err))
        c = Cursor(got.body)
        out = c.stat()
        c.end()
        return out

    def children(self, path, watch=False):
        c = Cursor(self.ok(CHILDREN, ustr(path) + flag(watch)).body)
        out = c.strings()
        c.end()
        return sorted(out)

    def delete(self, path, version=-1):
        self.ok(DELETE, ustr(path) + i32(version))

    def get_acl(self, path):
        c = Cursor(self.ok(GET_ACL, ustr(path)).body)
        out = (c.acls(), c.stat())
        c.end()
        return out

    def auth(self, scheme, credential, xid=-4):
        return self.call(AUTH, i32(0) + ustr(scheme) + buf(credential), xid)

    def multi(self, ops):
        return read_multi(self.ok(MULTI, multi_body(ops)).body)

    def close(self):
        """closeSession: header-only reply, then the server closes."""
        got = self.call(CLOSE)
        check(got.err == 0 and got.body == b"", "closeSession", got)
        check(self.closed(), "the server must close after the reply to closeSession")
        self.sock.close()
        return got
