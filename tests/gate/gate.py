#!/usr/bin/python3
"""The parts of `tests/run`. Builds, runs, counts; the last line is `N passed, N failed[, N skipped]`."""

import concurrent.futures
import contextlib
import glob
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

HELP = """usage: tests/run [--no-build] [PART [NAME...]]

Without PART: the gate = tidy, unit, asan, tsan, sim, fuzz, e2e. As root, as it mounts.
  tidy            the repository's own rules: include direction, line length, leftover markers, ...
  unit            unit tests, release build            NAME: a test binary, such as tree_test
  asan            unit tests under address and undefined-behaviour sanitizers, by clang (builds in half the time)
  tsan            the threaded shells under the thread sanitizer
  sim             the simulator: random ensembles under faults, named regressions, and its mutants
  fuzz            each fuzz target for some seconds       NAME: a target, such as wire_fuzz
  e2e             real daemons and mounts              NAME: a file or file.test, such as torn_reads
  extended        what is slow (waits of minutes, other people's programs, a build of each file by itself)
  soak            the long runs with the full figures, fuzzing included; hours      NAME: as for e2e
  --no-build      take the binaries as they are
Environment: COORD_BIN_DIR (daemons for e2e, default build/release/bin), COORD_TEST_TMP (where tests work, default
/tmp), FUZZ_SECONDS (per target; default 5, for soak 300), SIM_SEEDS (default 2000, for soak 1000000)."""

GATE = ["tidy", "unit", "asan", "tsan", "sim", "fuzz", "e2e"]
SIM_SEEDS, SIM_SOAK_SEEDS = 2000, 1_000_000  # random ensembles of ZAB cores
SIM_REPLICA_SHARE = 5                        # one in so many besides with whole replicas and clients
SMALL_SCOPE, SMALL_SCOPE_SOAK = 3, 4         # faults, each placed everywhere on three servers
MUTANT_SEEDS = 1500                          # in which each deliberate fault must be found, but for
# these: the core guards against the same harm twice, and seeds that get past both guards were not met yet.
GUARDED_TWICE = {"promise_twice", "stranded_counts", "epoch_not_raised"}
TSAN_BINARIES = ["common_test", "runtime_test"]
BINARY_DEADLINE = 600   # seconds for one unit test binary
BUILD_DEADLINE = 1500
PART_DEADLINE = {"sim": 12 * 3600, "e2e": 1500, "extended": 3600, "soak": 24 * 3600}


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, passed, failed, skipped=0):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def text(self):
        tail = ", %d skipped" % self.skipped if self.skipped else ""
        return "%d passed, %d failed%s" % (self.passed, self.failed, tail)


live = set()  # processes of run(), each the leader of its group


def end_group(process):
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


def interrupted(*_):
    for process in list(live):
        end_group(process)
    os._exit(1)


def run(argv, deadline, on_line=None, env=None):
    """Runs a command in a process group of its own; prints its lines; -1 after the deadline. On any thread."""
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True, env=env)
    live.add(process)
    timed_out = False

    def expired():
        nonlocal timed_out
        timed_out = True
        end_group(process)

    timer = threading.Timer(deadline, expired)
    timer.start()
    try:
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if on_line is None or on_line(line):
                print(line, flush=True)
        process.wait()
    finally:
        timer.cancel()
        live.discard(process)
    if timed_out:
        print("deadline of %d s passed: %s" % (deadline, " ".join(argv)), flush=True)
        return -1
    return process.returncode


class Gate:
    def __init__(self, build):
        self.build_wanted = build
        self.lines = []
        self.totals = Totals()

    # --- building ---
    def build(self, preset, targets):
        """True when built. Prints what the compiler says only when it fails."""
        if not self.build_wanted:
            return True
        folder = os.path.join(ROOT, "build", preset)
        said = []

        def keep(line):
            said.append(line)
            return False
        start = time.monotonic()
        status = 0
        if not os.path.exists(os.path.join(folder, "build.ninja")):
            status = run(["cmake", "--preset", preset], BUILD_DEADLINE, keep)
        if status == 0:
            # Once with the generator alone: it adds and drops targets as files come and go.
            status = run(["ninja", "-C", folder, "build.ninja"], BUILD_DEADLINE, keep)
        if status == 0:
            known = self.targets(folder)
            chosen = [t for t in targets if t in known] if targets else ["all"]
            status = run(["ninja", "-C", folder] + chosen, BUILD_DEADLINE, keep)
        seconds = time.monotonic() - start
        if status != 0:
            print("\n".join(said[-80:]))
            self.part("build " + preset, 0, 1, 0, seconds)
            return False
        print("build %s: %.0f s" % (preset, seconds), flush=True)
        self.lines.append("build %-9s %6.0f s" % (preset, seconds))
        return True

    @staticmethod
    def targets(folder):
        listing = subprocess.run(["ninja", "-C", folder, "-t", "targets", "all"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, check=True).stdout.decode()
        return {line.split(":")[0] for line in listing.splitlines()}

    def part(self, name, passed, failed, skipped, seconds):
        if passed + failed + skipped == 0:
            print("FAIL %s: no test ran" % name)
            failed = 1
        part = Totals()
        part.add(passed, failed, skipped)
        self.totals.add(passed, failed, skipped)
        self.lines.append("%-15s %6.0f s  %s" % (name, seconds, part.text()))
        print("== %s" % self.lines[-1], flush=True)

    # --- parts ---
    def gtest(self, part, preset, only):
        start = time.monotonic()
        wanted = only or (TSAN_BINARIES if part == "tsan" else [])
        if not self.build(preset, wanted or self.unit_targets()):
            return
        folder = os.path.join(ROOT, "build", preset, "bin")
        binaries = sorted(glob.glob(os.path.join(folder, "*_test")))
        if wanted:
            binaries = [b for b in binaries if os.path.basename(b) in wanted]
        part_totals = Totals()
        for name in only:
            if os.path.join(folder, name) not in binaries:
                print("FAIL %s: no such test binary in %s" % (name, folder))
                part_totals.add(0, 1)
        start = time.monotonic()
        # As many at once as there are processors; the longest ones happen to be at the end of the alphabet.
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for counts in pool.map(lambda binary: self.one_gtest(part, binary), reversed(binaries)):
                part_totals.add(*counts)
        self.part(part, part_totals.passed, part_totals.failed, part_totals.skipped, time.monotonic() - start)

    def unit_targets(self):
        text = open(os.path.join(ROOT, "tests", "CMakeLists.txt")).read()
        return re.findall(r"^coord_test\((\w+)", text, re.M)

    def one_gtest(self, part, binary):
        """Counts of one binary, from its own output; a crash is one failure more."""
        counts = {"OK": 0, "FAILED": 0, "SKIPPED": 0}
        running, kept, announced = [""], [], [None]

        def look(line):
            found = re.match(r"\[ +(RUN|OK|FAILED|SKIPPED) +\] ([\w./-]+)( \(\d+ ms\)|, where .*\(\d+ ms\))?", line)
            total = re.match(r"\[=+\] Running (\d+) tests?", line)
            if total:
                announced[0] = int(total.group(1))
            if found and found.group(1) == "RUN":
                running[0] = found.group(2)
                kept.clear()
            elif found and re.search(r"\(\d+ ms\)$", line):
                counts[found.group(1)] += 1
                if found.group(1) == "FAILED":
                    print("FAIL %s %s\n%s" % (part, found.group(2), "\n".join("    " + k for k in kept[-60:])))
                running[0] = ""
                kept.clear()
            else:
                kept.append(line)
            return False
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1",
                   UBSAN_OPTIONS="print_stacktrace=1", TSAN_OPTIONS="halt_on_error=0:second_deadlock_stack=1")
        start = time.monotonic()
        status = run([binary, "--gtest_color=no", "--gtest_brief=0"], BINARY_DEADLINE, look, env)
        name = os.path.basename(binary)
        ran = sum(counts.values())
        if (status != 0 and counts["FAILED"] == 0) or announced[0] != ran:
            print("FAIL %s %s: exit status %s in %s, %s of %s tests ended\n%s" % (
                part, name, status, running[0] or "no test", ran, announced[0], "\n".join(kept[-60:])))
            counts["FAILED"] += 1
        print("%s %s: %d passed, %d failed, %d skipped, %.1f s" % (
            part, name, counts["OK"], counts["FAILED"], counts["SKIPPED"], time.monotonic() - start), flush=True)
        return counts["OK"], counts["FAILED"], counts["SKIPPED"]

    def fuzz(self, only, default_seconds=5):
        if not self.build("fuzz", [os.path.basename(s)[:-3] for s in fuzz_sources()]):
            return
        start = time.monotonic()
        seconds = int(os.environ.get("FUZZ_SECONDS", default_seconds))
        names = [os.path.basename(source)[:-3] for source in fuzz_sources()]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            wanted = [name for name in names if not only or name in only]
            passed = list(pool.map(lambda name: self.one_fuzz(name, seconds), wanted))
        self.part("fuzz", passed.count(True), passed.count(False), 0, time.monotonic() - start)

    @staticmethod
    def one_fuzz(name, seconds):
        binary = os.path.join(ROOT, "build", "fuzz", "bin", name)
        seeds = os.path.join(ROOT, "tests", "fuzz", "corpus", name)
        said = []

        def keep(line):
            said.append(line)
            return False
        # What it finds goes into the first folder, a passing one; the seeds are only read.
        with tempfile.TemporaryDirectory(prefix="coord-fuzz-") as found:
            status = run([binary, "-max_total_time=%d" % seconds, "-timeout=10", "-rss_limit_mb=2048",
                          "-print_funcs=0", "-artifact_prefix=/tmp/%s-" % name, found]
                         + ([seeds] if os.path.isdir(seeds) else []), seconds + 60, keep)
        runs = [line for line in said if line.startswith("Done ")]
        if status == 0 and runs:
            print("fuzz %s: %s" % (name, runs[-1]), flush=True)
            return True
        print("FAIL fuzz %s: exit status %s\n%s" % (name, status, "\n".join(said[-60:])), flush=True)
        return False

    def simulate(self, default_seeds, scope, mutants=True):
        """The named regressions, random ensembles of both layers, the small scope, and the mutants."""
        if not self.build("release", ["coord-sim", "coord-sim-mutants", "sim_test", "sim_replica_test"]):
            return
        start = time.monotonic()
        seeds = int(os.environ.get("SIM_SEEDS", default_seeds))
        folder = os.path.join(ROOT, "build", "release", "bin")
        passed = failed = skipped = 0
        for binary in ("sim_test", "sim_replica_test"):
            counts = self.one_gtest("sim", os.path.join(folder, binary))
            passed, failed, skipped = passed + counts[0], failed + counts[1], skipped + counts[2]
        said = []

        def look(line):
            said.append(line)
            return True
        whole = max(seeds // SIM_REPLICA_SHARE, 1)
        for count, what in ((seeds, ["--seeds", "1..%d" % seeds]),
                            (whole, ["--layer", "replica", "--seeds", "1..%d" % whole]),
                            (None, ["--small-scope", str(scope)])):
            said.clear()
            status = run([os.path.join(folder, "coord-sim"), "--jobs", str(os.cpu_count() or 1)] + what,
                         PART_DEADLINE["sim"], look)
            ran = [re.match(r"(\d+) seeds, (\d+) violations", line) for line in said]
            ran = [int(found.group(1)) for found in ran if found]
            if status == 0 and ran and ran[-1] == (count or ran[-1]):
                passed += ran[-1]
            else:
                failed += 1
                print("FAIL sim %s: exit status %s" % (" ".join(what), status), flush=True)
        if mutants:
            said.clear()
            run([sys.executable, os.path.join(ROOT, "tests", "sim", "mutants"),
                 os.path.join(folder, "coord-sim-mutants"), "--seeds", str(MUTANT_SEEDS)], PART_DEADLINE["sim"], look)
            found = sum(1 for line in said if ": found by seed" in line)
            missed = [line.split(":")[0] for line in said if ": NOT FOUND" in line]
            judged = re.match(r"(\d+) mutants, ", said[-1] if said else "")
            if not judged or int(judged.group(1)) != found + len(missed):
                failed += 1
                print("FAIL sim: the hunt for mutants did not come to its end", flush=True)
            passed += found
            failed += len([name for name in missed if name not in GUARDED_TWICE])
            skipped += len([name for name in missed if name in GUARDED_TWICE])
            if found < 20:
                failed += 1
                print("FAIL sim: %d mutants found, 20 or more are asked for" % found, flush=True)
        self.part("sim", passed, failed, skipped, time.monotonic() - start)

    def scripts(self, part, only, argv, env=None):
        """A runner that ends with a line of counts."""
        start = time.monotonic()
        last = [None]

        def look(line):
            counts = re.fullmatch(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?", line)
            if counts:
                last[0] = [int(n or 0) for n in counts.groups()]
                return False
            return True
        status = run([sys.executable] + argv + only, PART_DEADLINE.get(part, 600), look, env)
        passed, failed, skipped = last[0] or (0, 0, 0)
        if last[0] is None or (status != 0 and failed == 0):
            print("FAIL %s ended with status %s" % (part, status))
            failed += 1
        self.part(part, passed, failed, skipped, time.monotonic() - start)

    def end_to_end(self, part, only):
        if os.geteuid() != 0:
            print("FAIL %s mounts file systems and needs root: sudo tests/run %s" % (part, part))
            self.part(part, 0, 1, 0, 0)
            return
        if not self.build("release", []):
            return
        argv = [os.path.join(ROOT, "tests", "e2e", "runner.py")]
        env = dict(os.environ)
        if part == "soak":
            # The tests of the gate with the full figures, and the long runs that the gate has not.
            env["COORD_SOAK"] = "1"
            argv += ["--deadline-factor", "60", "--folder", os.path.join(ROOT, "tests", "e2e"), "--folder",
                     os.path.join(ROOT, "tests", "soak")]
        if part == "extended":
            argv += ["--folder", os.path.join(ROOT, "tests", "e2e", "extended")]
        self.scripts(part, only, argv, env)

    def each_file_alone(self):
        """The other presets compile files together, where one gets by with the includes of another."""
        start = time.monotonic()
        if self.build_wanted and self.build("debug", []):
            self.part("each file alone", 1, 0, 0, time.monotonic() - start)

    def run_part(self, part, only):
        if part == "tidy":
            self.scripts(part, only, [os.path.join(HERE, "tidy.py")])
        elif part == "unit":
            self.gtest(part, "release", only)
        elif part in ("asan", "tsan"):
            self.gtest(part, part, only)
        elif part == "fuzz":
            self.fuzz(only)
        elif part == "sim":
            self.simulate(SIM_SEEDS, SMALL_SCOPE)
        elif part == "soak" and not only:
            self.fuzz([], 300)
            os.environ["COORD_POWER_CUTS"] = "1000"
            self.gtest(part, "release", ["store_test"])
            self.simulate(SIM_SOAK_SEEDS, SMALL_SCOPE_SOAK, mutants=False)
            self.end_to_end(part, only)
        elif part == "extended" and not only:
            self.each_file_alone()
            self.end_to_end(part, only)
        else:
            self.end_to_end(part, only)


def fuzz_sources():
    return sorted(glob.glob(os.path.join(ROOT, "tests", "fuzz", "*_fuzz.cc")))


def main():
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(HELP)
        return 0
    build = True
    if arguments[:1] == ["--no-build"]:
        build = False
        arguments.pop(0)
    if arguments and arguments[0] not in GATE + ["extended", "soak"]:
        print("tests/run: no such part: %s\n%s" % (arguments[0], HELP), file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    start = time.monotonic()
    gate = Gate(build)
    if arguments:
        gate.run_part(arguments[0], arguments[1:])
    else:
        for part in GATE:
            if part == "fuzz" and not fuzz_sources():
                continue
            gate.run_part(part, [])
    print("\n" + "\n".join(gate.lines))
    print("total %.0f s" % (time.monotonic() - start))
    print("kernel: %s" % platform.release())
    print(gate.totals.text(), flush=True)
    return 1 if gate.totals.failed or gate.totals.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
