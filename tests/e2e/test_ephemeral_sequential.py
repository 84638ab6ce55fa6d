"""Issue 2, must hold 3: ephemerals by an open descriptor, sequence suffixes, exclusive creates."""

import errno
import os
import subprocess

import protocol
import zk
from lib import Inotify, bash, check, equal, raises_errno, read, until
from world import one_host


def shared(t):
    return one_host(t, protocol.replica(t))


def start(t):
    w = t.shared
    node = "/t%s" % os.path.basename(t.directory)
    w.kazoo.create(node, None)
    until(lambda: os.path.isdir(w.mount.p(node[1:])), 3, "the directory is in the mount")
    return w, node, w.mount.p(node[1:])


def shell(t, script, *args):
    """A bash that reads commands from a pipe, so that its descriptors live until it is told otherwise."""
    process = t.background("bash", "-c", script + '; read -r _; exit 0', "bash", *args, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return process


def test_ephemeral_lives_with_its_descriptor(t):
    w, node, directory = start(t)
    events = Inotify(t, directory)
    holder = shell(t, 'exec 9> "$1/me@ephemeral"; echo host1 >&9; echo made', directory)
    equal(holder.stdout.readline(), b"made\n", "shell")
    stat = until(lambda: w.kazoo.exists(node + "/me"), 3, "kazoo sees the node under its name")
    check(stat.ephemeralOwner != 0, "ephemeral for kazoo", stat)
    events.wait(directory + "/me", "CREATE")
    check("me" in os.listdir(directory) and "me@ephemeral" not in os.listdir(directory), "listed under its true name",
          os.listdir(directory))
    holder.stdin.write(b"end\n")
    holder.stdin.close()
    until(lambda: w.kazoo.exists(node + "/me") is None, 3, "it vanishes when the descriptor closes")
    events.wait(directory + "/me", "DELETE")
    check(not os.path.exists(directory + "/me"), "gone here too")


def test_ephemeral_vanishes_when_the_shell_is_killed(t):
    w, node, directory = start(t)
    holder = shell(t, 'exec 9> "$1/me@ephemeral"; echo made', directory)
    equal(holder.stdout.readline(), b"made\n", "shell")
    check(w.kazoo.exists(node + "/me"), "there")
    holder.kill()
    holder.wait(10)
    until(lambda: w.kazoo.exists(node + "/me") is None, 3, "gone with the killed shell")


def test_child_that_inherited_the_descriptor_keeps_it(t):
    w, node, directory = start(t)
    fd = os.open(directory + "/me@ephemeral", os.O_WRONLY | os.O_CREAT, 0o644)
    child = t.background("sleep", "1000", pass_fds=[fd])
    os.close(fd)
    # A marker through the same mount: the close above has been handled when the marker's has.
    bash('echo x > "$1/marker"', directory)
    check(w.kazoo.exists(node + "/me"), "a child that inherited the descriptor keeps the ephemeral")
    os.unlink(directory + "/marker")
    child.kill()
    child.wait(10)
    until(lambda: w.kazoo.exists(node + "/me") is None, 3, "gone with the last holder")


def test_flush_does_not_end_it(t):
    w, node, directory = start(t)
    fd = os.open(directory + "/me@ephemeral", os.O_RDWR | os.O_CREAT, 0o644)
    for number in range(3):
        os.close(os.dup(fd))
        os.pwrite(fd, b"%d" % number, 0)
        os.fsync(fd)
        equal(w.kazoo.get(node + "/me")[0], b"%d" % number, "data of the ephemeral")
    os.close(fd)
    until(lambda: w.kazoo.exists(node + "/me") is None, 3, "gone at the last close")


def test_name_by_xattr_of_the_descriptor(t):
    w, node, directory = start(t)
    fd = os.open(directory + "/job-@ephemeral+seq", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    name = os.getxattr("/proc/self/fd/%d" % fd, "user.coord.name").decode()
    equal(name, "job-0000000000", "user.coord.name")
    check(w.kazoo.exists(node + "/" + name).ephemeralOwner != 0, "kazoo sees it")
    out = bash('exec 9> "$1/job-@ephemeral+seq"; getfattr --only-values -n user.coord.name /proc/self/fd/9', directory)
    equal(out.stdout, b"job-0000000001", "getfattr")
    os.close(fd)


def test_lookup_of_a_suffix_is_always_enoent(t):
    _, _, directory = start(t)
    fd = os.open(directory + "/x@ephemeral", os.O_WRONLY | os.O_CREAT, 0o644)
    for suffix in ("@ephemeral", "@seq", "@ephemeral+seq", "@container", "@ttl=30s"):
        raises_errno(errno.ENOENT, lambda s=suffix: os.stat(directory + "/x" + s), "stat of x" + suffix)
        raises_errno(errno.ENOENT, lambda s=suffix: os.open(directory + "/x" + s, os.O_RDONLY), "open of x" + suffix)
    os.close(fd)


def test_sequence_numbers_are_kazoos(t):
    w, node, directory = start(t)
    equal(w.kazoo.create(node + "/job-", b"", sequence=True), node + "/job-0000000000", "kazoo first")
    bash('echo job > "$1/job-@seq"', directory)
    equal(w.kazoo.get(node + "/job-0000000001")[0], b"job\n", "then the mount")
    equal(w.kazoo.create(node + "/job-", b"", sequence=True), node + "/job-0000000002", "then kazoo")
    w.kazoo.delete(node + "/job-0000000002")
    bash('for i in 1 2 3; do echo $i > "$1/job-@seq"; done', directory)
    equal(sorted(w.kazoo.get_children(node))[-3:], ["job-000000000%d" % n for n in (3, 4, 5)], "never reused")


def test_parallel_sequence_creates_are_distinct(t):
    w, node, directory = start(t)
    bash('for i in $(seq 40); do echo $i > "$1/q-@seq" & done; wait', directory)
    names = sorted(w.kazoo.get_children(node))
    equal(names, ["q-%010d" % n for n in range(40)], "names")
    equal(sorted(int(w.kazoo.get(node + "/" + n)[0]) for n in names), list(range(1, 41)), "each job once")


def test_noclobber_succeeds_for_exactly_one(t):
    w, node, directory = start(t)
    second = t.mount(w.replica)
    for round_ in range(5):
        lock = "lock%d" % round_
        done = bash('for i in $(seq 10); do '
                    '(set -C; echo "$i" > "$1/$3" && echo "won $i") 2>/dev/null & '
                    '(set -C; echo "b$i" > "$2/$3" && echo "won b$i") 2>/dev/null & done; wait',
                    directory, second.p(node[1:]), lock)
        winners = done.out.split("\n")[:-1]
        equal(len(winners), 1, "winners of set -C: %r" % winners)
        equal(w.kazoo.get(node + "/" + lock)[0].decode().strip(), winners[0].split()[1], "the winner's data")


def test_exclusive_create_against_kazoo(t):
    w, node, directory = start(t)
    w.kazoo.create(node + "/taken", b"k")
    raises_errno(errno.EEXIST, lambda: os.open(directory + "/taken", os.O_WRONLY | os.O_CREAT | os.O_EXCL), "taken")
    os.close(os.open(directory + "/mine", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    check(w.kazoo.exists(node + "/mine") is not None, "an O_EXCL create is there at once")


def test_no_children_below_an_ephemeral(t):
    w, node, directory = start(t)
    fd = os.open(directory + "/me@ephemeral", os.O_WRONLY | os.O_CREAT, 0o644)
    raises_errno((errno.EPERM, errno.ENOENT), lambda: os.mkdir(directory + "/me@/x"), "child of an ephemeral")
    os.close(fd)


def test_mkdir_suffixes(t):
    w, node, directory = start(t)
    os.mkdir(directory + "/d-@seq")
    check("d-0000000000" in os.listdir(directory) and os.path.isdir(directory + "/d-0000000000"), "mkdir @seq",
          os.listdir(directory))
    os.mkdir(directory + "/c@container")
    check(os.path.isdir(directory + "/c"), "mkdir @container")
    os.mkdir(directory + "/t@ttl=30s")
    equal(os.getxattr(directory + "/t", "user.coord.ttl").decode().rstrip(), "30000", "ttl in milliseconds")
    raises_errno((errno.EINVAL, errno.EPERM), lambda: os.mkdir(directory + "/e@ephemeral"), "mkdir @ephemeral")


def test_names_that_end_like_a_suffix_are_a_bijection(t):
    w, node, directory = start(t)
    for name in ("x@seq", "y@", "z@ephemeral", ".data", ".znode", "w@@", "v@ttl=5s"):
        w.kazoo.create(node + "/" + name, name.encode())
    shown = until(lambda: len(os.listdir(directory)) == 7 and sorted(os.listdir(directory)), 3, "all seven are listed")
    data = {read(os.path.join(directory, s)).decode(): s for s in shown}
    equal(data, {"x@seq": "x@@seq", "y@": "y@@", "z@ephemeral": "z@@ephemeral", ".data": "@.data",
                 ".znode": "@.znode", "w@@": "w@@@@", "v@ttl=5s": "v@@ttl=5s"}, "shown names")
    for name, shown_name in data.items():
        equal(os.getxattr(os.path.join(directory, shown_name), "user.coord.name").decode(), name, "user.coord.name")


def test_ephemeral_of_kazoo_is_a_file(t):
    w, node, directory = start(t)
    other = t.kazoo(w.replica)
    other.create(node + "/e", b"", ephemeral=True)
    until(lambda: os.path.isfile(directory + "/e"), 3, "an ephemeral is a file, also when empty")
    owner = int(os.getxattr(directory + "/e", "user.coord.ephemeral_owner").decode(), 0)
    equal(owner, other.client_id[0], "user.coord.ephemeral_owner")
    other.stop()
    until(lambda: not os.path.exists(directory + "/e"), 3, "gone with its session")


def test_ephemerals_go_when_the_mount_ends(t):
    w, node, _ = start(t)
    m = t.mount(w.replica)
    holder = shell(t, 'exec 9> "$1/me@ephemeral"; echo made', m.p(node[1:]))
    equal(holder.stdout.readline(), b"made\n", "shell")
    stat = w.kazoo.exists(node + "/me")
    check(stat is not None, "there")
    raw = zk.Raw(w.replica)
    check(raw.stat(node + "/me", watch=True) is not None, "there")
    holder.stdin.close()
    holder.wait(10)
    m.unmount()
    equal(raw.event().type, zk.DELETED, "gone")


def test_data_written_to_an_ephemeral_is_seen(t):
    w, node, directory = start(t)
    fd = os.open(directory + "/me@ephemeral", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"addr=1.2.3.4\n")
    os.fsync(fd)
    equal(read(directory + "/me"), b"addr=1.2.3.4\n", "by its true name")
    equal(w.kazoo.get(node + "/me")[0], b"addr=1.2.3.4\n", "by kazoo")
    os.close(fd)
