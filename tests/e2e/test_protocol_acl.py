"""Client protocol, section 8: authentication and ACLs."""

import base64
import hashlib

import protocol
import zk
from lib import check, equal
from zk import acls, buf, create_body, flag, i32, ustr


def shared(t):
    return protocol.replica(t)


def digest(user, password):
    return "%s:%s" % (user, base64.b64encode(hashlib.sha1(("%s:%s" % (user, password)).encode()).digest()).decode())


def start(t):
    c = protocol.client(t)
    return c, protocol.home(t, c)


def who(c):
    cursor = zk.Cursor(c.ok(zk.WHO_AM_I).body)
    ids = [(cursor.ustr(), cursor.ustr()) for _ in range(cursor.i32())]
    cursor.end()
    return ids


def test_auth_echoes_the_xid(t):
    """18.13: auth with xid 7 gets reply xid 7; with -4 gets -4; zxid 0; header only."""
    c, _ = start(t)
    for xid in (7, -4, 2**31 - 1, -9):
        got = c.auth("digest", b"u:p", xid=xid)
        equal((got.xid, got.zxid, got.err, got.body), (xid, 0, 0, b""), "auth reply")


def test_unknown_scheme_fails_then_closes(t):
    """18.14: -115, then close; also for world and sasl."""
    for scheme in ("unknown-scheme", "world", "sasl", "super", "", "DIGEST"):
        c = protocol.client(t)
        got = c.auth(scheme, b"x")
        equal((got.xid, got.err, got.body), (-4, zk.AUTH_FAILED, b""), "auth with scheme %r" % scheme)
        check(c.closed(), "close after a failed auth")


def test_digest_never_fails_on_content(t):
    """18.14: a wrong password is success at auth time and NoAuth later; no colon is accepted."""
    owner, home = start(t)
    owner.auth("digest", b"u:right")
    owner.create(home + "/n", acl=[(31, "auth", "")])
    c = protocol.client(t)
    equal(c.auth("digest", b"u:wrong").err, 0, "wrong password")
    c.refused(zk.NO_AUTH, zk.GET, ustr(home + "/n") + flag(False))
    equal(c.auth("digest", b"blah").err, 0, "without colon")
    c.create(home + "/blah", acl=[(31, "auth", "")])
    hashed = base64.b64encode(hashlib.sha1(b"blah").digest()).decode()
    check((31, "digest", "blah:" + hashed) in c.get_acl(home + "/blah")[0], "id of a credential without colon",
          c.get_acl(home + "/blah")[0])
    equal(c.auth("digest", b"u:right").err, 0, "ids accumulate")
    equal(c.get(home + "/n")[0], b"", "readable now")


def test_digest_acl(t):
    """Scheme digest: user:base64(sha1(user:password)), string equality, per permission bit."""
    c, home = start(t)
    reader, writer = digest("r", "1"), digest("w", "2")
    c.create(home + "/n", acl=[(zk.PERM_READ, "digest", reader), (zk.PERM_WRITE | zk.PERM_READ, "digest", writer)])
    c.refused(zk.NO_AUTH, zk.GET, ustr(home + "/n") + flag(False))
    c.refused(zk.NO_AUTH, zk.EXISTS, ustr(home + "/n") + flag(False))
    c.refused(zk.NO_AUTH, zk.CHILDREN, ustr(home + "/n") + flag(False))
    c.refused(zk.NO_AUTH, zk.ALL_CHILDREN, ustr(home + "/n"))
    c.refused(zk.NO_AUTH, zk.GET_ACL, ustr(home + "/n"))
    c.auth("digest", b"r:1")
    equal(c.get(home + "/n")[0], b"", "reader reads")
    c.refused(zk.NO_AUTH, zk.SET, ustr(home + "/n") + buf(b"x") + i32(-1))
    c.refused(zk.NO_AUTH, zk.SET, ustr(home + "/n") + buf(b"x") + i32(99), "NoAuth hides BadVersion;")
    c.refused(zk.NO_AUTH, zk.SET_ACL, ustr(home + "/n") + acls(zk.ANYONE) + i32(-1))
    c.refused(zk.NO_AUTH, zk.CREATE, create_body(home + "/n/c"))
    c.auth("digest", b"w:2")
    c.set(home + "/n", b"x")
    results = protocol.client(t).multi([(zk.CHECK, ustr(home + "/n") + i32(-1))])
    equal(results[0][2], zk.NO_AUTH, "check needs READ")


def test_noauth_hides_existence(t):
    """18.23: NoAuth precedes NodeExists on create and NoNode on delete when the parent denies."""
    c, home = start(t)
    c.create(home + "/p", acl=[(31, "digest", digest("o", "o"))])
    owner = protocol.client(t)
    owner.auth("digest", b"o:o")
    owner.create(home + "/p/there")
    c.refused(zk.NO_AUTH, zk.CREATE, create_body(home + "/p/there"))
    c.refused(zk.NO_AUTH, zk.CREATE, create_body(home + "/p/bad\x01"))
    c.refused(zk.NO_AUTH, zk.DELETE, ustr(home + "/p/none") + i32(-1))
    c.refused(zk.NO_AUTH, zk.DELETE, ustr(home + "/p/there") + i32(99))


def test_delete_needs_delete_on_the_parent(t):
    c, home = start(t)
    c.create(home + "/p", acl=[(zk.PERM_ALL & ~zk.PERM_DELETE, "world", "anyone")])
    c.create(home + "/p/open")
    c.refused(zk.NO_AUTH, zk.DELETE, ustr(home + "/p/open") + i32(-1))
    c.create(home + "/q")
    c.create(home + "/q/closed", acl=[(zk.PERM_READ, "digest", digest("o", "o"))])
    c.delete(home + "/q/closed")


def test_get_acl_masks_hashes(t):
    """18.29: READ or ADMIN; without ADMIN digest ids show as user:x."""
    c, home = start(t)
    secret = digest("joe", "pw")
    c.create(home + "/n", acl=[(31, "digest", secret), (zk.PERM_READ, "world", "anyone")])
    equal(c.get_acl(home + "/n")[0], [(31, "digest", "joe:x"), (1, "world", "anyone")], "masked")
    c.auth("digest", b"joe:pw")
    equal(c.get_acl(home + "/n")[0], [(31, "digest", secret), (1, "world", "anyone")], "for ADMIN")
    c.create(home + "/admin", acl=[(zk.PERM_ADMIN, "digest", secret)])
    equal(c.get_acl(home + "/admin")[0], [(16, "digest", secret)], "ADMIN suffices")


def test_auth_acl_is_expanded(t):
    """18.30: stored as digest:user:hash for each authenticated id; without one -114, the ip id does not count."""
    c, home = start(t)
    c.refused(zk.INVALID_ACL, zk.CREATE, create_body(home + "/n", acl=[(31, "auth", "")]))
    c.auth("digest", b"a:1")
    c.auth("digest", b"b:2")
    c.create(home + "/n", acl=[(31, "auth", "ignored")])
    entries, _ = c.get_acl(home + "/n")
    equal(sorted(entries), sorted([(31, "digest", digest("a", "1")), (31, "digest", digest("b", "2"))]), "expanded")
    c.ok(zk.SET_ACL, ustr(home + "/n") + acls([(zk.PERM_ADMIN, "auth", "")]) + i32(-1))
    equal(sorted(e[0] for e in c.get_acl(home + "/n")[0]), [16, 16], "setACL expands too")


def test_invalid_acls(t):
    """Section 8: null, empty, unknown scheme, ill-formed ids, super: -114."""
    c, home = start(t)
    bad = [[(31, "world", "somebody")], [(31, "nosuch", "x")], [(31, "super", "test")], [(31, "digest", "nocolon")],
           [(31, "digest", "a:b:c")], [(31, "digest", "u:")], [(31, "ip", "300.1.1.1")], [(31, "ip", "10.0.0.0/33")],
           [(31, "ip", "x")], [(31, "sasl", "joe")], [(31, "x509", "CN=joe")], [],
           [(31, "world", "anyone"), (31, "bad", "x")]]
    for acl in bad:
        c.refused(zk.INVALID_ACL, zk.CREATE, create_body(home + "/n", acl=acl), "ACL %r:" % acl)
        c.refused(zk.INVALID_ACL, zk.SET_ACL, ustr(home) + acls(acl) + i32(-1), "ACL %r:" % acl)
    c.refused(zk.INVALID_ACL, zk.CREATE, ustr(home + "/n") + buf(b"") + i32(-1) + i32(0), "null list:")
    body = ustr(home + "/n") + buf(b"") + i32(1) + i32(31) + i32(-1) + ustr("x") + i32(0)
    c.refused(zk.INVALID_ACL, zk.CREATE, body, "null scheme:")


def test_duplicates_are_removed(t):
    c, home = start(t)
    twice = [(31, "world", "anyone"), (1, "ip", "127.0.0.1"), (31, "world", "anyone"), (1, "ip", "127.0.0.1")]
    c.create(home + "/n", acl=twice)
    equal(c.get_acl(home + "/n")[0], twice[:2], "duplicates go, order stays")


def test_ip_acl(t):
    """Scheme ip: exact and prefix, IPv4; 18.48: 127.0.0.1 is a dotted IPv4."""
    c, home = start(t)
    for entry, allowed in (("127.0.0.1", True), ("127.0.0.0/8", True), ("10.0.0.0/8", False), ("127.0.0.2", False),
                           ("0.0.0.0/0", True), ("::1", False)):
        path = "%s/%s" % (home, entry.replace("/", "_").replace(":", "c"))
        c.create(path, acl=[(31, "ip", entry)])
        equal(c.call(zk.GET, ustr(path) + flag(False)).err, 0 if allowed else zk.NO_AUTH, entry)
        if allowed:
            equal(c.get_acl(path)[0], [(31, "ip", entry)], "read back unchanged")


def test_who_am_i(t):
    """Section 3.3: all ids; for digest only the user part. 18.48: the ip is dotted."""
    c, _ = start(t)
    equal(who(c), [("ip", "127.0.0.1")], "before auth")
    c.auth("digest", b"joe:secret")
    equal(sorted(who(c)), [("digest", "joe"), ("ip", "127.0.0.1")], "after auth")


def test_super(t):
    """superDigest: super:test gets everything."""
    c, home = start(t)
    c.create(home + "/closed", acl=[(zk.PERM_READ, "digest", digest("o", "o"))])
    c.refused(zk.NO_AUTH, zk.SET, ustr("/zookeeper/config") + buf(b"") + i32(-1))
    boss = protocol.client(t)
    boss.auth("digest", b"super:wrong")
    boss.refused(zk.NO_AUTH, zk.GET, ustr(home + "/closed") + flag(False))
    boss = protocol.client(t)
    boss.auth("digest", b"super:test")
    equal(boss.get(home + "/closed")[0], b"", "super reads")
    boss.set(home + "/closed", b"x")
    boss.ok(zk.SET_ACL, ustr(home + "/closed") + acls(zk.ANYONE) + i32(-1))
    equal(c.get(home + "/closed")[0], b"x", "opened by super")


def test_auth_applies_to_requests_behind_it(t):
    """Section 4: ids apply to every request read after the auth frame."""
    c, home = start(t)
    c.create(home + "/n", acl=[(31, "digest", digest("u", "p"))])
    first = c.post(zk.GET, ustr(home + "/n") + flag(False))
    c.post(zk.AUTH, i32(0) + ustr("digest") + buf(b"u:p"), xid=500)
    third = c.post(zk.GET, ustr(home + "/n") + flag(False))
    equal([c.reply(first).err, c.reply(500).err, c.reply(third).err], [zk.NO_AUTH, 0, 0], "pipelined around auth")


def test_auth_is_per_connection(t):
    c, home = start(t)
    c.auth("digest", b"u:p")
    c.create(home + "/n", acl=[(31, "auth", "")])
    c.close_socket()
    again = protocol.client(t, connect=False)
    again.handshake(session=c.session, password=c.password)
    again.refused(zk.NO_AUTH, zk.GET, ustr(home + "/n") + flag(False))
    again.auth("digest", b"u:p", xid=1)
    equal(again.get(home + "/n")[0], b"", "after auth on the new connection")


def test_sasl_without_configuration(t):
    """Section 8: no SASL configured: reply err 0, null token."""
    c, _ = start(t)
    got = c.ok(zk.SASL, buf(b""))
    equal(got.body, i32(-1), "null token")


def test_skip_acl(t):
    r = t.replica(config={"skipACL": "yes"})
    c = zk.Raw(r)
    c.create("/n", acl=[(1, "digest", digest("o", "o"))])
    c.set("/n", b"x")


def test_acl_survives_restart(t):
    r = protocol.replica(t)
    c = zk.Raw(r)
    c.auth("digest", b"u:p")
    c.create("/n", acl=[(31, "auth", ""), (1, "ip", "10.0.0.0/8")])
    before = c.get_acl("/n")
    r.kill9()
    r.restart()
    c = zk.Raw(r)
    c.refused(zk.NO_AUTH, zk.GET, ustr("/n") + flag(False))
    c.auth("digest", b"u:p")
    equal(c.get_acl("/n"), before, "ACL and Stat after kill -9")
