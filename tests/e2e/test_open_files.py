"""What programs do with files that they hold open: truncate, rename, unlink, preallocate, copy.

Most of these lost data, or showed old data, once."""

import errno
import os
import stat
import subprocess
import time

from lib import Inotify, bash, check, equal, raises_errno, read, run, save, shows, until
from world import one_host as shared  # noqa: F401

DEADLINE_ALL = 150


def place(t, name="f"):
    w = t.shared
    directory = "t%s" % os.path.basename(t.directory)
    w.kazoo.create("/" + directory, None)
    until(lambda: os.path.isdir(w.mount.p(directory)), 3, "the directory is in the mount")
    return w.mount.p(directory, name), "/%s/%s" % (directory, name), w.kazoo


def test_an_ephemeral_renamed_onto_a_file_takes_nothing_with_it(t):
    path, node, kazoo = place(t)
    save(path, b"precious")
    held = os.open(path + "-e@ephemeral", os.O_RDWR | os.O_CREAT)
    os.write(held, b"new")
    os.fsync(held)
    os.rename(path + "-e", path)
    equal(kazoo.get(node)[0], b"new")
    equal(kazoo.exists(node).ephemeralOwner, 0)
    os.close(held)
    marker = os.open(path + "-m@ephemeral", os.O_RDWR | os.O_CREAT)  # one that does end, so the other would have
    os.close(marker)
    until(lambda: kazoo.exists(node + "-m") is None, 5, "an ephemeral ends with its descriptor")
    equal(kazoo.get(node)[0], b"new", "the file stays")


def test_an_empty_save_is_there_when_close_returns(t):
    path, node, kazoo = place(t)
    for n in range(300):
        save(path, b"old")
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        equal(kazoo.get(node)[0], b"", "round %d: for others" % n)
        equal(read(path), b"", "for this host")


def test_an_empty_save_does_not_undo_a_later_one(t):
    path, node, kazoo = place(t)
    for n in range(300):
        save(path, b"old")
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        save(path, b"new", os.O_WRONLY | os.O_APPEND)
        equal(kazoo.get(node)[0], b"new", "round %d" % n)
    version = kazoo.get(node)[1].version
    bash(": > $1; echo one > $1; echo two >> $1", path)
    equal(kazoo.get(node)[0], b"one\ntwo\n")
    equal(kazoo.get(node)[1].version, version + 3, "one transaction for each")


def test_a_truncated_file_that_a_child_writes_is_one_save(t):
    path, node, kazoo = place(t)
    save(path, b"old")
    version = kazoo.get(node)[1].version
    with open(path, "wb") as file:
        child = subprocess.Popen(["sh", "-c", "read go; echo by the child"], stdin=subprocess.PIPE, stdout=file)
    equal(kazoo.get(node)[0], b"old", "the child has not written yet")
    child.communicate(b"go\n")
    until(lambda: kazoo.get(node)[0] == b"by the child\n", 5, "what the child wrote is there")
    equal(kazoo.get(node)[1].version, version + 1)
    bash("exec 3> $1; exec 4>&3; exec 3>&-; echo still >&4; exec 4>&-", path)
    equal(kazoo.get(node)[0], b"still\n")
    equal(kazoo.get(node)[1].version, version + 2, "another descriptor of the same program")


def test_a_save_that_was_overtaken_replaces_everything_all_the_same(t):
    path, node, kazoo = place(t)
    save(path, b"old old old")
    held = os.open(path, os.O_WRONLY | os.O_TRUNC)
    save(path, b"longer than what comes", os.O_WRONLY | os.O_APPEND)
    equal(kazoo.get(node)[0], b"longer than what comes", "the truncation was before it")
    os.write(held, b"short")
    os.close(held)
    equal(kazoo.get(node)[0], b"short", "no mixture")
    held = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.fsync(held)  # published by itself
    save(path, b"longer than what comes", os.O_WRONLY | os.O_APPEND)
    os.write(held, b"short")
    os.close(held)
    equal(kazoo.get(node)[0], b"short", "no mixture, likewise")


def test_an_unlinked_file_is_read_to_its_last_version(t):
    path, _, _ = place(t)
    save(path, b"one")
    reader = os.open(path, os.O_RDONLY)
    save(path, b"two")
    os.unlink(path)
    equal(os.pread(reader, 9, 0), b"two")
    os.close(reader)
    # bash keeps a here-document of more than a pipe holds in a file that it unlinks before it reads it.
    text = b"x" * 299_999 + b"\n"
    script = t.write("here.sh", b"cat <<EOF | wc -c\n" + text + b"EOF\n")
    done = run("env", "TMPDIR=" + os.path.dirname(path), "bash", script)
    equal(int(done.stdout), 300_000)


def test_an_unlinked_file_has_its_size(t):
    path, _, _ = place(t)
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.unlink(path)
    os.write(held, b"x" * 1000)
    equal(os.fstat(held).st_size, 1000)
    equal(os.lseek(held, 0, os.SEEK_END), 1000)
    os.close(held)


def test_fallocate_never_shortens(t):
    path, node, kazoo = place(t)
    kazoo.create(node, b"0123456789")
    shows(path, b"0123456789")
    held = os.open(path, os.O_RDWR)
    os.posix_fallocate(held, 0, 100)
    kazoo.set(node, b"X" * 1000)
    shows(path, b"X" * 1000)
    os.close(held)
    equal(kazoo.get(node)[0], b"X" * 1000)
    held = os.open(path, os.O_RDWR)
    os.posix_fallocate(held, 0, 2000)
    os.close(held)
    equal(kazoo.get(node)[0], b"X" * 1000 + b"\0" * 1000)


def test_the_kernel_does_not_copy_by_itself(t):
    path, _, _ = place(t)
    save(path, b"data")
    source, target = os.open(path, os.O_RDONLY), os.open(path + "2", os.O_WRONLY | os.O_CREAT)
    raises_errno(errno.EINVAL, lambda: os.copy_file_range(source, target, 4), "from the page cache")
    os.close(source)
    os.close(target)
    run("cp", path, path + "3")
    equal(read(path + "3"), b"data", "cp copies by read and write")


def test_data_does_not_become_the_target_of_a_link(t):
    path, node, kazoo = place(t)
    save(path, b"v1")
    held = os.open(path, os.O_WRONLY)
    os.write(held, b"/etc/passwd")
    run("ln", "-sfn", "elsewhere", path)
    os.close(held)  # of a file that is replaced, as of one that is unlinked
    equal(os.readlink(path), "elsewhere")
    equal(kazoo.get(node)[0], b"elsewhere", "the link is there")


def test_what_is_open_outlives_its_replacement_by_another_kind(t):
    """A file by a symlink, and a symlink by a file: on this host, and on another one."""
    path, node, kazoo = place(t)
    there = t.mount(t.shared.replica).p(node[1:])
    save(path, b"the first")
    until(lambda: os.path.exists(there), 5, "the file is on the other host")
    children = [kazoo.exists(os.path.dirname(node)).cversion]
    told = []
    kazoo.exists(node, watch=lambda event: told.append(event.type))
    for n in range(3):
        held = [os.open(p, os.O_RDONLY) for p in (path, there)]
        data = read(path)
        equal([os.pread(fd, 100, 0) for fd in held], [data, data])
        mine = os.fstat(held[0])
        if n == 2:  # the other host does it
            os.symlink("elsewhere", there + "-tmp")
            os.rename(there + "-tmp", there)
        else:
            run("ln", "-sfn", "elsewhere", path)
        until(lambda: os.path.islink(path) and os.path.islink(there), 5, "both show the link")
        equal([os.readlink(p) for p in (path, there)], ["elsewhere", "elsewhere"])
        check(os.lstat(path).st_ino != mine.st_ino, "another node")
        for fd, where in zip(held, ("here", "there")):
            equal([os.pread(fd, 100, at) for at in (0, 4)], [data, data[4:]], where)
            state = os.fstat(fd)
            equal((stat.S_IFMT(state.st_mode), state.st_size, state.st_ino, state.st_nlink),
                  (stat.S_IFREG, len(data), mine.st_ino, 0), where)
            os.close(fd)
        link = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        save(path + "-new", b"number %d" % n)
        os.rename(path + "-new", path)
        check(stat.S_ISLNK(os.fstat(link).st_mode), "the link that is held")
        os.close(link)
        equal(read(path), b"number %d" % n)
        shows(there, b"number %d" % n)
        equal(sorted(os.listdir(os.path.dirname(there))), ["f"])
        children.append(kazoo.exists(os.path.dirname(node)).cversion)
    equal(told, ["DELETED"], "a watcher of the path")
    check(children == sorted(set(children)), "the listing has changed each time", children)


def test_a_replacement_by_another_kind_is_seen_by_watchers(t):
    path, node, _ = place(t)
    there = t.mount(t.shared.replica).p(node[1:])
    directory = os.path.dirname(there)
    save(path, b"data")
    until(lambda: os.path.exists(there), 5, "the file is on the other host")
    here, other = Inotify(t, os.path.dirname(path), path), Inotify(t, directory, there)
    run("ln", "-sfn", "elsewhere", path)
    for events, where in ((here, path), (other, there)):
        events.wait(where, "MOVED_TO")
        events.wait(where, "DELETE_SELF")
    os.mkdir(path + "-marker")
    for events, where in ((here, path), (other, there)):
        events.wait(where + "-marker", "CREATE")
        equal(events.seen(where, "MOVED_TO"), 1, "once")
    equal(here.seen(path, "DELETE"), 0, "the rename says it already")
    equal(os.readlink(there), "elsewhere")


def test_a_file_with_children_becomes_a_link_itself(t):
    path, node, kazoo = place(t)
    kazoo.create(node, b"data")
    kazoo.create(node + "/child", b"below")
    shows(path + "@/child", b"below")
    run("ln", "-sfn", "elsewhere", path)
    equal(os.readlink(path), "elsewhere")
    equal(read(path + "@/child"), b"below", "its children stay")
    save(path + "-new", b"a file again")
    os.rename(path + "-new", path)
    equal(read(path), b"a file again")
    equal(read(path + "@/child"), b"below", "its children stay")


def test_attributes_of_an_unlinked_file(t):
    path, node, kazoo = place(t)

    def unlinked(flags, create):
        if not create:
            save(path, b"data")
        fd = os.open(path, flags | (os.O_CREAT if create else 0), 0o644)
        os.unlink(path)
        return fd

    for flags, create in ((os.O_RDONLY, False), (os.O_RDWR, False), (os.O_RDWR, True),
                          (os.O_RDWR | os.O_EXCL, True)):
        fd = unlinked(flags, create)
        os.fchmod(fd, 0o751)
        os.fchown(fd, 41001, 41002)
        state = os.fstat(fd)
        equal((stat.S_IMODE(state.st_mode), state.st_uid, state.st_gid), (0o751, 41001, 41002), (flags, create))
        os.utime(fd, ns=(5, 1_000_000_000))
        equal(os.fstat(fd).st_mtime_ns, 1_000_000_000)
        os.utime(fd)
        check(abs(os.fstat(fd).st_mtime - time.time()) < 60, "now", os.fstat(fd))
        os.close(fd)
        check(kazoo.exists(node) is None, "it does not come back")
    os.mkdir(path + "-dir")
    fd = os.open(path + "-dir", os.O_RDONLY)
    os.rmdir(path + "-dir")
    os.fchmod(fd, 0o700)
    equal(stat.S_IMODE(os.fstat(fd).st_mode), 0o700, "a directory")
    os.close(fd)
    # NAME of a node with children: NAME@ is another thing.
    kazoo.create(node, b"data")
    kazoo.create(node + "/child", b"below")
    shows(path + "@/child", b"below")
    mode = os.stat(path + "@").st_mode
    for flags in (os.O_RDONLY, os.O_RDWR):
        fd = unlinked(flags, True)
        os.fchmod(fd, 0o600)
        equal(os.stat(path + "@").st_mode, mode)
        os.close(fd)
        kazoo.set(node, b"again")
        shows(path, b"again")
    os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"comes back")
    os.fchmod(fd, 0o604)
    os.close(fd)
    equal((read(path), stat.S_IMODE(os.stat(path).st_mode)), (b"comes back", 0o604))


def test_attributes_of_a_file_that_another_host_has_unlinked(t):
    path, node, kazoo = place(t)
    save(path, b"data")
    fd = os.open(path, os.O_RDONLY)
    events = Inotify(t, os.path.dirname(path))
    kazoo.delete(node)
    events.wait(path, "DELETE")
    kazoo.create(node, b"another")
    shows(path, b"another")
    os.fchmod(fd, 0o600)
    equal(stat.S_IMODE(os.fstat(fd).st_mode), 0o600)
    check(stat.S_IMODE(os.stat(path).st_mode) != 0o600, "the other file by that name", os.stat(path))
    os.chmod(path, 0o640)
    equal((stat.S_IMODE(os.stat(path).st_mode), stat.S_IMODE(os.fstat(fd).st_mode)), (0o640, 0o600))
    os.close(fd)


def test_the_first_read_gives_the_current_version_at_any_offset(t):
    path, _, _ = place(t)
    for size in (1000, 200_000):  # kept in the memory of the mount, and not
        save(path, b"o" * 10)
        fd = os.open(path, os.O_RDONLY)
        save(path, b"n" * size)
        equal(os.fstat(fd).st_size, size)
        equal(os.pread(fd, 100, size - 100), b"n" * 100, "the end that fstat has shown")
        save(path, b"3" * size)
        equal(os.pread(fd, 100, 50), b"n" * 100, "and the same version from then on")
        equal(os.pread(fd, 100, 0), b"3" * 100, "but for the beginning")
        os.close(fd)
    # tail: opens, and goes to the end that fstat shows it.
    tail = "exec 3< $1; cat $2 > $1; tail -c 5 <&3"
    new = t.write("new", b"x" * 5000 + b"last\n")
    equal(bash(tail, path, new).stdout, b"last\n")


def test_the_size_of_a_save_is_shown_to_its_program_only(t):
    path, node, kazoo = place(t)
    save(path, b"0123456789" * 10)
    committed = os.stat(path).st_mtime_ns

    def of_others():
        return int(run("stat", "-c", "%s", path).out)

    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    for written in (0, 7, 14):
        equal((os.stat(path).st_size, os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_END)), (written,) * 3)
        equal(of_others(), 100)
        equal(int(run("stat", "-c", "%.9Y", path).out.replace(".", "")), committed, "mtime, likewise")
        equal(run("tail", "-c", "5", path).stdout, b"56789")
        equal(os.lseek(fd, 0, os.SEEK_END), written, "and stays what it is for who writes")
        os.write(fd, b"written")
    os.close(fd)
    equal((of_others(), os.stat(path).st_size), (21, 21))
    equal(kazoo.get(node)[0], b"written" * 3)
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    for written in (0, 7, 14):
        equal(of_others(), 21)
        # The kernel appends at its own size of the inode, which nobody else's stat has changed.
        equal(os.lseek(fd, 0, os.SEEK_CUR), written)
        os.write(fd, b"written")
    os.close(fd)
    # Who has it open for writing by inheritance is of the program.
    equal(bash("(echo a; stat -c %s $1) > $1; cat $1", path).stdout, b"a\n2\n")
    equal(bash("exec 3>> $1; echo more >&3; stat -c %s $1; exec 4< $1 3>&-; stat -c %s $1", path).stdout, b"9\n9\n")
    # A new file: empty for others, as they read it.
    fd = os.open(path + "-new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"data")
    done = bash("[ -e $1 ] && ! [ -s $1 ] && stat -c %s $1; cat $1", path + "-new")
    equal(done.stdout, b"0\n")
    os.fsync(fd)
    equal(bash("[ -s $1 ] && cat $1", path + "-new").stdout, b"data")
    os.close(fd)


def test_lseek_to_the_end_is_right_whatever_others_ask(t):
    path, node, kazoo = place(t)
    save(path, b"x" * 10_000)
    watcher = "import os,sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nprint(flush=True)\n" \
              "while True: assert os.stat(sys.argv[1]).st_size == os.fstat(fd).st_size == 10_000"
    watchers = [t.background("python3", "-c", watcher, path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for _ in range(3)]
    for process in watchers:
        process.stdout.readline()
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"0")
    for n in range(1, 3000):
        equal(os.lseek(fd, 0, os.SEEK_END), 10 * n - 9)
        os.write(fd, b"%010d" % n)
    for process in watchers:
        equal(process.poll(), None, "others see the old size")
        process.kill()
        process.wait()
    os.close(fd)
    equal(kazoo.get(node)[0], b"0" + b"".join(b"%010d" % n for n in range(1, 3000)))


def test_an_expectation_is_of_the_program_that_says_it(t):
    path, node, kazoo = place(t)
    save(path, b"v0")
    version = kazoo.get(node)[1].version
    held = os.open(path, os.O_RDWR)
    os.setxattr(held, "user.coord.expect", str(version).encode())
    run("python3", "-c", "import sys; open(sys.argv[1], 'w').write('of another program')", path)
    os.pwrite(held, b"mine", 0)
    raises_errno(errno.ESTALE, lambda: os.fsync(held), "it has changed since")
    raises_errno(errno.ESTALE, lambda: os.close(held), "and close says so again")
    equal(kazoo.get(node)[0], b"of another program")
    held = os.open(path, os.O_RDWR)
    os.setxattr(held, "user.coord.expect", b"77")
    run("python3", "-c", "import sys; open(sys.argv[1], 'w').write('again')", path)
    equal(kazoo.get(node)[0], b"again", "nobody else's save fails by it")
    os.close(held)
    # A shell that has the file open calls setfattr.
    version = kazoo.get(node)[1].version
    script = "exec 9>>$1; setfattr -n user.coord.expect -v $2 $1 || exit 7; echo more >&9; sync $1 || exit 8; exec 9>&-"
    run("bash", "-c", script, "bash", path, str(version))
    equal(kazoo.get(node)[0], b"againmore\n")
    done = run("bash", "-c", script, "bash", path, str(version), ok=False)
    equal(kazoo.get(node)[0], b"againmore\n", "an old version")
    check(done.returncode != 7, "the expectation is taken", done)
    done = run("setfattr", "-n", "user.coord.expect", "-v", "1", path, ok=False)
    check(done.returncode != 0, "nobody has it open for writing")


def test_times_that_do_not_fit_are_as_near_as_can_be(t):
    path, _, _ = place(t)
    save(path, b"data")
    for seconds, near in ((10_413_792_000, 9_223_372_035), (-11_676_096_000, -9_223_372_035)):
        os.utime(path, (seconds, seconds))
        equal(int(os.stat(path).st_mtime), near)
    os.utime(path, ns=(-1, -1))
    check(abs(os.stat(path).st_mtime_ns) <= 1, "not the time of now", os.stat(path).st_mtime_ns)


def test_the_time_of_an_empty_copy_is_kept(t):
    path, _, _ = place(t)
    save(path, b"old")
    held = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.utime(held, ns=(1_000_000_000, 1_000_000_000))
    os.close(held)
    equal(os.stat(path).st_mtime_ns, 1_000_000_000)


def test_unlinked_before_it_was_ever_closed(t):
    m = t.mount(t.replica())
    with open(m.p("scratch"), "w+b", buffering=0) as file:
        file.write(b"abc")
        os.unlink(m.p("scratch"))
        file.write(b"def")
        now = os.fstat(file.fileno())
        equal((now.st_nlink, now.st_size), (0, 6), "links and size of an unlinked file")
        file.seek(0)
        equal(file.read(), b"abcdef", "its data")
    equal(os.listdir(m.path), [], "names")
