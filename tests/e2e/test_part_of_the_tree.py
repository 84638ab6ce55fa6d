"""Issue 2, build and layout: SOURCE host:port/chroot mounts a part of the tree, with true paths."""

import os

from lib import check, equal, read, run, until


def test_a_part_of_the_tree(t):
    replica = t.replica()
    kazoo = t.kazoo(replica)
    kazoo.create("/app1", None)
    kazoo.create("/app1/config", b"v1\n")
    kazoo.create("/app1/zookeeper", b"not the reserved one")
    kazoo.create("/app2", b"outside")
    mount = t.mount(replica, source=replica.address + "/app1")
    equal(sorted(os.listdir(mount.path)), ["config", "zookeeper"], "the children of /app1 and nothing else")
    equal(read(mount.p("config")), b"v1\n", "data")
    equal(os.getxattr(mount.p("config"), "user.coord.path"), b"/app1/config", "the path is the true one")
    with open(mount.p("config"), "wb") as f:
        f.write(b"v2\n")
    equal(kazoo.get("/app1/config")[0], b"v2\n", "written through")
    kazoo.create("/app1/new", b"n")
    until(lambda: "new" in os.listdir(mount.path), 5, "a change below it arrives")


def test_a_part_that_is_not_there(t):
    replica = t.replica()
    mount = t.mount(replica, start=False, source=replica.address + "/no/such")
    done = run(*mount.command(), ok=False)
    equal(done.returncode, 1, "exit status")
    check("/no" in done.err and "does not exist" in done.err, "the message names the part: " + done.err)
