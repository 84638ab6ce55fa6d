"""The README's commands really work: every block marked ```console is run, line by line, in one shell.

Lines beginning with "$ " are commands; what follows up to the next command is what they print ("..." matches anything).
/coord, 127.0.0.1:2181 and build/release/bin stand for the test's own mount, port and programs.
"""

import os
import re

from lib import BIN, ROOT, Failure, bash, check

DEADLINE_ALL = 120


def blocks():
    with open(os.path.join(ROOT, "README.md")) as f:
        return re.findall(r"^```console\n(.*?)^```", f.read(), re.M | re.S)


def parse(block):
    """[(command, expected lines)]"""
    steps = []
    for line in block.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            check(steps, "a block begins with a command", block)
            steps[-1][1].append(line)
    return steps


def matches(pattern, text):
    quoted = "".join(".*" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", pattern))
    return re.fullmatch(quoted, text, re.S)


def test_console_blocks(t):
    check(blocks(), "the README has no console blocks")
    r = t.replica()
    m = t.mount(r)
    work = t.path("work")
    os.makedirs(work)
    for block in blocks():
        steps = parse(block)
        mark = "@@step@@"
        script = "cd %s; exec 2>&1\n" % work
        for command, _ in steps:
            command = command.replace("/coord/", m.path + "/").replace("127.0.0.1:2181", r.address)
            command = command.replace("build/release/bin", BIN)
            script += "%s\necho %s\n" % (command, mark)
        done = bash(script, ok=False, timeout=60)
        outputs = done.out.split(mark + "\n")
        check(len(outputs) == len(steps) + 1, "a command ended the shell", done.out)
        for (command, expected), output in zip(steps, outputs):
            output = output.replace(m.path + "/", "/coord/").replace(r.address, "127.0.0.1:2181").replace(
                BIN, "build/release/bin")
            if not matches("\n".join(expected), output.rstrip("\n")):
                raise Failure("README says\n$ %s\n%s\nbut it printed\n%s" % (command, "\n".join(expected), output))


def test_commands_of_the_text_exist(t):
    """`sudo systemd/quickstart`, `sudo tests/run PART`: the scripts and their parts are there."""
    with open(os.path.join(ROOT, "README.md")) as f:
        text = f.read()
    for script in re.findall(r"sudo ((?:systemd|tests)/\w+)", text):
        check(os.access(os.path.join(ROOT, script), os.X_OK), "%s is not executable" % script)
    parts = set(re.findall(r"tests/run ([a-z0-9]+)", text))
    check(parts, "the README names parts of tests/run")
    help_text = bash(os.path.join(ROOT, "tests", "run") + " --help").out
    for part in parts:
        check(re.search(r"^  %s " % part, help_text, re.M), "tests/run has no part %s" % part)
