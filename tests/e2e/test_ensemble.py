"""Issue 3: three replicas as one, by real processes: what must hold when some of them die, hang, or are wrong."""

import os
import random
import shutil
import signal
import time

import history
import zk
from lib import Failure, check, count, equal, program, run, shows, until
from test_kill_replica import MountWriter, judge_mount

DEADLINE_ALL = count(180, 1200)


def sync_get(replica, path):
    c = zk.Raw(replica)
    c.ok(zk.SYNC, zk.ustr(path))
    data = c.get(path)[0]
    c.close()
    return data


def test_the_example_of_the_field(t):
    from kazoo.client import KazooClient
    e = t.ensemble()
    client = KazooClient(hosts=e.source, timeout=10.0)
    client.start(timeout=15)
    t.undo.callback(client.close)
    t.undo.callback(client.stop)
    seen = []
    client.create("/mylock", b"a")
    client.DataWatch("/mylock")(lambda data, stat: seen.append(data))
    client.set("/mylock", b"b")
    until(lambda: b"b" in seen, 10, "the watch is called")
    for replica in e.replicas:
        equal(sync_get(replica, "/mylock"), b"b", "at replica %d" % replica.number)
    client.delete("/mylock")
    until(lambda: None in seen, 10, "the watch is called for the deletion")


def test_written_anywhere_read_everywhere(t):
    e = t.ensemble()
    for n, writer in enumerate(e.replicas):
        c = zk.Raw(writer)
        c.create("/n%d" % n, b"v%d" % n)
        equal(c.get("/n%d" % n)[0], b"v%d" % n, "read of one's own write")
        c.close()
        for reader in e.replicas:
            equal(sync_get(reader, "/n%d" % n), b"v%d" % n, "sync and read")
    e.same_state()


def test_watch_at_a_follower_fires_for_a_write_at_another(t):
    e = t.ensemble()
    one, other = e.followers()[:2]
    a, b = zk.Raw(one), zk.Raw(other)
    a.create("/w", b"1")
    b.ok(zk.SYNC, zk.ustr("/w"))
    b.get("/w", watch=True)
    a.set("/w", b"2")
    event = b.event()
    equal((event.type, event.path), (zk.CHANGED, "/w"), "event")


def test_leader_killed_under_load(t):
    e = t.ensemble()
    writers = history.prepare(e.any())
    for w in writers:
        w.start()
    dice = random.Random(3)
    for kill in range(count(5, 100)):
        goal = sum(w.acked_set for w in writers) + dice.randrange(20, 200)
        until(lambda: sum(w.acked_set for w in writers) >= goal or any(w.error for w in writers), 30,
              "progress before kill %d" % kill)
        victim = e.leader()
        victim.kill9()
        e.leader(but=victim)
        goal = sum(w.acked_set for w in writers) + 10
        until(lambda: sum(w.acked_set for w in writers) >= goal or any(w.error for w in writers), 20,
              "writes go on without replica %d" % victim.number)
        victim.restart()
    settle(e, writers)


def test_all_killed_at_once_under_load(t):
    e = t.ensemble()
    writers = history.prepare(e.any())
    for w in writers:
        w.start()
    dice = random.Random(4)
    for kill in range(count(10, 200)):
        goal = sum(w.acked_set for w in writers) + dice.randrange(20, 200)
        until(lambda: sum(w.acked_set for w in writers) >= goal or any(w.error for w in writers), 30,
              "progress before kill %d" % kill)
        for replica in e.replicas:
            replica.process.kill()
        for replica in e.replicas:
            replica.process.wait(20)
        e.start()
        modes = sorted(e.mode(r) for r in e.replicas)
        equal(modes.count("leader"), 1, "leaders among %r" % modes)
    settle(e, writers)


def settle(e, writers):
    for w in writers:
        w.ended.set()
    for w in writers:
        w.join(30)
        check(not w.is_alive(), "client %d hangs" % w.number)
    e.wait()
    e.same_state()
    for replica in e.replicas:
        history.judge(replica, writers, settled=True)


def test_hung_leader_is_replaced_and_comes_back_as_a_follower(t):
    e = t.ensemble()
    old = e.leader()
    rest = [r for r in e.replicas if r is not old]
    c = zk.Raw(rest[0])
    c.create("/before", b"")
    os.kill(old.pid, signal.SIGSTOP)
    try:
        new = e_leader_among(e, rest)
        until(lambda: write(new, "/during"), 10, "writes go on")
    finally:
        os.kill(old.pid, signal.SIGCONT)
    until(lambda: e.mode(old) == "follower", 20, "the old leader follows")
    equal(sync_get(old, "/during"), b"x", "what it missed")
    e.same_state()


def e_leader_among(e, replicas):
    return until(lambda: next((r for r in replicas if e.mode(r) == "leader"), None), 10, "another leader")


def write(replica, path):
    try:
        c = zk.Raw(replica)
        got = c.call(zk.CREATE, zk.create_body(path, b"x"))
        c.close_socket()
        return got.err in (zk.OK, zk.NODE_EXISTS)
    except (OSError, Failure):
        return False


def test_follower_that_missed_a_little_comes_back_by_entries(t):
    e = t.ensemble()
    away = e.followers()[0]
    c = zk.Raw(e.leader())
    c.create("/d", b"")
    away.kill9()
    for n in range(200):
        c.set("/d", b"%d" % n)
    away.restart()
    equal(sync_get(away, "/d"), b"199", "what it missed")
    check("snapshot" not in away.log_text(), "no snapshot was needed", away.log_text()[-1500:])
    e.same_state()


def test_follower_that_missed_more_than_the_log_gets_a_snapshot(t):
    e = t.ensemble(config={"coord.logKeepEntries": 1000})
    away = e.followers()[0]
    c = zk.Raw(e.leader(), seconds=30)
    c.create("/d", b"")
    away.kill9()
    for n in range(60):  # more than a leader keeps in memory, 16 MiB
        c.multi([(zk.CREATE, zk.create_body("/d/%d-%d" % (n, i), b"x" * 4096)) for i in range(100)])
        for i in range(60):
            c.post(zk.SET, zk.ustr("/d") + zk.buf(b"%d" % i) + zk.i32(-1))
        for i in range(60):
            c.reply()
    away.restart()
    equal(len(zk.Raw(away, seconds=30).children("/d")), 6000, "children after the snapshot")
    check("snapshot" in away.log_text(), "its log speaks of a snapshot", away.log_text()[-1500:])
    e.same_state()
    away.kill9()
    away.restart()
    e.same_state()


def resumed(replica, old):
    """The session of `old` on a new connection; None: refused, for one who has not applied what the client has seen."""
    new = zk.Raw(replica, connect=False)
    try:
        new.connected = new.handshake(session=old.session, password=old.password, last_zxid=old.zxid)
    except (OSError, Failure):
        return None
    return new if new.connected and new.session else None


def test_session_moves_and_its_old_connection_is_closed(t):
    e = t.ensemble()
    one, other = e.followers()[:2]
    old = zk.Raw(one)
    old.create("/mine", b"", flags=zk.EPHEMERAL)
    new = until(lambda: resumed(other, old), 10, "the session goes on")
    equal(new.session, old.session, "the same session")
    check(old.closed(), "the old connection is closed")
    equal(new.stat("/mine").ephemeral_owner, old.session, "its ephemeral")
    new.set("/mine", b"still")
    new.close()
    until(lambda: zk.Raw(one).stat("/mine") is None, 10, "closed everywhere")


def test_password_is_the_same_at_every_replica(t):
    e = t.ensemble()
    c = zk.Raw(e.replicas[0])
    for replica in e.replicas:
        wrong = zk.Raw(replica, connect=False)
        equal(wrong.handshake(session=c.session, password=b"\1" * 16).session, 0, "a wrong password")


def test_ephemeral_of_a_lost_client_goes_after_its_timeout_and_not_before(t):
    e = t.ensemble(config={"tickTime": 500})
    c = zk.Raw(e.followers()[0], timeout=3000)
    timeout = c.connected.timeout / 1000
    c.create("/gone", b"", flags=zk.EPHEMERAL)
    last = time.monotonic()
    watcher = zk.Raw(e.leader(), timeout=10000, seconds=15)
    watcher.stat("/gone", watch=True)
    c.close_socket()
    watcher.event()
    took = time.monotonic() - last
    check(took >= timeout - 0.01, "not earlier than the timeout of %.1f s" % timeout, took)
    check(took <= timeout + 2 * 0.5 + 0.5, "within timeout + 2 ticks", took)  # half a second for a loaded machine
    for replica in e.replicas:
        until(lambda r=replica: zk.Raw(r).stat("/gone") is None, 5, "gone at replica %d" % replica.number)


def test_session_survives_a_change_of_leader(t):
    e = t.ensemble(config={"tickTime": 500})
    victim = e.leader()
    follower = e.followers()[0]
    c = zk.Raw(follower, timeout=4000)
    c.create("/kept", b"", flags=zk.EPHEMERAL)
    victim.kill9()
    new = e.leader(but=victim)
    again = until(lambda: resumed(new, c), 4, "the session goes on at another replica")
    equal(again.stat("/kept").ephemeral_owner, c.session, "its ephemeral is still there")


def test_mount_over_three_replicas_is_exactly_once(t):
    """Replicas die one after the other, the leader among them: calls through the mount happen once or not at all."""
    e = t.ensemble()
    m = t.mount(None, source=",".join(r.source for r in e.replicas))
    c = zk.Raw(e.replicas[0])
    c.create("/made", None)
    c.create("/log", b"")
    c.close()
    until(lambda: os.path.isdir(m.p("made")) and os.path.exists(m.p("log")), 5, "the mount shows what was created")
    writer = MountWriter(m)
    writer.start()
    dice = random.Random(5)
    for kill in range(count(9, 200)):
        goal = len(writer.lines) + dice.randrange(3, 30)
        until(lambda: len(writer.lines) >= goal or writer.error, 30, "the mount makes progress before kill %d" % kill)
        check(writer.error is None, "writer: %r" % writer.error)
        victim = e.leader() if kill % 3 == 0 else dice.choice(e.replicas)
        victim.kill9()
        goal = len(writer.lines) + 2
        until(lambda: len(writer.lines) >= goal or writer.error, 30, "and without replica %d" % victim.number)
        victim.restart()
    writer.ended.set()
    writer.join(20)
    check(writer.error is None and not writer.is_alive(), "writer: %r" % writer.error)
    e.same_state()
    for replica in e.replicas:
        judge_mount(zk.Raw(replica), m, writer)


def test_inotify_for_a_change_at_another_replica(t):
    e = t.ensemble()
    one, other = e.followers()[:2]
    m = t.mount(one)
    c = zk.Raw(other)
    c.create("/config", b"1")
    shows(m.p("config"), b"1")
    seen = t.path("events")
    with open(seen, "wb") as out:
        t.background("inotifywait", "-m", "-q", "--format", "%e", m.p("config"), stdout=out)
    until(lambda: saw(m, c, seen), 15, "inotifywait reports a change by another host")


def saw(m, c, seen):
    c.set("/config", b"2")  # again until inotifywait has its watch
    with open(seen) as f:
        return "MODIFY" in f.read()


def ctl_status(e, source=None):
    return run(program("coordctl"), "--server", source or e.source, "status", ok=False)


def rows(done):
    """What `coordctl status` says of each server: {name: fields}."""
    lines = done.out.splitlines()
    equal(lines[0].split(), ["SERVER", "ROLE", "EPOCH", "ZXID", "DIGEST", "LEARNERS"], "the head")
    return {line.split()[0]: line.split()[1:] for line in lines[1:] if line.startswith(("127.0.0.1:", "unix:"))}


def test_status_has_a_line_for_each_server_and_says_what_is_wrong(t):
    e = t.ensemble(size=4, observers=(4,))
    until(lambda: ctl_status(e).returncode == 0, 10, "all is well")
    e.same_state()
    done = ctl_status(e)
    said = rows(done)
    equal(sorted(said), sorted(r.address for r in e.replicas), "servers")
    equal(sorted(fields[0] for fields in said.values()), ["follower", "follower", "leader", "observer"], "roles")
    equal(len({tuple(fields[1:4]) for fields in said.values()}), 1, "epoch, zxid and digest are the same")
    equal(said[e.leader().address][4], "3", "learners")
    words = e.words(e.leader())
    equal(said[e.leader().address][3], words["zk_digest"], "the digest of mntr")
    equal((words["zk_peer_state"], words["zk_quorum_size"]), ("leading - broadcast", "3"), "mntr")
    check("server.4=127.0.0.1" in e.leader().four("conf").decode(), "conf has the members")

    victim = e.leader()
    victim.kill9()
    e.leader(but=victim)
    done = ctl_status(e)
    equal(done.returncode, 1, "a server is away")
    check("Trouble: %s: not answering" % victim.address in done.out, "it says which", done.out)
    e.leader().kill9()
    left = [r for r in e.running() if r.number != 4][0]
    until(lambda: e.mode(left) == "", 10, "the last participant does not serve")
    done = ctl_status(e)
    equal(done.returncode, 1, "no leader")
    equal(rows(done)[left.address][:3], ["looking,", "not", "serving"], "its role")
    check("no leader" in done.err, "it says so", done.err)
    for word in ("srvr", "stat", "mntr"):
        equal(left.four(word), b"This ZooKeeper instance is not currently serving requests\n", word)
    equal(left.four("isro"), b"null", "isro")
    for replica in e.running():
        replica.kill9()
    equal(ctl_status(e).returncode, 3, "nobody answers")


def test_mount_goes_on_at_a_host_when_its_socket_is_gone(t):
    """A mount over the local replica's socket and the other replicas' ports."""
    e = t.ensemble(config={"coord.tcpUser": "0:0"})
    local, rest = e.replicas[0], e.replicas[1:]
    m = t.mount(None, source=",".join([local.source] + [r.address for r in rest]))
    with open(m.p("here"), "w") as f:
        f.write("before")
    until(lambda: b"unix" in local.four("stat"), 5, "it begins with the socket")
    local.kill9()
    shows(m.p("here"), b"before")

    def saved():
        try:
            with open(m.p("here"), "w") as f:
                f.write("after")
        except OSError:
            return False
        return True
    until(saved, 15, "a save without the local replica")
    done = run(program("coordctl"), "--server", "%s,%s" % (local.source, rest[0].address), "get", "/here")
    equal(done.out.strip(), "after", "coordctl goes on to the next, too")
    local.restart()
    equal(sync_get(local, "/here"), b"after", "at the replica that was away")


def test_mount_of_one_replica_goes_on_when_it_is_back(t):
    e = t.ensemble()
    local = e.leader()
    m = t.mount(local)
    with open(m.p("mine"), "w") as f:
        f.write("1")
    local.kill9()
    equal(run("cat", m.p("mine")).out, "1", "cat from memory")
    e.leader(but=local)
    local.restart()
    made = m.p("once")

    def create():
        try:
            os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return True
        except FileExistsError:
            raise Failure("O_EXCL: the first create of %s says that it is there" % made) from None
        except OSError:
            return False
    until(create, 15, "O_EXCL create")
    for replica in e.replicas:
        check(sync_get(replica, "/once") in (b"", None), "at replica %d" % replica.number)
    e.same_state()


def test_lost_disk_is_noticed_and_does_not_count(t):
    e = t.ensemble()
    c = zk.Raw(e.leader())
    c.create("/x", b"1")
    e.enrolled()
    lost = e.followers()[0]
    e.same_state()
    lost.kill9()
    shutil.rmtree(lost.data_dir)
    os.makedirs(lost.data_dir)
    with open(os.path.join(lost.data_dir, "myid"), "w") as f:
        f.write("%d\n" % lost.number)
    lost.restart()
    equal(sync_get(lost, "/x"), b"1", "it serves what the others have")
    done = ctl_status(e)
    check(done.returncode != 0 and "lost its disk" in done.out, "status says so", done.out[-2500:])
    c.set("/x", b"2")
    # It does not count: with one of the two others away there is no quorum.
    other = next(r for r in e.followers() if r is not lost)
    os.kill(other.pid, signal.SIGSTOP)
    try:
        until(lambda: e.mode(lost) == "" and not any(e.mode(r) for r in e.running() if r is not other), 15,
              "no quorum without the one that counts")
    finally:
        os.kill(other.pid, signal.SIGCONT)
    e.wait()
    equal(sync_get(e.leader(), "/x"), b"2", "nothing was lost")


def test_bad_members_are_told_and_the_rest_goes_on(t):
    e = t.ensemble(start=False)
    good = e.replicas[:2]
    for replica in good:
        replica.start(wait=False)
    for replica in good:
        replica.wait_ready()
    c = zk.Raw(good[0])
    c.create("/fine", b"")
    foreign = t.ensemble()  # a cluster of its own, once something was logged in it
    until(lambda: all(foreign.words(r)["zk_coord_members_version"] != "0" for r in foreign.replicas), 20, "its list")
    foreign.same_state()
    data = foreign.replicas[2].data_dir
    foreign.replicas[2].terminate()
    cases = [
        ("wrong secret", {"coord.peerSecret": "another"}, "secret"),
        ("member list", {"server.4": "127.0.0.1:1:2"}, "member"),
        ("another cluster", {"dataDir": data}, "cluster"),
    ]
    for what, config, word in cases:
        bad = e.member(t, 3, config)
        bad.start(wait=False)
        until(lambda b=bad, w=word: any(w in line for line in b.log_text().splitlines() if "peers" in line), 15,
              "%s: a line in its log" % what)
        until(lambda b=bad, w=word: any(w in line for line in b.four("memb").decode().splitlines()
                                        if line.startswith(("Trouble", "Alarm"))), 10, what + ": its status tells")
        c.set("/fine", what.encode())
        equal(e.mode(bad), "", "it does not serve")
        bad.kill9()
    third = e.replicas[2].start()
    equal(sync_get(third, "/fine"), cases[-1][0].encode(), "the right third member joins")
    e.same_state()


def test_two_servers_of_one_id(t):
    e = t.ensemble()
    c = zk.Raw(e.leader())
    c.create("/fine", b"")
    follower = e.followers()[0]
    epoch = e.epoch()
    twin = e.member(t, follower.number, {"coord.peerAddress": "127.0.0.2"})
    twin.start(wait=False)
    told(twin, "")
    c.set("/fine", b"still")
    equal(sync_get(follower, "/fine"), b"still", "the true one goes on")
    equal(e.epoch(), epoch, "no change of leader")
    equal(e.mode(twin), "", "the twin does not serve")


def test_two_replicas_need_each_other(t):
    e = t.ensemble(size=2)
    c = zk.Raw(e.replicas[0])
    c.create("/two", b"1")
    away = e.followers()[0]
    left = e.leader()
    away.kill9()
    until(lambda: e.mode(left) == "", 10, "one of two does not serve")
    away.restart()
    e.wait()
    equal(sync_get(left, "/two"), b"1", "what was acknowledged")
    until(lambda: write(left, "/more"), 10, "writes go on")
    e.same_state()


def test_five_go_on_without_any_two(t):
    e = t.ensemble(size=5)
    writers = history.prepare(e.any())
    for w in writers:
        w.start()
    dice = random.Random(6)
    for turn in range(count(5, 100)):
        victims = [e.leader(), dice.choice(e.followers())] if turn % 2 else dice.sample(e.replicas, 2)
        for victim in victims:
            victim.process.kill()
        for victim in victims:
            victim.process.wait(20)
        goal = sum(w.acked_set for w in writers) + 20
        until(lambda g=goal: sum(w.acked_set for w in writers) >= g or any(w.error for w in writers), 20,
              "writes go on without %s" % [v.number for v in victims])
        e.start()
    settle(e, writers)


def test_observer_serves_and_does_not_vote(t):
    e = t.ensemble(size=4, observers=(4,))
    observer = e.replicas[3]
    c = zk.Raw(observer)
    c.create("/from-observer", b"1")
    equal(sync_get(e.leader(), "/from-observer"), b"1", "written at the observer")
    observer.kill9()
    until(lambda: write(e.leader(), "/without"), 10, "writes without it")
    observer.restart()
    equal(sync_get(observer, "/without"), b"x", "what it missed")
    follower = e.followers()
    for replica in [r for r in follower if r is not observer]:
        replica.kill9()
    leader = [r for r in e.running() if r is not observer][0]
    until(lambda: e.mode(leader) == "" and e.mode(observer) == "", 10, "an observer makes no majority")


def certificates(t, authority, name):
    """Keys of coord.peerTls.* for `name`, signed by an authority that is made if need be."""
    ca, key = t.path(authority + ".pem"), t.path(authority + ".key")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    if not os.path.exists(ca):
        run("openssl", "req", "-x509", *curve, "-keyout", key, "-out", ca, "-days", "30", "-subj", "/CN=" + authority)
    own = t.path("%s-%s" % (authority, name))
    run("openssl", "req", *curve, "-keyout", own + ".key", "-out", own + ".csr", "-subj", "/CN=" + name)
    run("openssl", "x509", "-req", "-in", own + ".csr", "-CA", ca, "-CAkey", key, "-CAcreateserial", "-days", "30",
        "-out", own + ".pem")
    return {"coord.peerTls.cert": own + ".pem", "coord.peerTls.key": own + ".key", "coord.peerTls.ca": ca,
            "coord.peerSecret": None}


def test_certificates_between_replicas(t):
    e = t.ensemble(start=False)
    e.replicas = [e.member(t, n, certificates(t, "ours", "server%d" % n)) for n in (1, 2, 3)]
    for replica in e.replicas[:2]:
        replica.start(wait=False)
    e.wait()
    c = zk.Raw(e.replicas[0])
    c.create("/fine", b"")
    stranger = e.member(t, 3, certificates(t, "theirs", "server3"))
    stranger.start(wait=False)
    told(stranger, "certificate")
    c.set("/fine", b"still")
    equal(e.mode(stranger), "", "it does not serve")
    stranger.kill9()
    plain = e.member(t, 3)
    plain.start(wait=False)
    told(plain, "")
    c.set("/fine", b"yet")
    equal(e.mode(plain), "", "without TLS it does not serve")
    plain.kill9()
    equal(sync_get(e.replicas[2].start(), "/fine"), b"yet", "the right one joins")
    e.same_state()


def told(replica, word):
    """The replica concerned says in its status what is wrong."""
    def lines():
        return [line for line in replica.four("memb").decode().splitlines()
                if line.startswith(("Trouble", "Alarm")) and word in line]
    return until(lines, 15, "its status speaks of %r" % word)


def test_clocks_hours_apart(t):
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faults", "clock_offset.c")
    library = t.path("clock_offset.so")
    run("gcc", "-shared", "-fPIC", "-O1", "-o", library, source, timeout=60)
    e = t.ensemble(start=False, config={"tickTime": 500})
    for replica, hours in zip(e.replicas, (0, -5, 7)):
        replica.env.update({"LD_PRELOAD": library, "COORD_CLOCK_HOURS": str(hours)})
    e.start()
    for replica in e.replicas:
        told(replica, "minutes apart")
        check("minutes apart" in replica.log_text(), "a line in its log")
    keeper = zk.Raw(e.replicas[0], timeout=4000)
    keeper.create("/kept", b"", flags=zk.EPHEMERAL)
    for turn in range(3):  # each clock leads at times
        victim = e.leader()
        victim.kill9()
        new = e.leader(but=victim)
        until(lambda n=turn, r=new: write(r, "/t%d" % n), 10, "writes go on")
        keeper = until(lambda r=new, old=keeper: resumed(r, old), 4, "no session expires by a clock")
        check(keeper.stat("/kept") is not None, "its ephemeral")
        victim.restart()
    e.same_state()
    for turn in range(3):
        equal(sync_get(e.replicas[0], "/t%d" % turn), b"x", "nothing is lost")
