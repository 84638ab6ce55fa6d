"""Clients that write unique values and remember what was acknowledged; the judge of what a restart may have lost.

For each client: a register that it alone sets, nodes that it creates and deletes, and sequential nodes with unique data
in a common queue. An operation without an answer may have happened or not; an acknowledged one must be there, once.
"""

import threading
import time

import zk
from lib import check


class Writer(threading.Thread):
    def __init__(self, replica, number):
        super().__init__(daemon=True)
        self.replica, self.number = replica, number
        self.ended, self.error = threading.Event(), None
        self.acked_set, self.tried_set = 0, 0
        self.created, self.deleted, self.unknown = set(), set(), set()
        self.queued = {}           # unique data -> acknowledged name
        self.queue_unknown = set()  # unique data whose create was cut off
        self.operations = 0

    @property
    def register(self):
        return "/load/reg%d" % self.number

    def run(self):
        try:
            while not self.ended.is_set():
                try:
                    client = zk.Raw(self.replica, timeout=20000, seconds=15)
                except (OSError, AssertionError):
                    time.sleep(0.01)  # no server at the moment; the test ends this thread if it stays away
                    continue
                self.work(client)
                client.close_socket()
        except Exception as error:  # reported by judge()
            self.error = error

    def work(self, client):
        """Keeps four operations outstanding until the connection breaks."""
        while not self.ended.is_set():
            turn = self.operations
            batch = []
            value = self.tried_set + 1
            batch.append(("set", value, zk.SET, zk.ustr(self.register) + zk.buf(b"%d" % value) + zk.i32(-1)))
            name = "/load/c%d-%d" % (self.number, turn)
            batch.append(("create", name, zk.CREATE, zk.create_body(name, b"n%d" % turn)))
            unique = b"q%d-%d" % (self.number, turn)
            batch.append(("queue", unique, zk.CREATE, zk.create_body("/queue/j-", unique, flags=zk.SEQ)))
            if turn % 3 == 2:
                batch.append(("delete", name, zk.DELETE, zk.ustr(name) + zk.i32(-1)))
            self.tried_set = value
            for kind, what, _, _ in batch:
                if kind == "queue":
                    self.queue_unknown.add(what)
                elif kind == "create":
                    self.unknown.add(what)
            self.operations += 1
            try:
                xids = [client.post(op, body) for _, _, op, body in batch]
                for xid, (kind, what, _, _) in zip(xids, batch):
                    got = client.reply(xid)
                    check(got.err == 0, "client %d: %s %r was refused with %d" % (self.number, kind, what, got.err))
                    self.acknowledge(kind, what, got)
            except OSError:
                return
            except AssertionError as error:
                if "closed instead of answering" in str(error) or "within a frame" in str(error):
                    return
                raise

    def acknowledge(self, kind, what, got):
        if kind == "set":
            self.acked_set = what
        elif kind == "create":
            self.unknown.discard(what)
            self.created.add(what)
        elif kind == "delete":
            self.created.discard(what)
            self.deleted.add(what)
        else:
            self.queue_unknown.discard(what)
            self.queued[what] = zk.Cursor(got.body).ustr()

    def deleting(self):
        """Nodes whose delete may have been cut off: created, and due for a delete."""
        return {n for n in self.created if int(n.rsplit("-", 1)[1]) % 3 == 2}


def prepare(replica, clients=8):
    c = zk.Raw(replica)
    c.create("/load")
    c.create("/queue")
    writers = [Writer(replica, n) for n in range(clients)]
    for w in writers:
        c.create(w.register, b"0")
    c.close()
    return writers


def judge(replica, writers, settled):
    """Reads the tree and compares. `settled`: the writers have stopped, so their records do not move."""
    c = zk.Raw(replica, seconds=30, timeout=30000)
    for w in writers:
        check(w.error is None, "client %d failed: %r" % (w.number, w.error))
        # While the writers run, what is acknowledged before the read must be in it.
        acked = w.acked_set
        data, stat = c.get(w.register)
        check(acked <= int(data) <= w.tried_set, "register %d: acknowledged %d, tried %d, found %s" % (
            w.number, acked, w.tried_set, data))
        # Each value is set at most once, in order: the version cannot be above the value.
        check(stat.version <= int(data), "register %d: version %d for value %s" % (w.number, stat.version, data))
    if settled:
        judge_nodes(c, writers)
        judge_queue(c, writers)
    c.close()


def judge_nodes(c, writers):
    there = {"/load/" + n for n in c.children("/load")}
    for w in writers:
        check(w.created <= there | w.deleting(), "created, acknowledged, gone", sorted(w.created - there)[:5])
        check(not (w.deleted & there), "deleted, acknowledged, there again", sorted(w.deleted & there)[:5])
    known = set().union(*[w.created | w.deleted | w.unknown for w in writers]) | {w.register for w in writers}
    check(there <= known, "nodes that nobody made", sorted(there - known)[:5])


def judge_queue(c, writers):
    found = {}
    names = c.children("/queue")
    for name in names:
        data, stat = c.get("/queue/" + name)
        check(stat.version == 0, "a queue node was changed", name, stat)
        found.setdefault(data, []).append("/queue/" + name)
    twice = {data: names for data, names in found.items() if len(names) > 1}
    check(not twice, "a sequential create happened twice", list(twice.items())[:5])
    for w in writers:
        for data, name in w.queued.items():
            check(found.get(data) == [name], "acknowledged as %s, found %r" % (name, found.get(data)), data)
    known = set().union(*[set(w.queued) | w.queue_unknown for w in writers])
    check(set(found) <= known, "queue nodes that nobody made", sorted(set(found) - known)[:5])
