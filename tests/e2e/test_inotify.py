"""Issue 2, must hold 2: inotifywait -m on file and directory reports what a ZooKeeper client does."""

import contextlib
import errno
import os
import signal

from lib import (Inotify, alive, bash, check, command_line, descendants, equal, raises_errno, read, run, save, shows,
                 until)
from world import one_host as shared  # noqa: F401


def start(t, data=b"old\n"):
    w = t.shared
    node = "/t%s" % os.path.basename(t.directory)
    w.kazoo.create(node + "/config", data, makepath=True)
    directory = w.mount.p(node[1:])
    shows(directory + "/config", data)
    return w, node, directory, directory + "/config"


def test_set_is_modify_and_close_write(t):
    w, node, directory, path = start(t)
    events = Inotify(t, directory, path)
    w.kazoo.set(node + "/config", b"new\n")
    for event in ("MODIFY", "CLOSE_WRITE"):
        events.wait(path, event)
    equal(read(path), b"new\n", "the content is there when the event is")
    # Watched twice, by itself and by its directory: each event comes once for each watch.
    marker(w, events, node, directory)
    equal((events.seen(path, "MODIFY"), events.seen(path, "CLOSE_WRITE")), (2, 2), "no event comes twice")


def marker(w, events, node, directory, name="marker"):
    """Creates a node and waits for its event: what came before it has been delivered."""
    w.kazoo.create(node + "/" + name)
    events.wait(directory + "/" + name, "CREATE")


def test_create(t):
    w, node, directory, _ = start(t)
    events = Inotify(t, directory)
    w.kazoo.create(node + "/born", b"data")
    events.wait(directory + "/born", "CREATE")
    equal(read(directory + "/born"), b"data", "readable when the event is there")
    marker(w, events, node, directory)
    equal(events.seen(directory + "/born", "CREATE"), 1, "once")


def test_create_of_a_directory(t):
    w, node, directory, _ = start(t)
    events = Inotify(t, directory)
    w.kazoo.create(node + "/dir", None)
    events.wait(directory + "/dir", "CREATE")
    check(os.path.isdir(directory + "/dir"), "a node with null data is a directory")
    until(lambda: events.seen(directory + "/dir", "ISDIR"), 3, "the event says ISDIR")


def test_delete(t):
    w, node, directory, path = start(t)
    events = Inotify(t, directory, path)
    w.kazoo.delete(node + "/config")
    events.wait(directory + "/config", "DELETE")
    events.wait(path, "DELETE_SELF")
    check(not os.path.exists(path), "gone when the event is there")
    marker(w, events, node, directory)
    equal(events.seen(directory + "/config", "DELETE"), 1, "once")


def test_recreate_after_delete(t):
    w, node, directory, _ = start(t)
    events = Inotify(t, directory)
    for _ in range(3):
        w.kazoo.delete(node + "/config")
        events.wait(directory + "/config", "DELETE")
        w.kazoo.create(node + "/config", b"again")
        events.wait(directory + "/config", "CREATE")
        events.clear()


def test_many_sets_lose_nothing_final(t):
    """Coalescing is allowed, silence is not: after the last change there is an event and the last content."""
    w, node, directory, path = start(t)
    events = Inotify(t, path)
    for number in range(200):
        w.kazoo.set(node + "/config", b"%d" % number)
    events.wait(path, "CLOSE_WRITE")
    until(lambda: read(path) == b"199", 3, "the last content")
    events.clear()
    w.kazoo.set(node + "/config", b"quiet")
    events.wait(path, "MODIFY")


def test_many_creates_all_reported(t):
    w, node, directory, _ = start(t)
    events = Inotify(t, directory)
    for number in range(100):
        w.kazoo.create_async("%s/n%03d" % (node, number), b"x")
    for number in range(100):
        events.wait("%s/n%03d" % (directory, number), "CREATE", 15)
    w.kazoo.delete(node + "/config")
    events.wait(directory + "/config", "DELETE")
    equal([events.seen("%s/n%03d" % (directory, n), "CREATE") for n in range(100)], [1] * 100, "each once")


def test_set_acl_is_attrib(t):
    from kazoo.security import make_acl
    w, node, directory, path = start(t)
    events = Inotify(t, path)
    w.kazoo.set_acls(node + "/config", [make_acl("world", "anyone", read=True, admin=True)])
    events.wait(path, "ATTRIB")
    until(lambda: os.stat(path).st_mode & 0o777 == 0o444, 3, "mode after setACL")


def test_children_directory_goes_with_its_file(t):
    """NAME@ was shown: those who watch its directory, or itself, are told when the node is deleted elsewhere."""
    w, node, directory, _ = start(t)
    other = t.mount(w.replica).p(node[1:])
    for number, data in enumerate((True, False)):
        name = "f%d" % number
        if data:
            save(other + "/" + name, b"data")
        os.mkdir(other + "/" + name + "@")
        save(other + "/" + name + "@/child", b"")
        path = directory + "/" + name + "@"
        until(lambda path=path: os.path.isdir(path), 5, "known here")
        events = Inotify(t, directory, path)
        os.unlink(other + "/" + name + "@/child")
        (os.unlink if data else os.rmdir)(other + "/" + name + ("" if data else "@"))
        events.wait(path, "DELETE")
        events.wait(path + "/", "DELETE_SELF")
        marker(w, events, node, directory, "marker%d" % number)
        equal(events.seen(path, "DELETE"), 1, "once")
        equal(events.seen(directory + "/" + name, "DELETE"), 1 if data else 0, "NAME")
        equal([n for n in os.listdir(directory) if n.startswith(name)], [], "names")


def test_children_directory_removed_here_is_reported_once(t):
    w, node, directory, _ = start(t)
    w.kazoo.create(node + "/f", b"data")
    w.kazoo.create(node + "/f/child", b"")
    until(lambda: os.path.isdir(directory + "/f@"), 5, "known here")
    events = Inotify(t, directory)
    with contextlib.ExitStack() as stack:
        # So the kernel knows the inode until the end.
        stack.callback(os.close, os.open(directory + "/f@", os.O_PATH))
        os.unlink(directory + "/f@/child")
        os.rmdir(directory + "/f@")
        w.kazoo.delete(node + "/f")
        events.wait(directory + "/f", "DELETE")
        marker(w, events, node, directory)
    equal(events.seen(directory + "/f@", "DELETE"), 1, "f@")


def test_local_changes_are_reported_once(t):
    """The kernel itself raises these; the replay must not repeat them."""
    w, node, directory, path = start(t)
    events = Inotify(t, directory)
    # The creation of config may still be on its way as an event, with a CLOSE_WRITE of its own: a later change of the
    # same directory comes after it.
    w.kazoo.create(node + "/marker0")
    events.wait(directory + "/marker0", "CREATE")
    before = events.seen(path, "CLOSE_WRITE")
    bash('echo local > "$1"', directory + "/mine")
    bash('echo more > "$1"', path)
    os.unlink(directory + "/mine")
    marker(w, events, node, directory)
    w.kazoo.create(node + "/marker2")
    events.wait(directory + "/marker2", "CREATE")
    equal([events.seen(directory + "/mine", e) for e in ("CREATE", "CLOSE_WRITE", "DELETE")], [1, 1, 1], "mine")
    equal(events.seen(path, "CLOSE_WRITE") - before, 1, "config")


def test_session_end_deletes_are_reported(t):
    w, node, directory, _ = start(t)
    other = t.kazoo(w.replica)
    events = Inotify(t, directory)
    other.create(node + "/member", b"x", ephemeral=True)
    events.wait(directory + "/member", "CREATE")
    other.stop()
    events.wait(directory + "/member", "DELETE")


def test_no_transaction_is_made_by_the_replay(t):
    w, node, directory, path = start(t)
    events = Inotify(t, directory, path)
    before = w.kazoo.exists(node + "/config")
    w.kazoo.set(node + "/config", b"x")
    events.wait(path, "CLOSE_WRITE")
    marker(w, events, node, directory)
    after = w.kazoo.exists(node + "/config")
    equal((after.version, after.aversion), (before.version + 1, before.aversion), "version and aversion")


def test_two_mounts_see_each_other(t):
    w, node, directory, path = start(t)
    second = t.mount(w.replica)
    theirs = second.p(node[1:])
    events = Inotify(t, theirs)
    bash('echo new > "$1"', directory + "/fresh")
    events.wait(theirs + "/fresh", "CREATE")
    equal(read(theirs + "/fresh"), b"new\n", "content")
    bash('echo v2 > "$1"', directory + "/fresh")
    events.wait(theirs + "/fresh", "CLOSE_WRITE")
    until(lambda: read(theirs + "/fresh") == b"v2\n", 3, "content after the event")
    os.rename(directory + "/fresh", directory + "/renamed")
    events.wait(theirs + "/renamed", "MOVED_TO")
    events.wait(theirs + "/fresh", "MOVED_FROM")
    os.unlink(directory + "/renamed")
    events.wait(theirs + "/renamed", "DELETE")


def helpers_of(mount):
    """The replay helper: a process of the family without a /dev/fuse descriptor that is not the guardian."""
    found = []
    for pid in descendants(mount.pid):
        try:
            held = {os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)}
        except OSError:
            continue
        if "/dev/fuse" not in held:
            found.append(pid)
    return found


def test_helper_killed_events_come_again(t):
    """Must hold 6: helper killed: events come again."""
    w = t.shared
    m = t.mount(w.replica)
    w.kazoo.create("/helper/f", b"0", makepath=True)
    shows(m.p("helper", "f"), b"0")
    events = Inotify(t, m.p("helper"))
    w.kazoo.set("/helper/f", b"1")
    events.wait(m.p("helper", "f"), "MODIFY")
    for round_ in range(3):
        helpers = until(lambda: helpers_of(m), 5, "a helper process that holds no /dev/fuse")
        for pid in helpers:
            check(pid != m.pid, "the helper is a process of its own", command_line(pid))
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(alive(p) for p in helpers), 5, "the killed helper is gone")
        events.clear()
        number = [0]

        def again():
            number[0] += 1
            w.kazoo.set("/helper/f", b"%d-%d" % (round_, number[0]))
            return events.seen(m.p("helper", "f"), "MODIFY")
        until(again, 10, "events come again")
        shows(m.p("helper", "f"), b"%d-%d" % (round_, number[0]))  # the event may have been an older set's
        check(not set(helpers_of(m)) & set(helpers) and helpers_of(m), "a new helper", helpers, helpers_of(m))


def test_root_directory(t):
    """inotifywait on the mount point itself."""
    w = t.shared
    m = t.mount(w.replica)
    events = Inotify(t, m.path)
    w.kazoo.create("/in-the-root", b"1")
    events.wait(m.p("in-the-root"), "CREATE")
    w.kazoo.set("/in-the-root", b"2")
    events.wait(m.p("in-the-root"), "CLOSE_WRITE")
    w.kazoo.delete("/in-the-root")
    events.wait(m.p("in-the-root"), "DELETE")


def test_a_file_that_nobody_has_looked_at(t):
    """Whoever watches a directory sees the changes of its files, also of those that the kernel does not know."""
    from kazoo.security import make_acl
    w = t.shared
    w.kazoo.create("/unseen/f", b"0", makepath=True)
    w.kazoo.create("/unseen/acl", b"0")
    m = t.mount(w.replica)
    events = Inotify(t, m.p("unseen"))
    w.kazoo.set("/unseen/f", b"1")
    events.wait(m.p("unseen", "f"), "MODIFY")
    events.wait(m.p("unseen", "f"), "CLOSE_WRITE")
    w.kazoo.set_acls("/unseen/acl", [make_acl("world", "anyone", read=True, admin=True)])
    events.wait(m.p("unseen", "acl"), "ATTRIB")
    w.kazoo.delete("/unseen/f")
    events.wait(m.p("unseen", "f"), "DELETE")
    equal(w.kazoo.exists("/unseen/acl").version, 0, "version: the replay changes nothing")


def test_helper_stopped_does_not_block_the_mount(t):
    w = t.shared
    m = t.mount(w.replica)
    w.kazoo.create("/stopped/f", b"0", makepath=True)
    shows(m.p("stopped", "f"), b"0")
    for pid in helpers_of(m):
        os.kill(pid, signal.SIGSTOP)
    for number in range(50):
        w.kazoo.set("/stopped/f", b"%d" % number)
        w.kazoo.create("/stopped/n%d" % number, b"x")
    until(lambda: read(m.p("stopped", "f")) == b"49", 5, "reads are current with a stopped helper")
    run("ls", m.p("stopped"), timeout=5)
    bash('echo w > "$1"', m.p("stopped", "w"), timeout=10)
    for pid in helpers_of(m):
        os.kill(pid, signal.SIGCONT)


def test_read_only_mount(t):
    """-o ro: nothing can be written, and who watches sees what others do; also after a crash of its daemon."""
    from kazoo.security import make_acl
    w, node, theirs, _ = start(t)
    m = t.mount(w.replica, options="ro")
    directory = m.p(node[1:])
    path = directory + "/config"
    before = w.kazoo.exists(node + "/config")
    for what, action in (("write", lambda: open(path, "wb")),
                         ("create", lambda: open(directory + "/new", "wb")),
                         ("mknod", lambda: os.mknod(directory + "/node")),
                         ("mkdir", lambda: os.mkdir(directory + "/dir")),
                         ("unlink", lambda: os.unlink(path)),
                         ("rename", lambda: os.rename(path, path + "2")),
                         ("truncate", lambda: os.truncate(path, 0)),
                         ("chmod", lambda: os.chmod(path, 0o600)),
                         ("utime", lambda: os.utime(path)),
                         ("setfattr", lambda: os.setxattr(path, "user.coord.cas", b"0:x"))):
        raises_errno(errno.EROFS, action, what)
    for round_ in range(2):
        events = Inotify(t, directory, path)
        w.kazoo.set(node + "/config", b"%d" % round_)
        events.wait(path, "MODIFY")
        events.wait(path, "CLOSE_WRITE")
        equal(read(path), b"%d" % round_, "content")
        w.kazoo.set_acls(node + "/config", [make_acl("world", "anyone", read=True, write=not round_, admin=True)])
        events.wait(path, "ATTRIB")
        w.kazoo.create(node + "/born", b"x")
        events.wait(directory + "/born", "CREATE")
        os.rename(theirs + "/born", theirs + "/moved")
        events.wait(directory + "/born", "MOVED_FROM")
        events.wait(directory + "/moved", "MOVED_TO")
        os.mkdir(theirs + "/dir")
        events.wait(directory + "/dir", "CREATE")
        os.rmdir(theirs + "/dir")
        events.wait(directory + "/dir", "DELETE")
        w.kazoo.delete(node + "/moved")
        events.wait(directory + "/moved", "DELETE")
        if round_ == 0:
            minor = m.minor()
            for pid in set(descendants(m.pid)) - set(helpers_of(m)):
                os.kill(pid, signal.SIGKILL)
            until(lambda: m.mounted() and m.minor() != minor, 10, "a new daemon serves")
            until(lambda: os.path.exists(path), 10, "the mount is back")
    after = w.kazoo.exists(node + "/config")
    equal((after.version, after.aversion), (before.version + 2, before.aversion + 2), "only what kazoo did")
    raises_errno(errno.EROFS, lambda: open(path, "wb"), "write")


def test_events_that_cannot_be_raised_are_told_of(t):
    w, node, _, _ = start(t)
    m = t.mount(w.replica, options="ro")
    events = Inotify(t, m.p(node[1:]))
    w.kazoo.set(node + "/config", b"1")
    events.wait(m.p(node[1:], "config"), "CLOSE_WRITE")
    run("mount", "-i", "-o", "remount,ro", m.path)  # all of it, not this mount of it alone
    w.kazoo.set(node + "/config", b"2")
    until(lambda: "changes raise no inotify events" in m.log_text(), 5, "a line in the log")
    shows(m.p(node[1:], "config"), b"2")


def test_read_only_mount_ends_at_umount(t):
    """Nothing of the helper's keeps the file system, and with it the daemon."""
    w, node, _, _ = start(t)
    m = t.mount(w.replica, options="ro")
    events = Inotify(t, m.p(node[1:]))
    for number in range(100):
        w.kazoo.set(node + "/config", b"%d" % number)
    events.wait(m.p(node[1:], "config"), "CLOSE_WRITE")
    until(lambda: run("umount", m.path, ok=False).returncode == 0, 10, "umount")
    until(lambda: m.process.poll() is not None, 5, "coordfs has ended")
