"""Slow checks: sizes and times that the gate cannot afford."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import zk  # noqa: E402
from lib import check, equal, read, run, until  # noqa: E402

DEADLINE_ALL = 600


def plant(replica, parents, children):
    c = zk.Raw(replica, timeout=40000, seconds=60)
    for parent in range(parents):
        posted = [c.post(zk.CREATE, zk.create_body("/p%03d" % parent, None))]
        posted += [c.post(zk.CREATE, zk.create_body("/p%03d/n%05d" % (parent, n), b"data")) for n in range(children)]
        for xid in posted:
            equal(c.reply(xid).err, 0, "create")
    c.close()


def test_a_million_znodes_restart_and_mount(t):
    r = t.replica()
    plant(r, 100, 10_000)
    r.kill9()
    r.start(seconds=60)
    m = t.mount(r)
    equal(len(os.listdir(m.path)), 100, "directories")
    equal(len(run("ls", "-l", m.p("p050"), timeout=60).out.splitlines()), 10_001, "ls -l of 10 000")
    found = run("bash", "-c", 'find "$1" -type f | wc -l', "bash", m.path, timeout=500)
    equal(int(found.out), 1_000_000, "find over everything")
    equal(read(m.p("p099", "n09999")), b"data", "content")


def test_containers_go_at_the_default_interval(t):
    r = t.replica()
    c = zk.Raw(r, timeout=40000, seconds=30)
    c.ok(zk.CREATE_CONTAINER, zk.create_body("/c", flags=zk.CONTAINER))
    c.create("/c/child")
    c.delete("/c/child")

    def gone():
        c.call(zk.PING, xid=-2)
        return c.stat("/c") is None
    until(gone, 70, "an empty container goes within the default 60 s")


def test_a_clone_of_this_repository(t):
    r = t.replica()
    m = t.mount(r)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", HOME=t.directory)
    run("git", "-c", "safe.directory=*", "-c", "core.bigFileThreshold=512k", "clone", "-q", "--depth", "1",
        "--no-hardlinks", root, m.p("clone"), env=env, timeout=500)
    done = run("git", "-c", "safe.directory=*", "-C", m.p("clone"), "status", "--porcelain", env=env, timeout=200)
    equal(done.out, "", "a clean work tree")
    check(os.path.exists(m.p("clone", "README.md")), "its files")
