"""Writes histories for coord-check (README.md in this folder). One Recorder for each process; threads may share it.

    sys.path.insert(0, os.path.join(ROOT, "tests", "history"))
    import recorder
    with recorder.Recorder("/tmp/run.jsonl") as h:
        h.session(1, session_id, "opened", replica=2, timeout_ns=6_000_000_000)
        op = h.invoke(1, session_id, "set_cas", path="/a", value=h.unique(), expected=3)   # before sending
        h.ok(op, zxid=reply.zxid, mzxid=stat.mzxid, czxid=stat.czxid, version=stat.version)  # after receiving
        ... h.fail(op, error=-103, zxid=reply.zxid)   a definite refusal: no effect
        ... h.info(op)                                no answer will come: it happened once, or not at all
        h.event(1, session_id, "changed", "/a", zxid)
        h.fault("killed replica 2")
    recorder.check("/tmp/run.jsonl", bin_dir)          # raises AssertionError with the verdict
"""

import json
import os
import subprocess
import threading
import time

KINDS = ("inv", "ok", "fail", "info", "ev", "sess", "fault", "init")
OPS = ("create", "create_seq", "create_ephemeral", "create_ephemeral_seq", "set", "set_cas", "delete", "delete_cas",
       "check", "get", "exists", "children", "sync", "sync_get", "multi", "ping", "close", "other")
EVENTS = {1: "created", 2: "deleted", 3: "changed", 4: "children"}  # by the protocol's number
CHANGES = ("opened", "disconnected", "moved", "closed", "expired")


class Recorder:
    """`first_id` and `unique_prefix` keep recorders of several processes apart (or use `coord-check --merge`)."""

    def __init__(self, path, first_id=1, unique_prefix=None):
        self.path = path
        self._file = open(path, "w", buffering=1 << 16)
        self._lock = threading.Lock()
        self._next_id = first_id
        self._next_value = 0
        self._prefix = unique_prefix or "v%d-" % os.getpid()
        self._open = {}  # id -> (client, session)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with self._lock:
            if not self._file.closed:
                self._file.close()

    def unique(self):
        """A value that nobody else writes."""
        with self._lock:
            self._next_value += 1
            return "%s%d" % (self._prefix, self._next_value)

    def _write(self, record):
        record["ns"] = time.monotonic_ns()  # under the lock: lines are in the order of their times
        self._file.write(json.dumps({k: v for k, v in record.items() if v is not None}) + "\n")

    def invoke(self, client, session, op, **request):
        """Keys: path, value, expected, watch; for multi ops=[{"op":, "path":, ...}, ...]. Returns the id."""
        assert op in OPS, op
        with self._lock:
            number = self._next_id
            self._next_id += 1
            self._open[number] = (client, session)
            self._write(dict(kind="inv", client=client, session=session, id=number, op=op, **request))
            return number

    def _answer(self, kind, number, answer):
        with self._lock:
            client, session = self._open.pop(number)
            self._write(dict(kind=kind, client=client, session=session, id=number, **answer))

    def ok(self, number, **answer):
        """Keys: zxid, mzxid, czxid, version, owner, name, value, children, replayed, results (of a multi)."""
        self._answer("ok", number, answer)

    def fail(self, number, error, **answer):
        self._answer("fail", number, dict(error=error, **answer))

    def info(self, number):
        self._answer("info", number, {})

    def info_all(self, session):
        """The connection of `session` is lost: all that is outstanding on it has an unknown outcome."""
        with self._lock:
            lost = [n for n, (_, s) in self._open.items() if s == session]
        for number in lost:
            self.info(number)

    def event(self, client, session, event, path, zxid=0):
        assert event in EVENTS.values(), event
        with self._lock:
            self._write(dict(kind="ev", client=client, session=session, event=event, path=path, zxid=zxid))

    def session(self, client, session, change, replica=None, timeout_ns=None, zxid=None):
        assert change in CHANGES, change
        with self._lock:
            self._write(dict(kind="sess", client=client, session=session, change=change, replica=replica,
                             timeout_ns=timeout_ns, zxid=zxid))

    def init(self, path, value, mzxid, czxid, version, owner=0):
        """A node that was there before; before all other records."""
        with self._lock:
            self._write(dict(kind="init", path=path, value=value, mzxid=mzxid, czxid=czxid, version=version,
                             owner=owner))

    def fault(self, note):
        with self._lock:
            self._write(dict(kind="fault", note=note))


def check(paths, bin_dir, *options, seconds=60):
    """Judges one history, or several parts of one; AssertionError with the checker's words unless it is good."""
    paths = [paths] if isinstance(paths, str) else list(paths)
    command = [os.path.join(bin_dir, "coord-check"), "--deadline", str(seconds), *options]
    if len(paths) > 1:
        command.append("--merge")
    done = subprocess.run(command + paths, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=seconds + 60, check=False)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise AssertionError("coord-check: exit status %d\n%s" % (done.returncode, text))
    return text
