"""filesystem.md sections 2 to 4: shapes, names, attributes, errors, renames; through one mount and kazoo."""

import errno
import fcntl
import mmap
import os
import stat
import time

import protocol
from lib import bash, check, equal, raises_errno, read, run, save, until, shows
from world import one_host

SEEN = "user.coord."


def shared(t):
    # As super: what a mount makes, others may only read.
    return one_host(t, protocol.replica(t), auth_data=[("digest", "super:test")])


def start(t):
    w = t.shared
    node = "/t%s" % os.path.basename(t.directory)
    w.kazoo.create(node, None)
    until(lambda: os.path.isdir(w.mount.p(node[1:])), 3, "the directory is in the mount")
    return w, node, w.mount.p(node[1:])


def xattr(path, name):
    return os.getxattr(path, SEEN + name).decode().rstrip("\n\0")


def test_shapes(t):
    """Section 2, the table of shapes."""
    w, node, top = start(t)
    w.kazoo.create(node + "/null", None)
    w.kazoo.create(node + "/data", b"x")
    w.kazoo.create(node + "/empty", b"")
    os.mkdir(top + "/mkdir")
    save(top + "/creat", b"")
    os.symlink("target/of it", top + "/link")
    until(lambda: len(os.listdir(top)) == 6, 3, "all are listed")
    shown = {e.name: ("link" if e.is_symlink() else "dir" if e.is_dir() else "file") for e in os.scandir(top)}
    equal(shown, {"null": "dir", "data": "file", "empty": "file", "mkdir": "dir", "creat": "file", "link": "link"},
          "shapes")
    equal(w.kazoo.get(node + "/link")[0], b"target/of it", "a symlink's data is its target")
    equal(os.readlink(top + "/link"), "target/of it", "readlink")
    w.kazoo.create(node + "/empty/child", b"c")
    until(lambda: os.path.isdir(top + "/empty"), 3, "an empty client-made file becomes a directory")
    w.kazoo.delete(node + "/empty/child")
    check(os.path.isdir(top + "/empty"), "for good")
    w.kazoo.set(node + "/null", b"now with data")
    shows(top + "/null/.data", b"now with data")
    w.kazoo.create(node + "/creat/child", b"c")
    check(os.path.isfile(top + "/creat"), "a file made in a mount stays a file")
    shows(top + "/creat@/child", b"c")  # with its children at NAME@
    raises_errno(errno.ENOENT, lambda: os.stat(top + "/null@"), "NAME@ of a directory")


def test_zookeeper_is_not_shown(t):
    w = t.shared
    check("zookeeper" not in os.listdir(w.mount.path), "/zookeeper is not listed")
    raises_errno(errno.ENOENT, lambda: os.stat(w.mount.p("zookeeper")), "nor found")
    raises_errno((errno.EEXIST, errno.EPERM, errno.EINVAL, errno.EACCES), lambda: os.mkdir(w.mount.p("zookeeper")),
                 "nor can it be made")
    check(w.kazoo.exists("/zookeeper"), "it is there for clients")


def test_compare_and_set(t):
    w, node, top = start(t)
    path = os.path.join(top, "cas")
    with open(path, "wb") as f:
        f.write(b"first")
    os.setxattr(path, SEEN + "cas", b"0:second")
    equal(w.kazoo.get(node + "/cas")[0], b"second", "the version was right")
    raises_errno(errno.ECANCELED, lambda: os.setxattr(path, SEEN + "cas", b"0:third"), "the version is 1 by now")
    data, stat = w.kazoo.get(node + "/cas")
    equal((data, stat.version), (b"second", 1), "nothing happened")


def test_xattrs(t):
    w, node, top = start(t)
    w.kazoo.create(node + "/f", b"1")
    w.kazoo.set(node + "/f", b"22")
    zstat = w.kazoo.exists(node + "/f")
    path = top + "/f"
    shows(path, b"22")
    equal(xattr(path, "name"), "f", "name")
    equal(xattr(path, "path"), node + "/f", "path")
    equal([int(xattr(path, n), 0) for n in ("version", "cversion", "aversion")],
          [zstat.version, zstat.cversion, zstat.aversion], "versions")
    for name in ("czxid", "mzxid", "pzxid"):
        equal(int(xattr(path, name).replace(":", ""), 16) if ":" in xattr(path, name) else int(xattr(path, name), 0),
              getattr(zstat, name), name)
    equal(int(xattr(path, "ephemeral_owner"), 0), 0, "ephemeral_owner")
    equal((xattr(path, "shape"), xattr(top, "shape")), ("file", "dir"), "shape")
    check("world" in xattr(path, "acl"), "acl", xattr(path, "acl"))
    equal([n for n in os.listxattr(path) if n.startswith(SEEN)], [], "not in listxattr")
    raises_errno(errno.ENODATA, lambda: os.getxattr(path, "user.coord.nonsense"), "an unknown name")
    raises_errno(errno.ENODATA, lambda: os.getxattr(path, "user.other"), "a foreign name")
    refusal = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP)
    raises_errno(refusal, lambda: os.setxattr(path, SEEN + "version", b"7"), "set")
    raises_errno((errno.EOPNOTSUPP, errno.EPERM), lambda: os.setxattr(path, "user.other", b"7"), "set of a foreign one")
    equal(xattr(path, "name"), "f", "getxattr still works after refusals")


def test_stat_fields(t):
    w, node, top = start(t)
    before = time.time()
    save(top + "/f", b"12345")
    got = os.stat(top + "/f")
    equal((got.st_size, got.st_nlink, stat.S_ISREG(got.st_mode)), (5, 1, True), "size, nlink, type")
    check(before - 2 <= got.st_mtime <= time.time() + 2, "mtime", got.st_mtime)
    times = set()
    for number in range(20):
        w.kazoo.set(node + "/f", b"%05d" % number)
        until(lambda: read(top + "/f") == b"%05d" % number, 3, "content")
        times.add(os.stat(top + "/f").st_mtime_ns)
    equal(len(times), 20, "mtime is strictly increasing per change")
    os.utime(top + "/f", ns=(1_500_000_000_000_000_001, 1_500_000_000_000_000_001))
    equal(os.stat(top + "/f").st_mtime_ns, 1_500_000_000_000_000_001, "unless a user set it")
    save(top + "/f", b"x")
    check(os.stat(top + "/f").st_mtime > 1_600_000_000, "until the next change", os.stat(top + "/f").st_mtime)


def test_inode_numbers_are_the_same_everywhere(t):
    """Section 2: st_ino is the same on every host and after every remount."""
    w, node, top = start(t)
    save(top + "/f", b"x")
    os.mkdir(top + "/d")
    w.kazoo.create(node + "/f/child", b"c")
    shows(top + "/f@/child", b"c")
    names = ["", "/f", "/d", "/f@", "/f@/child"]
    first = [os.stat(top + n).st_ino for n in names]
    equal(len(set(first)), len(names), "distinct")
    second = t.mount(w.replica)
    equal([os.stat(second.p(node[1:]) + n).st_ino for n in names], first, "in another mount")
    second.unmount()
    third = t.mount(w.replica)
    equal([os.stat(third.p(node[1:]) + n).st_ino for n in names], first, "after a remount")
    fd = os.open(top + "/new", os.O_WRONLY | os.O_CREAT)
    early = os.fstat(fd).st_ino
    os.write(fd, b"x")
    os.close(fd)
    equal(os.stat(top + "/new").st_ino, early, "a new file has its final number before it is created")


def test_renames(t):
    w, node, top = start(t)
    save(top + "/a", b"a")
    w.kazoo.create(node + "/target", b"t")
    w.kazoo.create(node + "/target/child", b"c")
    shows(top + "/target@/child", b"c")
    target = w.kazoo.exists(node + "/target")
    os.rename(top + "/a", top + "/target")
    data, after = w.kazoo.get(node + "/target")
    equal((data, after.czxid, after.version), (b"a", target.czxid, target.version + 1), "onto a file: identity stays")
    check(w.kazoo.exists(node + "/target/child") and not w.kazoo.exists(node + "/a"), "children stay, source goes")
    save(top + "/b", b"b")
    moved = w.kazoo.exists(node + "/b")
    os.rename(top + "/b", top + "/c")
    after = w.kazoo.exists(node + "/c")
    equal((after.czxid, after.version), (moved.czxid, moved.version), "to a free name: the node moves")
    os.makedirs(top + "/d1/d2/d3")
    save(top + "/d1/d2/f", b"deep")
    before = w.kazoo.exists(node + "/d1/d2/f")
    os.rename(top + "/d1", top + "/e1")
    equal(read(top + "/e1/d2/f"), b"deep", "a whole directory")
    equal(w.kazoo.exists(node + "/e1/d2/f").czxid, before.czxid, "its Stat moves along")
    check(w.kazoo.exists(node + "/d1") is None, "in one transaction")
    raises_errno(errno.EINVAL, lambda: os.rename(top + "/e1", top + "/e1/d2/x"), "into itself")
    raises_errno((errno.ENOTEMPTY, errno.EEXIST), lambda: os.rename(top + "/e1/d2", top + "/e1"), "onto a full one")
    raises_errno(errno.EISDIR, lambda: os.rename(top + "/c", top + "/e1"), "a file onto a directory")
    raises_errno(errno.ENOTDIR, lambda: os.rename(top + "/e1", top + "/c"), "a directory onto a file")
    raises_errno(errno.ENOENT, lambda: os.rename(top + "/none", top + "/x"), "what is not there")


def test_rename_flags(t):
    _, _, top = start(t)
    save(top + "/a", b"a")
    save(top + "/b", b"b")
    done = run("mv", "-n", top + "/a", top + "/b", ok=False)
    equal((read(top + "/a"), read(top + "/b")), (b"a", b"b"), "mv -n: %r" % done.err)
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)

    def renameat2(old, new, flags):
        if libc.renameat2(-100, old.encode(), -100, new.encode(), flags) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")
    raises_errno(errno.EEXIST, lambda: renameat2(top + "/a", top + "/b", 1), "RENAME_NOREPLACE")
    renameat2(top + "/a", top + "/b", 2)
    equal((read(top + "/a"), read(top + "/b")), (b"b", b"a"), "RENAME_EXCHANGE")
    renameat2(top + "/a", top + "/c", 1)
    equal(read(top + "/c"), b"b", "NOREPLACE to a free name")


def test_errors(t):
    w, node, top = start(t)
    save(top + "/f", b"x")
    os.mkdir(top + "/d")
    save(top + "/d/x", b"")
    raises_errno(errno.ENOENT, lambda: os.stat(top + "/none"), "stat of nothing")
    raises_errno(errno.ENOENT, lambda: save(top + "/none/f", b""), "create below nothing")
    raises_errno(errno.ENOTEMPTY, lambda: os.rmdir(top + "/d"), "rmdir")
    raises_errno(errno.ENOTDIR, lambda: os.rmdir(top + "/f"), "rmdir of a file")
    raises_errno(errno.EISDIR, lambda: os.unlink(top + "/d"), "unlink of a directory")
    raises_errno(errno.EEXIST, lambda: os.mkdir(top + "/f"), "mkdir over a file")
    raises_errno(errno.EISDIR, lambda: os.open(top + "/d", os.O_WRONLY), "write to a directory")
    raises_errno(errno.EPERM, lambda: os.link(top + "/f", top + "/hard"), "link")
    for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        raises_errno(errno.EPERM, lambda k=kind: os.mknod(top + "/node", k | 0o600, os.makedev(1, 3)), "mknod")
    raises_errno(errno.ENAMETOOLONG, lambda: save(top + "/" + "n" * 256, b""), "a name of 256 bytes")
    for name in (b"\x01", b"a\nb", b"\xff\xfe", "\U0001f600".encode(), b"\x7f"):
        raises_errno(errno.EINVAL, lambda n=name: save(os.fsencode(top) + b"/" + n, b""), "name %r" % name)
    raises_errno(errno.ENODEV, lambda: shared_map(top + "/f"), "MAP_SHARED")
    equal(w.kazoo.get_children(node + "/d"), ["x"], "nothing changed")


def shared_map(path):
    fd = os.open(path, os.O_RDWR)
    try:
        mmap.mmap(fd, 1, mmap.MAP_SHARED).close()
    finally:
        os.close(fd)


def test_private_map_works(t):
    _, _, top = start(t)
    save(top + "/f", b"mapped")
    fd = os.open(top + "/f", os.O_RDONLY)
    with mmap.mmap(fd, 6, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
        equal(mapped[:], b"mapped", "MAP_PRIVATE")
    os.close(fd)


def test_programs_can_be_run(t):
    _, _, top = start(t)
    save(top + "/hello", b"#!/bin/sh\necho hello\n")
    os.chmod(top + "/hello", 0o755)
    equal(run(top + "/hello").out, "hello\n", "a script in the mount")


def test_too_large(t):
    w, node, top = start(t)
    w.kazoo.create(node + "/f", b"old")
    shows(top + "/f", b"old")
    raises_errno(errno.EFBIG, lambda: save(top + "/f", b"x" * (2 << 20)), "2 MiB")
    raises_errno(errno.EFBIG, lambda: os.truncate(top + "/f", 1 << 30), "truncate to 1 GiB")
    equal(w.kazoo.get(node + "/f")[0], b"old", "the old content stays")
    save(top + "/f", b"y" * 1_000_000)
    equal(w.kazoo.get(node + "/f")[0] == b"y" * 1_000_000, True, "a megabyte fits")


def test_locks_answer_enolck(t):
    """Until the lock table is there: never a lock that only looks right."""
    _, _, top = start(t)
    save(top + "/lock", b"")
    with open(top + "/lock", "r+") as f:
        raises_errno(errno.ENOLCK, lambda: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB), "flock")
        raises_errno(errno.ENOLCK, lambda: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB), "fcntl lock")
    check(run("flock", "-n", top + "/lock", "true", ok=False).returncode != 0, "flock(1) fails visibly")


def test_early_file_is_local_until_its_first_commit(t):
    """Section 4: a new name without O_EXCL is published with its data, or after a second by a timer."""
    w, node, top = start(t)
    fd = os.open(top + "/f", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, b"part")
    check("f" in os.listdir(top) and os.stat(top + "/f").st_size == 4, "on this host the name exists, pending size")
    until(lambda: w.kazoo.exists(node + "/f"), 4, "created by the timer")
    os.write(fd, b"+rest")
    os.close(fd)
    equal(w.kazoo.get(node + "/f")[0], b"part+rest", "after close")
    fd = os.open(top + "/g", os.O_WRONLY | os.O_CREAT, 0o644)
    os.unlink(top + "/g")
    os.write(fd, b"never")
    os.close(fd)
    check(w.kazoo.exists(node + "/g") is None, "created and removed before its first commit: never seen by others")


def test_parent_removed_before_the_first_commit(t):
    w, node, top = start(t)
    os.mkdir(top + "/d")
    fd = os.open(top + "/d/f", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, b"x")
    w.kazoo.delete(node + "/d", recursive=True)
    until(lambda: not os.path.exists(top + "/d"), 3, "the parent is gone in the mount")
    raises_errno((errno.ENOENT, errno.ESTALE), lambda: os.close(fd), "close when the parent has gone")


def test_a_link_elsewhere_before_the_first_commit(t):
    w, node, top = start(t)
    other = t.mount(w.replica)
    fd = os.open(top + "/f", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, b"x")
    os.symlink("target", other.p(node[1:], "f"))
    raises_errno(errno.ESTALE, lambda: os.close(fd), "close when a link has taken the name")
    equal(os.readlink(top + "/f"), "target", "the link is as it was")


def test_unlinked_but_open(t):
    w, node, top = start(t)
    save(top + "/f", b"content")
    fd = os.open(top + "/f", os.O_RDONLY)
    os.unlink(top + "/f")
    equal(os.pread(fd, 100, 0), b"content", "an open descriptor reads on after unlink")
    equal(os.fstat(fd).st_nlink, 0, "nlink")
    os.close(fd)
    w.kazoo.create(node + "/g", b"remote")
    shows(top + "/g", b"remote")
    fd = os.open(top + "/g", os.O_RDONLY)
    equal(os.read(fd, 3), b"rem", "read")
    w.kazoo.delete(node + "/g")
    until(lambda: not os.path.exists(top + "/g"), 3, "gone")
    equal(os.pread(fd, 100, 3), b"ote", "the rest of the pinned version, deleted elsewhere")
    os.close(fd)


def test_two_hosts_append_and_patch(t):
    """Section 4, commit: appends and partial writes of two hosts both survive."""
    w, node, top = start(t)
    second = t.mount(w.replica)
    theirs = second.p(node[1:])
    save(top + "/log", b"")
    shows(theirs + "/log", b"")
    processes = [t.background("bash", "-c", 'for i in $(seq 50); do echo "$2 $i" >> "$1"; done', "bash", where + "/log",
                              who) for where, who in ((top, "a"), (theirs, "b"))]
    for process in processes:
        equal(process.wait(40), 0, "appender")
    lines = w.kazoo.get(node + "/log")[0].decode().splitlines()
    equal(sorted(lines), sorted("%s %d" % (w_, n) for w_ in "ab" for n in range(1, 51)), "all lines, each once")
    save(top + "/p", b"0123456789")
    shows(theirs + "/p", b"0123456789")
    one, two = os.open(top + "/p", os.O_WRONLY), os.open(theirs + "/p", os.O_WRONLY)
    os.pwrite(one, b"AA", 0)
    os.pwrite(two, b"BB", 8)
    os.close(one)
    os.close(two)
    equal(w.kazoo.get(node + "/p")[0], b"AA234567BB", "both partial writes")


def test_statfs_lseek_fallocate_copy(t):
    _, _, top = start(t)
    got = os.statvfs(top)
    check(got.f_blocks > 0 and got.f_bfree > 0 and got.f_namemax == 255, "statvfs", got)
    save(top + "/f", b"0123456789")
    with open(top + "/f", "rb") as f:
        equal((f.seek(0, os.SEEK_END), f.seek(-3, os.SEEK_END), f.read()), (10, 7, b"789"), "lseek")
    run("fallocate", "-l", "100", top + "/f")
    equal(os.stat(top + "/f").st_size, 100, "fallocate mode 0")
    fd, out = os.open(top + "/f", os.O_RDONLY), os.open(top + "/copy", os.O_WRONLY | os.O_CREAT, 0o644)
    raises_errno(errno.EINVAL, lambda: os.copy_file_range(fd, out, 10), "the kernel would copy from its page cache")
    os.close(fd)
    os.close(out)
    run("cp", top + "/f", top + "/copy")
    equal(read(top + "/copy")[:10], b"0123456789", "programs copy by themselves then")
    bash('sync "$1"', top + "/f")


def test_long_names_are_shown_as_hash_names(t):
    w, node, top = start(t)
    long_name = "ä" * 200
    w.kazoo.create(node + "/" + long_name, b"long")
    shown = until(lambda: os.listdir(top), 3, "listed")
    equal(len(shown), 1, "listed")
    check(len(os.fsencode(shown[0])) <= 255, "fits a directory entry", shown)
    equal(read(os.path.join(top, shown[0])), b"long", "readable")
    equal(xattr(os.path.join(top, shown[0]), "name"), long_name, "user.coord.name has the true name")
    run("rm", os.path.join(top, shown[0]))
    check(w.kazoo.exists(node + "/" + long_name) is None, "and can be removed")


def test_many_names_in_a_directory(t):
    w, node, top = start(t)
    for start_ in range(0, 3000, 500):
        pending = [w.kazoo.create_async("%s/n%04d" % (node, n), b"x") for n in range(start_, start_ + 500)]
        for one in pending:
            one.get(20)
    until(lambda: len(os.listdir(top)) == 3000, 3, "all are listed")
    equal(sorted(os.listdir(top)), ["n%04d" % n for n in range(3000)], "listing of 3000")
    equal(len(run("ls", "-l", top).out.splitlines()), 3001, "ls -l")


def test_nothing_of_a_mount_is_in_the_way_of_the_other_users(t):
    """A caller in one directory does not hold up another: parallel saves in many directories all come through."""
    _, _, top = start(t)
    script = 'mkdir "$1/d$2" && for i in $(seq 20); do echo $i > "$1/d$2/f$i"; cat "$1/d$2/f$i" > /dev/null; done'
    users = [t.background("bash", "-c", "set -e; " + script, "bash", top, str(n)) for n in range(10)]
    for user in users:
        equal(user.wait(40), 0, "a user's exit status")
    equal(sum(len(os.listdir("%s/d%d" % (top, n))) for n in range(10)), 200, "files")
