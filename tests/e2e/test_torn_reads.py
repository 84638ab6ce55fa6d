"""Issue 2, must hold 4: no empty, mixed, short or padded read while writers alternate sizes.

Gate: 20 000 reads in all; soak: 1 000 000 (COORD_SOAK=1).
"""

import os
import random
import threading
import time

from lib import check, count, save, shows

BESIDE = 2
READS = count(20_000, 1_000_000)
SMALL, MIDDLE, LARGE, HUGE = 10, 4_000, 150 * 1024, 200 * 1024
DEADLINE_ALL = 240


def content(size, number):
    """A version that names itself: every 10 bytes say which it is, so that a mix or a cut shows."""
    unit = b"%09d\n" % number
    return (unit * (size // 10 + 1))[:size]


def whole(data, sizes):
    """None, or what is wrong with what was read."""
    if len(data) not in sizes:
        return "a read of %d bytes" % len(data)
    unit = data[:10]
    if data != (unit * (len(data) // 10 + 1))[:len(data)]:
        return "mixed content: begins %r, ends %r" % (data[:10], data[-10:])
    return None


class Writer(threading.Thread):
    """Alternates two sizes until told to stop; remembers its first error."""

    def __init__(self, action, sizes):
        super().__init__(daemon=True)
        self.action, self.sizes = action, sizes
        self.ended, self.error, self.saves = threading.Event(), None, 0

    def run(self):
        try:
            while not self.ended.is_set():
                self.action(content(self.sizes[self.saves % 2], self.saves % 10 ** 9))
                self.saves += 1
        except Exception as error:  # reported by the test's own thread
            self.error = error


def reader_of(path, fresh):
    """A function that reads once: with an open per read, or from offset 0 of one descriptor."""
    if fresh:
        def once():
            fd = os.open(path, os.O_RDONLY)
            try:
                return read_all(fd)
            finally:
                os.close(fd)
        return once
    fd = os.open(path, os.O_RDONLY)
    return lambda: read_all(fd)


def read_all(fd):
    """From offset 0 to the end, in pieces, as cat does: the pieces must be of one version."""
    got, at = [], 0
    while True:
        piece = os.pread(fd, 65536, at)
        if not piece:
            return b"".join(got)
        got.append(piece)
        at += len(piece)


def hunt(t, sizes, writers_of, share):
    r = t.replica()
    m = t.mount(r)
    client = t.kazoo(r)
    client.create("/f", content(sizes[0], 0))
    path = m.p("f")
    shows(path, content(sizes[0], 0))
    writers = writers_of(m, client, path)
    for writer in writers:
        writer.start()
    seed = random.randrange(2 ** 32)
    dice = random.Random(seed)
    fresh, again = reader_of(path, True), reader_of(path, False)
    versions, start = set(), time.monotonic()
    total = max(1, READS // share)
    try:
        number = 0
        # To the full count, and on until every writer has had its turns: on a busy machine a fork takes its time.
        while number < total or (any(w.saves < 6 and not w.error for w in writers) and time.monotonic() < start + 60):
            number += 1
            data = (fresh if dice.random() < 0.5 else again)()
            wrong = whole(data, sizes)
            check(wrong is None, "read %d of %d (seed %d): %s" % (number, total, seed, wrong))
            versions.add((len(data), data[:10]))
    finally:
        for writer in writers:
            writer.ended.set()
        for writer in writers:
            writer.join(20)
    for writer in writers:
        check(writer.error is None, "a writer failed: %r" % writer.error)
        check(not writer.is_alive(), "a writer hangs")
        check(writer.saves > 5, "a writer made no progress: %d saves" % writer.saves)
    check(len(versions) > 5, "the reader saw only %d versions in %.1f s" % (len(versions), time.monotonic() - start))


def truncating(sizes):
    return lambda m, client, path: [Writer(lambda data: save(path, data), sizes)]


def moving(m, path, sizes, name):
    def move(data):
        save(m.p(name), data)
        os.rename(m.p(name), path)
    return Writer(move, sizes)


def test_truncate_write_close_small(t):
    hunt(t, (SMALL, MIDDLE), truncating((SMALL, MIDDLE)), 8)


def test_truncate_write_close_large(t):
    hunt(t, (LARGE, HUGE), truncating((HUGE, LARGE)), 8)


def test_printf_redirection(t):
    """Each save is a shell's `printf > f`: opened with O_TRUNC, flushed before and after the write."""
    import subprocess

    def by_shell(m, client, path):
        # The unit of content(), once or 400 times, under numbers that the writer gives.
        script = ('for i in 0 1 2 3 4 5 6 7; do u=$(printf %09d $(($2 * 8 + i))); printf "$u\\n" > "$1"; '
                  'printf "$u\\n%.0s" {1..400} > "$1"; done')

        def printf(data):
            subprocess.run(["bash", "-c", script, "bash", path, "%d" % int(data[:9])], check=True, timeout=60,
                           stdin=subprocess.DEVNULL)
        return [Writer(printf, (SMALL, MIDDLE))]
    hunt(t, (SMALL, MIDDLE), by_shell, 8)


def test_mv_small(t):
    hunt(t, (SMALL, MIDDLE), lambda m, c, path: [moving(m, path, (SMALL, MIDDLE), "tmp")], 8)


def test_mv_large(t):
    hunt(t, (LARGE, HUGE), lambda m, c, path: [moving(m, path, (HUGE, LARGE), "tmp")], 8)


def test_kazoo_small(t):
    hunt(t, (SMALL, MIDDLE), lambda m, client, path: [Writer(lambda d: client.set("/f", d), (SMALL, MIDDLE))], 8)


def test_kazoo_large(t):
    hunt(t, (LARGE, HUGE), lambda m, client, path: [Writer(lambda d: client.set("/f", d), (HUGE, LARGE))], 8)


def test_all_writers_together(t):
    # One size for each, so that any mix shows: truncating save and mv through the mount, set through kazoo.
    sizes = (SMALL, MIDDLE, LARGE, HUGE)

    def writers(m, client, path):
        return [Writer(lambda d: save(path, d), (SMALL, MIDDLE)), moving(m, path, (MIDDLE, LARGE), "tmp"),
                Writer(lambda d: client.set("/f", d), (HUGE, SMALL))]
    hunt(t, sizes, writers, 8)


def test_one_descriptor_stays_on_its_version(t):
    """Promise 4: an open description never returns bytes of two versions; offset 0 starts on the current one."""
    r = t.replica()
    m = t.mount(r)
    client = t.kazoo(r)
    client.create("/f", content(HUGE, 1))
    shows(m.p("f"), content(HUGE, 1))
    fd = os.open(m.p("f"), os.O_RDONLY)
    check(os.pread(fd, 10, 0) == b"%09d\n" % 1, "first version")
    client.set("/f", content(SMALL, 2))
    save(m.p("f"), content(LARGE, 3))
    check(os.pread(fd, 10, HUGE - HUGE % 10 - 10) == b"%09d\n" % 1, "a read at the end is of the pinned version")
    check(os.pread(fd, 10, 0) == b"%09d\n" % 3, "offset 0 is the current version")
    check(os.pread(fd, 100, LARGE) == b"", "and its end is the current end")
    os.close(fd)


def test_reads_never_go_back(t):
    """Promise 5: what a process reads never goes back, and includes its own completed writes."""
    r = t.replica()
    m, second = t.mount(r), t.mount(r)
    client = t.kazoo(r)
    client.create("/f", b"%012d" % 0)
    shows(m.p("f"), b"%012d" % 0)
    shows(second.p("f"), b"%012d" % 0)
    writer = Writer(lambda data: client.set("/f", b"%012d" % next_number()), (1, 1))
    number = [0]

    def next_number():
        number[0] += 1
        return number[0]
    writer.start()
    last = {m: 0, second: 0}
    for _ in range(count(2000, 50_000)):
        for mount in last:
            fd = os.open(mount.p("f"), os.O_RDONLY)
            now = int(os.read(fd, 100))
            os.close(fd)
            check(now >= last[mount], "a read went back from %d to %d" % (last[mount], now))
            last[mount] = now
    writer.ended.set()
    writer.join(10)
    check(writer.error is None, "writer", writer.error)
    for value in range(count(200, 2000)):
        save(m.p("mine"), b"%d" % value)
        fd = os.open(m.p("mine"), os.O_RDONLY)
        got = os.read(fd, 100)
        os.close(fd)
        check(got == b"%d" % value, "a process reads its own write", got, value)
