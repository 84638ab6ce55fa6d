#!/usr/bin/python3
"""Runs end-to-end tests: runner.py [--list] [--deadline-factor F] [NAME...]; NAME: a file or file.test, without test_.

One process per file; this one stands outside, keeps the deadlines, aborts a stuck mount of the file and goes on with
the next test. Files with `BESIDE = N` spend their time waiting: those of one N run one after the other, beside the
others. A file with `ALONE = True` runs when all the others have ended. Prints a line per test and, last, `N passed,
N failed, N skipped`.
"""

import contextlib
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import lib  # noqa: E402

DEADLINE_DEFAULT = 60  # seconds for one test; a module sets DEADLINE = {"test_name": seconds} for others


def load(path):
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tests_of(module):
    return [name for name, thing in vars(module).items() if name.startswith("test_") and callable(thing)]


def deadline_of(module, name):
    return getattr(module, "DEADLINE", {}).get(name, getattr(module, "DEADLINE_ALL", DEADLINE_DEFAULT))


# --- inside: the process of one file ---

def inside(path, names, directory, report):
    def tell(**what):
        os.write(report, (json.dumps(what) + "\n").encode())

    module = load(path)
    shared_context, shared = None, None
    for number, name in enumerate(names):
        context = lib.Context(os.path.join(directory, "%d" % number))
        start = time.monotonic()
        tell(start=name, deadline=deadline_of(module, name))
        outcome, text = "pass", ""
        try:
            if shared is None and hasattr(module, "shared"):
                shared_context = lib.Context(os.path.join(directory, "shared"))
                shared = module.shared(shared_context)
            context.shared = shared
            getattr(module, name)(context)
        except lib.Skipped as skipped:
            outcome, text = "skip", str(skipped)
        except BaseException as error:  # whatever a test dies of is its failure, and the next test must run
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome = "fail"
            trace = [line for line in traceback.format_tb(error.__traceback__) if "/runner.py" not in line]
            text = "%s: %s\n%s" % (type(error).__name__, error, "".join(trace[-3:]))
            with contextlib.suppress(Exception):
                text += "\n".join(context.logs() + (shared_context.logs() if shared_context else []))
        try:
            context.undo.close()
        except BaseException as error:
            if outcome == "pass":
                outcome, text = "fail", "while cleaning up: %r" % error
        tell(end=name, outcome=outcome, text=text, seconds=time.monotonic() - start)
        sys.stdout.flush()
    if shared_context:
        shared_context.undo.close()
    # Threads of clients that would not end must not keep the process.
    os._exit(0)


# --- outside: deadlines and cleaning up ---

live = {}  # run id -> (process, directory) of what is under way, in any lane


def end_live():
    """What is left when this process is told to end."""
    for run_id, (child, directory) in list(live.items()):
        with contextlib.suppress(OSError):
            child.kill()
        lib.clean_up(run_id, directory)


class FileRun:
    def __init__(self, path, names, factor):
        self.path, self.names, self.factor = path, list(names), factor
        self.results = []

    def run(self):
        left = list(self.names)
        while left:
            done = self.attempt(left)
            if not done:
                self.add(left[0], "fail", "the file's process ended before its first test", 0)
                done = 1
            left = left[done:]
        return self.results

    def add(self, name, outcome, text, seconds):
        self.results.append((name, outcome, text, seconds))
        title = "%s.%s" % (os.path.basename(self.path)[5:-3], name[5:])
        if outcome == "fail":
            print("FAIL %s (%.1f s)\n    %s" % (title, seconds, text.replace("\n", "\n    ")), flush=True)
        elif outcome == "skip":
            print("SKIP %s: %s" % (title, text), flush=True)
        else:
            print("ok   %s (%.1f s)" % (title, seconds), flush=True)

    def attempt(self, names):
        """Runs names in one process until it ends or hangs; the number of tests dealt with."""
        run_id = "%d-%d" % (os.getpid(), time.monotonic_ns())
        directory = tempfile.mkdtemp(prefix="ce.", dir=os.environ.get("COORD_TEST_TMP") or None)
        os.chmod(directory, 0o755)
        reading, writing = os.pipe()
        environment = dict(os.environ, COORD_TEST_RUN=run_id, PYTHONDONTWRITEBYTECODE="1", LC_ALL="C.UTF-8")
        with open(os.path.join(directory, "output"), "wb") as output:
            child = subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), "--inside", self.path, directory, str(writing)] + names,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[writing], env=environment,
                start_new_session=True)
        os.close(writing)
        live[run_id] = child, directory
        try:
            return self.watch(child, reading, directory)
        finally:
            live.pop(run_id, None)
            os.close(reading)
            with contextlib.suppress(OSError):
                child.kill()
            problems = lib.clean_up(run_id, directory)
            child.wait()
            for problem in problems:
                self.add("test_left_behind", "fail", problem, 0)

    def watch(self, child, reading, directory):
        current, started, ends, dealt, buffered = None, 0.0, time.monotonic() + 60, 0, b""
        while True:
            ready = select.select([reading], [], [], max(0.0, min(1.0, ends - time.monotonic())))[0]
            if not ready:
                if time.monotonic() >= ends:
                    text = self.stuck(child, directory)
                    self.add(current or self.names[0], "fail", "deadline passed\n" + text, time.monotonic() - started)
                    return dealt + 1
                continue
            piece = os.read(reading, 65536)
            if not piece:
                if current:
                    with open(os.path.join(directory, "output"), errors="replace") as output:
                        text = output.read()[-2000:]
                    self.add(current, "fail", "the test's process ended: %s" % text, time.monotonic() - started)
                    return dealt + 1
                return dealt
            buffered += piece
            while b"\n" in buffered:
                line, buffered = buffered.split(b"\n", 1)
                message = json.loads(line)
                if "start" in message:
                    current, started = message["start"], time.monotonic()
                    ends = started + message["deadline"] * self.factor
                else:
                    self.add(message["end"], message["outcome"], message["text"], message["seconds"])
                    current, dealt = None, dealt + 1
                    ends = time.monotonic() + 60

    def stuck(self, child, directory):
        """What hangs, then the way out: the mounts of this file are aborted from here, outside of it."""
        lines = []
        for pid in [child.pid] + lib.descendants(child.pid):
            where = ""
            with contextlib.suppress(OSError):
                with open("/proc/%d/wchan" % pid) as f:
                    where = f.read()
            lines.append("pid %d state %s in %s: %s" % (pid, lib.task_state(pid), where, lib.command_line(pid)[:150]))
        with contextlib.suppress(OSError):
            child.send_signal(signal.SIGUSR1)  # faulthandler prints the Python stacks to the output
        end = time.monotonic() + 1
        output = os.path.join(directory, "output")
        size = os.path.getsize(output)
        while time.monotonic() < end and os.path.getsize(output) == size:
            time.sleep(0.01)
        with open(output, errors="replace") as f:
            lines.extend(f.read()[-3000:].splitlines())
        lib.unmount_all(directory)
        return "\n".join(lines)


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--inside"]:
        import faulthandler
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        inside(arguments[1], arguments[4:], arguments[2], int(arguments[3]))
        return 0
    factor, listing, wanted, folders = 1.0, False, [], []
    while arguments:
        argument = arguments.pop(0)
        if argument == "--list":
            listing = True
        elif argument == "--deadline-factor":
            factor = float(arguments.pop(0))
        elif argument == "--folder":
            folders.append(os.path.abspath(arguments.pop(0)))
        else:
            wanted.append(argument)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    totals, matched = {"pass": 0, "fail": 0, "skip": 0}, set()
    lanes = {"": [], "alone": []}
    for folder in folders or [HERE]:
        for file in sorted(os.listdir(folder)):
            if not (file.startswith("test_") and file.endswith(".py")):
                continue
            short = file[5:-3]
            module = load(os.path.join(folder, file))
            names = tests_of(module)
            if wanted:
                names = [n for n in names if short in wanted or "%s.%s" % (short, n[5:]) in wanted]
                matched.update(w for w in wanted if w == short or any("%s.%s" % (short, n[5:]) == w for n in names))
            if listing:
                print("\n".join("%s.%s" % (short, n[5:]) for n in names))
                continue
            if not names:
                continue
            lane = "alone" if hasattr(module, "ALONE") else getattr(module, "BESIDE", "")
            lanes.setdefault(lane, []).append((short, FileRun(os.path.join(folder, file), names, factor)))
    if listing:
        return 0

    def go(lane):
        for short, file_run in lanes[lane]:
            begun = time.monotonic()
            try:
                file_run.run()
            except Exception:  # noqa: BLE001 - whatever it is, the rest of the lane still runs, and it counts
                file_run.add("test_(the runner itself)", "fail", traceback.format_exc(), 0)
            print("     %s: %.1f s" % (short, time.monotonic() - begun), flush=True)

    beside = [threading.Thread(target=go, args=(lane,), daemon=True) for lane in lanes if lane not in ("", "alone")]
    for thread in beside:
        thread.start()
    go("")
    for thread in beside:
        thread.join()
    go("alone")
    for lane in lanes.values():
        for _, file_run in lane:
            for _, outcome, _, _ in file_run.results:
                totals[outcome] += 1
    for name in wanted:
        if name not in matched:
            print("FAIL no such test: %s" % name)
            totals["fail"] += 1
    print("%d passed, %d failed, %d skipped" % (totals["pass"], totals["fail"], totals["skip"]), flush=True)
    return 1 if totals["fail"] or totals["pass"] == 0 else 0


if __name__ == "__main__":
    try:
        status = main()
    finally:
        end_live()
    sys.exit(status)
