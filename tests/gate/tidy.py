#!/usr/bin/python3
"""Checks the repository itself: tidy.py [NAME...]. Each check is one test; a finding is `file:line: what`."""

import ast
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOP = {".ci", ".clang-format", ".clang-tidy", ".editorconfig", ".gitattributes", ".gitignore", "CMakeLists.txt",
       "CMakePresets.json", "LICENSE", "README.md", "CHANGELOG.md", "common", "fusefs", "replica", "systemd", "tests"}
LINE_MAX = 120
FILE_LINES_MAX = 700

# folder -> folders it may include from. Longest prefix wins; a folder may always include itself.
ARROWS = {
    "common/base": [],
    "common/model": ["common/base"],
    "common/wire": ["common/base", "common/model"],
    "common/client": ["common/base", "common/model", "common/wire"],
    "common/tools": ["common"],
    "replica/tree": ["common/base", "common/model", "common/wire"],
    "replica/zab": ["common/base", "common/model"],
    "replica/store": ["common/base", "common/model", "replica/zab", "replica/tree"],
    "replica/net": ["common/base", "common/model", "common/wire"],
    "replica/peers": ["common/base", "common/model", "common/wire", "replica/net", "replica/zab"],
    "replica": ["common", "replica"],
    "fusefs/names": ["common/base", "common/model"],
    # event.h is plain data: what a plan of ops asks the replay for.
    "fusefs/ops": ["common/base", "common/model", "common/wire", "fusefs/names", "fusefs/replay/event.h"],
    "fusefs/replay": ["common/base", "common/model", "fusefs/names"],
    "fusefs": ["common", "fusefs"],
    "tests": ["common", "replica", "fusefs", "tests"],
}

# A library may be included in these folders only, and by no header that another folder includes.
SHELLS = {
    r"boost/(asio|beast)": ["common/client", "replica/net", "replica/peers", "replica/runtime", "fusefs/kernel",
                            "tests"],
    r"spdlog/": ["common/base"],
    r"lmdb\.h": ["replica/store", "tests/replica/store"],
    r"(fuse3/)?fuse(_lowlevel|_opt|_common)?\.h": ["fusefs/kernel", "tests/fusefs/kernel"],
    r"systemd/": ["replica/runtime", "fusefs/kernel", "replica/main.cc", "fusefs/main.cc"],
    r"CLI/": ["common/tools", "replica/main.cc", "fusefs/main.cc", "tests/bench", "tests/history", "tests/sim"],
}

# Pure folders: no threads, sockets, files, clocks or randomness of their own.
PURE = ["common/model", "common/wire", "replica/tree", "replica/zab", "fusefs/names"]
IMPURE = re.compile(r"<(thread|fstream|filesystem|random|future|sys/(socket|stat)\.h|fcntl\.h|unistd\.h|netdb\.h)>")

MARKERS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")


def files(*suffixes):
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
    names = sorted(n for n in listed.decode().split("\0") if n and os.path.isfile(os.path.join(ROOT, n)))
    return [n for n in names if not suffixes or n.endswith(suffixes)]


def text(name):
    with open(os.path.join(ROOT, name), errors="replace") as f:
        return f.read()


def lines(name):
    return enumerate(text(name).split("\n"), 1)


def cpp():
    return files(".cc", ".h", ".h.in")


def includes(name):
    for number, line in lines(name):
        found = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if found:
            yield number, found.group(1), found.group(2)


def within(path, folder):
    return path == folder or path.startswith(folder + "/")


def longest(path, table):
    hits = [k for k in table if within(path, k)]
    return max(hits, key=len) if hits else None


def check_include_direction():
    found = []
    for name in cpp():
        home = longest(os.path.dirname(name) or name, ARROWS)
        if home is None:
            continue
        for number, _, target in includes(name):
            place = longest(os.path.dirname(target), ARROWS)
            if place is None or place == home or place in ("tests",):
                continue
            if within(target, os.path.dirname(name)):
                continue
            if not any(within(target, allowed) for allowed in ARROWS[home]):
                found.append("%s:%d: %s must not include %s" % (name, number, home, target))
    return found


def check_include_form():
    return ["%s:%d: include project files from the root, in quotes: %s" % (name, number, target)
            for name in cpp() for number, mark, target in includes(name)
            if (mark == '"') != (target.split("/")[0] in ("common", "replica", "fusefs", "tests"))]


def check_shell_includes():
    found = []
    tainted = {}
    for name in cpp():
        for number, _, target in includes(name):
            for pattern, folders in SHELLS.items():
                if re.match(pattern, target) and not re.match(r"spdlog/(fwd\.h|fmt/)", target):
                    if not any(within(name, f) for f in folders):
                        found.append("%s:%d: %s belongs into %s" % (name, number, target, ", ".join(folders)))
                    if name.endswith(".h"):
                        tainted[name] = (target, folders)
    for name in cpp():
        for number, _, target in includes(name):
            own = os.path.dirname(name).replace("tests/", "", 1)  # the tests of a folder are its own
            if target not in tainted or os.path.dirname(target) == own:
                continue
            brought, folders = tainted[target]
            if not any(within(own + "/x", f) for f in folders):
                found.append("%s:%d: %s brings %s out of its folder" % (name, number, target, brought))
    return found


def check_pure_folders():
    return ["%s:%d: %s in a folder of pure rules" % (name, number, "<%s>" % target)
            for name in cpp() if any(within(name, p) for p in PURE)
            for number, mark, target in includes(name) if mark == "<" and IMPURE.match("<%s>" % target)]


def check_no_await_in_conditions():
    """g++ 12 miscompiles awaits inside the condition of if, while or switch: await into a named local first."""
    found = []
    for name in cpp():
        source = text(name)
        for start in re.finditer(r"\b(if|while|switch)\s*(constexpr\s*)?\(", source):
            depth, at = 1, start.end()
            while at < len(source) and depth:
                depth += {"(": 1, ")": -1}.get(source[at], 0)
                at += 1
            if re.search(r"\bco_await\b", source[start.end():at]):
                found.append("%s:%d: await inside a condition" % (name, source.count("\n", 0, start.start()) + 1))
    return found


def check_line_length():
    return ["%s:%d: %d columns" % (name, number, len(line))
            for name in files(".cc", ".h", ".py", ".md", "CMakeLists.txt") for number, line in lines(name)
            if len(line) > LINE_MAX and not (name.endswith(".md") and ("|" in line or "http" in line))]


def check_white_space():
    found = []
    for name in files(".cc", ".h", ".py", "CMakeLists.txt", ".md"):
        whole = text(name)
        found += ["%s:%d: tab or trailing blank" % (name, number) for number, line in lines(name)
                  if line != line.rstrip() or "\t" in line]
        if whole and not whole.endswith("\n"):
            found.append("%s: no newline at the end" % name)
    return found


def check_no_leftover_markers():
    return ["%s:%d: %s" % (name, number, line.strip()[:80])
            for name in files() if name != "LICENSE" for number, line in lines(name) if MARKERS.search(line)]


def check_file_length():
    return ["%s: %d lines, two subjects?" % (name, text(name).count("\n"))
            for name in files(".cc", ".h", ".py") if text(name).count("\n") > FILE_LINES_MAX]


def check_top_level():
    return ["%s at the top level" % entry for entry in sorted({n.split("/")[0] for n in files()}) if entry not in TOP]


def check_no_disabled_tests():
    """No switched-off test; a skip says what it needs; a sleep longer than a poll's says why it is no wait."""
    sleep = re.compile(r"sleep_for\(.*(\b\d{3,}|[2-9]\d|\bseconds\(\d)|\busleep\(\d+'?\d{3}'?\d*\)|\bsleep\(\d")
    found = []
    for name in cpp():
        if not within(name, "tests") or within(name, "tests/bench"):
            continue
        for number, line in lines(name):
            if re.search(r"\bDISABLED_|GTEST_SKIP\(\);", line) or (sleep.search(line) and "//" not in line):
                found.append("%s:%d: %s" % (name, number, line.strip()[:80]))
    return found


def check_pragma_once():
    return ["%s: no #pragma once" % name for name in files(".h") if "#pragma once" not in text(name)]


def check_python_and_shell_parse():
    found = []
    for name in files():
        first = text(name).split("\n", 1)[0] if not name.endswith((".cc", ".h")) else ""
        if name.endswith(".py") or (first.startswith("#!") and "python" in first):
            try:
                ast.parse(text(name), name)
            except SyntaxError as error:
                found.append("%s:%s: %s" % (name, error.lineno, error.msg))
        elif name.endswith(".sh") or (first.startswith("#!") and re.search(r"\b(ba|da)?sh\b", first)):
            done = subprocess.run(["bash", "-n", os.path.join(ROOT, name)], stdin=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, check=False)
            if done.returncode:
                found.append("%s: %s" % (name, done.stderr.decode().strip()))
        if first.startswith("#!") and not os.access(os.path.join(ROOT, name), os.X_OK):
            found.append("%s: has an interpreter line but is not executable" % name)
    return found


def check_readme_names_what_exists():
    """Paths in the README that look like our own must exist, or be built."""
    found = []
    built = {"build/release/bin/" + n for n in ("coordd", "coordfs", "coordctl")}
    ours = re.compile(r"(?<![\w/.:-])((?:\.ci|systemd|tests|common|replica|fusefs|build/release)/[\w./@-]*\w)")
    for number, line in lines("README.md"):
        for path in ours.findall(line):
            if path not in built and not path.startswith("build/") and not os.path.exists(os.path.join(ROOT, path)):
                if not os.path.exists(os.path.join(ROOT, path.split("/")[0], path.split("/", 1)[1].rstrip("/"))):
                    found.append("README.md:%d: %s does not exist" % (number, path))
    return found


def check_known_failures_have_their_tests():
    """Each row of the table names tests that exist, or says why it cannot occur; each test of one is in the table."""
    table = "tests/sim/KNOWN_FAILURES.md"
    found, named = [], set()
    for number, line in lines(table):
        tests = re.findall(r"`(\w+)\.(\w+)` in `([\w/.]+)`", line)
        if re.match(r"\| \d", line) and not tests and "cannot occur" not in line:
            found.append("%s:%d: neither a test nor a reason" % (table, number))
        for suite, test, name in tests:
            named.add(test)
            there = os.path.exists(os.path.join(ROOT, name))
            if not there or not re.search(r"\bTEST(_F|_P)?\(%s, %s\)" % (suite, test), text(name)):
                found.append("%s:%d: there is no %s.%s in %s" % (table, number, suite, test, name))
    for name in files("_test.cc"):
        for number, line in lines(name):
            test = re.match(r"TEST(_F|_P)?\(\w+, (Zk\d\w*)\)", line)
            if test and test.group(2) not in named:
                found.append("%s:%d: %s is not in %s" % (name, number, test.group(2), table))
    return found


def check_packages_are_named_once():
    names = [line.split()[1] for _, line in lines("systemd/packages") if line and not line.startswith("#")]
    found = ["systemd/packages: %s twice" % n for n in sorted(set(names)) if names.count(n) > 1]
    found += ["systemd/packages: %s is 1.74 on Debian 12 and removes libboost1.81-dev" % n for n in names
              if n.startswith("libboost") and not n.startswith("libboost1.81")]
    return found


def main():
    wanted = sys.argv[1:]
    checks = {n[6:]: f for n, f in globals().items() if n.startswith("check_") and callable(f)}
    passed = failed = 0
    for name in wanted:
        if name not in checks:
            print("FAIL tidy: no such check: %s" % name)
            failed += 1
    for name, action in checks.items():
        if wanted and name not in wanted:
            continue
        findings = action()
        if findings:
            failed += 1
            print("FAIL tidy %s\n    %s" % (name, "\n    ".join(findings[:40])))
        else:
            passed += 1
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
