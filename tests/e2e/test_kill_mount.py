"""Issue 2, must hold 6: kill -9 and SIGSTOP of coordfs with open files; no D state, the mount comes back."""

import contextlib
import os
import signal
import subprocess
import time

from lib import alive, check, count, descendants, equal, mounts, read, run, task_state, until, shows

DEADLINE_ALL = 120
ROUNDS = count(2, 50)


def fuse_daemons(mount):
    """The processes of the family that hold /dev/fuse and are not the guardian."""
    found = []
    for pid in descendants(mount.pid):
        try:
            held = {os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)}
        except OSError:
            continue
        if "/dev/fuse" in held:
            found.append(pid)
    return found


class Users:
    """Processes with open files in the mount: readers in a loop, a writer, an ephemeral holder."""

    SCRIPTS = {
        "reader": 'exec 5< "$1/f"; while cat "$1/f" > /dev/null; do read -r -t 0.01 _ <&6; done',
        "writer": 'i=0; while echo "$i" > "$1/w"; do i=$((i + 1)); done',
        "lister": 'while ls -l "$1" > /dev/null; do :; done',
        "holder": 'exec 9> "$1/me@ephemeral"; while echo x >&9; do :; done',
    }

    def __init__(self, t, mount):
        self.processes = {}
        reading, self.writing = os.pipe()
        for name, script in self.SCRIPTS.items():
            self.processes[name] = t.background(
                "bash", "-c", script, "bash", mount.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                preexec_fn=lambda: os.dup2(reading, 6), pass_fds=[6])
        os.close(reading)

    def pids(self):
        found = []
        for process in self.processes.values():
            found.append(process.pid)
            found.extend(descendants(process.pid))
        return found

    def in_d_state(self):
        return [p for p in self.pids() if task_state(p) == "D"]


def touch(path, seconds=8):
    """A read of path by another process; True when it worked. The process ends within `seconds`, whatever happens."""
    try:
        return run("cat", path, timeout=seconds, ok=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def disturb(t, action, what):
    r = t.replica()
    m = t.mount(r)
    client = t.kazoo(r)
    client.create("/f", b"data")
    shows(m.p("f"), b"data")
    for round_ in range(ROUNDS):
        users = Users(t, m)
        until(lambda: client.exists("/me") and client.exists("/w") and client.exists("/w").version > 3, 15,
              "the users are at work")
        family = set(m.family())
        victims = fuse_daemons(m)
        check(victims, "a daemon that holds /dev/fuse, below the guardian", m.family())
        begin = time.monotonic()
        action(victims)
        # Callers get an error within seconds: no user process stays where it cannot be killed.
        until(lambda: touch(m.p("f")), 25, "round %d, %s: the mount comes back" % (round_, what))
        took = time.monotonic() - begin
        check(took < 20, "%s: the mount was away for %.1f s" % (what, took))
        until(lambda: not users.in_d_state(), 10, "no user in D state")
        check(not any(alive(p) for p in victims), "the old daemon is gone", victims)
        until(lambda: not [p for p in family - {m.pid} if alive(p)], 5, "the old daemon's helpers are gone")
        for process in users.processes.values():
            process.kill()
            process.wait(10)
        os.close(users.writing)
        # The dead predecessor's session is closed at once, and its ephemerals with it.
        until(lambda: client.exists("/me") is None, 10, "the ephemeral of the dead mount is gone")
        equal(read(m.p("f")), b"data", "content after %s" % what)
        with open(m.p("after"), "w") as out:
            out.write("%d" % round_)
        equal(client.get("/after")[0], b"%d" % round_, "writes work after %s" % what)
    equal(len([k for _, _, k in mounts(at=m.path) if k.startswith("fuse")]), 1, "one mount, not a stack of them")
    m.unmount()


def test_kill_9_of_the_daemon(t):
    def action(victims):
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
    disturb(t, action, "kill -9")


def test_sigstop_of_the_daemon(t):
    def action(victims):
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)
    disturb(t, action, "SIGSTOP")


def test_callers_in_a_call_get_an_error(t):
    """A call that is under way when the daemon stops ends within seconds."""
    r = t.replica()
    m = t.mount(r)
    t.kazoo(r).create("/f", b"data")
    shows(m.p("f"), b"data")
    for pid in fuse_daemons(m):
        os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    callers = [t.background("cat", m.p("f"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
               t.background("sh", "-c", 'echo x > "$1"', "sh", m.p("w"), stderr=subprocess.DEVNULL),
               t.background("ls", m.p("nothing"), stderr=subprocess.DEVNULL)]
    for caller in callers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            caller.wait(15)
        check(caller.returncode is not None, "a caller hangs %.1f s after SIGSTOP, state %s" % (
            time.monotonic() - begin, task_state(caller.pid)))


def test_guardian_killed(t):
    """kill -9 of the whole family: nothing hangs, a new coordfs clears what is left."""
    r = t.replica()
    m = t.mount(r)
    t.kazoo(r).create("/f", b"data")
    shows(m.p("f"), b"data")
    held = os.open(m.p("f"), os.O_RDONLY)
    family = m.family()
    os.kill(m.pid, signal.SIGKILL)
    m.process.wait(10)
    for pid in family:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(alive(p) for p in family), 10, "all processes are gone")
    check(not touch(m.p("f")), "the dead mount answers with an error")
    os.close(held)
    again = t.mount(r, point=m.path)
    equal(read(again.p("f")), b"data", "a new coordfs clears the stale mount by itself")
    equal(len([k for _, _, k in mounts(at=m.path) if k.startswith("fuse")]), 1, "one mount")


def test_guardian_alone_killed(t):
    """When the guardian dies, daemon and helper do not live on unwatched for ever, or go on serving: never a hang."""
    r = t.replica()
    m = t.mount(r)
    t.kazoo(r).create("/f", b"data")
    shows(m.p("f"), b"data")
    family = m.family()
    os.kill(m.pid, signal.SIGKILL)
    m.process.wait(10)
    begin = time.monotonic()
    touch(m.p("f"))
    check(time.monotonic() - begin < 8, "a caller hangs when the guardian is dead")
    for pid in family:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(alive(p) for p in family), 10, "the rest can be killed")


def test_clean_unmount_by_umount_and_sigterm(t):
    r = t.replica()
    m = t.mount(r)
    equal(m.unmount(), 0, "exit status after umount")
    m = t.mount(r, point=m.path)
    family = m.family()
    equal(m.terminate(), 0, "exit status after SIGTERM")
    until(lambda: not any(alive(p) for p in family), 10, "all processes are gone")
    check(not m.mounted(), "not mounted any more")


def test_sigterm_with_open_files(t):
    """A busy mount goes away too: its users get errors, nothing hangs."""
    r = t.replica()
    m = t.mount(r)
    t.kazoo(r).create("/f", b"data")
    held = os.open(m.p("f"), os.O_RDONLY)
    m.terminate()
    until(lambda: not m.mounted(), 10, "not mounted any more")
    os.close(held)
