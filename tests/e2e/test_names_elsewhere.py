"""Names that another host moves or takes away while this one uses them: no ESTALE for what is there."""

import collections
import contextlib
import errno
import os
import threading
import time

from lib import check, count, equal, read, run, save, until

ROUNDS = count(200, 5000)
SECONDS = count(3, 60)
DEADLINE_ALL = 120


def test_open_by_the_new_name(t):
    """The kernel asks once more after an ESTALE, and only once: both must not fall into the limbo of the old name."""
    r = t.replica()
    here, there = t.mount(r), t.mount(r)
    save(here.p("n0"), b"data")
    until(lambda: os.path.exists(there.p("n0")), 5, "the file is seen by the other host")
    wrong = collections.Counter()
    for i in range(ROUNDS):
        there_now = there.p("n%d" % (i + 1))
        equal(read(there.p("n%d" % i)), b"data", "read by the old name")  # the other host's kernel knows it
        os.rename(here.p("n%d" % i), here.p("n%d" % (i + 1)))
        end = time.monotonic() + 5
        while True:
            try:
                os.close(os.open(there_now, os.O_RDONLY))
                break
            except OSError as error:
                if error.errno != errno.ENOENT:  # the change has not arrived yet
                    wrong[errno.errorcode[error.errno]] += 1
                check(time.monotonic() < end, "the new name does not arrive", there_now)
    equal(dict(wrong), {}, "errors other than ENOENT")


def churn(actions, seconds):
    """Runs the actions side by side; how often each ended with which errno."""
    end = time.monotonic() + seconds
    errors = collections.Counter()

    def loop(name, action):
        while time.monotonic() < end:
            try:
                action()
            except OSError as error:
                errors[name, errno.errorcode[error.errno]] += 1
    threads = [threading.Thread(target=loop, args=item, daemon=True) for item in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
        check(not thread.is_alive(), "a call hangs")
    return errors


def test_unlink_and_create_of_two_hosts(t):
    """An unlink that meets a change by another host looks again: it has a name, so there is an answer."""
    unlink_and_create(t, {})


def test_the_same_with_time_between_the_steps(t):
    """Wide gaps between what is found and what is answered: nobody answers with a file that is only half there."""
    unlink_and_create(t, {"COORDFS_TEST_DELAY_STEP_MS": "2"})


def unlink_and_create(t, env):
    r = t.replica()
    mounts = [t.mount(r, env=env), t.mount(r, env=env)]
    actions = []
    for m in mounts:
        def reader(m=m):
            os.close(os.open(m.p("f"), os.O_RDONLY))
        actions += [("save", lambda m=m: save(m.p("f"), b"x" * 100)), ("unlink", lambda m=m: os.unlink(m.p("f"))),
                    ("read", reader)]
    errors = churn(actions, SECONDS)
    # A save is lost when another host has removed its file, and is told so; an open is asked for twice by the kernel,
    # and may meet two removals.
    for action in ("save", "read"):
        check(errors.pop((action, "ESTALE"), 0) < 1000 * SECONDS, "too many")
    others = {key: n for key, n in errors.items() if key[1] != "ENOENT"}
    equal(others, {}, "errors other than ENOENT")


def test_fstat_of_an_adopted_file(t):
    """Two hosts create one name without O_EXCL: the loser's descriptor shows the winner's file."""
    r = t.replica()
    here, there = t.mount(r), t.mount(r)
    os.mkdir(here.p("d"))  # one that nobody has listed: what is in it is forgotten when nobody uses it
    until(lambda: os.path.isdir(there.p("d")), 5, "the directory is seen by the other host")
    mine = os.open(here.p("d", "f"), os.O_RDWR | os.O_CREAT)
    save(there.p("d", "f"), b"winner")
    os.write(mine, b"lose")
    os.fsync(mine)
    until(lambda: read(there.p("d", "f")) == b"loseer", 5, "both writes are in the file")
    check("adopted" in here.log_text(), "the winner's file was adopted")
    save(here.p("other"), b"x")  # something to do, so that what is not in use is forgotten
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        equal(os.fstat(mine).st_size, 6, "size by the descriptor")
    equal(os.fstat(mine).st_size, 6, "size by the descriptor")
    equal(os.fstat(mine).st_nlink, 1, "links by the descriptor")
    os.close(mine)
    equal(read(here.p("d", "f")), b"loseer")


def test_a_listing_shows_the_children_of_what_nobody_uses(t):
    """The kernel forgets names; the listing, from the memory, must not: NAME@ comes and goes with the children."""
    r = t.replica()
    m, zk = t.mount(r), t.kazoo(r)
    zk.create("/d", None)
    zk.create("/d/g", b"data")
    until(lambda: os.path.isdir(m.p("d")) and os.path.exists(m.p("d", "g")), 5, "the names are known")
    equal(os.listdir(m.p("d")), ["g"])
    directory = os.open(m.p("d"), os.O_RDONLY)  # this one stays
    for _ in range(3):
        run("mount", "-i", "-o", "remount,rw", m.path)  # the kernel forgets all names of it that nobody uses
        zk.create("/d/g/kid", b"")
        until(lambda: sorted(os.listdir(directory)) == ["g", "g@"], 5, "the first child is shown")
        zk.delete("/d/g/kid")
        until(lambda: os.listdir(directory) == ["g"], 5, "the last child has gone")
    os.close(directory)


def switched_while(t, action, rounds):
    """Which errors a loop of the action has while another host makes the name a symlink and a file by turns."""
    r = t.replica()
    here, there = t.mount(r), t.mount(r)
    os.mkdir(here.p("d"))
    save(here.p("d", "t"), b"target")
    save(here.p("d", "f"), b"data")
    until(lambda: os.path.exists(there.p("d", "f")), 5, "the file is seen by the other host")
    errors, calls, stop = collections.Counter(), [0], threading.Event()

    def loop():
        while not stop.is_set():
            try:
                action(here.p("d", "f"))
            except OSError as error:
                errors[errno.errorcode[error.errno]] += 1
            calls[0] += 1

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    with contextlib.ExitStack() as end:
        end.callback(thread.join, 20)
        end.callback(stop.set)
        for number in range(rounds):
            if number % 2:
                save(there.p("d", "tmp"), b"data")
            else:
                os.symlink("t", there.p("d", "tmp"))
            os.rename(there.p("d", "tmp"), there.p("d", "f"))
            seen = calls[0]
            until(lambda: same(here.p("d", "f"), there.p("d", "f")) and calls[0] > seen, 5, "the switch is seen")
    check(not thread.is_alive(), "a call hangs")
    return dict(errors)


def same(one, other):
    return os.lstat(one).st_ino == os.lstat(other).st_ino


def test_open_while_another_host_switches_between_symlink_and_file(t):
    """The name is always there: the second try of the kernel does not meet what has taken the name, or has lost it."""
    equal(switched_while(t, read, count(150, 3000)), {}, "errors of open and read")


def test_chmod_while_another_host_switches_between_symlink_and_file(t):
    equal(switched_while(t, lambda path: os.chmod(path, 0o640), count(150, 3000)), {}, "errors of chmod")


def test_utime_while_another_host_switches_between_symlink_and_file(t):
    equal(switched_while(t, lambda path: os.utime(path, (1, 1)), count(150, 3000)), {}, "errors of utime")


def test_truncate_while_another_host_switches_between_symlink_and_file(t):
    equal(switched_while(t, lambda path: os.truncate(path, 1), count(150, 3000)), {}, "errors of truncate")
