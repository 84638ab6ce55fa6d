"""A member that comes and goes, or is silent for a while, again and again: no change of leader, nothing lost."""

import os
import signal
import time

import zk
from lib import count, equal

BESIDE = 1
DEADLINE_ALL = count(180, 4200)


def test_flapping_member_disturbs_nobody(t):
    e = t.ensemble()
    epoch = e.epoch()
    flapping = e.followers()[0]
    end = time.monotonic() + count(60, int(60 * float(os.environ.get("COORD_SOAK_MINUTES", "60"))))
    c = zk.Raw(e.leader())
    c.create("/f", b"")
    n = 0
    while time.monotonic() < end:
        if n % 2:
            flapping.kill9()
            flapping.start(wait=False)
        else:
            os.kill(flapping.pid, signal.SIGSTOP)
            time.sleep(0.9)  # the length of its silence
            os.kill(flapping.pid, signal.SIGCONT)
        c.set("/f", b"%d" % n)
        n += 1
    equal(e.epoch(), epoch, "the leader's epoch after %d times" % n)
    e.wait()
    e.same_state()
