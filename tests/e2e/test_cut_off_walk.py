"""A host that is cut off: what is not known here fails, soon, and not each name after its own deadline."""

import errno
import os
import time

import zk
from lib import check, equal, raises_errno, read, shows, until

NAMES = 12
DEADLINE_ALL = 60


def test_walk_over_unknown_names(t):
    r = t.replica()
    c = zk.Raw(r)
    c.create("/seen", b"seen")
    c.create("/dir", None)
    for i in range(NAMES):
        c.create("/dir/k%d" % i, b"unseen")
    c.close()
    m = t.mount(r)  # has seen none of it
    shows(m.p("seen"), b"seen")
    os.stat(m.p("dir"))
    r.kill9()
    start = time.monotonic()
    for i in range(NAMES):
        raises_errno(errno.ETIMEDOUT, lambda i=i: os.stat(m.p("dir", "k%d" % i)), "a name that is not known here")
    raises_errno(errno.ETIMEDOUT, lambda: os.listdir(m.p("dir")), "a listing that is not known here")
    took = time.monotonic() - start
    check(took < 8, "the walk took %.1f s: only the first call waits for a replica" % took)
    equal(read(m.p("seen")), b"seen", "what is known is still there")
    r.restart()
    until(lambda: read(m.p("dir", "k0")) == b"unseen", 10, "reads pass again")
    equal(sorted(os.listdir(m.p("dir"))), sorted("k%d" % i for i in range(NAMES)))
