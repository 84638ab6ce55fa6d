"""Writes of the largest size that may be configured, in an ensemble, with a member that has to catch up on them.

A leader is busy with one for some 120 ms (32 MiB, a core of 2023), a fifth of the time after which it is taken for
dead. What other tests and other people take of the processors must not decide this one: the limit is raised, as the
manual says. That a large message on its way is a sign of life is for TransportTest and the Heard tests.
"""

import zk
from lib import check, equal
from test_ensemble import sync_get


def test_the_largest_writes_depose_nobody(t):
    most = 32 << 20
    e = t.ensemble(config={"jute.maxbuffer": most, "coord.peerSyncLimit": 10})
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
