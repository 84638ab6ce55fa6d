"""Many kinds of users at once: nothing crashes, hangs or answers what it should not."""

import os
import subprocess
import threading
import time

from lib import check, count, equal, read, shows

SECONDS = count(12, 3600)
DEADLINE_ALL = 120

SCRIPTS = {
    "readers": 'while cat "$1/f" "$1/d/g" > /dev/null; do :; done',
    "writers": 'i=0; while echo "$i" > "$1/w"; do i=$((i + 1)); done',
    "appenders": 'while echo line >> "$1/log"; do :; done',
    "listers": 'while ls -l "$1" "$1/d" > /dev/null; do :; done',
    "holders": 'while exec 9> "$1/me@ephemeral+seq" && echo x >&9 && exec 9>&-; do :; done',
    "movers": 'while echo a > "$1/tmp.$$" && mv "$1/tmp.$$" "$1/moved"; do :; done',
    "makers": 'while mkdir "$1/dir.$$" && echo x > "$1/dir.$$/x" && rm -r "$1/dir.$$"; do :; done',
    "statters": 'while [ -e "$1/f" ]; do [ -e "$1/none" ]; [ -e "$1/d/g" ]; done',
    "exclusive": 'i=0; while (set -C; echo x > "$1/x.$$.$i"); do rm "$1/x.$$.$i"; i=$((i + 1)); done',
    "queuers": 'while echo job > "$1/q/job-@seq"; do :; done',
}


def test_everything_at_once(t):
    r = t.replica()
    mounts = [t.mount(r), t.mount(r)]
    client = t.kazoo(r)
    client.create("/f", b"data")
    for name in ("d", "q"):
        client.create("/" + name, None)
    client.create("/d/g", b"g")
    for m in mounts:
        shows(m.p("d", "g"), b"g")
    families = [sorted(m.family()) for m in mounts]
    daemons = [m.family()[1] for m in mounts]
    users = [(name, m, t.background("bash", "-c", script, "bash", m.path, stdout=subprocess.DEVNULL,
                                    stderr=open(t.path("%s%d.log" % (name, n)), "wb")))
             for name, script in SCRIPTS.items() for n, m in enumerate(mounts)]
    ended = threading.Event()

    def churn():
        number = 0
        while not ended.is_set():
            number += 1
            client.set("/f", b"%d" % number)
            client.create("/d/k%d" % number, b"x")
            if number > 50:
                client.delete("/d/k%d" % (number - 50))
    churning = threading.Thread(target=churn, daemon=True)
    churning.start()
    end = time.monotonic() + SECONDS
    # Two hosts may meet at the same name: a loser of such a race ends; everybody else goes on.
    racing = {"listers", "readers", "movers"}
    while time.monotonic() < end:
        for name, m, process in users:
            check(process.poll() is None or name in racing, "a user ended: %s, status %s" % (name, process.returncode))
        for m in mounts:
            check("ended by signal" not in m.log_text(), "a daemon crashed", m.log_text()[-3000:])
        time.sleep(0.2)  # the rhythm of looking
    ended.set()
    churning.join(20)
    check(not churning.is_alive(), "kazoo hangs")
    for _, _, process in users:
        process.kill()
        process.wait(10)
    equal([m.family()[1] for m in mounts], daemons, "the same daemons as before: %r" % families)
    for m in mounts:
        shows(m.p("f"), client.get("/f")[0])
        equal(sorted(n for n in os.listdir(m.p("d")) if n.startswith("k")),
              sorted(n for n in client.get_children("/d") if n.startswith("k")), "the same names")
        check(read(m.p("log")).replace(b"line\n", b"") == b"", "whole lines only")
    names = sorted(client.get_children("/q"))
    equal(names, ["job-%010d" % n for n in range(len(names))], "queue numbers without a gap")
