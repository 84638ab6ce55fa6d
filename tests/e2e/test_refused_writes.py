"""A save of which a write is refused is not whole: the old content stays, also after the asynchronous RELEASE."""

import errno
import os
import time

from lib import check, equal, raises_errno, read, run, save, shows, until

DEADLINE_ALL = 60
MEGABYTE = 1 << 20


def stays(client, path, data, seconds=0.5):
    """RELEASE comes at some time after close, and is told to nobody: look for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        equal(client.get(path)[0], data, "the old content stays")


def test_too_large_at_once(t):
    r = t.replica()
    m = t.mount(r)
    client = t.kazoo(r)
    client.create("/f", b"old")
    shows(m.p("f"), b"old")
    raises_errno(errno.EFBIG, lambda: save(m.p("f"), b"x" * 2 * MEGABYTE), "2 MiB")
    stays(client, "/f", b"old")
    equal(read(m.p("f")), b"old")
    equal(os.stat(m.p("f")).st_size, 3)
    save(m.p("f"), b"new")
    equal(client.get("/f")[0], b"new", "the next save passes")


def test_too_large_in_pieces(t):
    r = t.replica()
    m = t.mount(r)
    client = t.kazoo(r)
    client.create("/f", b"old")
    shows(m.p("f"), b"old")
    large = t.write("large", b"x" * 2 * MEGABYTE)
    done = run("dd", "if=" + large, "of=" + m.p("f"), "bs=64k", ok=False)
    check(done.returncode != 0 and "too large" in done.err, "dd fails", done.err)
    stays(client, "/f", b"old")


def test_replica_away_in_the_middle(t):
    r = t.replica()
    m = t.mount(r)
    client = t.kazoo(r)
    client.create("/f", b"old")
    client.create("/g", b"old")
    for name in "fg":
        shows(m.p(name), b"old")
    begun = os.open(m.p("f"), os.O_WRONLY | os.O_TRUNC)
    os.write(begun, b"first half, ")
    opened = os.open(m.p("g"), os.O_WRONLY | os.O_TRUNC)
    r.kill9()
    raises_errno((errno.EROFS, errno.ETIMEDOUT), lambda: save(m.p("other"), b"x"), "no replica")  # known from now on
    for fd in (begun, opened):
        raises_errno(errno.EROFS, lambda fd=fd: os.write(fd, b"second half"), "write without a replica")
    r.restart()
    until(lambda: save(m.p("other"), b"x") is None, 15, "writes pass again")
    raises_errno(errno.EROFS, lambda: os.close(begun), "close of a save that is not whole")
    with_error = []
    try:
        os.close(opened)
    except OSError as error:
        with_error.append(error.errno)
    equal(with_error, [errno.EROFS], "close of a save of which nothing was written")
    again = t.kazoo(r)
    for name in "fg":
        stays(again, "/" + name, b"old")
        equal(read(m.p(name)), b"old")
