"""Issues 2 and 3: `sudo systemd/quickstart` and `systemd/quickstart stop`, with everything below a private folder."""

import os
import re
import socket

import zk
from lib import BIN, ROOT, Failure, alive, bash, check, equal, free_port, mounts, read, run, until

DEADLINE_ALL = 120
SCRIPT = os.path.join(ROOT, "systemd", "quickstart")


def prepare(t):
    where = t.path("q")
    os.makedirs(where)
    env = dict(os.environ, COORD_QUICKSTART_ROOT=where, COORD_QUICKSTART_PORT=str(free_ports()), COORD_BIN_DIR=BIN)
    t.undo.callback(lambda: run(SCRIPT, "purge", env=env, ok=False, timeout=60))
    return where, env, int(env["COORD_QUICKSTART_PORT"])


def free_ports():
    """A port that is free with the five others that quickstart takes beside it."""
    for _ in range(200):
        first = free_port()
        held = []
        try:
            for offset in (0, 1, 2, 10, 11, 12):
                held.append(socket.create_server(("127.0.0.1", first + offset)))
            return first
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise Failure("no free ports")


DAEMONS = ("coordd1", "coordd2", "coordd3", "coordfs")


def pid_of(where, name):
    return int(read(os.path.join(where, "run", name + ".pid")))


def test_start_serve_stop(t):
    where, env, port = prepare(t)
    done = run(SCRIPT, env=env, timeout=90)
    mount = where + "/coord"
    check(any(k.startswith("fuse") for _, _, k in mounts(at=mount)), "mounted", done.out)
    check("workers" in read(mount + "/app1/config").decode(), "the example's config")
    equal(sorted(os.listdir(mount + "/app1/queue")), ["job-%010d" % n for n in range(3)], "the example's queue")
    c = zk.Raw(address=("127.0.0.1", port))
    equal(c.children("/app1"), ["config", "members", "queue"], "for ZooKeeper clients")
    for word in ("cat %s/app1/config" % mount, "inotifywait", "stop", str(port)):
        check(word in done.out, "what to try next names %r" % word, done.out)
    pids = [pid_of(where, n) for n in DAEMONS]
    done = run(SCRIPT, "stop", env=env, timeout=60)
    check("stopped" in done.out, "it says so", done)
    check(not mounts(under=where), "unmounted")
    until(lambda: not any(alive(p) for p in pids), 5, "nothing keeps running")
    equal(sorted(os.listdir(where)), ["data"], "only the data is left")


def test_it_is_idempotent(t):
    where, env, _ = prepare(t)
    run(SCRIPT, env=env, timeout=90)
    pids = [pid_of(where, n) for n in DAEMONS]
    with open(where + "/coord/app1/config", "w") as out:
        out.write("mine")
    done = run(SCRIPT, env=env, timeout=90)
    equal([pid_of(where, n) for n in DAEMONS], pids, "the same processes")
    check("already" in done.out, "it says that it runs already", done.out)
    equal(read(where + "/coord/app1/config"), b"mine", "the example does not overwrite")
    run(SCRIPT, "status", env=env)
    run(SCRIPT, "stop", env=env, timeout=60)
    run(SCRIPT, "stop", env=env, timeout=60)
    equal(run(SCRIPT, "status", env=env, ok=False).returncode, 1, "status when stopped")
    run(SCRIPT, env=env, timeout=90)
    equal(read(where + "/coord/app1/config"), b"mine", "the data is there again after stop and start")
    run(SCRIPT, "purge", env=env, timeout=60)
    check(not os.path.exists(where), "purge leaves nothing")


def test_it_repairs_what_was_killed(t):
    where, env, _ = prepare(t)
    run(SCRIPT, env=env, timeout=90)
    for name in ("coordd2", "coordfs"):
        pid = pid_of(where, name)
        os.kill(pid, 9)
        until(lambda p=pid: not alive(p), 5, "killed")
        run(SCRIPT, env=env, timeout=90)
        check(read(where + "/coord/app1/config"), "works again after kill -9 of " + name)


def test_any_one_replica_may_die(t):
    where, env, _ = prepare(t)
    run(SCRIPT, env=env, timeout=90)
    config = where + "/coord/app1/config"
    for name in DAEMONS[:3]:
        pid = pid_of(where, name)
        os.kill(pid, 9)
        until(lambda p=pid: not alive(p), 5, "killed")
        check(run("cat", config).out, "cat without " + name)

        def saved(n=name):
            return bash("echo 'saved without %s' > %s" % (n, config), ok=False).returncode == 0
        until(saved, 15, "echo without " + name)
        equal(read(config), b"saved without %s\n" % name.encode(), "what was saved")
        run(SCRIPT, env=env, timeout=90)
    run(SCRIPT, "status", env=env)


def test_data_of_one_replica_is_not_touched(t):
    where, env, _ = prepare(t)
    os.makedirs(where + "/data")
    with open(where + "/data/data.mdb", "wb") as f:
        f.write(b"precious")
    done = run(SCRIPT, env=env, ok=False, timeout=90)
    check(done.returncode == 1 and "purge" in done.err, "it says what to do", done)
    equal(read(where + "/data/data.mdb"), b"precious", "untouched")


def test_stop_of_a_busy_mount(t):
    where, env, _ = prepare(t)
    run(SCRIPT, env=env, timeout=90)
    holder = t.background("sleep", "1000", cwd=where + "/coord/app1")
    run(SCRIPT, "stop", env=env, timeout=60)
    check(not mounts(under=where), "unmounted though in use")
    check(alive(holder.pid), "a user of the mount is not killed")


def test_port_in_use_is_said(t):
    where, env, port = prepare(t)
    r = t.replica(port=port)
    done = run(SCRIPT, env=env, ok=False, timeout=90)
    check(done.returncode == 1 and str(port) in done.err, "a port in use", done)
    check(zk.Raw(r).stat("/") is not None, "the other server is unaffected")
    check(not mounts(under=where), "nothing is mounted")


def test_bad_argument_and_missing_program(t):
    _, env, _ = prepare(t)
    equal(run(SCRIPT, "nonsense", env=env, ok=False).returncode, 2, "exit status")
    check("usage" in run(SCRIPT, "--help", env=env).out, "--help")
    done = run(SCRIPT, env=dict(env, COORD_BIN_DIR="/nonexistent"), ok=False)
    check(done.returncode == 1 and "/nonexistent/coordd" in done.err, "a missing program is named", done)


def test_packages_are_versioned(t):
    """style.md section 7: an unversioned libboost package would remove 1.81 without a question."""
    names = re.findall(r"^\w+ (\S+)$", read(os.path.join(ROOT, "systemd", "packages")).decode(), re.M)
    check("libboost1.81-dev" in names and not [n for n in names if re.match(r"libboost(?!1\.81)", n)], "boost", names)
