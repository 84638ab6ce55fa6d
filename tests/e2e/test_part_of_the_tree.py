"""Issue 2, build and layout: SOURCE host:port/chroot mounts a part of the tree, with true paths."""

import os

from lib import Inotify, check, equal, read, run, save, until


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


def test_moved_across_the_edge_of_the_part(t):
    """What another host moves out of the part is deleted for those who watch here, what it moves in is created."""
    replica = t.replica()
    whole = t.mount(replica)
    os.makedirs(whole.p("app/sub"))
    os.mkdir(whole.p("outside"))
    part = t.mount(replica, source=replica.address + "/app")
    kinds = ((lambda path: save(path, b"data"), True), (os.mkdir, True), (lambda path: os.symlink("t", path), False))
    for number, (make, watched) in enumerate(kinds):
        for directory in ("", "sub/"):
            name = directory + "n%d" % number
            here, there, outside = part.path + "/" + name, whole.p("app") + "/" + name, whole.p("outside", "o")
            first = Inotify(t, os.path.dirname(here))
            make(there)
            first.wait(here, "CREATE")
            node = [here] if watched else []
            events = Inotify(t, os.path.dirname(here), *node)
            os.rename(there, outside)
            events.wait(here, "DELETE")
            check(not os.path.lexists(here), "gone here", name)
            os.rename(outside, there)
            events.wait(here, "CREATE")
            check(os.path.lexists(here), "here again", name)
            moved = os.path.dirname(here) + "/moved%d" % number
            os.rename(there, os.path.dirname(there) + "/moved%d" % number)
            events.wait(moved, "MOVED_TO")
            equal([events.seen(here, e) for e in ("DELETE", "CREATE", "MOVED_FROM")], [1, 1, 1], name)
            for where in node:  # inotifywait names a watch by its first path; of a directory with a slash
                until(lambda where=where: events.seen(where, "MOVE_SELF") + events.seen(where + "/", "MOVE_SELF"), 5,
                      "the node's own watch lives")
            os.rename(os.path.dirname(there) + "/moved%d" % number, outside + name.replace("/", "-"))
            events.wait(moved, "DELETE")
