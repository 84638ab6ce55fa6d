"""Issue 2, must hold 7: random malformed frames at the client port: no crash, no leak, good clients unaffected."""

import os
import random
import socket
import struct
import threading

import zk
from lib import check, count, until

FRAMES = count(1000, 1_000_000)
DEADLINE_ALL = 180


def memory_kib(pid):
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


class Good(threading.Thread):
    """A client that must not notice anything: it writes, reads back and gets its watch events."""

    def __init__(self, replica):
        super().__init__(daemon=True)
        self.client = zk.Raw(replica, timeout=20000, seconds=15)
        self.node = self.client.create("/good")
        self.ended, self.error, self.rounds = threading.Event(), None, 0

    def run(self):
        try:
            while not self.ended.is_set():
                value = b"%d" % self.rounds
                self.client.get(self.node, watch=True)
                self.client.set(self.node, value)
                event = self.client.early.pop() if self.client.early else self.client.event()
                check(event.type == zk.CHANGED, "event", event)
                check(self.client.get(self.node)[0] == value, "value")
                self.rounds += 1
        except Exception as error:  # reported by the test
            self.error = error


def mangled(dice):
    """One frame that is wrong in one of many ways; and whether it comes behind a handshake."""
    body = bytes(dice.randrange(256) for _ in range(dice.choice((0, 1, 3, 7, 8, 9, 20, 45, 100, 1000))))
    good = zk.i32(dice.randrange(1, 100)) + zk.i32(dice.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 21, 22, 100, 101,
                                                                102, 103, 104, 105, 106, 107, 1000, 1001, 1002, 1003,
                                                                1010, 1011, 1012, 1013, 1014, 1031, 1032)))
    kind = dice.randrange(8)
    if kind == 0:
        return struct.pack(">i", dice.randrange(-2 ** 31, 2 ** 31)) + body, dice.random() < 0.5
    if kind == 1:
        return body, dice.random() < 0.5
    if kind == 2:  # announces more than it sends
        return struct.pack(">i", len(body) + dice.randrange(1, 1000)) + body, True
    if kind == 3:
        return zk.i32(8 + len(body)) + good + body, True
    if kind == 4:  # a plausible create with one byte changed
        record = bytearray(good[:4] + zk.i32(1) + zk.create_body("/m/%d" % dice.randrange(10), b"x" * 20))
        record[dice.randrange(4, len(record))] ^= 1 << dice.randrange(8)
        return zk.i32(len(record)) + bytes(record), True
    if kind == 5:  # lengths within that go far beyond
        record = good + zk.i32(dice.choice((2 ** 31 - 1, -2 ** 31, -2, 10 ** 6))) + body
        return zk.i32(len(record)) + record, True
    if kind == 6:  # a multi of garbage
        record = good[:4] + zk.i32(14) + b"".join(
            zk.i32(dice.choice((1, 2, 5, 13, -1, 99))) + bytes([dice.randrange(2)]) + zk.i32(-1)
            for _ in range(dice.randrange(1, 30))) + body
        return zk.i32(len(record)) + record, True
    request = bytearray(zk.Raw.connect_request())
    for _ in range(3):
        request[dice.randrange(len(request))] = dice.randrange(256)
    return zk.i32(len(request)) + bytes(request), False


def throw(replica, dice, frames):
    for _ in range(frames):
        data, connected = mangled(dice)
        try:
            c = zk.Raw(replica, connect=connected, timeout=4000)
        except (OSError, AssertionError):
            raise AssertionError("the server no longer accepts connections") from None
        try:
            c.send(data)
            if dice.random() < 0.5:
                c.sock.shutdown(socket.SHUT_WR)
                c.sock.settimeout(5)
                while c.sock.recv(65536):
                    pass
        except OSError:
            pass  # the server may close while we send, and must
        c.close_socket()


def test_random_malformed_frames(t):
    r = t.replica(config={"maxClientCnxns": 0, "4lw.commands.whitelist": "*"})
    seed = random.randrange(2 ** 32)
    dice = random.Random(seed)
    good = Good(r)
    good.start()
    pid = r.pid
    throw(r, dice, FRAMES // 2)
    until(lambda: b"Mode" in r.four("srvr"), 5, "seed %d: the server answers" % seed)
    # Sessions of the garbage expire by themselves; descriptors must be back at once.
    until(lambda: descriptors(pid) < 60, 15, "seed %d: descriptors are given back" % seed)
    before = memory_kib(pid)
    throw(r, dice, FRAMES // 2)
    until(lambda: descriptors(pid) < 60, 15, "seed %d: descriptors are given back" % seed)
    grown = memory_kib(pid) - before
    check(grown < 20_000, "seed %d: memory grew by %d KiB in the second half" % (seed, grown))
    check(r.running() and r.pid == pid, "seed %d: coordd lives" % seed)
    rounds = good.rounds
    until(lambda: good.rounds > rounds + 10 or good.error, 10, "the good client goes on")
    good.ended.set()
    good.join(20)
    check(good.error is None, "seed %d: the good client was disturbed: %r" % (seed, good.error))
    check(r.terminate() == 0, "a clean end")


def test_malformed_frames_on_the_unix_socket(t):
    r = t.replica()
    dice = random.Random(7)
    for _ in range(count(200, 20_000)):
        data, connected = mangled(dice)
        c = zk.Raw(r, unix=True, connect=connected, timeout=4000)
        try:
            c.send(data)
        except OSError:
            pass
        c.close_socket()
    check(zk.Raw(r, unix=True).stat("/") is not None, "the socket serves")


def test_slow_reader_does_not_hold_others(t):
    """A client that asks for much and never reads is slowed down; nobody else is."""
    r = t.replica()
    c = zk.Raw(r, timeout=40000)
    c.create("/big", os.urandom(500_000))
    lazy = zk.Raw(r, timeout=40000)
    lazy.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.sock.settimeout(0.5)
    try:
        for _ in range(2000):
            lazy.post(zk.GET, zk.ustr("/big") + zk.flag(False))
    except (socket.timeout, ConnectionError):
        pass  # the server stopped reading, or dropped it: both are fine
    for number in range(200):
        c.set("/big", b"%d" % number)
    check(memory_kib(r.pid) < 1_500_000, "unread replies pile up: %d KiB" % memory_kib(r.pid))


def test_many_connections(t):
    r = t.replica(config={"maxClientCnxns": 0})
    many = [zk.Raw(r, timeout=20000) for _ in range(500)]
    for number, c in enumerate(many):
        c.create("/many%d" % number, flags=zk.EPHEMERAL)
    for c in many:
        c.close_socket()
    pid = r.pid
    until(lambda: descriptors(pid) < 60, 15, "descriptors are given back")
