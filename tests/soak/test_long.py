"""The long run: load from clients and through a mount while daemons are killed at random, for COORD_SOAK_MINUTES."""

import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))
import history  # noqa: E402
import zk  # noqa: E402
from lib import check, read, save, until  # noqa: E402
from test_kill_mount import fuse_daemons  # noqa: E402

MINUTES = float(os.environ.get("COORD_SOAK_MINUTES", "60"))
DEADLINE_ALL = int(MINUTES * 2) + 10  # the soak part multiplies by 60


def memory_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int([line for line in f if line.startswith("VmRSS:")][0].split()[1])


def works(m, value):
    try:
        save(m.p("probe"), value)
        return read(m.p("probe")) == value
    except OSError:
        return False


def test_kills_at_random_under_load(t):
    r = t.replica()
    m = t.mount(r)
    writers = history.prepare(r)
    for w in writers:
        w.start()
    seed = random.randrange(2 ** 32)
    dice = random.Random(seed)
    end, kills, peak = time.monotonic() + MINUTES * 60, 0, 0
    while time.monotonic() < end:
        goal = sum(w.acked_set for w in writers) + dice.randrange(1, 5000)
        until(lambda: sum(w.acked_set for w in writers) >= goal or any(w.error for w in writers), 60,
              "seed %d: progress after %d kills" % (seed, kills))
        peak = max(peak, memory_kib(r.pid))
        if dice.random() < 0.7:
            r.kill9()
            r.restart()
            history.judge(r, writers, settled=False)
        else:
            for pid in fuse_daemons(m):
                os.kill(pid, dice.choice((signal.SIGKILL, signal.SIGSTOP)))
        kills += 1
        until(lambda: works(m, b"%d" % kills), 40, "seed %d: the mount works after kill %d" % (seed, kills))
    for w in writers:
        w.ended.set()
    for w in writers:
        w.join(30)
    history.judge(r, writers, settled=True)
    nodes = zk.Raw(r, seconds=30).stat("/load").num_children
    print("minutes %.0f, kills %d, acknowledged sets %d, nodes %d, peak RSS %d KiB" % (
        MINUTES, kills, sum(w.acked_set for w in writers), nodes, peak))
    check(kills > 0, "nothing was killed")
