"""Filesystem.md section 4: unlink, rmdir and rename are about what stands at the name, on all hosts together: of two
that want the same file one gets it, as with a directory that two programs of one host use."""

import errno
import os
import threading

from lib import count, equal, raises_errno, save, until

ROUNDS = count(50, 1000)


class World:
    def __init__(self, t, **second):
        self.replica = t.replica()
        self.a = t.mount(self.replica)
        self.b = t.mount(self.replica, **second)
        self.kazoo = t.kazoo(self.replica)
        for name in ("queue", "a", "b"):
            self.kazoo.create("/" + name, None)
        for mount in (self.a, self.b):
            until(lambda mount=mount: set(os.listdir(mount.path)) >= {"queue", "a", "b"}, 5, "the directories")

    def job(self, name):
        self.kazoo.create("/queue/" + name, b"job")
        for mount in (self.a, self.b):
            until(lambda mount=mount: os.path.exists(mount.p("queue", name)), 5, "the job is known")


def at_once(*actions):
    """Which of them succeeded."""
    barrier = threading.Barrier(len(actions))
    passed = [None] * len(actions)

    def run(number, action):
        barrier.wait(10)
        try:
            action()
            passed[number] = True
        except FileNotFoundError:
            passed[number] = False

    threads = [threading.Thread(target=run, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return passed


def test_a_job_goes_to_one_of_two_hosts(t):
    w = World(t)
    for number in range(ROUNDS):
        name = "job%d" % number
        w.job(name)
        passed = at_once(lambda name=name: os.rename(w.a.p("queue", name), w.a.p("a", name)),
                         lambda name=name: os.rename(w.b.p("queue", name), w.b.p("b", name)))
        equal(sorted(passed), [False, True], "round %d: who has it" % number)
        winner = "ab"[passed.index(True)]
        equal(w.kazoo.exists("/%s/%s" % (winner, name)) is not None, True, "the winner has it")


def test_moved_or_removed_but_not_both(t):
    w = World(t)
    for number in range(ROUNDS):
        name = "job%d" % number
        w.job(name)
        passed = at_once(lambda name=name: os.rename(w.a.p("queue", name), w.a.p("a", name)),
                         lambda name=name: os.unlink(w.b.p("queue", name)))
        equal(sorted(passed), [False, True], "round %d" % number)
        equal(w.kazoo.exists("/a/" + name) is not None, passed[0], "there if it was moved")


def test_a_host_that_lags(t):
    """What has been moved away elsewhere is not there, also for a host that does not know it yet."""
    w = World(t, env={"COORDFS_TEST_DELAY_EVENT_MS": "100"})
    for name in ("f", "g", "h"):
        w.job(name)
    w.kazoo.create("/queue/d", None)
    until(lambda: os.path.isdir(w.b.p("queue", "d")), 5, "known")
    os.rename(w.a.p("queue", "f"), w.a.p("a", "f"))
    raises_errno(errno.ENOENT, lambda: os.rename(w.b.p("queue", "f"), w.b.p("b", "f")), "moved")
    os.rename(w.a.p("queue", "g"), w.a.p("a", "g"))
    raises_errno(errno.ENOENT, lambda: os.unlink(w.b.p("queue", "g")), "moved")
    os.rename(w.a.p("queue", "d"), w.a.p("a", "d"))
    raises_errno(errno.ENOENT, lambda: os.rmdir(w.b.p("queue", "d")), "moved")
    equal(sorted(w.kazoo.get_children("/a")), ["d", "f", "g"], "all of them are where they were moved to")
    # Something else stands there by now: that is what is meant.
    os.rename(w.a.p("queue", "h"), w.a.p("a", "h"))
    w.kazoo.create("/queue/h", b"another")
    os.rename(w.b.p("queue", "h"), w.b.p("b", "h"))
    equal(w.kazoo.get("/b/h")[0], b"another", "what stood at the name")
    equal(w.kazoo.get("/a/h")[0], b"job", "and the first one is where it was")


def test_a_name_that_another_host_gives_to_something_else_is_always_there(t):
    """`ln -sfn` onto a file: the deletion of what was there and the move of the link are one transaction, here too."""
    w = World(t, env={"COORDFS_TEST_DELAY_EVENT_MS": "2"})
    os.symlink("somewhere", w.a.p("queue", "current"))
    until(lambda: os.path.lexists(w.b.p("queue", "current")), 5, "known")
    failures, stop = [], threading.Event()

    def reader():
        while not stop.is_set():
            try:
                os.lstat(w.b.p("queue", "current"))
            except OSError as error:
                failures.append(error)

    def lister():
        while not stop.is_set():
            names = os.listdir(w.b.p("queue"))
            if "current" not in names:
                failures.append(names)

    threads = [threading.Thread(target=reader), threading.Thread(target=lister)]
    for thread in threads:
        thread.start()
    for number in range(count(100, 2000)):
        if number % 2:
            os.symlink("somewhere", w.a.p("queue", "tmp"))
        else:
            save(w.a.p("queue", "tmp"), b"data")
        os.rename(w.a.p("queue", "tmp"), w.a.p("queue", "current"))
        until(lambda: same(os.lstat(w.a.p("queue", "current")), os.lstat(w.b.p("queue", "current"))), 5, "seen")
    stop.set()
    for thread in threads:
        thread.join(20)
    equal(failures, [], "the name is always there, and can be used")


def same(one, other):
    return one.st_ino == other.st_ino
