"""Harness of the end-to-end tests: real daemons, private directories, free loopback ports.

A test is a function `test_NAME(t)` in tests/e2e/test_*.py; `t` is a Context. The runner (runner.py) starts one process
per file and stands outside of it: it owns the deadlines, aborts stuck FUSE connections and cleans up after the file,
also when the file was killed. What was started is found again by the variable COORD_TEST_RUN in its environment, and
mounts by their place under the run's directory; nothing is ever killed by name.

Waiting is polling for an observable state with a deadline (`until`); no test sleeps to let something happen.
"""

import contextlib
import ctypes
import errno
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("COORD_BIN_DIR") or os.path.join(ROOT, "build", "release", "bin")
SOAK = os.environ.get("COORD_SOAK") == "1"


class Failure(AssertionError):
    pass


class Skipped(Exception):
    pass


def count(gate, soak):
    """A number of repetitions: what the gate can afford, and what the issues ask for."""
    return soak if SOAK else gate


def check(condition, message, *values):
    if not condition:
        raise Failure(message + "".join("\n    " + repr(v) for v in values))


def equal(got, expected, what=""):
    if got != expected:
        raise Failure("%s: expected %r, got %r" % (what or "value", expected, got))


def until(probe, seconds, what):
    """Polls until probe() is true and returns its value; fails with `what` and the last value or error."""
    end = time.monotonic() + seconds
    last = None
    while True:
        try:
            value = probe()
            if value:
                return value
            last = repr(value)
        except (OSError, subprocess.SubprocessError, EOFError) as error:
            last = repr(error)
        if time.monotonic() >= end:
            raise Failure("not within %.1f s: %s (last: %s)" % (seconds, what, last))
        time.sleep(0.005)


def raises_errno(expected, action, what=""):
    """Runs action and demands one of the errnos in `expected` (a number or several)."""
    wanted = expected if isinstance(expected, (tuple, list, set)) else (expected,)
    names = "|".join(errno.errorcode.get(n, str(n)) for n in wanted)
    try:
        value = action()
    except OSError as error:
        if error.errno not in wanted:
            got = errno.errorcode.get(error.errno, str(error.errno))
            raise Failure("%s: expected %s, got %s" % (what, names, got)) from None
        return error.errno
    raise Failure("%s: expected %s, but it succeeded with %r" % (what, names, value))


reserved = []  # sockets that keep others from choosing the ports that this process has chosen


def free_port():
    # Below the ephemeral range, so that no client connection of another test takes it in between. Chosen once by one
    # process, also while another runs tests: a socket of that name, which no file is left of, says that it is taken.
    for _ in range(200):
        port = random.randrange(20000, 32000)
        name = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe:
            try:
                name.bind("\0coord-test-port-%d" % port)
                probe.bind(("127.0.0.1", port))
            except OSError:
                name.close()
                continue
        reserved.append(name)
        return port
    raise Failure("no free port on 127.0.0.1")


def program(name):
    path = os.path.join(BIN, name)
    if not os.access(path, os.X_OK):
        raise Failure("%s is not built: %s" % (name, path))
    return path


def run(*argv, timeout=20, env=None, cwd=None, stdin=None, ok=True):
    """A command with a deadline; ok=True demands exit status 0. Returns the CompletedProcess with text output."""
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          env=env, cwd=cwd, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL)
    done.out = done.stdout.decode("utf-8", "replace")
    done.err = done.stderr.decode("utf-8", "replace")
    if ok and done.returncode != 0:
        raise Failure("exit %d from %s\n    stdout: %s\n    stderr: %s" % (
            done.returncode, " ".join(map(str, argv)), done.out.strip(), done.err.strip()))
    return done


def bash(script, *args, timeout=20, ok=True, cwd=None):
    return run("bash", "-c", script, "bash", *args, timeout=timeout, ok=ok, cwd=cwd)


# --- processes and mounts, as the kernel tells them ---

def task_state(pid):
    """The state letter of a process, 'gone' when there is none (a zombie counts as gone)."""
    try:
        with open("/proc/%d/stat" % pid) as stat:
            text = stat.read()
    except OSError:
        return "gone"
    state = text[text.rindex(")") + 2]
    return "gone" if state in "ZX" else state


def alive(pid):
    return task_state(pid) != "gone"


def parent_of(pid):
    try:
        with open("/proc/%d/stat" % pid) as stat:
            text = stat.read()
        return int(text[text.rindex(")") + 2:].split()[1])
    except (OSError, ValueError):
        return 0


def descendants(pid):
    """Living processes below pid, in no order."""
    parents = {p: parent_of(p) for p in all_pids()}
    found, frontier = [], [pid]
    while frontier:
        at = frontier.pop()
        for child, parent in parents.items():
            if parent == at and alive(child):
                found.append(child)
                frontier.append(child)
    return found


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def command_line(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def pids_of_run(run_id):
    """Processes that inherited our marker, ourselves excepted."""
    marker = ("COORD_TEST_RUN=" + run_id).encode()
    found = []
    for pid in all_pids():
        if pid == os.getpid():
            continue
        try:
            with open("/proc/%d/environ" % pid, "rb") as f:
                if marker in f.read().split(b"\0") and alive(pid):
                    found.append(pid)
        except OSError:
            pass
    return found


def mounts(under=None, at=None):
    """(mount point, minor device number, type) of the mounts of this namespace, innermost last. Touches no mount."""
    found = []
    with open("/proc/self/mountinfo") as f:
        for line in f:
            left, _, right = line.partition(" - ")
            fields = left.split()
            where = fields[4].encode().decode("unicode_escape")
            if at is not None and where != at:
                continue
            if under is not None and not (where == under or where.startswith(under + "/")):
                continue
            found.append((where, int(fields[2].split(":")[1]), right.split()[0]))
    return found


def abort_connection(minor):
    """Ends one FUSE connection, given the minor number of a mount that is our own."""
    base = "/sys/fs/fuse/connections"
    if not os.path.isdir("%s/%d" % (base, minor)):
        subprocess.run(["mount", "-t", "fusectl", "none", base], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=10, check=False)
    with contextlib.suppress(OSError):
        with open("%s/%d/abort" % (base, minor), "w") as f:
            f.write("1")


def unmount_all(under):
    """Aborts and detaches every mount below a directory; never waits for a daemon."""
    libc = ctypes.CDLL(None, use_errno=True)
    for where, minor, kind in reversed(mounts(under=under)):
        if kind.startswith("fuse"):
            abort_connection(minor)
        libc.umount2(os.fsencode(where), 2 | 8)  # MNT_DETACH | UMOUNT_NOFOLLOW


def clean_up(run_id, directory):
    """Everything of a run: its processes, its mounts, its files. Returns a list of what would not go."""
    unmount_all(directory)
    left = pids_of_run(run_id)
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        unmount_all(directory)  # a guardian may have mounted again before it was killed
        left = pids_of_run(run_id)
        if not left and not mounts(under=directory):
            break
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    problems = ["process %d (%s, state %s) did not end" % (p, command_line(p), task_state(p)) for p in left]
    problems += ["still mounted: %s" % where for where, _, _ in mounts(under=directory)]
    if not problems:
        shutil.rmtree(directory, ignore_errors=True)
    return problems


# --- one test ---

class Context:
    """What a test gets: a directory of its own and things that are undone when it ends."""

    def __init__(self, directory, shared=None):
        self.directory = directory
        self.shared = shared  # what the file's shared(t) returned, made once per file
        self.undo = contextlib.ExitStack()
        os.makedirs(directory, exist_ok=True)

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def write(self, name, text):
        where = self.path(name)
        with open(where, "wb" if isinstance(text, bytes) else "w") as f:
            f.write(text)
        return where

    def replica(self, start=True, **options):
        replica = Replica(self, **options)
        self.undo.callback(replica.destroy)
        if start:
            replica.start()
        return replica

    def ensemble(self, size=3, **options):
        return Ensemble(self, size, **options)

    def mount(self, replica, start=True, **options):
        mount = Mount(self, replica, **options)
        self.undo.callback(mount.destroy)
        if start:
            mount.start()
        return mount

    def kazoo(self, replica, timeout=10.0, **options):
        from kazoo.client import KazooClient
        client = KazooClient(hosts=replica.address, timeout=timeout, **options)
        self.undo.callback(self._end_kazoo, client)
        client.start(timeout=15)
        return client

    @staticmethod
    def _end_kazoo(client):
        with contextlib.suppress(Exception):
            client.stop()
        with contextlib.suppress(Exception):
            client.close()

    def background(self, *argv, **options):
        """A process that is killed at the end of the test at the latest."""
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen([str(a) for a in argv], **options)
        self.undo.callback(kill_and_reap, process)
        return process

    def logs(self):
        text = []
        for folder, _, names in os.walk(self.directory, topdown=True):
            if folder in [where for where, _, _ in mounts(under=self.directory)]:
                _.clear()
                continue
            for name in sorted(names):
                if name.endswith(".log"):
                    with open(os.path.join(folder, name), errors="replace") as f:
                        lines = f.read().splitlines()
                    if lines:
                        text.append("--- %s (last lines)" % name)
                        text.extend(lines[-15:])
            del _[:]  # logs are in the test's own directory only
        return text


def kill_and_reap(process):
    if process.poll() is None:
        with contextlib.suppress(OSError):
            process.send_signal(signal.SIGCONT)
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)


class Daemon:
    """A process with a log file, started with a fixed command line."""

    counter = 0

    def __init__(self, context, name, env=None):
        Daemon.counter += 1
        self.context = context
        self.name = "%s%d" % (name, Daemon.counter)
        self.log = context.path(self.name + ".log")
        self.env = env or {}
        self.process = None

    def spawn(self, argv):
        with open(self.log, "ab") as log:
            log.write(("$ %s\n" % " ".join(argv)).encode())
            log.flush()
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=dict(os.environ, **self.env), start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    def log_text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def no_crash(self, status):
        """No test kills by these signals: a daemon that died of one has crashed, whatever the test thought of it."""
        crashes = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}
        text = self.log_text()
        words = [w for w in ("Sanitizer", "runtime error:") if w in text]
        words += re.findall(r"ended by signal (?:4|6|7|8|11)\b", text)
        check(status not in crashes and not words, "%s crashed: status %s %s\n%s" % (
            self.name, status, words, text[-6000:]))

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill9(self):
        self.process.kill()
        self.process.wait(20)

    def terminate(self, seconds=20):
        """SIGTERM and wait; the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure("%s did not end within %d s of SIGTERM" % (self.name, seconds)) from None


class Replica(Daemon):
    """One coordd. `config`: zoo.cfg keys (then --config is used); without it the quick start command line."""

    host = "127.0.0.1"

    def __init__(self, context, config=None, env=None, data_dir=None, port=None):
        super().__init__(context, "coordd", env)
        self.port = port or free_port()
        self.data_dir = data_dir or context.path(self.name + ".data")
        self.socket = context.path(self.name + ".sock")
        self.config = config
        os.makedirs(self.data_dir, exist_ok=True)

    @property
    def address(self):
        return "%s:%d" % (self.host, self.port)

    @property
    def source(self):
        return "unix:" + self.socket

    def command(self):
        if self.config is None:
            return [program("coordd"), "--data-dir", self.data_dir, "--client-port", str(self.port),
                    "--socket", self.socket]
        keys = {"dataDir": self.data_dir, "clientPort": self.port, "clientPortAddress": self.host,
                "coord.socket": self.socket, "tickTime": 2000}
        keys.update(self.config)
        text = "".join("%s=%s\n" % (k, v) for k, v in keys.items() if v is not None)
        return [program("coordd"), "--config", self.context.write(self.name + ".cfg", text)]

    def start(self, wait=True, seconds=30):
        self.spawn(self.command())
        if wait:
            self.wait_ready(seconds)
        return self

    def four(self, word, seconds=5):
        """A four-letter word; all bytes until the server closes."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as s:
            s.sendall(word if isinstance(word, bytes) else word.encode())
            got = b""
            while True:
                piece = s.recv(65536)
                if not piece:
                    return got
                got += piece

    def serving(self):
        if not self.running():
            raise Failure("coordd ended with status %s\n%s" % (self.process.returncode, self.log_text()[-2000:]))
        return b"Mode:" in self.four("srvr")  # the one word on the default whitelist

    def wait_ready(self, seconds=30):
        until(self.serving, seconds, "coordd serves on port %d" % self.port)

    def restart(self, seconds=30):
        return self.start(seconds=seconds)

    def destroy(self):
        if self.process is not None:
            kill_and_reap(self.process)
            self.no_crash(self.process.returncode)


class Ensemble:
    """Several coordd on loopback, with a shared secret. `replicas[n].number` is the server id, from 1."""

    def __init__(self, context, size=3, config=None, start=True, observers=()):
        ports = [free_port() for _ in range(size)]
        keys = {"server.%d" % (n + 1): "127.0.0.1:%d:1%s" % (port, ":observer" if n + 1 in observers else "")
                for n, port in enumerate(ports)}
        keys.update({"coord.peerSecret": "of the tests", "4lw.commands.whitelist": "*", "maxClientCnxns": 0})
        keys.update(config or {})
        self.keys = keys
        self.replicas = [self.member(context, n + 1) for n in range(size)]
        if start:
            self.start()

    def member(self, context, number, config=None):
        replica = context.replica(start=False, config=dict(self.keys, **(config or {})))
        replica.number = number
        with open(os.path.join(replica.data_dir, "myid"), "w") as f:
            f.write("%d\n" % number)
        return replica

    def start(self):
        for replica in self.replicas:
            if not replica.running():
                replica.start(wait=False)
        self.wait()

    def wait(self, seconds=30):
        for replica in self.running():
            replica.wait_ready(seconds)

    def running(self):
        return [r for r in self.replicas if r.running()]

    @staticmethod
    def mode(replica):
        with contextlib.suppress(OSError):
            for line in replica.four("srvr", seconds=2).decode().splitlines():
                if line.startswith("Mode: "):
                    return line[6:]
        return ""

    def leader(self, seconds=20, but=None):
        """The one that leads; `but`: somebody else than this one."""
        return until(lambda: next((r for r in self.running() if r is not but and self.mode(r) == "leader"), None),
                     seconds, "a leader")

    def followers(self):
        leader = self.leader()
        return [r for r in self.running() if r is not leader]

    def words(self, replica):
        return dict(line.split("\t", 1) for line in replica.four("mntr").decode().splitlines() if "\t" in line)

    def epoch(self):
        return int(self.words(self.leader())["zk_coord_epoch"])

    def enrolled(self, number=None, seconds=30):
        """Waits until all data directories are on record: until then everybody counts, also with an empty one."""
        wanted = len(self.replicas) if number is None else number
        until(lambda: int(self.words(self.leader()).get("zk_coord_enrolled", 0)) >= wanted, seconds,
              "%d members are enrolled" % wanted)

    def same_state(self, seconds=30):
        """Waits until all that run have applied the same: equal zxid and digest."""
        def same():
            words = [self.words(r) for r in self.running()]
            seen = {(w.get("zk_last_zxid"), w.get("zk_digest")) for w in words}
            return len(seen) == 1 and None not in next(iter(seen))
        until(same, seconds, "all replicas have the same zxid and digest")

    @property
    def source(self):
        return ",".join(r.address for r in self.replicas)

    def any(self):
        """Stands for a replica in zk.Raw: each connection goes to one of them by chance."""
        return AnyOf(self.replicas)


class AnyOf:
    def __init__(self, replicas):
        self.replicas, self.chosen = replicas, replicas[0]

    @property
    def host(self):
        self.chosen = random.choice(self.replicas)
        return self.chosen.host

    @property
    def port(self):
        return self.chosen.port


class Mount(Daemon):
    """One coordfs in the foreground. The whole family (guardian, daemon, helper) is below `pid`."""

    def __init__(self, context, replica, options=None, env=None, source=None, point=None):
        super().__init__(context, "coordfs", env)
        self.source = source or replica.source
        self.options = options
        self.path = point or context.path(self.name + ".mnt")
        if not mounts(at=self.path):  # a dead mount there must not even be looked at
            os.makedirs(self.path, exist_ok=True)

    def command(self):
        argv = [program("coordfs"), self.source, self.path, "-f"]
        return argv + ["-o", self.options] if self.options else argv

    def mounted(self):
        return any(kind.startswith("fuse") for _, _, kind in mounts(at=self.path))

    def minor(self):
        return [minor for _, minor, kind in mounts(at=self.path) if kind.startswith("fuse")][-1]

    def start(self, wait=True, seconds=20):
        self.spawn(self.command())
        if wait:
            self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=20):
        def ready():
            if not self.running():
                raise Failure("coordfs ended with status %s\n%s" % (self.process.returncode, self.log_text()[-2000:]))
            return self.mounted() and os.listdir(self.path) is not None
        until(ready, seconds, "coordfs serves %s" % self.path)

    def p(self, *names):
        return os.path.join(self.path, *names)

    def family(self):
        return [self.pid] + descendants(self.pid)

    def unmount(self, seconds=20):
        """A clean end: umount, then the processes end by themselves."""
        family = self.family()
        run("umount", self.path, timeout=seconds)
        until(lambda: not any(alive(p) for p in family if p != self.pid) and self.process.poll() is not None, seconds,
              "coordfs and all its processes end after umount")
        return self.process.returncode

    def destroy(self):
        if self.process is None:
            return
        if self.running() and self.mounted():
            # The ordinary way first; it must not take the test's time when the daemon is stopped or dead.
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(["umount", self.path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, timeout=5, check=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        for pid in self.family():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        unmount_all(self.path)
        kill_and_reap(self.process)
        self.no_crash(self.process.returncode)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def shows(path, data, seconds=3):
    """What another client has written is in the mount a moment later (only its own writes are there at once)."""
    def look():
        got = read(path)
        return got == data or Mismatch(got)
    until(look, seconds, "%s shows %r" % (path, data[:40]))


class Mismatch:
    """False, and says with what: for until()."""

    def __init__(self, got):
        self.got = got

    def __bool__(self):
        return False

    def __repr__(self):
        return "%d bytes: %r" % (len(self.got), self.got[:40])


def save(path, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    """open, write, close, with the error of any of them; returns nothing."""
    fd = os.open(path, flags, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    except OSError:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


class Inotify:
    """inotifywait -m on paths; collects (path, events) until the test ends. Ready when the watches are established."""

    def __init__(self, context, *paths):
        self.lines = []
        self.lock = threading.Lock()
        self.process = context.background(
            "inotifywait", "-m", "--format", "%w%f|%e", *paths, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ready = threading.Event()

        def errors():
            for line in self.process.stderr:
                if b"Watches established" in line:
                    ready.set()

        def events():
            for line in self.process.stdout:
                where, _, names = line.decode("utf-8", "surrogateescape").rstrip("\n").rpartition("|")
                with self.lock:
                    self.lines.append((where, frozenset(names.split(","))))

        threading.Thread(target=errors, daemon=True).start()
        threading.Thread(target=events, daemon=True).start()
        check(ready.wait(15), "inotifywait did not establish its watches")

    def seen(self, path, event):
        with self.lock:
            return sum(1 for where, names in self.lines if where == path and event in names)

    def wait(self, path, event, seconds=5):
        try:
            until(lambda: self.seen(path, event), seconds, "inotify %s on %s" % (event, path))
        except Failure as failure:
            with self.lock:
                raise Failure("%s; events so far: %r" % (failure, [(p, sorted(e)) for p, e in self.lines])) from None

    def clear(self):
        with self.lock:
            self.lines.clear()
