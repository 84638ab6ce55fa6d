"""Issue 2, must hold 2: one save through the mount is exactly one transaction, and kazoo's watch fires once."""

import os

from lib import bash, check, equal, read, run, until, shows
from world import one_host as shared  # noqa: F401


class Watched:
    """One file made by kazoo; counts kazoo's data watches, which are armed again at once."""

    def __init__(self, t, data=b"old\n"):
        self.w = t.shared
        self.client = t.kazoo(self.w.replica)
        self.parent = "/t" + os.path.basename(t.directory)
        self.node = self.parent + "/config"
        self.client.create(self.node, data, makepath=True)
        self.path = self.w.mount.p(*self.node.split("/")[1:])
        shows(self.path, data)
        self.events = []
        self.arm()
        self.before = self.client.exists(self.node)

    def arm(self):
        def fired(event):
            self.events.append(event.type)
            self.arm()
        self.client.exists(self.node, watch=fired)

    def saved_once(self, data, what):
        stat = until(lambda: self.client.get(self.node) if self.client.get(self.node)[0] == data else None, 5,
                     "%s: kazoo sees the new data (has %r)" % (what, self.client.get(self.node)))[1]
        # A marker behind the save: every event of the save has come when the marker's has.
        self.client.sync(self.node)
        marker = self.client.set(self.node, b"marker")
        until(lambda: len(self.events) >= 2, 5, "%s: watch events of the save and the marker" % what)
        equal(self.events, ["CHANGED", "CHANGED"], "%s: kazoo's watch fires once for the save" % what)
        equal(stat.version, self.before.version + 1, "%s: version" % what)
        equal(stat.czxid, self.before.czxid, "%s: the same znode" % what)
        equal(marker.version, stat.version + 1, "%s: nothing followed the save" % what)


def test_cat_shows_what_kazoo_created(t):
    w = t.shared
    w.kazoo.create("/app1/config", b"v1\n", makepath=True)
    until(lambda: os.path.exists(w.mount.p("app1", "config")), 3, "in the mount")
    equal(run("cat", w.mount.p("app1", "config")).stdout, b"v1\n", "cat")


def test_echo(t):
    f = Watched(t)
    bash('echo v2 > "$1"', f.path)
    f.saved_once(b"v2\n", "echo v2 > f")


def test_group_of_commands(t):
    f = Watched(t)
    bash('{ date -u +%Y; hostname | wc -l; echo end; } > "$1"', f.path)
    data = read(f.path)
    check(data.endswith(b"\n1\nend\n") and data.startswith(b"20"), "content", data)
    f.saved_once(data, "{ date; hostname; echo end; } > f")


def test_script(t):
    f = Watched(t)
    # No redirection of its own standard output within: dash would close and restore descriptor 1 itself, which no
    # file system can tell from the end of the save (filesystem.md section 4: a flush by the opener commits).
    script = t.write("script.sh", "#!/bin/sh\necho one\n(echo two; /bin/echo three)\nls / | head -c 0\necho four\n")
    os.chmod(script, 0o755)
    bash('"$1" > "$2"', script, f.path)
    f.saved_once(b"one\ntwo\nthree\nfour\n", "./script.sh > f")


def test_cp(t):
    f = Watched(t)
    data = os.urandom(150_000)
    run("cp", t.write("source", data), f.path)
    f.saved_once(data, "cp")


def test_sed_in_place(t):
    f = Watched(t, b"colour=red\n")
    run("sed", "-i", "s/red/blue/", f.path)
    f.saved_once(b"colour=blue\n", "sed -i")
    equal(sorted(f.client.get_children(f.parent)), ["config"], "no temporary file is left")


def test_mv_of_a_temporary_file(t):
    f = Watched(t)
    bash('echo moved > "$1.tmp" && mv "$1.tmp" "$1"', f.path)
    f.saved_once(b"moved\n", "mv tmp f")
    equal(sorted(f.client.get_children(f.parent)), ["config"], "the source is gone")


def test_vim(t):
    f = Watched(t, b"alpha\nbeta\n")
    # The terminal is not there; the commands come from arguments. -i NONE: no viminfo outside the test.
    run("vim", "-u", "NONE", "-i", "NONE", "-es", "-c", "%s/beta/gamma/", "-c", "wq", f.path)
    f.saved_once(b"alpha\ngamma\n", "vim")
    equal(sorted(f.client.get_children(f.parent)), ["config"], "no swap file is left")


def test_vim_on_a_file_of_the_mount(t):
    """Mode 0644: vim may rename the original away; the name must never be without whole content in the end."""
    w = t.shared
    run("mkdir", w.mount.p("vimdir"))
    path = w.mount.p("vimdir", "notes")
    bash('umask 022; echo first > "$1"', path)
    run("vim", "-u", "NONE", "-i", "NONE", "-es", "-c", "normal osecond", "-c", "wq", path)
    equal(read(path), b"first\nsecond\n", "through the mount")
    equal(w.kazoo.get("/vimdir/notes")[0], b"first\nsecond\n", "for kazoo")
    equal(w.kazoo.get_children("/vimdir"), ["notes"], "nothing else is left")


def test_append(t):
    f = Watched(t, b"1\n")
    bash('echo 2 >> "$1"', f.path)
    f.saved_once(b"1\n2\n", "echo >> f")


def test_truncate_and_empty(t):
    f = Watched(t, b"1\n")
    bash(': > "$1"', f.path)
    f.saved_once(b"", ": > f")


def test_truncate_by_path(t):
    f = Watched(t, b"12345")
    os.truncate(f.path, 3)
    f.saved_once(b"123", "truncate(2)")


def test_dd_partial_write(t):
    f = Watched(t, b"0123456789")
    run("dd", "of=" + f.path, "bs=1", "seek=3", "conv=notrunc", "status=none", stdin=b"abc")
    f.saved_once(b"012abc6789", "dd conv=notrunc")


def test_many_small_writes(t):
    f = Watched(t)
    with open(f.path, "wb", buffering=0) as out:
        for number in range(500):
            out.write(b"%04d\n" % number)
    f.saved_once(b"".join(b"%04d\n" % n for n in range(500)), "500 write calls")


def test_fsync_commits_and_close_adds_nothing(t):
    f = Watched(t)
    with open(f.path, "wb", buffering=0) as out:
        out.write(b"synced")
        os.fsync(out.fileno())
        equal(f.client.get(f.node)[0], b"synced", "kazoo sees it when fsync has returned")
    f.saved_once(b"synced", "write, fsync, close")


def test_open_for_writing_without_a_write(t):
    f = Watched(t)
    os.close(os.open(f.path, os.O_RDWR))
    bash('exec 5>>"$1"; exec 5>&-', f.path)
    equal(f.client.exists(f.node).version, f.before.version, "version")
    equal(f.events, [], "no watch event")


def test_new_file_is_one_transaction(t):
    """filesystem.md section 4: created with its data at the first commit, in one transaction."""
    w = t.shared
    w.kazoo.create("/newfiles", None)
    until(lambda: os.path.isdir(w.mount.p("newfiles")), 3, "in the mount")
    before = w.kazoo.exists("/newfiles")
    bash('echo data > "$1"', w.mount.p("newfiles", "f"))
    data, stat = w.kazoo.get("/newfiles/f")
    equal((data, stat.version, stat.czxid), (b"data\n", 0, stat.mzxid), "data with the create")
    equal(w.kazoo.exists("/newfiles").cversion, before.cversion + 1, "one change of the directory")


def test_write_is_durable_when_close_returns(t):
    """Once close has returned, kill -9 of the replica takes nothing away."""
    r = t.replica()
    m = t.mount(r)
    for number in range(5):
        bash('echo "$2" > "$1"', m.p("f"), str(number))
        r.kill9()
        r.restart()
        equal(t.kazoo(r).get("/f")[0], b"%d\n" % number, "after kill -9 number %d" % number)
        until(lambda: read(m.p("f")) == b"%d\n" % number, 10, "the mount reads again")
        until(lambda: os.access(m.p("f"), os.W_OK) and can_write(m.p("probe")), 10, "the mount writes again")


def can_write(path):
    try:
        with open(path, "w") as out:
            out.write("x")
        return True
    except OSError:
        return False


def test_child_below_a_file_leaves_it_readable(t):
    w = t.shared
    w.kazoo.create("/app2/config", b"data\n", makepath=True)
    path = w.mount.p("app2", "config")
    shows(path, b"data\n")
    with open(path, "rb") as held:
        w.kazoo.create("/app2/config/child", b"c\n")
        equal(held.read(), b"data\n", "an open descriptor reads on")
    equal(run("cat", path).stdout, b"data\n", "cat")
    shows(path + "@/child", b"c\n")
    equal(sorted(os.listdir(w.mount.p("app2"))), ["config", "config@"], "both names are listed")
    w.kazoo.delete("/app2/config/child")
    until(lambda: os.listdir(w.mount.p("app2")) == ["config"], 3, "config@ goes with the last child")
    equal(read(path), b"data\n", "after")
