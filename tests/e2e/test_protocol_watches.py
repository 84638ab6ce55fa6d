"""Client protocol, section 7 and 2.8: watches; with the items of section 18 about them."""

import protocol
import zk
from lib import check, equal
from zk import CHANGED, CHILD, CREATED, DELETED, buf, flag, i32, i64, ustr

WATCH_CHILDREN, WATCH_DATA, WATCH_ANY, WATCH_PERSISTENT, WATCH_RECURSIVE = 1, 2, 3, 4, 5


def shared(t):
    return protocol.replica(t)


def start(t):
    c = protocol.client(t)
    return c, protocol.home(t, c)


def kinds(events):
    return [(e.type, e.path) for e in events]


def drain(c):
    """Events that are on the wire now: everything before the answer of a ping."""
    return kinds(c.reply(c.post(zk.PING, xid=-2)).events)


def watch(c, path, mode):
    got = c.ok(zk.ADD_WATCH, ustr(path) + i32(mode))
    equal(got.body, i32(0), "18.34: the addWatch reply carries a 4-byte 0")


def set_watches(c, zxid, data=(), exist=(), child=(), persistent=None, recursive=()):
    body = i64(zxid) + zk.strings(data) + zk.strings(exist) + zk.strings(child)
    if persistent is None:
        got = c.ok(zk.SET_WATCHES, body)
    else:
        got = c.ok(zk.SET_WATCHES2, body + zk.strings(persistent) + zk.strings(recursive))
    equal(got.body, b"", "18.34: the setWatches reply carries no body")
    return kinds(got.events)


def test_exists_on_a_missing_node_arms(t):
    """18.8: the reply is -101 and the watch is armed; getData on a missing node arms nothing."""
    c, home = start(t)
    c.refused(zk.NO_NODE, zk.EXISTS, ustr(home + "/x") + flag(True))
    c.refused(zk.NO_NODE, zk.GET, ustr(home + "/y") + flag(True))
    c.refused(zk.NO_NODE, zk.CHILDREN, ustr(home + "/y") + flag(True))
    other = protocol.client(t)
    other.create(home + "/x")
    other.create(home + "/y")
    equal(drain(c), [(CREATED, home + "/x")], "events")


def test_event_comes_before_the_reply(t):
    """18.9: a client that watches P and sets P itself receives the -1 frame first."""
    c, home = start(t)
    c.get(home, watch=True)
    c.post(zk.SET, ustr(home) + buf(b"x") + i32(-1))
    event = c.event()
    equal((event.type, event.path), (CHANGED, home), "first frame")
    got = c.next()
    equal(got.err, 0, "second frame")
    check(event.zxid in (-1, got.zxid), "zxid of the notification", event, got)


def test_data_watch_is_one_shot(t):
    c, home = start(t)
    c.get(home, watch=True)
    other = protocol.client(t)
    other.set(home, b"1")
    other.set(home, b"1")
    equal(drain(c), [(CHANGED, home)], "one shot, also for identical bytes")
    c.stat(home, watch=True)
    c.get(home, watch=True)
    other.set(home, b"2")
    equal(drain(c), [(CHANGED, home)], "getData and exists share one slot")


def test_data_and_child_watch_give_one_deleted(t):
    """18.10: one NodeDeleted for data + child watch of one connection; two connections get one each."""
    c, home = start(t)
    second = protocol.client(t)
    for raw in (c, second):
        path = home + "/n" if raw.stat(home + "/n") else raw.create(home + "/n")
        raw.get(path, watch=True)
        raw.children(path, watch=True)
    protocol.client(t).delete(home + "/n")
    equal(drain(c), [(DELETED, home + "/n")], "first connection")
    equal(drain(second), [(DELETED, home + "/n")], "second connection")


def test_child_watch(t):
    c, home = start(t)
    c.create(home + "/a")
    c.children(home, watch=True)
    other = protocol.client(t)
    other.set(home + "/a", b"x")
    equal(drain(c), [], "a child's data is not a change of the list")
    other.create(home + "/b")
    equal(drain(c), [(CHILD, home)], "create")
    c.children(home, watch=True)
    other.delete(home + "/b")
    equal(drain(c), [(CHILD, home)], "delete")
    c.children("/", watch=True)
    other.create("/rootchild")
    equal(drain(c), [(CHILD, "/")], "the root's events carry the path /")
    other.delete("/rootchild")


def test_order_of_the_events_of_one_delete(t):
    """Section 7.1: NodeDeleted(P), then NodeChildrenChanged(Q)."""
    c, home = start(t)
    c.create(home + "/n")
    c.children(home, watch=True)
    c.get(home + "/n", watch=True)
    other = protocol.client(t)
    other.delete(home + "/n")
    equal(drain(c), [(DELETED, home + "/n"), (CHILD, home)], "order")
    c.stat(home + "/m", watch=True)
    c.children(home, watch=True)
    other.create(home + "/m")
    equal(drain(c), [(CREATED, home + "/m"), (CHILD, home)], "order of a create")


def test_failed_writes_fire_nothing(t):
    c, home = start(t)
    c.get(home, watch=True)
    c.children(home, watch=True)
    other = protocol.client(t)
    other.refused(zk.BAD_VERSION, zk.SET, ustr(home) + buf(b"") + i32(77))
    other.refused(zk.NODE_EXISTS, zk.CREATE, zk.create_body(home))
    results = other.multi([(zk.SET, ustr(home) + buf(b"") + i32(-1)), (zk.CHECK, ustr(home) + i32(99))])
    equal(results[1][1], zk.BAD_VERSION, "the multi fails")
    equal(drain(c), [], "events of refused writes")


def test_multi_that_creates_and_deletes_fires_both(t):
    c, home = start(t)
    c.stat(home + "/x", watch=True)
    watch(c, home + "/x", 0)
    other = protocol.client(t)
    other.multi([(zk.CREATE, zk.create_body(home + "/x")), (zk.DELETE, ustr(home + "/x") + i32(-1))])
    equal(drain(c), [(CREATED, home + "/x"), (DELETED, home + "/x")], "events of one multi in the order of its ops")


def test_multi_events_precede_its_reply(t):
    c, home = start(t)
    c.get(home, watch=True)
    c.children(home, watch=True)
    got = c.ok(zk.MULTI, zk.multi_body([(zk.SET, ustr(home) + buf(b"1") + i32(-1)),
                                         (zk.CREATE, zk.create_body(home + "/n"))]))
    equal(kinds(got.events), [(CHANGED, home), (CHILD, home)], "events before the multi's reply")


def test_set_watches_catch_up(t):
    """18.11: exist list fires on mere existence; data list needs mzxid > rel; child list pzxid > rel."""
    c, home = start(t)
    for name in ("e", "d", "k"):
        c.create("%s/%s" % (home, name))
    rel = c.zxid
    names = {n: "%s/%s" % (home, n) for n in ("e", "d", "k", "none", "gone", "gonek")}
    equal(set_watches(c, rel, data=[names["d"]], exist=[names["e"]], child=[names["k"]]), [(CREATED, names["e"])],
          "nothing changed after rel, the existing one of the exist list fires")
    c.set(names["d"], b"x")
    equal(drain(c), [], "the armed data watch has fired before the reply")
    equal(kinds(c.early[-1:]), [(CHANGED, names["d"])], "armed data watch")
    c.create(names["k"] + "/child")
    equal(kinds(c.early[-1:]), [(CHILD, names["k"])], "armed child watch")
    fresh = protocol.client(t)
    equal(set_watches(fresh, rel, data=[names["d"], names["gone"]], exist=[names["none"]],
                      child=[names["k"], names["gonek"]]),
          [(CHANGED, names["d"]), (DELETED, names["gone"]), (CHILD, names["k"]), (DELETED, names["gonek"])],
          "catch-up events in list order")
    c.create(names["none"])
    equal(drain(fresh), [(CREATED, names["none"])], "the missing one of the exist list is armed")


def test_set_watches_events_have_zxid_minus_one(t):
    c, home = start(t)
    c.ok(zk.SET_WATCHES, i64(0) + zk.strings([]) + zk.strings([home]) + zk.strings([]))
    equal(c.early[-1], zk.Event(-1, CREATED, 3, home), "catch-up event")


def test_set_watches_does_not_deduplicate(t):
    """18.12: a deleted path in both the data and the child list yields two events before the reply."""
    c, home = start(t)
    equal(set_watches(c, c.zxid, data=[home + "/x"], child=[home + "/x"]),
          [(DELETED, home + "/x"), (DELETED, home + "/x")], "events")


def test_recreated_node_is_data_changed(t):
    """Section 2.8: deleted and recreated between disconnect and reconnect shows as NodeDataChanged."""
    c, home = start(t)
    c.create(home + "/n")
    rel = c.zxid
    c.delete(home + "/n")
    c.create(home + "/n")
    equal(set_watches(c, rel, data=[home + "/n"]), [(CHANGED, home + "/n")], "event")


def test_persistent_watch(t):
    """18.32: all four kinds, for the node only, survives firing, no node needed."""
    c, home = start(t)
    path = home + "/p"
    watch(c, path, 0)
    other = protocol.client(t)
    for _ in range(2):
        other.create(path)
        other.set(path, b"x")
        other.create(path + "/child")
        other.set(path + "/child", b"y")
        other.delete(path + "/child")
        other.delete(path)
        equal(drain(c), [(CREATED, path), (CHANGED, path), (CHILD, path), (CHILD, path), (DELETED, path)], "events")


def test_recursive_watch(t):
    """18.32: descendants too, never NodeChildrenChanged."""
    c, home = start(t)
    path = home + "/p"
    watch(c, path, 1)
    other = protocol.client(t)
    for _ in range(2):
        for step in (path, path + "/a", path + "/a/b"):
            other.create(step)
        other.set(path + "/a/b", b"x")
        for step in (path + "/a/b", path + "/a", path):
            other.delete(step)
        equal(drain(c), [(CREATED, path), (CREATED, path + "/a"), (CREATED, path + "/a/b"), (CHANGED, path + "/a/b"),
                         (DELETED, path + "/a/b"), (DELETED, path + "/a"), (DELETED, path)], "events")
    other.create(home + "/pq")
    equal(drain(c), [], "a name that only begins the same is not below")


def test_recursive_watch_on_root(t):
    c, home = start(t)
    watch(c, "/", 1)
    other = protocol.client(t)
    other.create(home + "/deep")
    check((CREATED, home + "/deep") in drain(c), "a recursive watch on / sees everything")


def test_set_watches2_arms_without_catch_up(t):
    """18.32: re-sent setWatches2 produces no catch-up events."""
    c, home = start(t)
    equal(set_watches(c, 0, persistent=[home], recursive=[home + "/r", home + "/none"]), [], "no catch-up")
    other = protocol.client(t)
    other.create(home + "/r")
    equal(drain(c), [(CREATED, home + "/r"), (CHILD, home)], "but armed")


def test_standard_and_persistent_coexist(t):
    """Section 7.1: one event for a connection, the standard bit goes, the persistent one stays."""
    c, home = start(t)
    watch(c, home, 0)
    c.get(home, watch=True)
    other = protocol.client(t)
    other.set(home, b"1")
    equal(drain(c), [(CHANGED, home)], "one copy")
    other.set(home, b"2")
    equal(drain(c), [(CHANGED, home)], "still watching")


def test_remove_watches(t):
    """18.33: per mode; the second removal -121; type 3 removes all; no event."""
    c, home = start(t)

    def remove(kind, err=0):
        got = c.call(zk.REMOVE_WATCHES, ustr(home) + i32(kind))
        equal((got.err, got.body, got.events), (err, b"", []), "removeWatches type %d" % kind)
    watch(c, home, 0)
    watch(c, home, 1)
    c.get(home, watch=True)
    c.children(home, watch=True)
    remove(WATCH_DATA)
    remove(WATCH_DATA, zk.NO_WATCHER)
    remove(WATCH_CHILDREN)
    remove(WATCH_CHILDREN, zk.NO_WATCHER)
    remove(WATCH_PERSISTENT)
    remove(WATCH_PERSISTENT, zk.NO_WATCHER)
    protocol.client(t).create(home + "/n")
    equal(drain(c), [(CREATED, home + "/n")], "the recursive one is left")
    remove(WATCH_RECURSIVE)
    remove(WATCH_RECURSIVE, zk.NO_WATCHER)
    watch(c, home, 0)
    c.get(home, watch=True)
    c.children(home, watch=True)
    remove(WATCH_ANY)
    remove(WATCH_ANY, zk.NO_WATCHER)
    other = protocol.client(t)
    other.set(home, b"x")
    other.create(home + "/m")
    equal(drain(c), [], "all modes in both tables are gone")


def test_check_watches(t):
    c, home = start(t)
    c.refused(zk.NO_WATCHER, zk.CHECK_WATCHES, ustr(home) + i32(WATCH_DATA))
    c.get(home, watch=True)
    c.ok(zk.CHECK_WATCHES, ustr(home) + i32(WATCH_DATA))
    c.refused(zk.NO_WATCHER, zk.CHECK_WATCHES, ustr(home) + i32(WATCH_CHILDREN))
    protocol.client(t).set(home, b"x")
    equal(drain(c), [(CHANGED, home)], "checking does not disarm")


def test_watches_belong_to_the_connection(t):
    """Section 2.8: TCP loss drops all watches; the session's new connection has none."""
    c, home = start(t)
    c.get(home, watch=True)
    c.close_socket()
    again = protocol.client(t, connect=False)
    check(again.handshake(session=c.session, password=c.password).session == c.session, "renewed")
    protocol.client(t).set(home, b"x")
    equal(drain(again), [], "no watch on the new connection")


def test_session_close_fires_watches_once_per_parent(t):
    """Section 7.1: N ephemerals of one close: per node NodeDeleted; a one-shot child watch fires once."""
    c, home = start(t)
    owner = protocol.client(t)
    for number in range(4):
        owner.create("%s/e%d" % (home, number), flags=zk.EPHEMERAL)
    c.children(home, watch=True)
    owner.close()
    equal(drain(c), [(CHILD, home)], "one-shot child watch")


def test_delivery_is_acl_filtered(t):
    """18.42: by READ on the changed node; a filtered one-shot watch is used up."""
    c, home = start(t)
    owner = protocol.client(t)
    owner.auth("digest", b"owner:pw")
    secret = home + "/secret"
    c.stat(secret, watch=True)
    mine = [(31, "auth", "")]
    owner.create(secret, acl=mine)
    equal(drain(c), [], "NodeCreated of an unreadable node is not delivered")
    owner.ok(zk.SET_ACL, ustr(secret) + zk.acls(zk.ANYONE) + i32(-1))
    owner.set(secret, b"x")
    equal(drain(c), [], "and the watch is used up")
    watch(c, secret, 0)
    owner.set(secret, b"y")
    equal(drain(c), [(CHANGED, secret)], "readable")
    owner.ok(zk.SET_ACL, ustr(secret) + zk.acls(mine) + i32(-1))
    owner.set(secret, b"z")
    equal(drain(c), [], "no longer readable")


def test_set_acl_check_and_reads_fire_nothing(t):
    c, home = start(t)
    watch(c, home, 0)
    other = protocol.client(t)
    other.ok(zk.SET_ACL, ustr(home) + zk.acls(zk.ANYONE) + i32(-1))
    other.multi([(zk.CHECK, ustr(home) + i32(0))])
    other.ok(zk.SYNC, ustr(home))
    equal(drain(c), [], "events")


def test_no_lost_change_between_read_and_arm(t):
    """Section 7.1: reading and arming are one step with respect to apply."""
    c, home = start(t)
    writer = protocol.client(t)
    last = None
    for number in range(200):
        posted = writer.post(zk.SET, ustr(home) + buf(b"%d" % number) + i32(-1))
        data, _ = c.get(home, watch=True)
        writer.reply(posted)
        if data != b"%d" % number:
            equal(c.early[-1:] and kinds(c.early[-1:]) or kinds([c.event()]), [(CHANGED, home)],
                  "a read that missed the write must get its event")
            c.early.clear()
            last = number
        else:
            # Disarm by a write that this client sees, so that each round starts with one armed watch.
            writer.set(home, b"r")
            equal(kinds([c.event()]), [(CHANGED, home)], "the armed watch fires")
            c.early.clear()
    check(last is None or last < 200, "rounds")
