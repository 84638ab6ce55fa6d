"""coordctl against a replica, over TCP and over the Unix socket."""

import subprocess

import zk
from lib import bash, check, equal, program, run, until


def shared(t):
    return t.replica()


def ctl(t, *argv, unix=True, ok=True, stdin=None):
    r = t.shared
    return run(program("coordctl"), "--server", r.source if unix else r.address, *argv, ok=ok, stdin=stdin)


def test_create_get_set_ls_stat_rm(t):
    for unix, top in ((True, "/u"), (False, "/t")):
        equal(ctl(t, "create", top, unix=unix).out, top + "\n", "create")
        equal(ctl(t, "create", top + "/a", "data", unix=unix).out, top + "/a\n", "create with data")
        equal(ctl(t, "get", top + "/a", unix=unix).stdout, b"data", "get, byte for byte")
        ctl(t, "set", top + "/a", "-", unix=unix, stdin=b"\0\xff\n\n")
        equal(ctl(t, "get", top + "/a", unix=unix).stdout, b"\0\xff\n\n", "binary data through stdin")
        equal(ctl(t, "create", "-s", top + "/q-", "x", unix=unix).out, top + "/q-0000000001\n", "sequential")
        equal(ctl(t, "ls", top, unix=unix).out.split(), ["a", "q-0000000001"], "ls")
        check("version" in ctl(t, "stat", top + "/a", unix=unix).out, "stat")
        equal(ctl(t, "rm", top, unix=unix, ok=False).returncode, 1, "rm of a node with children")
        ctl(t, "rm", "-r", top, unix=unix)
        equal(ctl(t, "ls", top, unix=unix, ok=False).returncode, 1, "gone")
    c = zk.Raw(t.shared)
    ctl(t, "create", "/null")
    equal(c.get("/null")[0], None, "without DATA: null")
    ctl(t, "create", "/empty", "")
    equal(c.get("/empty")[0], b"", "an empty argument: empty")


def test_versions(t):
    ctl(t, "create", "/v", "1")
    equal(ctl(t, "set", "--version", "5", "/v", "2", ok=False).returncode, 1, "wrong version")
    ctl(t, "set", "--version", "0", "/v", "2")
    equal(ctl(t, "get", "/v").out, "2", "right version")
    equal(ctl(t, "rm", "--version", "0", "/v", ok=False).returncode, 1, "rm with a wrong version")
    ctl(t, "rm", "--version", "1", "/v")


def test_errors_name_path_and_reason(t):
    for argv in (["get", "/none"], ["set", "/none", "x"], ["rm", "/none"], ["create", "/none/x"], ["stat", "/none"]):
        done = ctl(t, *argv, ok=False)
        check(done.returncode == 1 and "/none" in done.err, "coordctl %s" % argv, done)
    equal(run(program("coordctl"), "nonsense", ok=False).returncode, 2, "an unknown command")
    equal(run(program("coordctl"), ok=False).returncode, 2, "no command")
    done = run(program("coordctl"), "--server", "127.0.0.1:1", "--timeout", "700", "ls", "/", ok=False)
    check(done.returncode == 3 and "127.0.0.1:1" in done.err, "no server: says what was tried", done)
    done = run(program("coordctl"), "--server", "nonsense:", "ls", "/", ok=False)
    check(done.returncode == 2 and "nonsense" in done.err, "a bad target", done)


def test_chroot(t):
    ctl(t, "create", "/chroot")
    address = t.shared.address + "/chroot"
    equal(run(program("coordctl"), "--server", address, "create", "/in", "x").out, "/in\n", "without the chroot")
    equal(ctl(t, "get", "/chroot/in").out, "x", "made below it")


def test_multi(t):
    ctl(t, "create", "/m")
    script = t.write("script", "# comment\ncreate /m/a 'two words'\ncreate /m/b\nset /m/a changed 0\ncheck /m/a 1\n")
    ctl(t, "multi", script)
    equal((ctl(t, "get", "/m/a").out, ctl(t, "ls", "/m").out.split()), ("changed", ["a", "b"]), "multi")
    done = ctl(t, "multi", "-", stdin=b"create /m/c\ncheck /m/a 77\n", ok=False)
    check(done.returncode == 1 and "/m/a" in done.err, "a refused multi names the culprit", done)
    equal(ctl(t, "ls", "/m").out.split(), ["a", "b"], "nothing was done")
    done = ctl(t, "multi", t.write("bad", "create /m/d\nfrobnicate /x\n"), ok=False)
    check(done.returncode == 2 and t.path("bad") + ":2" in done.err, "a bad line is named", done)


def test_watch(t):
    ctl(t, "create", "/w")
    watching = t.background(program("coordctl"), "--server", t.shared.source, "watch", "-r", "/w",
                            stdout=subprocess.PIPE)
    c = zk.Raw(t.shared)
    seen = []

    def look():
        # A marker until the watch is armed: its first line shows that it is.
        c.set("/w", b"x")
        import select
        if select.select([watching.stdout], [], [], 0.05)[0]:
            seen.append(watching.stdout.readline().decode())
        return seen
    until(look, 10, "the watch is armed")
    c.create("/w/n")
    c.delete("/w/n")
    lines = []
    while len([line for line in lines if "/w/n" in line]) < 2:
        lines.append(watching.stdout.readline().decode())
    ours = [line.split() for line in lines if "/w/n" in line]
    check("created" in ours[0] and "deleted" in ours[1], "lines", ours)


def test_ephemeral_until_interrupted(t):
    process = t.background(program("coordctl"), "--server", t.shared.source, "create", "-e", "/e", "x",
                           stdout=subprocess.PIPE)
    equal(process.stdout.readline(), b"/e\n", "its path")
    c = zk.Raw(t.shared)
    check(c.stat("/e").ephemeral_owner != 0, "ephemeral")
    process.terminate()
    process.wait(10)
    until(lambda: c.stat("/e") is None, 3, "gone at once, by a clean close")


def test_acls_and_auth(t):
    ctl(t, "create", "/acl", "x")
    ctl(t, "acl-set", "/acl", "digest:u:Ol20lpfgnQBIEZkDyuCElo4L6jU=:cdrwa")
    equal(ctl(t, "get", "/acl", unix=False, ok=False).returncode, 1, "refused over TCP without auth")
    ctl(t, "create", "/unix", "x", "--acl", "unix:u:0:cdrwa")
    equal(ctl(t, "get", "/unix").out, "x", "root over the socket")
    equal(ctl(t, "get", "/unix", unix=False, ok=False).returncode, 1, "nobody over TCP")


def test_status(t):
    text = ctl(t, "status").out
    check("standalone" in text or "leader" in text, "mode", text)


def test_parents(t):
    ctl(t, "create", "-p", "/p/a/b/c", "x")
    equal(ctl(t, "ls", "-R", "/p").out.split(), ["/p/a", "/p/a/b", "/p/a/b/c"], "parents were made")


def test_input_that_cannot_be_read_is_not_empty_data(t):
    ctl(t, "create", "/cfg", "precious")
    for how, argv in (("< /tmp", ["set", "/cfg", "-"]), ("<&-", ["set", "/cfg", "-"]),
                      ("< /tmp", ["create", "/cfg/n", "-"]), ("<&-", ["create", "/cfg/n", "-"])):
        done = bash('exec "$@" ' + how, program("coordctl"), "--server", t.shared.source, *argv, ok=False)
        check(done.returncode == 2 and "standard input" in done.err, "%s %s" % (argv, how), done)
    equal((ctl(t, "get", "/cfg").out, ctl(t, "ls", "/cfg").out), ("precious", ""), "nothing was sent")
    ctl(t, "set", "/cfg", "-", stdin=b"")
    equal(ctl(t, "get", "/cfg").out, "", "empty input is empty data")


def test_output_that_cannot_be_written(t):
    ctl(t, "create", "/out", "x" * 100_000)
    ctl(t, "create", "/out/n", "short")
    for how in ("> /dev/full", ">&-"):
        for argv in (["get", "/out"], ["get", "/out/n"], ["ls", "/out"], ["stat", "/out"], ["--help"], ["--version"],
                     ["create", "-e", "/out/e"]):
            done = bash('exec "$@" ' + how, program("coordctl"), "--server", t.shared.source, *argv, ok=False)
            check(done.returncode == 2 and "standard output" in done.err, "%s %s" % (argv, how), done)
        bash('exec "$@" ' + how, program("coordctl"), "--server", t.shared.source, "set", "/out/n", "v")


def test_watch_ends_when_nobody_reads(t):
    ctl(t, "create", "/head")
    watching = t.background(program("coordctl"), "--server", t.shared.source, "watch", "-r", "/head",
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    check(b"watching" in watching.stderr.readline(), "the watch is armed")
    c = zk.Raw(t.shared)
    c.set("/head", b"1")
    check(watching.stdout.readline(), "an event")
    watching.stdout.close()
    c.set("/head", b"2")
    equal(watching.wait(10), 2, "it ends with the status of lost output")
    check(b"standard output" in watching.stderr.read(), "and says why")


def test_ls_tells_that_a_subtree_was_refused(t):
    ctl(t, "create", "-p", "/lr/b/c")
    ctl(t, "create", "/lr/a")
    ctl(t, "create", "/lr/z")
    ctl(t, "acl-set", "/lr/b", "unix:u:0:cdrwa")
    done = ctl(t, "ls", "-R", "/lr", unix=False, ok=False)
    equal((done.returncode, done.out.split()), (1, ["/lr/a", "/lr/b", "/lr/z"]), "the others are listed")
    check("/lr/b" in done.err, "the refused one is named", done)
