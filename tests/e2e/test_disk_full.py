"""Issue 2, must hold 7: a disk that fills up: clear error, reads go on, recovers, nothing acknowledged is lost."""

import errno
import os

import zk
from lib import check, equal, raises_errno, read, run, save, until, shows

DEADLINE_ALL = 150
VALUE = os.urandom(100_000)


def small_disk(t, mebibytes, name="disk"):
    where = t.path(name)
    os.makedirs(where)
    run("mount", "-t", "tmpfs", "-o", "size=%dm" % mebibytes, "tmpfs", where)
    t.undo.callback(lambda: run("umount", "-l", where, ok=False))
    os.makedirs(where + "/data")
    return where


def fill(c, acknowledged, prefix, most=6000):
    """Creates nodes until one is refused; the code of the refusal."""
    for number in range(most):
        path = "/%s%05d" % (prefix, number)
        got = c.call(zk.CREATE, zk.create_body(path, VALUE))
        if got.err:
            return got.err
        acknowledged.append(path)
    return 0


def all_there(c, acknowledged):
    for path in acknowledged:
        data, _ = c.get(path)
        check(data == VALUE, "acknowledged data of %s is wrong or gone" % path)


def start(t, mebibytes, filler):
    disk = small_disk(t, mebibytes)
    if filler:
        run("fallocate", "-l", "%dM" % filler, disk + "/filler")
    r = t.replica(data_dir=disk + "/data")
    return disk, r, zk.Raw(r, timeout=40000, seconds=30)


def test_full_disk_refuses_writes_and_recovers_when_space_comes(t):
    disk, r, c = start(t, 400, 250)
    m = t.mount(r)
    c.create("/seen", b"seen")
    shows(m.p("seen"), b"seen")
    acknowledged = []
    equal(fill(c, acknowledged, "a"), zk.QUOTA_EXCEEDED, "what a stock client gets when the disk is full")
    check(r.running(), "coordd lives on a full disk")
    check(len(acknowledged) > 10, "writes before the disk was full", len(acknowledged))
    all_there(c, acknowledged[:20] + acknowledged[-20:])
    check(read(m.p("seen")) == b"seen", "reads through the mount go on")
    shows(m.p(acknowledged[-1][1:]), VALUE)  # also of what the mount has not seen before
    raises_errno(errno.ENOSPC, lambda: save(m.p("more"), VALUE), "a save on a full disk")
    raises_errno(errno.ENOSPC, lambda: os.mkdir(m.p("dir")), "mkdir on a full disk")
    text = r.log_text().lower()
    check("space" in text or "full" in text, "the log says that the disk is full")
    os.unlink(disk + "/filler")
    until(lambda: c.call(zk.CREATE, zk.create_body("/after", VALUE)).err in (0, zk.NODE_EXISTS), 30,
          "writes pass again by themselves when space comes back")
    until(lambda: not os.path.exists(m.p("later")) and save_ok(m.p("later")), 15, "through the mount too")
    all_there(c, acknowledged)
    r.kill9()
    r.restart()
    all_there(zk.Raw(r, timeout=40000, seconds=30), acknowledged)


def save_ok(path):
    try:
        save(path, b"x")
        return True
    except OSError:
        return False


def test_deletes_pass_on_a_full_disk_and_make_room(t):
    _, r, c = start(t, 200, 0)
    acknowledged = []
    equal(fill(c, acknowledged, "a"), zk.QUOTA_EXCEEDED, "the disk is full")
    other = zk.Raw(r, timeout=40000)
    other.close()  # a session close passes
    half = acknowledged[::2]
    for path in half:
        c.delete(path)
    kept = [p for p in acknowledged if p not in set(half)]
    until(lambda: c.call(zk.CREATE, zk.create_body("/again", VALUE)).err == 0, 30, "room after deletes")
    all_there(c, kept)
    r.kill9()
    r.restart()
    c = zk.Raw(r, timeout=40000, seconds=30)
    all_there(c, kept)
    for path in half:
        check(c.stat(path) is None, "deleted, acknowledged, there again", path)


def test_kill_on_a_full_disk_starts_again(t):
    _, r, c = start(t, 200, 0)
    acknowledged = []
    fill(c, acknowledged, "a")
    r.kill9()
    r.restart()
    c = zk.Raw(r, timeout=40000, seconds=30)
    all_there(c, acknowledged)
    c.delete(acknowledged[0])


def test_disk_too_small_to_start(t):
    disk = small_disk(t, 1)
    r = t.replica(data_dir=disk + "/data", start=False)
    r.start(wait=False)
    until(lambda: not r.running(), 20, "coordd ends when it has no room to start")
    check(r.process.returncode not in (0, None) and r.process.returncode > 0, "exit status, not a signal",
          r.process.returncode)
    check("space" in r.log_text().lower(), "it says why", r.log_text())


def test_limit_of_the_file_size_is_as_a_full_disk(t):
    """ulimit -f: the signal SIGXFSZ must not end coordd without a word."""
    r = t.replica(start=False)
    r.process = t.background("bash", "-c", 'log=$1; shift; ulimit -f 40960; exec "$@" >> "$log" 2>&1', "bash", r.log,
                             *r.command())
    r.wait_ready()
    c = zk.Raw(r, timeout=40000, seconds=30)
    acknowledged = []
    equal(fill(c, acknowledged, "x"), zk.QUOTA_EXCEEDED, "the answer when a file may not grow")
    check(r.running(), "coordd lives at the limit")
    all_there(c, acknowledged)
    equal(r.terminate(), 0, "a clean end")
    r.restart()
    all_there(zk.Raw(r, timeout=40000, seconds=30), acknowledged)
