"""Client protocol, section 9: multi and multiRead."""

import protocol
import zk
from lib import check, equal
from zk import acls, buf, create_body, flag, i32, i64, ustr


def shared(t):
    return protocol.replica(t)


def start(t):
    c = protocol.client(t)
    return c, protocol.home(t, c)


def create(path, **how):
    return zk.CREATE, create_body(path, **how)


def delete(path, version=-1):
    return zk.DELETE, ustr(path) + i32(version)


def set_(path, data, version=-1):
    return zk.SET, ustr(path) + buf(data) + i32(version)


def check_(path, version):
    return zk.CHECK, ustr(path) + i32(version)


def test_failed_multi_shape(t):
    """18.4: header err 0 and N error results: 0 before the culprit, its code, -2 behind it."""
    c, home = start(t)
    got = c.ok(zk.MULTI, zk.multi_body([create(home + "/a"), set_(home + "/none", b""), create(home + "/b"),
                                         delete(home + "/a")]))
    equal(zk.read_multi(got.body), [(-1, 0, 0), (-1, zk.NO_NODE, zk.NO_NODE), (-1, -2, -2), (-1, -2, -2)], "results")
    equal(c.children(home), [], "nothing was applied")
    results = c.multi([create(home), create(home + "/b")])
    equal([r[2] for r in results], [zk.NODE_EXISTS, -2], "culprit first")


def test_result_types(t):
    """18.5: create2, container and TTL answer with type 15, create with type 1."""
    c, home = start(t)
    results = c.multi([create(home + "/1"), (zk.CREATE2, create_body(home + "/15")),
                       (zk.CREATE_CONTAINER, create_body(home + "/19", flags=zk.CONTAINER)),
                       (zk.CREATE_TTL, create_body(home + "/21", flags=zk.TTL) + i64(60000)),
                       set_(home + "/1", b"x"), check_(home + "/1", 1), delete(home + "/1")])
    equal([r[0] for r in results], [1, 15, 15, 15, 5, 13, 2], "types")
    equal([r[1] for r in results], [0] * 7, "header errors")
    equal([results[0][2], results[1][2][0], results[2][2][0], results[3][2][0]],
          [home + "/1", home + "/15", home + "/19", home + "/21"], "paths")
    equal(results[1][2][1], c.stat(home + "/15"), "Stat of create2")
    equal((results[4][2].version, results[4][2].data_length), (1, 1), "Stat right after that op")


def test_later_ops_see_earlier_ones(t):
    """18.6: create + check(0) + set + check(1) + delete in one multi."""
    c, home = start(t)
    path = home + "/x"
    results = c.multi([create(path), check_(path, 0), set_(path, b"", 0), check_(path, 1), delete(path, 1)])
    equal([r[0] for r in results], [1, 13, 5, 13, 2], "types")
    check(c.stat(path) is None, "deleted")
    results = c.multi([create(path), create(path + "/c"), delete(path)])
    equal([r[2] for r in results], [0, 0, zk.NOT_EMPTY], "emptiness is seen")
    results = c.multi([create(path, flags=zk.EPHEMERAL), create(path + "/c")])
    equal([r[2] for r in results], [0, zk.NO_CHILDREN_FOR_EPHEMERALS], "an ephemeral parent is seen")


def test_acl_set_by_earlier_op_is_seen(t):
    c, home = start(t)
    results = c.multi([create(home + "/p", acl=[(zk.PERM_READ, "world", "anyone")]), create(home + "/p/c")])
    equal([r[2] for r in results], [0, zk.NO_AUTH], "the ACL of a parent made in the same multi counts")


def test_failed_multi_does_not_advance_the_counter(t):
    """18.7."""
    c, home = start(t)
    c.create(home + "/s", flags=zk.SEQ)
    before = c.stat(home)
    c.multi([create(home + "/s", flags=zk.SEQ), create(home + "/t", flags=zk.SEQ), check_(home, 99)])
    equal(c.stat(home), before, "no trace")
    equal(c.create(home + "/s", flags=zk.SEQ), home + "/s0000000001", "no gap")


def test_sequence_within_a_multi(t):
    c, home = start(t)
    results = c.multi([create(home + "/s", flags=zk.SEQ), create(home + "/plain"), create(home + "/s", flags=zk.SEQ)])
    equal([r[2] for r in results], [home + "/s0000000000", home + "/plain", home + "/s0000000002"], "names")


def test_failed_multi_consumes_a_zxid(t):
    c, home = start(t)
    before = c.zxid
    failed = c.ok(zk.MULTI, zk.multi_body([check_(home, 99)])).zxid
    check(before < failed < c.ok(zk.CREATE, create_body(home + "/n")).zxid, "zxids")


def test_pipelined_behind_a_failed_multi(t):
    """Outstanding changes of a failed multi are rolled back for the requests behind it."""
    c, home = start(t)
    xids = []
    for _ in range(50):
        xids.append((c.post(zk.MULTI, zk.multi_body([create(home + "/r"), create(home + "/s", flags=zk.SEQ),
                                                     check_(home, 99)])), None))
        xids.append((c.post(zk.EXISTS, ustr(home + "/r") + flag(False)), zk.NO_NODE))
        xids.append((c.post(zk.SET, ustr(home + "/r") + buf(b"") + i32(-1)), zk.NO_NODE))
    for xid, err in xids:
        got = c.reply(xid)
        if err is not None:
            equal(got.err, err, "behind a failed multi")
    equal(c.create(home + "/s", flags=zk.SEQ), home + "/s0000000000", "counter")


def test_one_time_and_zxid_per_multi(t):
    """18.46."""
    c, home = start(t)
    results = c.multi([(zk.CREATE2, create_body("%s/%d" % (home, n))) for n in range(20)])
    stats = [r[2][1] for r in results]
    equal(len({(s.czxid, s.ctime, s.mzxid) for s in stats}), 1, "czxid, ctime, mzxid")
    equal(c.zxid, stats[0].czxid, "the reply's zxid")
    equal(c.stat(home).pzxid, stats[0].czxid, "pzxid of the parent")


def test_empty_multi(t):
    c, _ = start(t)
    equal(c.ok(zk.MULTI, zk.multi_body([])).body, i32(-1) + b"\1" + i32(-1), "just the terminator")


def test_foreign_ops_in_multi(t):
    """Section 9: mixed or foreign ops -> header err -5, nothing applied."""
    c, home = start(t)
    for op, body in ((zk.SET_ACL, ustr(home) + acls(zk.ANYONE) + i32(-1)), (zk.EXISTS, ustr(home) + flag(False)),
                     (zk.DELETE_CONTAINER, ustr(home)), (zk.GET, ustr(home) + flag(False)),
                     (zk.CHILDREN, ustr(home) + flag(False)), (zk.MULTI, zk.multi_body([])), (99, b"")):
        c.refused(zk.MARSHALLING, zk.MULTI, zk.multi_body([create(home + "/x"), (op, body)]), "multi with op %d:" % op)
    equal(c.children(home), [], "nothing was applied")


def test_kafka_registration(t):
    """Section 17.4: multi[create ephemeral with null data, setData v0]: czxid comes in the second result's Stat."""
    c, home = start(t)
    results = c.multi([create(home + "/broker", data=None, flags=zk.EPHEMERAL), set_(home + "/broker", b"me", 0)])
    stat = results[1][2]
    equal((stat.czxid, stat.version, stat.ephemeral_owner), (c.zxid, 1, c.session), "Stat of the set")


def test_kafka_fencing(t):
    """Section 17.4: multi[check(epoch, v), op]: BadVersion in result 0."""
    c, home = start(t)
    c.set(home, b"1")
    results = c.multi([check_(home, 0), create(home + "/x")])
    equal([r[2] for r in results], [zk.BAD_VERSION, -2], "results")
    equal(c.multi([check_(home, 1), create(home + "/x")])[1][2], home + "/x", "right version")


def test_multi_read(t):
    """Section 9: each op independent; failing ones answer their code; header err 0."""
    c, home = start(t)
    c.create(home + "/a", b"data")
    c.create(home + "/null", None)
    got = c.ok(zk.MULTI_READ, zk.multi_body([
        (zk.GET, ustr(home + "/a") + flag(True)), (zk.GET, ustr(home + "/none") + flag(False)),
        (zk.CHILDREN, ustr(home) + flag(True)), (zk.GET, ustr(home + "/null") + flag(False))]))
    results = zk.read_multi(got.body)
    equal(results[0], (zk.GET, 0, (b"data", c.stat(home + "/a"))), "getData")
    equal(results[1], (-1, zk.NO_NODE, zk.NO_NODE), "missing node")
    equal((results[2][0], sorted(results[2][2])), (zk.CHILDREN, ["a", "null"]), "getChildren")
    equal(results[3][2][0], None, "null data")
    protocol.client(t).set(home + "/a", b"x")
    c.no_event()
    c.refused(zk.MARSHALLING, zk.MULTI_READ, zk.multi_body([create(home + "/b")]), "a write in multiRead:")
    check(c.stat(home + "/b") is None, "not created")


def test_big_multi(t):
    c, home = start(t)
    results = c.multi([create("%s/%04d" % (home, n), data=b"d" * 100) for n in range(2000)])
    equal(len(results), 2000, "results")
    equal(len(c.children(home)), 2000, "children")
    results = c.multi([delete("%s/%04d" % (home, n)) for n in range(2000)] + [check_(home, 5)])
    equal((len(results), results[0][2], results[-1][2]), (2001, 0, zk.BAD_VERSION), "a big rollback")
    equal(len(c.children(home)), 2000, "children after the rollback")


def test_multi_survives_kill(t):
    """All or nothing, also over kill -9."""
    r = protocol.replica(t)
    c = zk.Raw(r)
    c.create("/m")
    done = 0
    for number in range(30):
        c.multi([create("/m/%d" % number), create("/m/%d/a" % number), set_("/m", b"%d" % number)])
        done = number
    c.post(zk.MULTI, zk.multi_body([create("/m/last"), create("/m/last/a"), set_("/m", b"last")]))
    r.kill9()
    r.restart()
    c = zk.Raw(r)
    names = c.children("/m")
    check(len(set(names) - {"last"}) == done + 1, "acknowledged multis", names)
    for name in names:
        equal(c.children("/m/" + name), ["a"], "both halves of multi %s" % name)
    equal(c.get("/m")[0], b"last" if "last" in names else b"29", "data")
