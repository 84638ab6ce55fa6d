"""Issue 2, must hold 1: the Python example of the field works unmodified with kazoo against coordd."""

import os
import threading

from lib import check, equal, run, until


def test_example_runs_unmodified(t):
    r = t.replica()
    example = os.path.join(os.path.dirname(os.path.abspath(__file__)), "field_example.py")
    done = run("/usr/bin/python3", example, r.address, timeout=30)
    equal(done.out.splitlines(), ["data hello version 0", "watch saw ['hello', 'world', None]"], "output")


def test_lock_recipe(t):
    """kazoo's Lock between eight clients: never two holders."""
    r = t.replica()
    holders, most, turns = [0], [0], [0]
    guard = threading.Lock()
    errors = []

    def contend():
        try:
            client = t.kazoo(r)
            lock = client.Lock("/locks/one", "me")
            for _ in range(5):
                with lock:
                    with guard:
                        holders[0] += 1
                        most[0] = max(most[0], holders[0])
                        turns[0] += 1
                    client.sync("/locks")
                    with guard:
                        holders[0] -= 1
        except Exception as error:  # reported by the main thread
            errors.append(error)
    threads = [threading.Thread(target=contend, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    check(not errors and not any(thread.is_alive() for thread in threads), "a client failed or hangs", errors)
    equal((most[0], turns[0]), (1, 40), "holders at once, turns")


def test_recipes_queue_counter_election(t):
    r = t.replica()
    one, two = t.kazoo(r), t.kazoo(r)
    queue = one.Queue("/queue")
    for number in range(20):
        queue.put(b"%d" % number)
    equal([two.Queue("/queue").get() for _ in range(20)], [b"%d" % n for n in range(20)], "first in, first out")
    counter = one.Counter("/counter")
    for _ in range(5):
        counter += 2
    equal(two.Counter("/counter").value, 10, "counter")
    party_one, party_two = one.Party("/party", "one"), two.Party("/party", "two")
    party_one.join()
    party_two.join()
    equal(sorted(party_one), ["one", "two"], "party")
    two.stop()
    until(lambda: sorted(party_one) == ["one"], 5, "a member that stops leaves the party")


def test_children_watch_and_transactions(t):
    r = t.replica()
    client = t.kazoo(r)
    client.ensure_path("/app1/parts")
    seen = []
    client.ChildrenWatch("/app1/parts")(lambda children: seen.append(sorted(children)))
    transaction = client.transaction()
    transaction.create("/app1/parts/a", b"1")
    transaction.create("/app1/parts/b", b"2")
    transaction.check("/app1", 0)
    equal(transaction.commit(), ["/app1/parts/a", "/app1/parts/b", True], "transaction")
    until(lambda: seen[-1] == ["a", "b"], 5, "ChildrenWatch")
    client.delete("/app1", recursive=True)
    check(client.exists("/app1") is None, "deleted")
