"""Issue 3, item 8: real replicas in network namespaces under faults; every answer is judged by coord-check.

Gate: 60 s of faults on three replicas; soak: an hour on three and an hour on five. What the dice choose is in the
history (records of kind fault) and follows from the seed that the test prints.
"""

import math
import os
import random
import shutil
import signal
import sys
import time

import faulty
import netns
import zk
from lib import BIN, ROOT, SOAK, Context, Failure, check, count, until

sys.path.insert(0, os.path.join(ROOT, "tests", "history"))
import recorder  # noqa: E402

ALONE = True
SECONDS = count(60, int(60 * float(os.environ.get("COORD_SOAK_MINUTES", "60"))))
LIFE = 300  # seconds
DEADLINE_ALL = SECONDS * 2 + 400


class Ensemble:
    def __init__(self, t, size):
        self.t = t
        self.net = netns.Net(t, size)
        library = netns.faults_library(t)
        keys = {"server.%d" % n: "%s:2888:3888" % self.net.ip(n) for n in range(1, size + 1)}
        keys.update({"coord.peerSecret": "of these tests", "4lw.commands.whitelist": "*", "maxClientCnxns": "0",
                     "coord.logKeepEntries": "2000"})
        self.replicas, self.faults = [], {}
        for n in range(1, size + 1):
            faults = t.path("faults%d" % n)
            replica = netns.NetReplica(t, self.net, n, keys, env={"LD_PRELOAD": library, "COORD_FAULTS": faults})
            t.undo.callback(self.end, replica)
            self.replicas.append(replica)
            self.faults[n] = faults
        for replica in self.replicas:
            replica.start(wait=False)
        self.wait()

    @staticmethod
    def end(replica):
        """A storage error may have ended it, on purpose; anything else that crashes is a fault."""
        if replica.process is not None and replica.process.poll() is None:
            replica.process.send_signal(signal.SIGCONT)
            replica.process.kill()
            replica.process.wait(10)
        check("Sanitizer" not in replica.log_text(), "sanitizer report", replica.log_text()[-4000:])

    def wait(self, seconds=60):
        for replica in self.replicas:
            until(lambda r=replica: not r.running() or b"Mode:" in r.four("srvr"), seconds,
                  "replica %d serves" % replica.number)

    def words(self, replica):
        text = replica.four("mntr").decode()
        return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)

    def leader(self):
        for replica in self.replicas:
            try:
                if replica.running() and b"Mode: leader" in replica.four("srvr", seconds=1):
                    return replica
            except OSError:
                pass
        return None


class Nemesis:
    """One fault at a time or a few; heal() takes all of them back."""

    def __init__(self, ensemble, dice, journal_file):
        self.e, self.dice, self.journal = ensemble, dice, journal_file
        self.stopped = []

    def one(self):
        kinds = [self.kill, self.kill_leader, self.stop, self.stop_leader, self.one_way, self.isolate, self.bridge,
                 self.kill_all, self.sync_error, self.write_error, self.slow_disk]
        kind = self.dice.choice(kinds)
        self.journal.fault(kind.__name__ + " " + str(kind()))

    def pick(self):
        return self.dice.choice(self.e.replicas)

    def kill(self, replica=None):
        replica = replica or self.pick()
        if replica.running():
            replica.kill9()
        return replica.number

    def kill_leader(self):
        return self.kill(self.e.leader())

    def kill_all(self):
        for replica in self.e.replicas:
            if replica.running():
                replica.process.kill()
        for replica in self.e.replicas:
            replica.process.wait(20)
        return "at once"

    def stop(self, replica=None):
        replica = replica or self.pick()
        if replica.running():
            replica.process.send_signal(signal.SIGSTOP)
            self.stopped.append(replica)
        return replica.number

    def stop_leader(self):
        return self.stop(self.e.leader())

    def one_way(self):
        deaf, mute = self.dice.sample(self.e.replicas, 2)
        self.e.net.cut(deaf.number, mute.number)
        return "%d does not hear %d" % (deaf.number, mute.number)

    def isolate(self):
        replica = self.pick()
        self.e.net.part([replica.number], [r.number for r in self.e.replicas if r is not replica])
        return replica.number

    def bridge(self):
        """Only one replica sees both of the others."""
        middle = self.pick()
        ends = [r.number for r in self.e.replicas if r is not middle]
        half = len(ends) // 2
        self.e.net.part(ends[:half], ends[half:])
        return "over %d" % middle.number

    def disk(self, lines):
        replica = self.pick()
        netns.set_faults(self.e.faults[replica.number], lines)
        return replica.number

    def sync_error(self):
        return self.disk(["fdatasync EIO"])

    def write_error(self):
        return self.disk(["pwrite " + self.dice.choice(["EIO", "ENOSPC", "SHORT"])])

    def slow_disk(self):
        return self.disk(["fdatasync SLOW"])

    def heal(self):
        self.e.net.heal()
        for path in self.e.faults.values():
            netns.set_faults(path, [])
        for replica in self.stopped:
            if replica.running():
                replica.process.send_signal(signal.SIGCONT)
        self.stopped = []
        for replica in self.e.replicas:
            if not replica.running():
                replica.start(wait=False)
        self.journal.fault("heal")


def settle(ensemble):
    """All serve, and have applied the same: equal zxid and digest."""
    ensemble.wait()
    zk.Raw(ensemble.replicas[0], seconds=20).ok(zk.SET, zk.ustr("/r/a") + zk.buf(b"") + zk.i32(-1))

    def same():
        seen = set()
        for replica in ensemble.replicas:
            words = ensemble.words(replica)
            seen.add((words.get("zk_last_zxid"), words.get("zk_digest")))
        return len(seen) == 1 and None not in next(iter(seen))
    until(same, 60, "all replicas have the same zxid and digest")


def run_faults(t, size, seconds):
    seed = random.SystemRandom().randrange(10 ** 6)
    print("seed %d" % seed)
    ensemble = Ensemble(t, size)
    dice = random.Random(seed)
    setup = zk.Raw(ensemble.replicas[0], seconds=20)
    with recorder.Recorder(t.path("history.jsonl")) as book:
        for path in ("/r", "/q", "/e"):
            setup.create(path)
        for path in faulty.PATHS:
            setup.create(path, b"")
            stat = setup.stat(path)
            book.init(path, "", mzxid=stat.mzxid, czxid=stat.czxid, version=stat.version)
        setup.close()
        clients = [faulty.Client(n, ensemble.replicas, book, seed) for n in range(1, 7)]
        for client in clients:
            client.start()
        nemesis = Nemesis(ensemble, dice, book)
        end = time.monotonic() + seconds
        progress = 0
        while time.monotonic() < end:
            for _ in range(dice.choice([1, 1, 1, 2, 3])):
                nemesis.one()
            time.sleep(dice.uniform(0.2, 3))  # the length of the fault, not a wait for something
            nemesis.heal()
            goal = sum(c.answered for c in clients) + 100
            until(lambda: sum(c.answered for c in clients) >= goal or any(c.error for c in clients), 40,
                  "clients go on after the faults are gone")
            progress += 1
        for client in clients:
            client.ended.set()
        for client in clients:
            client.join(20)
            check(not client.is_alive(), "client %d hangs" % client.number)
            check(client.error is None, "client %d: %r" % (client.number, client.error))
    settle(ensemble)
    answered = sum(c.answered for c in clients)
    print("%d rounds of faults, %d answers" % (progress, answered))
    check(progress >= seconds / 20, "too few rounds of faults", progress)
    try:
        recorder.check(t.path("history.jsonl"), BIN, seconds=max(60, seconds))  # a long one takes long to read
    except AssertionError as verdict:
        keep = "/tmp/coord-history-%d.jsonl" % seed
        shutil.copy(t.path("history.jsonl"), keep)
        raise Failure("seed %d, history kept in %s: %s" % (seed, keep, verdict)) from None


def lives(t, size, seconds):
    """One ensemble after the other, each with a history of its own: what it takes to judge one grows with its length
    (an hour in one piece made 12 million records, and the checker 16 GB of them)."""
    count = math.ceil(seconds / LIFE)
    if count == 1:
        run_faults(t, size, seconds)
        return
    for number in range(count):
        life = Context(t.path("life%d" % number))
        try:
            with life.undo:
                run_faults(life, size, seconds / count)
        except BaseException:
            print("\n".join(life.logs()))
            raise
        shutil.rmtree(life.directory)


def test_three_replicas_under_faults(t):
    lives(t, 3, SECONDS)


def test_five_replicas_under_faults(t):
    lives(t, 5, SECONDS if SOAK else 15)
