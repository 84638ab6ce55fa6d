"""Issue 2, must hold 8: rm -r, tar, cp -a, rsync -a in and out of a tree with both names, NAME and NAME@."""

import os
import re

from lib import Failure, check, equal, run, shows, until
from world import one_host as shared  # noqa: F401

# znode path below the root of the tree -> data; None: null data.
TREE = {
    "": None,
    "config": b"data of config\n",                # a file with children: config and config@
    "config/child": b"child\n",
    "config/sub": None,
    "config/sub/deep": b"deep\n",
    "config/both": b"both\n",                     # the same again below NAME@
    "config/both/leaf": b"leaf\n",
    "dir": None,                                  # a directory with data: dir/.data
    "dir/file": b"file in dir\n",
    "dir/empty": b"",
    "emptydir": None,
    "plain": b"plain\n",
    "big": bytes(range(256)) * 1500,
    "name with blanks": b"blank\n",
    "umläut": b"u\n",
}
DIR_DATA = {"dir": b"data of dir\n"}


def plant(t):
    """A tree made by a ZooKeeper client; its znode path and its place in the mount."""
    w = t.shared
    root = "/t%s" % os.path.basename(t.directory)
    for path, data in TREE.items():
        w.kazoo.create((root + "/" + path).rstrip("/"), data)
    for path, data in DIR_DATA.items():
        w.kazoo.set(root + "/" + path, data)
    # Changes come in order: when the last one is in the mount, all are.
    place = w.mount.p(root[1:])
    shows(place + "/" + path + "/.data", data)
    return w, root, place


def znodes(kazoo, root):
    """Everything below root as path -> data, as a ZooKeeper client sees it."""
    found = {"": kazoo.get(root)[0]}

    def walk(path):
        for name in kazoo.get_children(root + path):
            below = path + "/" + name
            found[below[1:]] = kazoo.get(root + below)[0]
            walk(below)
    walk("")
    return found


def expected_znodes():
    out = dict(TREE)
    out.update(DIR_DATA)
    return out


def same_tree(kazoo, root, what):
    def normal(tree):
        # A directory without data may be null or empty for a client; a file's empty data is not null.
        return {k: (v or b"") for k, v in tree.items()}
    got, want = normal(znodes(kazoo, root)), normal(expected_znodes())
    if got != want:
        raise Failure("%s: missing %r, surplus %r, different %r" % (
            what, sorted(set(want) - set(got)), sorted(set(got) - set(want)),
            sorted(k for k in want if k in got and got[k] != want[k])))


def expected_files():
    """What the mount shows, as relative path -> content; None: a directory."""
    shown = {"": None}
    for path, data in TREE.items():
        if not path:
            continue
        parts = path.split("/")
        where = "/".join(p + "@" if TREE["/".join(parts[:n + 1])] is not None else p
                         for n, p in enumerate(parts[:-1]))
        where = (where + "/" if where else "") + parts[-1]
        shown[where] = data
        if data is not None and any(k.startswith(path + "/") for k in TREE):
            shown[where + "@"] = None
        if path in DIR_DATA:
            shown[where + "/.data"] = DIR_DATA[path]
    return shown


def files(top):
    found = {}
    for folder, folders, names in os.walk(top):
        at = os.path.relpath(folder, top)
        found["" if at == "." else at] = None
        for name in names:
            with open(os.path.join(folder, name), "rb") as f:
                found[os.path.normpath(os.path.join(at, name))] = f.read()
    return found


def same_files(top, what):
    got, want = files(top), expected_files()
    if got != want:
        raise Failure("%s: missing %r, surplus %r, different %r" % (
            what, sorted(set(want) - set(got)), sorted(set(got) - set(want)),
            sorted(k for k in want if k in got and got[k] != want[k])))


def test_shown_tree(t):
    _, _, place = plant(t)
    same_files(place, "the tree in the mount")


def test_rm_r(t):
    w, root, place = plant(t)
    run("rm", "-r", place)
    check(w.kazoo.exists(root) is None, "the znode is gone")
    check(not os.path.exists(place), "gone in the mount")


def test_rm_rf_of_the_content(t):
    w, root, place = plant(t)
    run("bash", "-c", 'rm -rf "$1"/*', "bash", place)
    equal(w.kazoo.get_children(root), [], "children")


def test_cp_a_out_and_in(t):
    w, root, place = plant(t)
    out = t.path("out")
    run("cp", "-a", place, out)
    same_files(out, "cp -a out")
    run("cp", "-a", out, w.mount.p("cp-in"))
    same_tree(w.kazoo, "/cp-in", "cp -a in")
    same_files(w.mount.p("cp-in"), "cp -a in, in the mount")
    run("cp", "-a", place, w.mount.p("cp-within"))
    same_tree(w.kazoo, "/cp-within", "cp -a within the mount")


def test_tar_out_and_in(t):
    w, root, place = plant(t)
    archive = t.path("tree.tar")
    run("tar", "-C", os.path.dirname(place), "-cf", archive, os.path.basename(place))
    out = t.path("out")
    os.makedirs(out)
    run("tar", "-C", out, "-xf", archive)
    same_files(os.path.join(out, os.path.basename(place)), "tar out")
    os.makedirs(w.mount.p("tar-in"))
    run("tar", "-C", w.mount.p("tar-in"), "-xpf", archive)
    same_tree(w.kazoo, "/tar-in/" + root[1:], "tar in")


def test_rsync_out_and_in(t):
    w, root, place = plant(t)
    out = t.path("out")
    run("rsync", "-a", place + "/", out)
    same_files(out, "rsync -a out")
    run("rsync", "-a", out + "/", w.mount.p("rsync-in"))
    same_tree(w.kazoo, "/rsync-in", "rsync -a in")
    before = {p: w.kazoo.exists("/rsync-in/" + p).version for p in TREE if p}
    again = run("rsync", "-a", "--itemize-changes", out + "/", w.mount.p("rsync-in"))
    # NAME and NAME@ are one znode with one mode; rsync gives each its own, so the last one wins. Nothing else is left.
    mode = re.compile(r"[.][fd][.]{3}p[.]{5} (config|config@/both)@?/?")
    left = [line for line in again.out.splitlines() if not mode.fullmatch(line)]
    equal(left, [], "a second rsync -a has nothing to transfer (sizes and times are kept)")
    equal({p: w.kazoo.exists("/rsync-in/" + p).version for p in TREE if p}, before, "versions")
    run("rsync", "-a", "--delete", t.path("out") + "/", w.mount.p("rsync-in"))
    same_tree(w.kazoo, "/rsync-in", "rsync -a --delete in")


def test_modes_and_times_survive_a_round_trip(t):
    w = t.shared
    source = t.path("source")
    os.makedirs(source + "/d")
    for name, mode in (("a", 0o600), ("b", 0o644), ("c", 0o755), ("d/e", 0o440)):
        with open(os.path.join(source, name), "w") as f:
            f.write(name)
        os.chmod(os.path.join(source, name), mode)
        os.utime(os.path.join(source, name), ns=(1_600_000_000_123_456_789,) * 2)
    os.chown(source + "/b", 1234, 5678)
    os.symlink("a", source + "/link")
    os.chmod(source + "/d", 0o750)
    run("cp", "-a", source, w.mount.p("round"))
    run("cp", "-a", w.mount.p("round"), t.path("back"))
    for name in ("a", "b", "c", "d", "d/e", "link"):
        first, last = os.lstat(os.path.join(source, name)), os.lstat(os.path.join(t.path("back"), name))
        equal((last.st_mode, last.st_uid, last.st_gid, last.st_size), (first.st_mode, first.st_uid, first.st_gid,
                                                                       first.st_size), "mode and owner of " + name)
        if name[0] in "abc":
            equal(last.st_mtime_ns, first.st_mtime_ns, "mtime of " + name)
    equal(os.readlink(t.path("back", "link")), "a", "symlink")


def test_find_du_df_grep(t):
    _, _, place = plant(t)
    found = run("find", place, "-type", "f").out.splitlines()
    equal(len(found), len([v for v in expected_files().values() if v is not None]), "find -type f")
    equal(run("grep", "-rl", "deep", place).out.strip(), place + "/config@/sub/deep", "grep -r")
    run("du", "-s", place)
    check("coord" in run("df", place).out, "df names the file system", run("df", place).out)


def test_unlink_and_rmdir_of_the_halves(t):
    """filesystem.md section 2: unlink(NAME) with children sets null data; rmdir(NAME@) refuses while not empty."""
    w, root, place = plant(t)
    os.unlink(place + "/config")
    equal(w.kazoo.get(root + "/config")[0], None, "unlink of the file half: null data")
    check("config" not in os.listdir(place) and "config@" in os.listdir(place), "only config@ is left",
          os.listdir(place))
    with open(place + "/config", "x") as again:  # O_EXCL: succeeds on null data
        again.write("back")
    equal(w.kazoo.get(root + "/config")[0], b"back", "created again")
    equal(w.kazoo.get(root + "/config/child")[0], b"child\n", "its children were not touched")
    try:
        os.rmdir(place + "/config@")
        raise Failure("rmdir of a NAME@ with children must fail")
    except OSError as error:
        equal(error.errno, 39, "ENOTEMPTY")
    run("rm", "-r", place + "/config@")
    equal(w.kazoo.get(root + "/config")[0], b"back", "rm -r NAME@ leaves the data")
    equal(w.kazoo.get_children(root + "/config"), [], "and no children")
    until(lambda: "config@" not in os.listdir(place), 3, "NAME@ is listed iff it has children")
    os.mkdir(place + "/new@")
    os.mkdir(place + "/new@/x")
    equal(w.kazoo.get(root + "/new")[0], None, "mkdir NAME@ without NAME: a file-shaped node with null data")
    check("new" not in os.listdir(place), "whose name is not listed")
    run("rm", "-r", place + "/new@")
    check(w.kazoo.exists(root + "/new") is None, "rmdir removes the node when nothing is left")


def test_dot_data(t):
    w, root, place = plant(t)
    with open(place + "/emptydir/.data", "w") as f:
        f.write("now")
    equal(w.kazoo.get(root + "/emptydir")[0], b"now", "written")
    check(".data" in os.listdir(place + "/emptydir"), "listed when not empty")
    os.unlink(place + "/emptydir/.data")
    check(not w.kazoo.get(root + "/emptydir")[0], "unlink empties")
    equal(os.listdir(place + "/emptydir"), [], "not listed")
    with open(place + "/emptydir/.data", "w") as f:
        f.write("again")
    os.rmdir(place + "/emptydir")
    check(w.kazoo.exists(root + "/emptydir") is None, "rmdir ignores .data when it is all that is left")


def test_small_git_repository(t):
    w = t.shared
    where = w.mount.p("repo")
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", HOME=t.directory,
               GIT_AUTHOR_NAME="t", GIT_AUTHOR_EMAIL="t@t", GIT_COMMITTER_NAME="t", GIT_COMMITTER_EMAIL="t@t")
    run("git", "init", "-q", "-b", "main", where, env=env, timeout=40)
    for number in range(3):
        with open(where + "/file", "a") as f:
            f.write("line %d\n" % number)
        run("git", "-C", where, "add", ".", env=env, timeout=40)
        run("git", "-C", where, "commit", "-q", "-m", "c%d" % number, env=env, timeout=40)
    run("git", "-C", where, "fsck", "--strict", env=env, timeout=40)
    equal(len(run("git", "-C", where, "log", "--oneline", env=env).out.splitlines()), 3, "commits")
