"""Writes of the largest size that may be configured: their cost is no silence. A leader is busy with one for about 120 ms
(32 MiB, 2 cores of 2023), a fifth of the time after which it is taken for dead: so no other test runs beside this one.
"""

import zk
from lib import check, equal
from test_ensemble import sync_get

ALONE = True


def test_the_largest_writes_depose_nobody(t):
    most = 32 << 20
    e = t.ensemble(config={"jute.maxbuffer": most})
    e.enrolled()
    leader, away = e.leader(), e.followers()[0]
    epoch = e.epoch()
    at_leader, at_follower = (zk.Raw(r, timeout=40000, seconds=60) for r in (leader, away))
    at_leader.create("/large", b"")
    for n in range(3):
        at_leader.set("/large", b"%d" % n * (most - 100))
        at_follower.set("/large", b"%d" % n * (most - 100))
    away.kill9()
    for n in range(6):
        at_leader.set("/large", b"%d" % n * (most - 100))
    away.restart()
    equal(len(sync_get(away, "/large")), most - 100, "it has caught up")
    e.same_state()
    equal(e.epoch(), epoch, "nobody was deposed")
    for replica in e.replicas:
        check("was heard of" not in replica.log_text(), "nobody was taken for dead", replica.number)
