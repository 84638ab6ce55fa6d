"""Client protocol, sections 3 and 6: Stat, versions, sequence numbers, containers, TTL, precedence of errors."""

import struct

import protocol
import zk
from lib import check, equal, until
from zk import buf, create_body, flag, i32, i64, ustr


def shared(t):
    return protocol.replica(t)


def ttl_body(path, ttl, flags=zk.TTL):
    return create_body(path, flags=flags) + i64(ttl)


def test_fresh_tree(t):
    """18.47 and section 6: the bootstrap stats of / and /zookeeper; ls / is [zookeeper]; Node count: 5."""
    r = protocol.replica(t)
    check(b"Node count: 5" in r.four("srvr"), "node count of a fresh server", r.four("srvr"))
    c = zk.Raw(r)
    root = c.stat("/")
    equal((root.czxid, root.mzxid, root.ctime, root.mtime, root.version, root.cversion, root.aversion,
           root.num_children), (0, 0, 0, 0, 0, -1, 0, 1), "stat of /")
    zookeeper = c.stat("/zookeeper")
    equal((zookeeper.cversion, zookeeper.num_children), (-2, 2), "stat of /zookeeper")
    equal(c.children("/"), ["zookeeper"], "ls /")
    equal(c.children("/zookeeper"), ["config", "quota"], "ls /zookeeper")
    equal(c.get("/zookeeper/config")[1].aversion, -1, "aversion of /zookeeper/config")
    c.create("/x")
    equal(c.stat("/").cversion, 0, "cversion of / after the first create")


def test_suffix_counts_creates_and_cversion_changes(t):
    """18.1: child p created and deleted, then s sequential: suffix 1, cversion 3, one child."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    c.create(home + "/p")
    c.delete(home + "/p")
    equal(c.create(home + "/s", flags=zk.SEQ), home + "/s0000000001", "name")
    stat = c.stat(home)
    equal((stat.cversion, stat.num_children), (3, 1), "cversion and numChildren")


def test_sequence_numbers(t):
    """Section 6: every child counts, numbers are never reused, names may be empty."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    equal([c.create(home + "/" + n, flags=zk.SEQ) for n in ("a", "a", "")],
          [home + "/a0000000000", home + "/a0000000001", home + "/0000000002"], "names")
    c.delete(home + "/a0000000001")
    c.create(home + "/plain")
    equal(c.create(home + "/a", flags=zk.EPHEMERAL_SEQ), home + "/a0000000004", "after a delete and a plain child")
    xids = [c.post(zk.CREATE, create_body(home + "/q", flags=zk.SEQ)) for _ in range(100)]
    names = [zk.Cursor(c.reply(x).body).ustr() for x in xids]
    equal(names, ["%s/q%010d" % (home, n) for n in range(5, 105)], "pipelined sequence numbers")


def test_delete_moves_pzxid_and_cversion(t):
    """18.2: parent's pzxid = the delete's zxid, cversion +1, version and mzxid unchanged."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    c.create(home + "/child")
    before = c.stat(home)
    zxid = c.ok(zk.DELETE, ustr(home + "/child") + i32(-1)).zxid
    after = c.stat(home)
    equal(after, before._replace(pzxid=zxid, cversion=before.cversion + 1, num_children=0), "stat of the parent")


def test_failed_writes_consume_a_zxid(t):
    """18.3."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    read = c.ok(zk.EXISTS, ustr(home) + flag(False)).zxid
    refused = c.refused(zk.NODE_EXISTS, zk.CREATE, create_body(home)).zxid
    good = c.ok(zk.CREATE, create_body(home + "/x")).zxid
    check(read < refused < good, "zxids of read, refused write, write", read, refused, good)


def test_stat_of_create_set_and_children(t):
    """Section 6, field by field."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    made = c.ok(zk.CREATE2, create_body(home + "/n", b"12345"))
    cursor = zk.Cursor(made.body)
    equal(cursor.ustr(), home + "/n", "path")
    stat = cursor.stat()
    cursor.end()
    equal(c.get(home + "/n")[1], stat, "the Stat of create2 equals a following get")
    equal((stat.czxid, stat.mzxid, stat.pzxid, stat.version, stat.cversion, stat.aversion, stat.ephemeral_owner,
           stat.data_length, stat.num_children), (made.zxid,) * 3 + (0, 0, 0, 0, 5, 0), "create")
    check(stat.ctime == stat.mtime and stat.ctime > 1_600_000_000_000, "times are milliseconds since 1970", stat)
    got = c.ok(zk.SET, ustr(home + "/n") + buf(b"123") + i32(0))
    after = zk.Cursor(got.body).stat()
    equal(after, stat._replace(mzxid=got.zxid, mtime=after.mtime, version=1, data_length=3), "set")
    check(after.mtime >= stat.mtime, "mtime does not go back")
    equal(c.get(home + "/n"), (b"123", after), "get after set")
    same = c.set(home + "/n", b"123")
    equal(same.version, 2, "a set of identical data counts")
    child = c.ok(zk.CREATE, create_body(home + "/n/c"))
    equal(c.stat(home + "/n"), same._replace(pzxid=child.zxid, cversion=1, num_children=1), "a child was created")
    c.set(home + "/n/c", b"x")
    equal(c.stat(home + "/n").pzxid, child.zxid, "pzxid does not move with a child's data")


def test_set_acl_changes_aversion_only(t):
    """18.31."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    before = c.stat(home, watch=True)
    got = c.ok(zk.SET_ACL, ustr(home) + zk.acls([(31, "world", "anyone")]) + i32(0))
    check(not got.events, "no watch fires", got.events)
    equal(zk.Cursor(got.body).stat(), before._replace(aversion=1), "Stat of setACL")
    equal(c.stat(home), before._replace(aversion=1), "Stat afterwards")
    c.no_event()
    c.refused(zk.BAD_VERSION, zk.SET_ACL, ustr(home) + zk.acls(zk.ANYONE) + i32(0))


def test_null_and_empty_data(t):
    """18.20: null is length -1, empty 0; dataLength 0 for both; on create and on set."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    for name, data in (("null", None), ("empty", b"")):
        path = home + "/" + name
        c.create(path, data)
        got, stat = c.get(path)
        equal((got, stat.data_length), (data, 0), name)
        c.set(path, b"x")
        c.set(path, data)
        equal(c.get(path)[0], data, "set of %s" % name)


def test_null_and_empty_survive_restart(t):
    r = protocol.replica(t)
    c = zk.Raw(r)
    c.create("/null", None)
    c.create("/empty", b"")
    c.create("/full", b"\0\xff" * 300000)
    stats = [c.stat(p) for p in ("/null", "/empty", "/full", "/")]
    r.kill9()
    r.restart()
    c = zk.Raw(r)
    equal([c.get(p)[0] for p in ("/null", "/empty", "/full")], [None, b"", b"\0\xff" * 300000], "data")
    equal([c.stat(p) for p in ("/null", "/empty", "/full", "/")], stats, "Stat, to the bit")


def test_versions(t):
    """Section 3.2: -1 skips the check; a wrong version is -103 and changes nothing."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    c.refused(zk.BAD_VERSION, zk.SET, ustr(home) + buf(b"x") + i32(1))
    c.refused(zk.BAD_VERSION, zk.SET, ustr(home) + buf(b"x") + i32(-2))
    equal(c.set(home, b"x", 0).version, 1, "version 0")
    equal(c.set(home, b"y", -1).version, 2, "version -1")
    c.refused(zk.BAD_VERSION, zk.DELETE, ustr(home) + i32(0))
    c.delete(home, 2)
    check(c.stat(home) is None, "deleted")


def test_delete_precedence(t):
    """18.45: a wrong version on a non-empty node -103, the right one -111; missing -101."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    c.create(home + "/child")
    c.refused(zk.BAD_VERSION, zk.DELETE, ustr(home) + i32(7))
    c.refused(zk.NOT_EMPTY, zk.DELETE, ustr(home) + i32(0))
    c.refused(zk.NO_NODE, zk.DELETE, ustr(home + "/none") + i32(7))
    c.refused(zk.NO_NODE, zk.DELETE, ustr(home + "/none/below") + i32(-1))
    c.refused(zk.BAD_ARGUMENTS, zk.DELETE, ustr("noslash") + i32(-1))
    c.refused(zk.BAD_ARGUMENTS, zk.DELETE, ustr(home + "/a\0b") + i32(-1))


def test_system_nodes_cannot_be_deleted(t):
    """18.24: also not by super."""
    c = protocol.client(t)
    for round_ in ("ordinary", "super"):
        for path in ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"):
            c.refused(zk.BAD_ARGUMENTS, zk.DELETE, ustr(path) + i32(-1), round_ + " delete of " + path)
        equal(c.auth("digest", b"super:test").err, 0, "super")


def test_create_precedence(t):
    """Section 3.1, top to bottom: each refusal hides the ones after it."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    bad_acl = [(31, "nosuchscheme", "x")]
    c.refused(zk.BAD_ARGUMENTS, zk.CREATE, create_body("noslash", acl=bad_acl, flags=99), "flags first")
    c.refused(zk.BAD_ARGUMENTS, zk.CREATE, create_body("noslash", acl=bad_acl), "path without slash before ACL")
    c.refused(zk.INVALID_ACL, zk.CREATE, create_body("/none/x", acl=bad_acl), "ACL before parent")
    c.refused(zk.INVALID_ACL, zk.CREATE, create_body("/none/x", acl=[]), "empty ACL before parent")
    c.refused(zk.NO_NODE, zk.CREATE, create_body("/none/x\x01"), "parent before path rules")
    c.create(home + "/e", flags=zk.EPHEMERAL)
    c.refused(zk.BAD_ARGUMENTS, zk.CREATE, create_body(home + "/e/x\x01"), "path rules before ephemeral parent")
    c.refused(zk.NO_CHILDREN_FOR_EPHEMERALS, zk.CREATE, create_body(home + "/e/x"), "child of an ephemeral")
    c.refused(zk.NO_CHILDREN_FOR_EPHEMERALS, zk.CREATE, create_body(home + "/e/x", flags=zk.EPHEMERAL))
    c.refused(zk.NODE_EXISTS, zk.CREATE, create_body(home + "/e"), "exists")


def test_set_precedence(t):
    c = protocol.client(t)
    home = protocol.home(t, c)
    c.refused(zk.BAD_ARGUMENTS, zk.SET, ustr("/none//x") + buf(b"") + i32(9))
    c.refused(zk.NO_NODE, zk.SET, ustr("/none") + buf(b"") + i32(9))
    c.refused(zk.BAD_ARGUMENTS, zk.SET_ACL, ustr("/none//x") + zk.acls([]) + i32(9))
    c.refused(zk.INVALID_ACL, zk.SET_ACL, ustr("/none") + zk.acls([]) + i32(9))
    c.refused(zk.NO_NODE, zk.SET_ACL, ustr("/none") + zk.acls(zk.ANYONE) + i32(9))
    c.refused(zk.BAD_VERSION, zk.SET_ACL, ustr(home) + zk.acls(zk.ANYONE) + i32(9))


def test_ephemerals(t):
    """Owner, no children, gone with the session, getEphemerals by raw prefix (18.36)."""
    c, other = protocol.client(t), protocol.client(t)
    home = protocol.home(t, other)
    for name in ("a", "ab", "b"):
        c.create("%s/%s" % (home, name), flags=zk.EPHEMERAL)
    other.create(home + "/foreign", flags=zk.EPHEMERAL)
    equal(other.stat(home + "/a").ephemeral_owner, c.session, "owner")

    def ephemerals(raw, prefix):
        cursor = zk.Cursor(raw.ok(zk.GET_EPHEMERALS, ustr(prefix) if prefix is not None else i32(-1)).body)
        return sorted(cursor.strings())
    mine = [home + "/a", home + "/ab", home + "/b"]
    equal([ephemerals(c, p) for p in ("/", "", None)], [mine] * 3, "all of the session")
    equal(ephemerals(c, home + "/a"), mine[:2], "raw prefix")
    equal(ephemerals(other, home), [home + "/foreign"], "session-scoped")
    c.close()
    equal(other.children(home), ["foreign"], "gone with the session")


def test_all_children_number(t):
    """18.36: counts descendants; / is all nodes minus the root."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    for path in ("/a", "/a/b", "/a/b/c", "/ab"):
        c.create(home + path)

    def total(path):
        return struct.unpack(">i", c.ok(zk.ALL_CHILDREN, ustr(path)).body)[0]
    equal([total(home), total(home + "/a"), total(home + "/ab")], [4, 2, 0], "descendants")
    c.refused(zk.NO_NODE, zk.ALL_CHILDREN, ustr(home + "/none"))
    nodes = int([line for line in t.shared.four("srvr").decode().splitlines() if "Node count" in line][0].split()[-1])
    # The node count counts the root twice, the total leaves it out.
    equal(total("/"), nodes - 2, "getAllChildrenNumber of /")


def test_get_children2_and_stat(t):
    c = protocol.client(t)
    home = protocol.home(t, c)
    c.create(home + "/x")
    cursor = zk.Cursor(c.ok(zk.CHILDREN2, ustr(home) + flag(False)).body)
    equal(cursor.strings(), ["x"], "children")
    equal(cursor.stat(), c.stat(home), "Stat")
    cursor.end()
    c.refused(zk.NO_NODE, zk.CHILDREN2, ustr(home + "/none") + flag(False))


def test_containers(t):
    """18.21: ephemeralOwner 0, children allowed; op 1 with flags 4 must be accepted."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    cursor = zk.Cursor(c.ok(zk.CREATE_CONTAINER, create_body(home + "/c", flags=zk.CONTAINER)).body)
    equal(cursor.ustr(), home + "/c", "name")
    equal(cursor.stat().ephemeral_owner, 0, "ephemeralOwner of a container")
    c.create(home + "/c/child")
    equal(c.create(home + "/flags4", flags=zk.CONTAINER), home + "/flags4", "op 1 with flags 4")
    equal(c.stat(home + "/flags4").ephemeral_owner, 0, "ephemeralOwner")


def test_ttl_nodes(t):
    """18.21, 18.22: ttl of 0, -1 and 2^40 is -8; ephemeralOwner 0; sequential TTL nodes."""
    c = protocol.client(t)
    home = protocol.home(t, c)
    for ttl in (0, -1, 2**40, 2**62, -2**63):
        c.refused(zk.BAD_ARGUMENTS, zk.CREATE_TTL, ttl_body(home + "/bad", ttl), "ttl %d" % ttl)
    for ttl in (1, 60000, 2**40 - 1):
        cursor = zk.Cursor(c.ok(zk.CREATE_TTL, ttl_body("%s/t%d" % (home, ttl), ttl)).body)
        equal((cursor.ustr(), cursor.stat().ephemeral_owner), ("%s/t%d" % (home, ttl), 0), "ttl %d" % ttl)
    cursor = zk.Cursor(c.ok(zk.CREATE_TTL, ttl_body(home + "/s", 60000, zk.TTL_SEQ)).body)
    equal(cursor.ustr(), home + "/s0000000003", "sequential TTL node")
    c.create(home + "/t60000/child")
    c.refused(zk.BAD_ARGUMENTS, zk.CREATE_TTL, ttl_body(home + "/p", 5, zk.PERSISTENT), "ttl without a TTL flag")
    c.refused(zk.BAD_ARGUMENTS, zk.CREATE_TTL, ttl_body(home + "/p", -1, zk.PERSISTENT), "ttl -1 without a TTL flag")


def test_ttl_needs_extended_types(t):
    """18.22: without extended types -6, for flags 5 on op 1 as well."""
    r = t.replica(config={"extendedTypesEnabled": "false"})
    c = zk.Raw(r)
    c.refused(zk.UNIMPLEMENTED, zk.CREATE_TTL, ttl_body("/t", 1000))
    check(zk.Raw(r).call(zk.CREATE, create_body("/t", flags=zk.TTL)).err == zk.UNIMPLEMENTED, "flags 5 on op 1")
    check(zk.Raw(r).stat("/t") is None, "nothing was created")


def test_reconfig_of_a_standalone_server(t):
    """Section 15: reconfigEnabled=false -> -123."""
    c = protocol.client(t)
    body = ustr("server.9=127.0.0.1:1:2;3") + i32(-1) + i32(-1) + i64(-1)
    c.refused(zk.RECONFIG_DISABLED, zk.RECONFIG, body)
    data, _ = c.get("/zookeeper/config")
    check(data in (b"", None), "data of /zookeeper/config in standalone mode is empty", data)


def test_quota(t):
    """Section 8.1 with enforceQuota: count on create, bytes on create and set; -125."""
    r = protocol.replica(t, enforceQuota="true")
    c = zk.Raw(r)
    c.create("/limited")
    for path in ("/zookeeper/quota/limited",):
        c.create(path)
    c.create("/zookeeper/quota/limited/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=100;countHardLimit=3")
    c.create("/zookeeper/quota/limited/zookeeper_stats", b"count=0,bytes=0")
    c.create("/limited/a", b"x" * 50)
    c.create("/limited/b")
    c.refused(zk.QUOTA_EXCEEDED, zk.CREATE, create_body("/limited/c"), "count")
    c.refused(zk.QUOTA_EXCEEDED, zk.SET, ustr("/limited/b") + buf(b"x" * 51) + i32(-1), "bytes")
    c.set("/limited/b", b"x" * 50)
    until(lambda: b"count=3,bytes=100" in c.get("/zookeeper/quota/limited/zookeeper_stats")[0], 3, "usage is kept")
    c.delete("/zookeeper/quota/limited/zookeeper_limits")
    c.create("/limited/c", b"x" * 200)


def test_data_of_one_mebibyte_minus_frame(t):
    c = protocol.client(t)
    home = protocol.home(t, c)
    data = bytes(range(256)) * 4000
    c.set(home, data)
    equal(c.get(home)[0] == data, True, "a megabyte comes back")


def test_deep_and_long_paths(t):
    """Paths have no limit besides the frame (LMDB's key limit must not show)."""
    c = protocol.client(t)
    path = protocol.home(t, c)
    for depth in range(60):
        path = c.create("%s/%s" % (path, "d" * 200))
    check(len(path) > 12000, "length", len(path))
    c.set(path, b"deep")
    equal(c.get(path)[0], b"deep", "data at a path of %d bytes" % len(path))
    name = "n" * 5000
    c.create("/%s" % name)
    equal(c.stat("/" + name).version, 0, "a component of 5000 bytes")
    c.delete("/" + name)


def reaper(t):
    return protocol.replica(t, **{"znode.container.checkIntervalMs": 100})


def test_containers_are_reaped(t):
    """Section 6: without children and with creates > 0; a normal delete with its events; a fresh one stays."""
    c = zk.Raw(reaper(t))
    for name in ("used", "fresh", "busy"):
        c.ok(zk.CREATE_CONTAINER, create_body("/" + name, flags=zk.CONTAINER))
    c.create("/flags4", flags=zk.CONTAINER)
    for name in ("used", "busy", "flags4"):
        c.create("/%s/child" % name)
    check(c.stat("/used", watch=True) is not None, "there")
    c.delete("/used/child")
    c.delete("/flags4/child")
    until(lambda: c.stat("/used") is None, 5, "a used, empty container goes")
    equal([(e.type, e.path) for e in c.early], [(zk.DELETED, "/used")], "its watch fires")
    check(c.stat("/fresh") is not None and c.stat("/busy") is not None, "fresh and busy ones stay")
    check(c.stat("/flags4") is not None, "op 1 with flags 4 makes a plain persistent node")


def test_ttl_nodes_are_reaped(t):
    """18.22: the clock restarts on setData of the node only; not while there are children."""
    c = zk.Raw(reaper(t))
    for name, ttl in (("short", 1), ("long", 3_600_000), ("parent", 1000), ("touched", 600)):
        c.ok(zk.CREATE_TTL, ttl_body("/" + name, ttl))
        if name == "parent":
            c.create("/parent/child")
    begun = c.stat("/touched").mtime
    until(lambda: c.stat("/short") is None, 5, "an expired TTL node goes")
    while True:
        stat = c.set("/touched", b"x")
        if stat.mtime - begun > 1500:
            break
    check(c.stat("/long") is not None, "one that is not due stays")
    check(c.stat("/parent") is None or c.stat("/parent/child") is not None, "one with children stays")
    until(lambda: c.stat("/touched") is None, 10, "its time runs from the last set")
    c.delete("/parent/child")
    until(lambda: c.stat("/parent") is None, 5, "the parent goes when its last child has gone")


def test_reaping_survives_restart(t):
    r = reaper(t)
    c = zk.Raw(r)
    c.ok(zk.CREATE_CONTAINER, create_body("/c", flags=zk.CONTAINER))
    c.ok(zk.CREATE_TTL, ttl_body("/t", 1000))
    c.create("/c/child")
    r.kill9()
    r.restart()
    c = zk.Raw(r)
    c.delete("/c/child")
    until(lambda: c.stat("/c") is None and c.stat("/t") is None, 10, "container and TTL node go after a restart")
