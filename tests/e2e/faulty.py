"""Clients of an ensemble that write down what they asked and what they were told, for the checker (tests/history).

Each client is a thread with one session at a time. It uses any replica that answers, keeps its session over reconnects
as a client library would, and mixes writes, conditional writes, sequential and ephemeral nodes, plain reads and
sync + read. Nothing here judges; coord-check does.
"""

import random
import threading
import time

import zk
from lib import Failure

PATHS = ["/r/a", "/r/b", "/r/c"]
TIMEOUT_MS = 6000
STEP_S = 4.0  # a request without an answer for so long is given up, and its connection


class Client(threading.Thread):
    def __init__(self, number, replicas, journal, seed):
        super().__init__(daemon=True)
        self.number, self.replicas, self.journal = number, replicas, journal
        self.dice = random.Random(seed * 1000 + number)
        self.ended, self.error = threading.Event(), None
        self.session, self.password, self.last_zxid = 0, b"\0" * 16, 0
        self.counter, self.answered = 0, 0
        self.ephemeral = None
        self.versions = {}

    def run(self):
        try:
            while not self.ended.is_set():
                conn = self.connect()
                if conn is None:
                    time.sleep(0.02)  # nobody serves at the moment; bounded by the test's own deadline
                    continue
                try:
                    while not self.ended.is_set():
                        self.step(conn)
                except (OSError, Failure):
                    self.journal.session(self.number, self.session, "disconnected")
                conn.close_socket()
        except Exception as error:  # reported by the test
            self.error = error

    def connect(self):
        replica = self.dice.choice(self.replicas)
        try:
            conn = zk.Raw(replica, connect=False, seconds=STEP_S)
        except OSError:
            return None
        try:
            got = conn.handshake(timeout=TIMEOUT_MS, session=self.session, password=self.password,
                                 last_zxid=self.last_zxid)
        except (OSError, Failure, AssertionError):
            got = None
        if got is None:
            conn.close_socket()
            return None
        if got.session == 0:
            self.journal.session(self.number, self.session, "expired")
            self.session, self.password, self.ephemeral = 0, b"\0" * 16, None
            conn.close_socket()
            return None
        change = "moved" if self.session else "opened"
        self.session, self.password = got.session, got.password
        self.journal.session(self.number, self.session, change, replica=replica.number,
                             timeout_ns=got.timeout * 1_000_000)
        return conn

    def unique(self):
        self.counter += 1
        return "c%d-%d" % (self.number, self.counter)

    def call(self, conn, op, body, request, on_ok):
        ident = self.journal.invoke(self.number, self.session, **request)
        try:
            got = conn.call(op, body)
        except (OSError, Failure):
            self.journal.info(ident)
            raise
        self.last_zxid = max(self.last_zxid, got.zxid)
        self.answered += 1
        if got.err != 0:
            self.journal.fail(ident, error=got.err, zxid=got.zxid)
        else:
            self.journal.ok(ident, **dict(on_ok(zk.Cursor(got.body)), zxid=got.zxid))
        return got

    @staticmethod
    def stat_answer(stat):
        return {"mzxid": stat.mzxid, "czxid": stat.czxid, "version": stat.version, "owner": stat.ephemeral_owner}

    def read(self, cursor, path):
        value = cursor.buf()
        stat = cursor.stat()
        self.versions[path] = stat.version
        return dict(self.stat_answer(stat), value=(value or b"").decode())

    def step(self, conn):
        path = self.dice.choice(PATHS)
        what = self.dice.random()
        value = self.unique()
        if what < 0.25:
            self.call(conn, zk.SET, zk.ustr(path) + zk.buf(value.encode()) + zk.i32(-1),
                      {"op": "set", "path": path, "value": value}, lambda c: self.stat_answer(c.stat()))
        elif what < 0.40:
            expected = self.versions.get(path, 0)
            self.call(conn, zk.SET, zk.ustr(path) + zk.buf(value.encode()) + zk.i32(expected),
                      {"op": "set_cas", "path": path, "value": value, "expected": expected},
                      lambda c: self.stat_answer(c.stat()))
        elif what < 0.65:
            self.call(conn, zk.GET, zk.ustr(path) + zk.flag(False), {"op": "get", "path": path},
                      lambda c: self.read(c, path))
        elif what < 0.80:
            self.sync_get(conn, path)
        elif what < 0.90:
            self.call(conn, zk.CREATE, zk.create_body("/q/j-", value.encode(), flags=zk.SEQ),
                      {"op": "create_seq", "path": "/q/j-", "value": value}, lambda c: {"name": c.ustr()})
        elif self.ephemeral is None:
            name = "/e/%s" % value
            got = self.call(conn, zk.CREATE, zk.create_body(name, value.encode(), flags=zk.EPHEMERAL),
                            {"op": "create_ephemeral", "path": name, "value": value}, lambda c: {"name": c.ustr()})
            self.ephemeral = name if got.err == 0 else None
        else:
            name, self.ephemeral = self.ephemeral, None
            self.call(conn, zk.DELETE, zk.ustr(name) + zk.i32(-1), {"op": "delete", "path": name}, lambda c: {})

    def sync_get(self, conn, path):
        """One operation for the checker: what the read shows must not be older than the sync's invocation."""
        ident = self.journal.invoke(self.number, self.session, "sync_get", path=path)
        try:
            first = conn.call(zk.SYNC, zk.ustr(path))
            got = conn.call(zk.GET, zk.ustr(path) + zk.flag(False))
        except (OSError, Failure):
            self.journal.info(ident)
            raise
        self.last_zxid = max(self.last_zxid, got.zxid)
        if first.err != 0 or got.err != 0:
            self.journal.fail(ident, error=first.err or got.err, zxid=got.zxid)
            return
        self.answered += 1
        self.journal.ok(ident, **dict(self.read(zk.Cursor(got.body), path), zxid=got.zxid))
