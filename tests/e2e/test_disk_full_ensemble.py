"""A member of an ensemble that has no room: the others go on, it leaves without a crash, and comes back by itself.

One that leads hands over before that."""

import os
import threading
from types import SimpleNamespace

import zk
from lib import Failure, check, equal, program, run, until
from test_disk_full import small_disk

DEADLINE_ALL = 200
VALUE = os.urandom(50_000)
CONFIG = {"coord.journalSize": "1M", "coord.logKeepSize": "1M", "coord.growSize": "4M"}
NO_ROOM = "no room for what the ensemble has decided"


def start_others_first(e, small):
    """So that one of them leads."""
    for replica in e.replicas:
        if replica is not small:
            replica.start(wait=False)
    e.wait()
    small.start()
    e.enrolled()
    check(e.leader() is not small, "another one leads")


def create_all(c, count, prefix):
    """The paths of nodes whose creation was acknowledged; none may be refused."""
    paths = ["/%s%05d" % (prefix, number) for number in range(count)]
    for path in paths:
        c.create(path, VALUE)
    return paths


def all_there(replica, paths):
    c = zk.Raw(replica, timeout=40000, seconds=30)
    c.ok(zk.SYNC, zk.ustr("/"))
    for path in paths:
        check(c.get(path)[0] == VALUE, "acknowledged data of %s is wrong or gone at %d" % (path, replica.number))
    c.close()


def test_a_follower_whose_map_is_used_up_leaves_and_comes_back_with_a_larger_one(t):
    e = t.ensemble(config=CONFIG, start=False)
    small = e.replicas[0]
    small.config["coord.mapSize"] = "64M"
    start_others_first(e, small)
    c = zk.Raw(e.leader(), timeout=40000, seconds=30)
    paths = create_all(c, 1500, "a")
    until(lambda: not small.running() or NO_ROOM in small.log_text(), 20, "the small one says that it has no room")
    check(small.running(), "it lives", small.process.returncode, small.log_text()[-3000:])
    check("coord.mapSize" in small.log_text(), "the line names the setting")
    equal(e.mode(small), "", "what cannot follow does not serve")
    said = run(program("coordctl"), "--server", small.address, "status", ok=False)
    check("Alarm" in said.out and "coord.mapSize" in said.out, "coordctl status says so too", said.out)
    paths += create_all(c, 50, "b")
    epoch = e.epoch()
    equal(small.terminate(), 0, "a clean end")
    small.start(wait=False)
    until(lambda: not small.running(), 20, "started again it finds no room to start with")
    equal(small.process.returncode, 1, "exit status")
    check("make coord.mapSize larger" in small.log_text(), "it says why", small.log_text()[-1000:])
    equal(small.log_text().count("MiB of reserve"), 1, "once, and its data is not given up for that of the others")
    small.config["coord.mapSize"] = "80M"
    small.start(wait=False)
    until(lambda: small.log_text().count(NO_ROOM) >= 2, 20, "large enough to start, but not for the tree of the others")
    check(small.running(), "it lives", small.process.returncode, small.log_text()[-3000:])
    paths += create_all(c, 50, "c")
    equal(small.terminate(), 0, "a clean end")
    small.config.pop("coord.mapSize")
    small.restart()
    e.same_state()
    equal(e.epoch(), epoch, "the epoch: nobody else was disturbed")
    for replica in e.replicas:
        all_there(replica, paths)


def on_a_small_disk(t, replica, mebibytes, filler=0):
    disk = small_disk(t, mebibytes, "disk%d" % replica.number)
    if filler:
        run("fallocate", "-l", "%dM" % filler, disk + "/filler")
    replica.data_dir = disk + "/data"
    with open(replica.data_dir + "/myid", "w") as f:
        f.write("%d\n" % replica.number)
    return disk


def with_a_full_follower(t):
    """An ensemble, its member without room, that one's disk with a file to remove, a client, what is acknowledged."""
    e = t.ensemble(config=CONFIG, start=False)
    small = e.replicas[0]
    disk = on_a_small_disk(t, small, 400, 340)
    start_others_first(e, small)
    c = zk.Raw(e.leader(), timeout=40000, seconds=30)
    paths = create_all(c, 1500, "a")
    until(lambda: not small.running() or NO_ROOM in small.log_text(), 20, "the small one says that it has no room")
    check(small.running(), "it lives", small.process.returncode, small.log_text()[-3000:])
    return e, small, disk, c, paths


def test_a_follower_whose_disk_is_full_leaves_and_comes_back_when_there_is_space(t):
    e, small, disk, c, paths = with_a_full_follower(t)
    check(small.data_dir in small.log_text().split(NO_ROOM)[1], "the line names the directory")
    epoch = e.epoch()
    paths += create_all(c, 50, "b")
    os.unlink(disk + "/filler")
    e.wait()
    e.same_state()
    equal(e.epoch(), epoch, "the epoch: nobody else was disturbed")
    for replica in e.replicas:
        all_there(replica, paths)


def test_a_full_follower_that_is_killed_loses_nothing(t):
    """What it acknowledged is there when it is needed for a majority again, and the rest comes from the others."""
    e, small, disk, c, paths = with_a_full_follower(t)
    small.kill9()
    os.unlink(disk + "/filler")
    small.restart()
    e.same_state()
    other = e.followers()[0] if e.followers()[0] is not small else e.followers()[1]
    other.kill9()
    all_there(small, paths)


def create_with_retries(client, count, prefix):
    """As a client of the field does; none may be refused."""
    from kazoo.exceptions import NodeExistsError
    from kazoo.retry import KazooRetry
    retry = KazooRetry(max_tries=50, delay=0.1, max_delay=0.5)
    paths = ["/%s%05d" % (prefix, number) for number in range(count)]
    for path in paths:
        try:
            retry(client.create, path, VALUE)
        except NodeExistsError:
            pass  # the answer was lost with the connection
    return paths


def test_a_leader_whose_disk_is_full_hands_over_and_no_write_is_refused(t):
    e = t.ensemble(config=CONFIG, start=False)
    disks = {replica: on_a_small_disk(t, replica, 400) for replica in e.replicas}
    e.start()
    e.enrolled()
    small = e.leader()
    run("fallocate", "-l", "340M", disks[small] + "/filler")
    epoch = e.epoch()
    paths = create_with_retries(t.kazoo(SimpleNamespace(address=e.source), timeout=20.0), 1500, "a")
    check(small.running(), "it lives", small.process.returncode, small.log_text()[-3000:])
    check(e.leader() is not small, "another one leads")
    equal(e.epoch(), epoch + 1, "one change of leader")
    check("leaves the office" in small.log_text(), "it says so", small.log_text()[-3000:])
    os.unlink(disks[small] + "/filler")
    e.wait()
    e.same_state()
    equal(e.epoch(), epoch + 1, "the epoch")
    for replica in e.replicas:
        all_there(replica, paths)


def connected(replica):
    try:
        return zk.Raw(replica, timeout=20000, seconds=30)
    except (Failure, OSError):
        return None


def burst(replica, number, value, acknowledged):
    """Creates nodes, eight on their way at once, until some are refused. A leader whose disk is nearly full may hand
    over once, to one that has a little more left: then connections are closed."""
    c = until(lambda: connected(replica), 30, "a server that serves")
    sent, refused = 0, 0
    while refused < 20 and sent < 4000:
        batch = []
        try:
            for _ in range(8):
                path = "/b%d_%d" % (number, sent)
                sent += 1
                batch.append((path, c.post(zk.CREATE, zk.create_body(path, value))))
            for path, xid in batch:
                got = c.reply(xid)
                check(got.err in (0, zk.QUOTA_EXCEEDED), "an answer", got.err)
                refused += got.err != 0
                if got.err == 0:
                    acknowledged.append(path)
        except (Failure, OSError) as failure:
            if "closed" not in str(failure) and not isinstance(failure, OSError):
                raise
            c = until(lambda: connected(replica), 30, "a server that serves")
    check(refused, "the disks are full in the end", sent)
    c.close()


def test_equal_disks_that_fill_up_under_a_burst_refuse_writes_and_serve_on(t):
    """What is on its way when the disks are nearly full fits what is left: nobody leaves, reads and deletes go on."""
    e = t.ensemble(start=False)
    for replica in e.replicas:
        on_a_small_disk(t, replica, 400, 200)
    e.start()
    e.enrolled()
    epoch = e.epoch()
    value = os.urandom(800_000)
    acknowledged, failures = [], []

    def writer(number):
        try:
            burst(e.replicas[number % 3], number, value, acknowledged)
        except BaseException as failure:  # told by the test itself
            failures.append(failure)

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
        check(not thread.is_alive(), "a writer hangs")
    check(not failures, "all writers were answered", failures)
    check(e.epoch() <= epoch + 1, "at most one hands over", epoch, e.epoch())
    check(not any(NO_ROOM in replica.log_text() for replica in e.replicas), "nobody left")
    for replica in e.replicas:
        c = zk.Raw(replica, timeout=40000, seconds=30)
        for path in acknowledged:
            check(c.get(path)[0] == value, "acknowledged data of %s at %d" % (path, replica.number))
        c.close()
    c = zk.Raw(e.leader(), timeout=40000, seconds=30)
    for path in acknowledged:
        c.delete(path)
    until(lambda: c.call(zk.CREATE, zk.create_body("/again", value)).err == 0, 20, "there is room again")
    e.same_state()
