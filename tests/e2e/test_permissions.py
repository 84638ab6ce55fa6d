"""filesystem.md section 7: identity and permissions; the kernel's verdict, the replica's and POSIX are the same."""

import errno
import os
import random
import stat

from kazoo.security import make_acl, make_digest_acl

import protocol
from lib import Failure, check, count, equal, raises_errno, read, save, until
from world import one_host

DEADLINE_ALL = 150
ALICE, BOB, STAFF = 41001, 41002, 41100


def shared(t):
    return one_host(t, protocol.replica(t), auth_data=[("digest", "super:test")])


def as_user(uid, gid, groups, action):
    """Runs action in a child process as somebody else: ('ok', None) or ('errno', number)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os.umask(0o022)
            try:
                action()
                os.write(writing, b"ok")
            except OSError as error:
                os.write(writing, b"%d" % error.errno)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        raise Failure("the child died of something else than an errno")
    return 0 if answer == b"ok" else int(answer)


def name_of(number):
    return "ok" if number == 0 else errno.errorcode.get(number, str(number))


def start(t):
    w = t.shared
    top = w.mount.p("t%s" % os.path.basename(t.directory))
    os.mkdir(top)
    os.chmod(top, 0o777)
    return w, "/" + os.path.basename(top), top


def test_clients_node_is_root_0666(t):
    """A client's node with world:anyone:cdrwa: root:root 0666 / 0777."""
    w, node, top = start(t)
    w.kazoo.create(node + "/f", b"x")
    w.kazoo.create(node + "/d", None)
    until(lambda: os.path.exists(top + "/d"), 3, "in the mount")
    for name, mode in (("f", stat.S_IFREG | 0o666), ("d", stat.S_IFDIR | 0o777)):
        got = os.stat(os.path.join(top, name))
        equal((oct(got.st_mode), got.st_uid, got.st_gid), (oct(mode), 0, 0), name)
    equal(as_user(ALICE, STAFF, [], lambda: save(top + "/f", b"alice")), 0, "anybody writes it")


def test_owner_mode_and_umask(t):
    w, node, top = start(t)
    equal(as_user(ALICE, STAFF, [], lambda: save(top + "/f", b"mine")), 0, "alice creates")
    got = os.stat(top + "/f")
    equal((oct(got.st_mode & 0o7777), got.st_uid, got.st_gid), ("0o644", ALICE, STAFF), "owner and mode")
    acl = {(a.id.scheme, a.id.id): a.perms for a in w.kazoo.get_acls(node + "/f")[0]}
    check(("unix", "u:%d" % ALICE) in acl and acl[("unix", "u:%d" % ALICE)] & 16, "the owner's entry has ADMIN", acl)
    check(acl.get(("world", "anyone"), 0) & ~1 == 0, "no world permission beyond its other bits", acl)


def test_other_users_are_refused(t):
    w, _, top = start(t)
    equal(as_user(ALICE, STAFF, [], lambda: save(top + "/private", b"secret")), 0, "create")
    equal(as_user(ALICE, STAFF, [], lambda: os.chmod(top + "/private", 0o600)), 0, "chmod by the owner")
    for action, what in ((lambda: read(top + "/private"), "read"), (lambda: save(top + "/private", b"x"), "write"),
                         (lambda: os.truncate(top + "/private", 0), "truncate")):
        equal(name_of(as_user(BOB, STAFF, [], action)), "EACCES", "bob's " + what)
    for action, what in ((lambda: os.chmod(top + "/private", 0o777), "chmod"),
                         (lambda: os.chown(top + "/private", BOB, -1), "chown"),
                         (lambda: os.utime(top + "/private", (1, 1)), "utimes")):
        equal(name_of(as_user(BOB, STAFF, [], action)), "EPERM", "bob's " + what)
    equal(read(top + "/private"), b"secret", "root is above unix permissions")


def test_supplementary_groups(t):
    w, _, top = start(t)
    save(top + "/shared", b"x")
    os.chown(top + "/shared", ALICE, STAFF)
    os.chmod(top + "/shared", 0o640)
    equal(name_of(as_user(BOB, BOB, [STAFF], lambda: read(top + "/shared"))), "ok", "a member of the group reads")
    equal(name_of(as_user(BOB, BOB, [STAFF], lambda: save(top + "/shared", b"y"))), "EACCES", "but does not write")
    equal(name_of(as_user(BOB, BOB, [], lambda: read(top + "/shared"))), "EACCES", "others do not")
    equal(name_of(as_user(BOB, STAFF, [], lambda: read(top + "/shared"))), "ok", "nor is it only supplementary groups")


def test_directory_permissions(t):
    w, _, top = start(t)
    os.mkdir(top + "/d", 0o755)
    save(top + "/d/f", b"x")
    equal(name_of(as_user(BOB, BOB, [], lambda: save(top + "/d/new", b""))), "EACCES", "create in 0755 of root")
    equal(name_of(as_user(BOB, BOB, [], lambda: os.unlink(top + "/d/f"))), "EACCES", "unlink")
    equal(name_of(as_user(BOB, BOB, [], lambda: os.mkdir(top + "/d/e"))), "EACCES", "mkdir")
    equal(name_of(as_user(BOB, BOB, [], lambda: os.rename(top + "/d/f", top + "/d/g"))), "EACCES", "rename")
    os.chmod(top + "/d", 0o711)
    equal(name_of(as_user(BOB, BOB, [], lambda: os.listdir(top + "/d"))), "EACCES", "ls without r")
    equal(name_of(as_user(BOB, BOB, [], lambda: read(top + "/d/f"))), "ok", "search with x")
    os.chmod(top + "/d", 0o744)
    equal(name_of(as_user(BOB, BOB, [], lambda: read(top + "/d/f"))), "EACCES", "no search without x")
    os.chmod(top + "/d", 0o733)
    equal(name_of(as_user(BOB, BOB, [], lambda: save(top + "/d/dropped", b"x"))), "ok", "a drop box")


def test_sticky_directory(t):
    w, _, top = start(t)
    os.mkdir(top + "/tmp")
    os.chmod(top + "/tmp", 0o1777)
    equal(as_user(ALICE, ALICE, [], lambda: save(top + "/tmp/a", b"x")), 0, "alice creates")
    check(as_user(BOB, BOB, [], lambda: os.unlink(top + "/tmp/a")) in (errno.EPERM, errno.EACCES), "bob may not delete")
    equal(as_user(ALICE, ALICE, [], lambda: os.unlink(top + "/tmp/a")), 0, "alice may")


def test_acls_of_clients_show_as_modes(t):
    w, node, top = start(t)
    for bits, mode in ((dict(read=True), 0o444), (dict(read=True, write=True), 0o666), (dict(write=True), 0o222)):
        w.kazoo.create(node + "/m%o" % mode, b"x", acl=[make_acl("world", "anyone", **bits)])
        until(lambda: os.path.exists(top + "/m%o" % mode), 3, "in the mount")
        equal(oct(os.stat(top + "/m%o" % mode).st_mode & 0o777), oct(mode), "mode for %r" % bits)
    w.kazoo.create(node + "/d", None, acl=[make_acl("world", "anyone", read=True)])
    until(lambda: os.path.exists(top + "/d"), 3, "in the mount")
    equal(os.stat(top + "/d").st_mode & 0o222, 0, "a directory without CREATE and DELETE shows no w")


def test_digest_entries_give_nothing_to_mount_users(t):
    """uid 0 included; uid 0 is above unix and world only."""
    w, node, top = start(t)
    w.kazoo.create(node + "/secret", b"s", acl=[make_digest_acl("u", "p", all=True)])
    until(lambda: os.path.exists(top + "/secret"), 3, "in the mount")
    equal(name_of(as_user(ALICE, ALICE, [], lambda: read(top + "/secret"))), "EACCES", "alice")
    raises_errno(errno.EACCES, lambda: read(top + "/secret"), "root")
    raises_errno((errno.EACCES, errno.EPERM), lambda: save(top + "/secret", b"x"), "root's write")


def test_chmod_is_replicated(t):
    w, node, top = start(t)
    second = t.mount(w.replica)
    save(top + "/f", b"x")
    os.chmod(top + "/f", 0o640)
    os.chown(top + "/f", ALICE, STAFF)
    theirs = second.p(node[1:], "f")
    got = until(lambda: os.stat(theirs) if os.stat(theirs).st_uid == ALICE else None, 3, "the other mount sees it")
    equal((oct(got.st_mode & 0o777), got.st_gid), ("0o640", STAFF), "mode and group")
    before = w.kazoo.exists(node + "/f")
    os.chmod(top + "/f", 0o640)
    os.chown(top + "/f", ALICE, STAFF)
    equal(w.kazoo.exists(node + "/f").aversion, before.aversion, "success without a transaction when nothing changes")


def test_unix_socket_of_an_ordinary_user(t):
    """Section 7: any other peer is its own SO_PEERCRED identity."""
    import zk
    w, node, top = start(t)
    save(top + "/f", b"roots")
    os.chmod(top + "/f", 0o600)
    os.chmod(w.replica.socket, 0o666)

    def look():
        c = zk.Raw(w.replica, unix=True)
        err = c.call(zk.GET, zk.ustr(node + "/f") + zk.flag(False)).err
        if err:
            raise OSError(-err, "refused")
    equal(as_user(ALICE, ALICE, [], look), -zk.NO_AUTH, "alice over the socket is alice")
    equal(as_user(0, 0, [], look), 0, "root over the socket is root")
    os.chmod(w.replica.socket, 0o660)


# Each action gets the directory of its case; POSIX on tmpfs is the judge.
ACTIONS = {
    "read": lambda d: read(d + "/f"),
    "write": lambda d: save(d + "/f", b"y", os.O_WRONLY),
    "truncate": lambda d: os.truncate(d + "/f", 0),
    "stat": lambda d: os.stat(d + "/f"),
    "list": lambda d: os.listdir(d),
    "create": lambda d: save(d + "/new", b"", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "mkdir": lambda d: os.mkdir(d + "/newdir"),
    "unlink": lambda d: os.unlink(d + "/f"),
    "rename": lambda d: os.rename(d + "/f", d + "/g"),
    "replace": lambda d: os.rename(d + "/f", d + "/other"),
    "rmdir": lambda d: os.rmdir(d + "/sub"),
    "chmod": lambda d: os.chmod(d + "/f", 0o604),
    "chown-self": lambda d: os.chown(d + "/f", os.getuid(), -1),
    "chgrp": lambda d: os.chown(d + "/f", -1, STAFF),
    "utime": lambda d: os.utime(d + "/f", (5, 5)),
    "touch": lambda d: os.utime(d + "/f"),
    "access-w": lambda d: None if os.access(d + "/f", os.W_OK) else raise_(errno.EACCES),
}


def raise_(number):
    raise OSError(number, "refused")


def test_verdicts_equal_posix_over_random_cases(t):
    w, _, top = start(t)
    tmpfs = t.path("posix")
    os.makedirs(tmpfs)
    os.chmod(t.directory, 0o755)
    seed = random.randrange(2 ** 32)
    dice = random.Random(seed)
    users = [(0, 0, []), (ALICE, ALICE, []), (BOB, BOB, []), (BOB, BOB, [STAFF]), (ALICE, STAFF, [])]
    wrong = []
    total = count(700, 20_000)
    for number in range(total):
        file_mode, dir_mode = dice.randrange(0o1000), dice.randrange(0o1000) | (0o1000 if dice.random() < 0.2 else 0)
        file_owner = (dice.choice((0, ALICE, BOB)), dice.choice((0, ALICE, STAFF)))
        dir_owner = (dice.choice((0, ALICE, BOB)), dice.choice((0, ALICE, STAFF)))
        user, action = dice.choice(users), dice.choice(list(ACTIONS))
        verdicts = []
        for base in (tmpfs, top):
            where = "%s/c%d" % (base, number)
            os.mkdir(where)
            for name in ("f", "other"):
                save(where + "/" + name, b"x")
                os.chown(where + "/" + name, *file_owner)
                os.chmod(where + "/" + name, file_mode)
            os.mkdir(where + "/sub")
            os.chown(where + "/sub", *file_owner)
            os.chown(where, *dir_owner)
            os.chmod(where, dir_mode)
            verdicts.append(as_user(user[0], user[1], user[2], lambda: ACTIONS[action](where)))
        if verdicts[0] != verdicts[1]:
            wrong.append("%s by uid %d gid %d groups %r on file %o of %r in dir %o of %r: POSIX %s, mount %s" % (
                (action,) + user + (file_mode, file_owner, dir_mode, dir_owner, name_of(verdicts[0]),
                                    name_of(verdicts[1]))))
    check(not wrong, "seed %d: %d of %d verdicts differ:\n    %s" % (
        seed, len(wrong), total, "\n    ".join(wrong[:15])))


def test_permission_that_is_taken_away_from_a_reader(t):
    """It is checked by the open. Who has read goes on with that version, at whatever offset."""
    _, _, top = start(t)
    path = os.path.join(top, "f")

    def action():
        save(path, b"one")
        fd = os.open(path, os.O_RDONLY)
        equal(os.pread(fd, 3, 0), b"one")
        os.chmod(path, 0o200)
        raises_errno(errno.EACCES, lambda: os.open(path, os.O_RDONLY))
        equal([os.pread(fd, 3, at) for at in (0, 1)], [b"one", b"ne"])
        save(path, b"two", os.O_WRONLY)
        equal([os.pread(fd, 3, at) for at in (0, 1, 0)], [b"one", b"ne", b"one"], "not what may not be read")
        os.chmod(path, 0o600)
        equal([os.pread(fd, 3, at) for at in (0, 1)], [b"two", b"wo"], "what may be read again")

    equal(as_user(ALICE, ALICE, [], action), 0)
    equal(read(path), b"two")
