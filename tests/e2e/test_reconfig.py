"""Issue 3, items 5 and 9: servers come, go and change their role while the ensemble runs; the feature level."""

import os
import random
import re
import shutil
import subprocess
import time

import history
import zk
from lib import Failure, check, count, equal, free_port, program, run, until
from test_ensemble import settle, sync_get, told, write

DEADLINE_ALL = count(180, 1800)


# --- what an administrator does ---

def ctl(replica, *argv, ok=True, stdin=None):
    """coordctl as root on the replica's host. A change that has to go through is asked for until those that it needs
    have caught up: one that has just connected, or been cut off for a moment under load, is not counted."""
    end = time.monotonic() + 10
    while True:
        done = run(program("coordctl"), "--server", replica.source, *argv, ok=False, stdin=stdin)
        if ok and "new_config_no_quorum" in done.err and time.monotonic() < end:
            continue
        if ok and done.returncode != 0:
            raise Failure("coordctl %s: %s" % (" ".join(argv), done.err))
        return done


def started(replica, *argv):
    return subprocess.Popen([program("coordctl"), "--server", replica.source] + list(argv), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def refused(replica, *argv, says):
    done = ctl(replica, *argv, ok=False)
    equal(done.returncode, 1, "coordctl %s: %s" % (" ".join(argv), done.err))
    for word in says:
        check(word in done.err, "the message says %r" % word, done.err)
    return done


def configuration(replica):
    """({id: line}, version) as /zookeeper/config has it, after a sync."""
    c = zk.Raw(replica)
    c.ok(zk.SYNC, zk.ustr("/zookeeper/config"))
    text = c.get("/zookeeper/config")[0].decode()
    c.close_socket()
    return parsed(text)


def parsed(text):
    lines = text.strip().splitlines()
    check(lines and lines[-1].startswith("version="), "the last line is the version", text)
    members = {int(re.match(r"server\.(\d+)=", line).group(1)): line for line in lines[:-1]}
    equal(list(members), sorted(members), "ascending")
    return members, int(lines[-1][8:], 16)


def members(replica):
    return sorted(configuration(replica)[0])


def has_list(e):
    c = zk.Raw(e.leader())
    text = c.get("/zookeeper/config")[0]
    c.close_socket()
    return b"version=" in text and not text.endswith(b"version=0")


def begun(t, **options):
    """An ensemble whose first list is written down."""
    e = t.ensemble(**options)
    until(lambda: has_list(e), 20, "the first list")
    return e


def guest(t, e, number, config=None):
    """A server with the present members and itself in its file, and no data; it follows."""
    line = {"server.%d" % number: "127.0.0.1:%d:1" % free_port()}
    replica = e.member(t, number, dict(line, **(config or {})))
    e.replicas.append(replica)
    replica.start()
    following(e, replica)
    return replica


def following(e, replica, seconds=20):
    until(lambda: e.mode(replica) in ("follower", "observer"), seconds, "server %d follows" % replica.number)


def spec(replica, role="participant"):
    host, port = replica.config["server.%d" % replica.number].split(":")[:2]
    return "%d=%s:%s:1:%s;%s:%d" % (replica.number, host, port, role, replica.host, replica.port)


def add(e, replica, role="participant", through=None):
    done = ctl(through or random.choice(e.followers()), "reconfig", "--add", spec(replica, role))
    check(replica.number in parsed(done.out)[0], "the new configuration is printed", done.out)
    e.keys["server.%d" % replica.number] = replica.config["server.%d" % replica.number]
    return parsed(done.out)


def remove(e, replica, through=None):
    done = ctl(through or random.choice([r for r in e.running() if r is not replica]),
               "reconfig", "--remove", str(replica.number))
    check(replica.number not in parsed(done.out)[0], "the new configuration is printed", done.out)
    e.keys.pop("server.%d" % replica.number)
    return parsed(done.out)


def gone(e, replica):
    """Stops a removed server, cleanly."""
    e.replicas.remove(replica)
    equal(replica.terminate(), 0, "server %d stops" % replica.number)


def emptied(replica):
    shutil.rmtree(replica.data_dir)
    os.makedirs(replica.data_dir)
    with open(os.path.join(replica.data_dir, "myid"), "w") as f:
        f.write("%d\n" % replica.number)


def memb(replica):
    return replica.four("memb").decode()


def value(text, key):
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)[key]


class Load:
    """Clients that write all the time, each to a server by chance; what they are told is judged at the end."""

    def __init__(self, e):
        self.e = e
        self.writers = history.prepare(e.any())
        for w in self.writers:
            w.start()

    def acked(self):
        return sum(w.acked_set for w in self.writers)

    def goes_on(self, what, writes=30, seconds=20):
        goal = self.acked() + writes
        until(lambda: self.acked() >= goal or any(w.error for w in self.writers), seconds, "writes go on " + what)

    def judge(self):
        settle(self.e, self.writers)


# --- servers come and go ---

def test_two_servers_join_and_leave_under_load(t):
    e = begun(t)
    load = Load(e)
    version = configuration(e.leader())[1]
    for _ in range(count(1, 20)):
        for number in (4, 5):
            joiner = guest(t, e, number)
            load.goes_on("with a guest")
            _, now = add(e, joiner)
            check(now > version, "the version rises", now, version)
            version = now
            load.goes_on("with server %d" % number)
        equal(members(e.leader()), [1, 2, 3, 4, 5], "members")
        equal(e.words(e.leader())["zk_quorum_size"], "5", "participants")
        # The new ones count: without two of the old ones there is still a majority.
        away = [r for r in e.replicas if r.number <= 3 and r is not e.leader()][:2]
        for replica in away:
            replica.kill9()
        load.goes_on("with the new ones")
        for replica in away:
            replica.restart()
        for number in (5, 4):
            leaver = next(r for r in e.replicas if r.number == number)
            remove(e, leaver)
            load.goes_on("without server %d" % number)
            gone(e, leaver)
        equal(members(e.leader()), [1, 2, 3], "members")
        # Those that left count no more: one of three may be away.
        away = e.followers()[0]
        away.kill9()
        load.goes_on("with two of three")
        away.restart()
    load.judge()


def test_a_guest_serves_and_counts_for_nothing(t):
    e = begun(t)
    joiner = guest(t, e, 4)
    c = zk.Raw(joiner)
    c.create("/by-a-guest", b"1")
    for replica in e.replicas:
        equal(sync_get(replica, "/by-a-guest"), b"1", "at server %d" % replica.number)
    check("server 4 is not a member" in memb(joiner), "it says what it is", memb(joiner))
    epoch = e.epoch()
    for replica in e.followers():
        if replica is not joiner:
            replica.kill9()
    left = next(r for r in e.running() if r is not joiner)
    until(lambda: e.mode(left) == "" and e.mode(joiner) == "", 15, "a guest makes no majority")
    e.start()
    check(e.epoch() > epoch, "a new epoch")
    following(e, joiner)
    equal(members(joiner), [1, 2, 3], "members")
    e.same_state()


def test_the_leader_is_removed(t):
    e = begun(t, size=4)
    load = Load(e)
    for through_itself in (False, True):
        victim = e.leader()
        remove(e, victim, through=victim if through_itself else None)
        until(lambda v=victim: next((r for r in e.running() if r is not v and e.mode(r) == "leader"), None), 15,
              "another leader")
        load.goes_on("under another leader")
        following(e, victim)
        check("is not a member" in memb(victim), "the old leader says that it is a guest", memb(victim))
        check(victim.number not in members(victim), "and sees the list", members(victim))
        victim.kill9()
        victim.restart()
        following(e, victim)
        gone(e, victim)
    equal(len(members(e.leader())), 2, "two are left")
    load.goes_on("with the two that are left")
    refused(e.leader(), "reconfig", "--remove", str(e.followers()[0].number), says=["two participants", "nothing was"])
    load.judge()


def test_a_voter_becomes_an_observer_and_back(t):
    e = begun(t)
    load = Load(e)
    follower = e.followers()[0]
    leader = e.leader()
    for victim in (follower, leader):
        number = victim.number
        if victim is follower:
            done = ctl(victim, "reconfig", "--role", "%d=observer" % number, ok=False)
            check(done.returncode == 2 and "'%d=observer;CLIENTPORT'" % number in done.err,
                  "a list from the files does not say where clients go", done.err)
        ctl(e.leader(), "reconfig", "--role", "%d=observer;%d" % (number, victim.port))
        until(lambda v=victim: e.mode(v) == "observer", 15, "server %d observes" % number)
        line = configuration(e.leader())[0][number]
        check(line.endswith(":observer;0.0.0.0:%d" % victim.port), "its line", line)
        load.goes_on("with an observer")
        equal(e.words(e.leader())["zk_quorum_size"], "2", "participants")
        # It does not count: it may be away, and the two others may not.
        victim.kill9()
        load.goes_on("without the observer")
        victim.restart()
        other = next(r for r in e.followers() if r is not victim)
        other.kill9()
        until(lambda: not any(e.mode(r) for r in e.running()), 15, "one participant of two is no majority")
        other.restart()
        e.leader()
        following(e, victim)
        ctl(e.leader(), "reconfig", "--role", "%d=participant" % number)
        until(lambda v=victim: e.mode(v) in ("follower", "leader"), 15, "server %d votes" % number)
        away = next(r for r in e.replicas if r is not victim)
        away.kill9()
        load.goes_on("with its vote")
        away.restart()
    done = ctl(e.leader(), "reconfig", "--role", "%d=participant" % follower.number)
    equal(parsed(done.out), configuration(e.leader()), "a role that it has already: nothing changes")
    load.judge()


def test_observers_join_and_become_participants(t):
    e = begun(t)
    joiner = guest(t, e, 4)
    add(e, joiner, role="observer")
    until(lambda: e.mode(joiner) == "observer", 10, "it observes")
    equal(e.words(e.leader())["zk_quorum_size"], "3", "participants")
    ctl(joiner, "reconfig", "--role", "4=participant")
    until(lambda: e.mode(joiner) == "follower", 10, "it votes")
    equal(e.words(e.leader())["zk_quorum_size"], "4", "participants")
    away = e.followers()
    away = next(r for r in away if r is not joiner)
    away.kill9()
    until(lambda: write(e.leader(), "/three-of-four"), 10, "three of four")
    away.restart()
    e.same_state()


# --- what is refused ---

def test_refusals_change_nothing_and_say_what_to_do(t):
    e = begun(t)
    leader, follower = e.leader(), e.followers()[0]
    before = configuration(leader)
    absent = "4=127.0.0.1:%d;2181" % free_port()
    for replica in (leader, follower):
        refused(replica, "reconfig", "--add", absent,
                says=["start server 4 first", "coordctl status", "new_config_no_quorum", "nothing was changed"])
        refused(replica, "reconfig", "--remove", "1", "--version", "%x" % (before[1] - 1),
                says=["version %x" % before[1], "bad_version"])
    port = before[0][1].split(":")[1]
    refused(leader, "reconfig", "--add", "4=127.0.0.1:%s" % port, says=["another member has that address"])
    refused(leader, "reconfig", "--add", "1=127.0.0.1:%d" % free_port(), says=["remove it, then add it"])
    for argv, word in ((["--add", "nonsense"], "HOST:PORT"), (["--remove", "0"], "from 1 to 254"),
                       (["--role", "1=leader"], "observer"), (["--role", "9=observer"], "not a member"), ([], "--add"),
                       (["--remove", "1", "--version", "xyz"], "hexadecimal"),
                       (["--remove", "1", "--add", absent], "--"), (["--remove", "1", "--remove", "2"], "--remove")):
        done = ctl(leader, "reconfig", *argv, ok=False)
        check(done.returncode == 2 and word in done.err, "usage: %r" % argv, done.returncode, done.err)
    done = run(program("coordctl"), "--server", leader.address, "reconfig", "--remove", "1", ok=False)
    check(done.returncode == 1 and "reconfigEnabled=true" in done.err and "Unix socket" in done.err, "over TCP",
          done.err)
    equal(configuration(follower), before, "nothing has changed")
    done = ctl(follower, "reconfig", "--remove", "77")
    equal(parsed(done.out), before, "who is no member can be removed: nothing changes")
    until(lambda: write(leader, "/goes-on"), 5, "writes go on")
    equal(parsed(ctl(follower, "config").out), before, "coordctl config")
    check("server.1=127.0.0.1:" in leader.four("conf").decode(), "conf")
    e.same_state()


def test_a_server_that_is_alone_has_nothing_to_change(t):
    r = t.replica()
    equal(ctl(r, "config").out, "", "no configuration")
    refused(r, "reconfig", "--add", "2=127.0.0.1:%d" % free_port(), says=["alone"])
    refused(r, "reconfig", "--role", "1=observer", says=["alone"])


def test_kazoo_changes_the_members_unmodified(t):
    from kazoo import exceptions
    e = begun(t, config={"reconfigEnabled": "true", "DigestAuthenticationProvider.superDigest": zk.SUPER_DIGEST})
    admin = t.kazoo(e.leader(), auth_data=[("digest", "super:test")])
    plain = t.kazoo(e.followers()[0])
    seen = []
    plain.DataWatch("/zookeeper/config")(lambda data, stat: seen.append(data))
    joiner = guest(t, e, 4)
    new = "server.4=127.0.0.1:%s:3888:observer;127.0.0.1:%d" % (joiner.config["server.4"].split(":")[1], joiner.port)
    version = configuration(e.leader())[1]
    absent = "server.5=127.0.0.1:%d:3888:participant;127.0.0.1:2181" % free_port()

    def fails(error, client, joining=None, leaving=None, whole=None, from_config=-1):
        try:
            got = client.reconfig(joining=joining, leaving=leaving, new_members=whole, from_config=from_config)
        except error:
            return
        check(False, "expected %s" % error.__name__, got)
    fails(exceptions.BadVersionError, plain, joining=new, from_config=version + 1)
    fails(exceptions.BadArgumentsError, admin, joining="some thing")
    fails(exceptions.NewConfigNoQuorumError, admin, joining=absent)
    fails(exceptions.NoAuthError, plain, joining=new)
    equal(configuration(e.leader())[1], version, "nothing has changed")

    data, stat = admin.reconfig(joining=new, leaving=None, new_members=None, from_config=version)
    check(new.encode() in data, "the new configuration", data)
    equal(stat.version, -1, "its Stat")
    now = int(data.splitlines()[-1].split(b"=")[1], 16)
    check(now > version, "the version rises", now, version)
    until(lambda: seen[-1] == data, 10, "the DataWatch has the new configuration")
    equal(plain.get("/zookeeper/config")[0], data, "the node")
    until(lambda: e.mode(joiner) == "observer", 10, "it observes")

    fails(exceptions.BadVersionError, admin, leaving="4", from_config=version)
    data, _ = admin.reconfig(joining=None, leaving="4", new_members=None, from_config=now)
    check(b"server.4" not in data, "it is out", data)
    until(lambda: seen[-1] == data, 10, "the DataWatch again")
    whole = ",".join(line.decode() for line in data.splitlines()[:-1]) + "," + new.replace("observer", "participant")
    data, _ = admin.reconfig(joining=None, leaving=None, new_members=whole)
    check(new.replace("observer", "participant").encode() in data, "the whole list at once", data)
    until(lambda: seen[-1] == data, 10, "the DataWatch once more")
    e.same_state()


# --- disks and files ---

def test_a_removed_server_comes_back_under_its_id_with_an_empty_disk(t):
    e = begun(t)
    load = Load(e)
    for _ in range(count(2, 20)):
        back = e.followers()[0]
        remove(e, back)
        back.terminate()
        emptied(back)
        load.goes_on("with two servers")
        back.config = dict(e.keys, **{"server.%d" % back.number: back.config["server.%d" % back.number]})
        back.restart()
        following(e, back)
        add(e, back)
        load.goes_on("with three servers")
        away = next(r for r in e.followers() if r is not back)
        away.kill9()
        load.goes_on("with the one that came back")
        away.restart()
    load.judge()
    for replica in e.replicas:
        check("lost its disk" not in replica.log_text(), "nobody lost a disk", replica.number)


def test_a_lost_disk_is_put_right_while_the_server_runs(t):
    e = begun(t)
    e.enrolled()
    lost = e.followers()[0]
    lost.kill9()
    emptied(lost)
    lost.restart()
    told(lost, "lost its disk")
    remove(e, lost)
    following(e, lost)
    add(e, lost)
    away = next(r for r in e.followers() if r is not lost)
    away.kill9()
    until(lambda: write(e.leader(), "/counts"), 15, "it counts again")
    away.restart()
    check("lost its disk" not in memb(lost), "and nothing is wrong any more", memb(lost))
    e.same_state()


def test_a_file_that_is_out_of_date_is_told_and_harms_nothing(t):
    e = begun(t)
    c = zk.Raw(e.leader())
    c.create("/kept", b"1")
    joiner = guest(t, e, 4)
    add(e, joiner)
    stale = e.followers()[0] if e.followers()[0] is not joiner else e.followers()[1]
    stale.config.pop("server.4", None)
    stale.terminate()
    stale.restart()
    following(e, stale)

    def says():
        return [line for line in memb(stale).splitlines() if line.startswith(("Note", "Alarm")) and "server.4" in line]
    until(says, 10, "its status tells of server.4")
    done = run(program("coordctl"), "--server", stale.address, "status", ok=False)
    check("server.4" in done.out, "coordctl status tells it", done.out)
    equal(members(stale), [1, 2, 3, 4], "it goes by the replicated list")
    equal(sync_get(stale, "/kept"), b"1", "nothing is lost")
    # A wrong role, and a server that nobody knows, in the file of one with data.
    stale.config["server.4"] = e.keys["server.4"] + ":observer"
    stale.config["server.9"] = "127.0.0.1:%d:1" % free_port()
    stale.terminate()
    stale.restart()
    following(e, stale)
    until(lambda: any("server.9" in line for line in memb(stale).splitlines()), 10, "its status tells of server.9")
    equal(members(stale), [1, 2, 3, 4], "it goes by the replicated list")
    # The same file on a server without data is refused, and says so; the others go on.
    stale.terminate()
    emptied(stale)
    stale.start(wait=False)
    told(stale, "member")
    c = zk.Raw(e.leader())
    c.set("/kept", b"2")
    equal(e.mode(stale), "", "it does not serve")
    stale.config = dict(e.keys)
    stale.terminate()
    stale.restart()
    until(lambda: e.mode(stale) == "follower", 20, "with the right file it follows")
    equal(sync_get(stale, "/kept"), b"2", "nothing is lost")
    remove(e, stale)
    add(e, stale)
    e.same_state()


# --- crashes ---

def test_all_killed_in_the_middle_of_changes(t):
    e = begun(t)
    load = Load(e)
    joiner = guest(t, e, 4)
    e.keys["server.4"] = joiner.config["server.4"]
    dice = random.Random(7)
    outcomes = set()
    for turn in range(count(8, 100)):
        before, version = configuration(e.leader())
        inside = 4 in before
        argv = ["--remove", "4"] if inside else ["--add", spec(joiner)]
        through = dice.choice(e.replicas)
        change = started(through, "--timeout", "2000", "reconfig", *argv)
        time.sleep(dice.random() * 0.04)  # the moment of the fault
        victims = e.replicas if turn % 2 else dice.sample(e.replicas, 3)
        for replica in victims:
            replica.process.kill()
        for replica in victims:
            replica.process.wait(20)
        e.start()
        out, err = change.communicate(timeout=20)
        # What a replica says of itself may be 200 ms old.
        until(lambda: [e.mode(r) for r in e.replicas].count("leader") == 1, 10, "one leader")
        for replica in e.replicas:
            until(lambda r=replica: e.mode(r) != "", 20, "server %d serves" % replica.number)
        lists = [configuration(r) for r in e.replicas]
        check(all(one == lists[0] for one in lists), "one configuration", lists)
        check(sorted(lists[0][0]) in ([1, 2, 3], [1, 2, 3, 4]), "of the two that it may be", lists[0])
        if change.returncode == 0:
            equal(4 in lists[0][0], not inside, "an acknowledged change is there: %r" % out)
        done = (4 in lists[0][0]) != inside
        check(done == (lists[0][1] > version), "the version tells of the change", lists[0], version)
        outcomes.add((inside, done))
        load.goes_on("after kill %d" % turn)
    load.judge()


def test_leader_killed_in_the_middle_of_changes(t):
    e = begun(t)
    load = Load(e)
    joiner = guest(t, e, 4)
    dice = random.Random(8)
    for turn in range(count(8, 100)):
        inside = 4 in members(e.leader())
        argv = ["--remove", "4"] if inside else ["--add", spec(joiner)]
        victim = e.leader()
        through = dice.choice([r for r in e.replicas if r is not victim])
        change = started(through, "reconfig", *argv)
        time.sleep(dice.random() * 0.03)  # the moment of the fault
        victim.kill9()
        out, _ = change.communicate(timeout=20)
        e.leader(but=victim)
        load.goes_on("after kill %d" % turn)
        now = 4 in members(e.leader())
        if change.returncode == 0:
            equal(now, not inside, "an acknowledged change is there: %r" % out)
        victim.restart()
    load.judge()


# --- the feature level ---

def level(replica):
    return int(ctl(replica, "feature-level").out)


def test_a_rollout_in_steps(t):
    e = t.ensemble(config={"coord.featureLevelMax": 1})
    load = Load(e)
    equal(level(e.leader()), 1, "what all know")
    add_it = ["reconfig", "--add", "4=127.0.0.1:%d" % free_port()]
    refused(e.leader(), *add_it, says=["feature level 1", "coordctl feature-level 2"])
    refused(e.leader(), "feature-level", "2", says=["does not know it", "nothing was changed"])

    def swap(replica, config):
        replica.terminate()
        replica.config.update({"coord.featureLevelMax": config})
        replica.restart()
        load.goes_on("after the restart of server %d" % replica.number)
    first, second, last = e.followers() + [e.leader()]
    swap(first, None)
    swap(second, None)
    refused(first, "feature-level", "2", says=["nothing was changed"])
    equal(level(first), 1, "the level is what it was")
    refused(first, *add_it, says=["feature level 1"])
    swap(second, 1)  # there is a way back
    swap(second, None)
    swap(last, None)
    equal(level(first), 1, "nobody has raised it")
    until(lambda: "knows feature level 2" in memb(e.leader()), 10, "the leader knows what the others know")
    away = e.followers()[0]
    away.kill9()
    until(lambda: "Member %d: participant, not connected" % away.number in memb(e.leader()), 10, "it is missed")
    refused(e.leader(), "feature-level", "2", says=["not connected"])
    away.restart()
    following(e, away)

    def raised():
        return ctl(e.leader(), "feature-level", "2", ok=False).out == "2\n"
    until(raised, 10, "the level is raised")
    for replica in e.replicas:
        until(lambda r=replica: value(memb(r), "Feature level").startswith("2 of 2"), 10, "its status says so")
    equal(ctl(e.leader(), "feature-level", "2").out, "2\n", "again: nothing happens")
    refused(e.leader(), "feature-level", "1", says=["lower"])
    refused(e.leader(), "feature-level", "3", says=["does not know it"])
    e.keys.pop("coord.featureLevelMax")
    until(lambda: has_list(e), 20, "the first list")
    joiner = guest(t, e, 4)
    add(e, joiner)
    load.goes_on("with a fourth server")
    load.judge()


def test_one_that_knows_less_keeps_a_new_ensemble_at_its_level(t):
    e = t.ensemble(start=False)
    e.replicas[2].config["coord.featureLevelMax"] = 1
    e.start()
    equal(level(e.leader()), 1, "what all know")
    until(lambda: write(e.leader(), "/fine"), 5, "it serves")
    refused(e.leader(), "feature-level", "2", says=["nothing was changed"])
    e.same_state()


def test_one_that_knows_less_is_refused_and_says_so(t):
    e = begun(t)
    equal(level(e.leader()), 2, "a new ensemble begins with what all know")
    c = zk.Raw(e.leader())
    c.create("/fine", b"1")
    pinned = e.followers()[0]
    e.same_state()
    pinned.terminate()
    pinned.config["coord.featureLevelMax"] = 1
    pinned.start(wait=False)
    until(lambda: not pinned.running(), 15, "it does not start on data of level 2")
    check(pinned.process.returncode > 0, "its exit status", pinned.process.returncode)
    text = pinned.log_text()
    check("feature level 2" in text and re.search(r"knows 1\b", text), "it names both numbers", text[-1500:])
    emptied(pinned)
    pinned.start(wait=False)
    line = told(pinned, "feature level")[0]
    check("1" in line and "2" in line, "its status names both numbers", line)
    told(e.leader(), "feature level")
    equal(e.mode(pinned), "", "it does not serve")
    c.set("/fine", b"2")
    pinned.terminate()
    pinned.config.pop("coord.featureLevelMax")
    pinned.restart()
    equal(sync_get(pinned, "/fine"), b"2", "the right one is let in")


def test_a_replica_that_was_alone_becomes_an_ensemble(t):
    """Its data is of level 1, and so is the ensemble, until an administrator raises it."""
    e = t.ensemble(start=False)
    first = e.replicas[0]
    everybody = dict(first.config)
    for number in (2, 3):
        first.config["server.%d" % number] = None
    first.start()
    equal(e.mode(first), "standalone", "alone")
    c = zk.Raw(first)
    c.create("/kept", b"1")
    first.terminate()
    first.config = everybody
    for replica in e.replicas:  # the one with the data first
        replica.start(wait=False)
    e.wait()
    for replica in e.replicas:
        equal(sync_get(replica, "/kept"), b"1", "at server %d" % replica.number)
    if level(e.leader()) < 2:
        until(lambda: ctl(e.leader(), "feature-level", "2", ok=False).out == "2\n", 10, "the level is raised")
    until(lambda: has_list(e), 20, "the first list")
    add(e, guest(t, e, 4))
    equal(members(e.leader()), [1, 2, 3, 4], "members")
    e.same_state()
    first.terminate()
    for number in (2, 3):
        first.config["server.%d" % number] = None
    first.start(wait=False)
    until(lambda: not first.running(), 15, "it does not go alone again")
    check(first.process.returncode > 0, "its exit status", first.process.returncode)
    check("belongs to an ensemble" in first.log_text(), "and says why", first.log_text()[-1500:])


def test_status_shows_the_list_and_the_level(t):
    e = begun(t)
    version = configuration(e.leader())[1]
    source = ",".join(r.address for r in e.replicas)

    def status():
        return run(program("coordctl"), "--server", source, "status", ok=False)
    until(lambda: status().returncode == 0, 10, "all is well")
    out = status().out
    check("Members: version %x\n" % version in out and "Feature level: 2 of 2 known\n" in out, "status", out)
    for replica in e.replicas:
        text = memb(replica)
        equal(value(text, "Members"), "%x" % version, "memb")
        equal(value(text, "Reconfiguring"), "no", "memb")
        words = e.words(replica)
        equal(words["zk_coord_members_version"], "%x" % version, "mntr")
        equal((words["zk_coord_feature_level"], words["zk_coord_feature_level_known"]), ("2", "2"), "mntr")
        check("version=%x" % version in replica.four("conf").decode(), "conf")
    follower = e.followers()[0]
    remove(e, follower)
    gone(e, follower)
    now = configuration(e.leader())[1]
    text = e.leader().four("conf").decode()
    check("server.%d=" % follower.number not in text and "version=%x" % now in text, "conf has the new list", text)
