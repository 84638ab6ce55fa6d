"""Filesystem.md section 5: what this host and others do to the same names: the events of a directory, in their order,
tell what is in it in the end, whoever was faster; and who watches a file itself is told that it has gone."""

import contextlib
import errno
import os
import random
import signal
import threading

import protocol
from lib import Inotify, alive, bash, check, count, equal, raises_errno, read, save, until
from test_inotify import helpers_of
from world import one_host as shared  # noqa: F401

GONE = {"DELETE", "MOVED_FROM"}
THERE = {"CREATE", "MOVED_TO"}


class World:
    """A directory with f and g, seen by this mount and by another; `told`: its names as the events have them."""

    def __init__(self, t, *names):
        w = t.shared
        self.t, self.kazoo, self.mount = t, w.kazoo, w.mount
        self.node = "/t%s" % os.path.basename(t.directory)
        self.kazoo.create(self.node, None, makepath=True)
        self.kazoo.create(self.node + "/other", b"other")
        for name in names:
            if name.endswith("/"):
                self.kazoo.create(self.node + "/" + name[:-1], None)
            else:
                self.kazoo.create(self.node + "/" + name, name.encode())
        self.here = w.mount.p(self.node[1:])
        self.second = t.mount(w.replica)
        self.there = self.second.p(self.node[1:])
        until(lambda: set(os.listdir(self.here)) == {"other", *(n.rstrip("/") for n in names)}, 5, "all names are here")
        until(lambda: sorted(os.listdir(self.there)) == sorted(os.listdir(self.here)), 5, "and there")
        self.watched = [""] + [name for name in names if name == "sub/"]
        self.before = self.names()
        self.events = Inotify(t, *(self.here + "/" + name for name in self.watched))
        self.markers = 0

    @contextlib.contextmanager
    def replay_held_up(self, waiting):
        """No event of another host is raised inside. `waiting`: the events of the directory do not even get their turn.
        """
        helpers = until(lambda: helpers_of(self.mount), 5, "helpers")
        for pid in helpers:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: all(stopped(pid) for pid in helpers), 5, "stopped")
        try:
            if waiting:
                version = self.kazoo.set(self.node + "/other", b"the first in the queue").version
                until(lambda: self.version("other") == version, 5, "known here")
            yield
        finally:
            for pid in helpers:
                if alive(pid):
                    os.kill(pid, signal.SIGCONT)

    def version(self, name):
        return int(os.getxattr(self.here + "/" + name, "user.coord.version"))

    def known(self, **names):
        """Waits until this mount knows what others did: name=True or False."""
        for name, there in names.items():
            until(lambda: os.path.lexists(self.here + "/" + name) == there, 5, "%s known here" % name)

    def settle(self):
        """All that came before has been raised."""
        self.markers += 1
        for name in self.watched:
            marker = name + "marker%d" % self.markers
            self.kazoo.create(self.node + "/" + marker, b"")
            self.events.wait(self.here + "/" + marker, "CREATE", 20)

    def names(self, top=None):
        """What is in the watched directories."""
        return {name + child for name in self.watched for child in os.listdir((top or self.here) + "/" + name)}

    def told(self):
        names = set(self.before)
        with self.events.lock:
            lines = list(self.events.lines)
        for path, events in lines:
            name = os.path.relpath(path, self.here)
            if events & GONE:
                names.discard(name)
            if events & THERE:
                names.add(name)
        return names, [(os.path.relpath(p, self.here), sorted(e - {"ISDIR"})) for p, e in lines]

    def true_in_the_end(self, what):
        self.settle()
        names, lines = self.told()
        wrong = names ^ self.names()
        check(not wrong, "%s: %s: the tree differs from the events" % (what, sorted(wrong)), lines[-60:])


def stopped(pid):
    with open("/proc/%d/stat" % pid) as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def both(t, *names):
    """The two moments at which this host can overtake: the event waits, or is being raised."""
    for waiting in (False, True):
        yield World(t, *names), waiting


def test_removed_elsewhere_and_saved_here(t):
    for w, waiting in both(t, "f"):
        own = Inotify(t, w.here + "/f")
        with w.replay_held_up(waiting):
            w.kazoo.delete(w.node + "/f")
            w.known(f=False)
            bash('echo new > "$1"', w.here + "/f")
        w.true_in_the_end("waiting=%s" % waiting)
        own.wait(w.here + "/f", "DELETE_SELF")
        w.kazoo.delete(w.node, recursive=True)


def test_removed_elsewhere_and_made_here_for_all(t):
    for w, waiting in both(t, "f", "d/"):
        own = Inotify(t, w.here + "/f", w.here + "/d")
        with w.replay_held_up(waiting):
            w.kazoo.delete(w.node + "/f")
            w.kazoo.delete(w.node + "/d")
            w.known(f=False, d=False)
            os.close(os.open(w.here + "/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.mkdir(w.here + "/d")
        w.true_in_the_end("waiting=%s" % waiting)
        own.wait(w.here + "/f", "DELETE_SELF")
        own.wait(w.here + "/d/", "DELETE_SELF")
        w.kazoo.delete(w.node, recursive=True)


def test_removed_elsewhere_and_moved_there_here(t):
    for w, waiting in both(t, "f", "g"):
        with w.replay_held_up(waiting):
            w.kazoo.delete(w.node + "/f")
            w.known(f=False)
            os.rename(w.here + "/g", w.here + "/f")
        w.true_in_the_end("waiting=%s" % waiting)
        w.kazoo.delete(w.node, recursive=True)


def test_made_elsewhere_and_removed_here(t):
    for w, waiting in both(t):
        with w.replay_held_up(waiting):
            w.kazoo.create(w.node + "/f", b"x")
            w.kazoo.create(w.node + "/d", None)
            w.known(f=True, d=True)
            os.unlink(w.here + "/f")
            os.rmdir(w.here + "/d")
        w.true_in_the_end("waiting=%s" % waiting)
        w.kazoo.delete(w.node, recursive=True)


def test_made_elsewhere_and_moved_away_here(t):
    for w, waiting in both(t):
        with w.replay_held_up(waiting):
            w.kazoo.create(w.node + "/f", b"x")
            w.kazoo.create(w.node + "/d", None)
            w.known(f=True, d=True)
            os.rename(w.here + "/f", w.here + "/h")
            os.rename(w.here + "/d", w.here + "/e")
        w.true_in_the_end("waiting=%s" % waiting)
        w.kazoo.delete(w.node, recursive=True)


def test_moved_elsewhere_and_the_old_name_taken_here(t):
    for w, waiting in both(t, "f", "g", "d/"):
        with w.replay_held_up(waiting):
            os.rename(w.there + "/f", w.there + "/h")
            os.rename(w.there + "/d", w.there + "/e")
            w.known(f=False, h=True, d=False, e=True)
            os.rename(w.here + "/g", w.here + "/f")
            os.mkdir(w.here + "/d")
        w.true_in_the_end("waiting=%s" % waiting)
        w.kazoo.delete(w.node, recursive=True)


def test_moved_elsewhere_and_the_new_name_removed_here(t):
    for w, waiting in both(t, "f", "d/"):
        with w.replay_held_up(waiting):
            os.rename(w.there + "/f", w.there + "/h")
            os.rename(w.there + "/d", w.there + "/e")
            w.known(f=False, h=True, d=False, e=True)
            os.unlink(w.here + "/h")
            os.rmdir(w.here + "/e")
        w.true_in_the_end("waiting=%s" % waiting)
        w.kazoo.delete(w.node, recursive=True)


def test_moved_elsewhere_and_moved_on_here(t):
    for w, waiting in both(t, "f", "d/"):
        own = Inotify(t, w.here + "/f", w.here + "/d")
        with w.replay_held_up(waiting):
            os.rename(w.there + "/f", w.there + "/h")
            os.rename(w.there + "/d", w.there + "/e")
            w.known(f=False, h=True, d=False, e=True)
            os.rename(w.here + "/h", w.here + "/k")
            os.rename(w.here + "/e", w.here + "/l")
        w.true_in_the_end("waiting=%s" % waiting)
        # Both live on, under other names: their watches too.
        with own.lock:
            check(not any(events & {"DELETE_SELF", "IGNORED"} for _, events in own.lines), "watches live", own.lines)
        w.kazoo.set(w.node + "/k", b"again")
        own.wait(w.here + "/f", "MODIFY")
        w.kazoo.delete(w.node, recursive=True)


def test_moved_elsewhere_and_both_names_changed_here(t):
    for w, waiting in both(t, "f", "g"):
        with w.replay_held_up(waiting):
            os.rename(w.there + "/f", w.there + "/h")
            w.known(f=False, h=True)
            os.unlink(w.here + "/h")
            os.rename(w.here + "/g", w.here + "/f")
        w.true_in_the_end("waiting=%s" % waiting)
        w.kazoo.delete(w.node, recursive=True)


def test_newer_changes_elsewhere_still_come(t):
    """What others do after this host is newer: it is told, behind."""
    for w, waiting in both(t, "f"):
        with w.replay_held_up(waiting):
            w.kazoo.delete(w.node + "/f")
            w.known(f=False)
            os.close(os.open(w.here + "/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            w.kazoo.delete(w.node + "/f")
            w.known(f=False)
        w.true_in_the_end("waiting=%s" % waiting)
        names, lines = w.told()
        equal([e for name, e in lines if name == "f" and set(e) & (GONE | THERE)][-1], ["DELETE"], "the last event")
        w.kazoo.delete(w.node, recursive=True)


def test_moved_elsewhere_is_not_in_both_places(t):
    """The old name goes with the new one's coming, not with the event."""
    for w, waiting in both(t, "f", "d/"):
        with w.replay_held_up(waiting):
            for old, new in (("f", "h"), ("d", "e")):
                os.rename(w.there + "/" + old, w.there + "/" + new)
                until(lambda new=new: new in os.listdir(w.here), 5, "known here")
                check(not os.path.lexists(w.here + "/" + old), "the old name is gone", old, waiting)
        w.true_in_the_end("waiting=%s" % waiting)
        w.kazoo.delete(w.node, recursive=True)


def test_a_directory_moved_and_removed_elsewhere(t):
    for w, waiting in both(t, "d/", "sub/"):
        own = Inotify(t, w.here + "/d")
        with w.replay_held_up(waiting):
            os.rename(w.there + "/d", w.there + "/sub/d")
            os.rmdir(w.there + "/sub/d")
            w.known(d=False)
        w.true_in_the_end("waiting=%s" % waiting)
        own.wait(w.here + "/d/", "DELETE_SELF")
        w.kazoo.delete(w.node, recursive=True)


def test_moved_elsewhere_to_where_nobody_has_looked(t):
    """The other directory has no path here. The watched one is told all the same."""
    w = World(t, "f", "d/")
    w.kazoo.create(w.node + "x/a/b", None, makepath=True)
    unseen = w.second.p(w.node[1:] + "x", "a", "b")
    for name in ("f", "d"):
        os.rename(w.there + "/" + name, unseen + "/" + name)
        w.known(**{name: False})
        w.true_in_the_end("moved away")
        os.rename(unseen + "/" + name, w.there + "/" + name)
        w.known(**{name: True})
        w.true_in_the_end("moved back")


def test_changed_elsewhere_and_replaced_here(t):
    """The data of a file is told of, also if the kernel has the source of a rename under its name."""
    for w, waiting in both(t, "f", "g"):
        with w.replay_held_up(waiting):
            version = w.kazoo.set(w.node + "/f", b"theirs").version
            until(lambda w=w, version=version: w.version("f") == version, 5, "known")
            os.rename(w.here + "/g", w.here + "/f")
        w.events.wait(w.here + "/f", "MODIFY")
        w.true_in_the_end("waiting=%s" % waiting)
        w.kazoo.delete(w.node, recursive=True)


def test_made_and_removed_elsewhere_while_it_is_being_written_here(t):
    """The kernel's CREATE came at the open, the file for all comes at the close."""
    w = World(t)
    with open(w.here + "/f", "wb", buffering=0) as file:
        w.events.wait(w.here + "/f", "CREATE")
        w.kazoo.create(w.node + "/f", b"theirs")
        w.kazoo.delete(w.node + "/f")
        w.events.wait(w.here + "/f", "DELETE")
        file.write(b"ours")
    equal(read(w.here + "/f"), b"ours", "data")
    w.true_in_the_end("saved after all")


def test_a_file_that_could_not_be_made_for_all(t):
    """CREATE at the open, an error at the close: those who watch are told that there is no such file."""
    replica = protocol.replica(t, enforceQuota="true")
    kazoo = t.kazoo(replica)
    kazoo.create("/d", None)
    kazoo.create("/zookeeper/quota/d/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=1",
                 makepath=True)
    kazoo.create("/zookeeper/quota/d/zookeeper_stats", b"count=1,bytes=0")
    m = t.mount(replica)
    events = Inotify(t, m.p("d"))
    raises_errno(errno.EDQUOT, lambda: save(m.p("d", "f"), b"data"), "no more nodes")
    events.wait(m.p("d", "f"), "CREATE")
    events.wait(m.p("d", "f"), "DELETE")
    equal(os.listdir(m.p("d")), [], "names")
    kazoo.delete("/zookeeper/quota/d/zookeeper_limits")
    save(m.p("d", "f"), b"data")
    equal(read(m.p("d", "f")), b"data", "later")


def one_of(action, *expected):
    try:
        action()
    except expected:
        pass


NAMES = ("a", "b", "c", "sub/a", "sub/b")


def by_client(w, rng):
    from kazoo.exceptions import NodeExistsError, NoNodeError
    path = w.node + "/" + rng.choice(NAMES)
    if rng.random() < 0.5:
        one_of(lambda: w.kazoo.create(path, rng.choice((b"client", b"client", None))), NodeExistsError)
    else:
        one_of(lambda: w.kazoo.delete(path), NoNodeError)


def by_mount(directory, rng):
    path, other = (directory + "/" + rng.choice(NAMES) for _ in range(2))
    what = rng.choice(("save", "make", "directory", "remove", "remove", "move", "move", "move"))
    if what == "save":
        one_of(lambda: save(path, b"save"), OSError)
    elif what == "make":
        one_of(lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)), OSError)
    elif what == "directory":
        one_of(lambda: os.mkdir(path), OSError)
    elif what == "remove":
        one_of(lambda: (os.rmdir if os.path.isdir(path) else os.unlink)(path), OSError)
    else:
        one_of(lambda: os.rename(path, other), OSError)


def test_everybody_at_once(t):
    """Random changes of a few names by a client, another mount and this one, all at the same time."""
    w = World(t, "sub/")
    seed = random.randrange(1 << 30)
    for round_ in range(count(10, 400)):
        failures = []

        def actor(change, number, round_=round_, failures=failures):
            rng = random.Random("%d %d %d" % (seed, round_, number))
            try:
                for _ in range(40):
                    change(rng)
            except BaseException as failure:  # told by the test itself
                failures.append(failure)

        actors = [threading.Thread(target=actor, args=(change, number)) for number, change in enumerate(
            (lambda rng: by_client(w, rng), lambda rng: by_mount(w.here, rng), lambda rng: by_mount(w.there, rng)))]
        for one in actors:
            one.start()
        for one in actors:
            one.join(60)
            check(not one.is_alive(), "an actor hangs", seed, round_)
        check(not failures, "all else is an answer", failures, seed, round_)
        until(lambda: w.names() == w.names(w.there), 10, "both mounts agree")
        w.true_in_the_end("seed %d, round %d" % (seed, round_))
