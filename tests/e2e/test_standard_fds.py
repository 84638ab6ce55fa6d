"""Programs that are started with descriptors 0, 1 and 2 closed."""

import os
import signal

import zk
from lib import check, equal, program, until


def test_log_lines_do_not_go_into_the_database(t):
    r = t.replica()
    zk.Raw(r).create("/before", b"b")
    equal(r.terminate(), 0, "a clean end")
    started = t.background("bash", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "bash", *r.command())
    r.process = started
    r.wait_ready()
    for fd in (0, 1, 2):
        equal(os.readlink("/proc/%d/fd/%d" % (started.pid, fd)), "/dev/null", "descriptor %d" % fd)
    c = zk.Raw(r)
    for number in range(20):
        c.create("/n%d" % number, b"x")
        bad = zk.Raw(r)
        bad.sock.sendall(b"\x7f\xff\xff\xff")  # a frame of that length is refused, and the log says so
        c.set("/n%d" % number, b"y")
    equal(r.terminate(), 0, "a clean end")
    r.restart()
    c = zk.Raw(r)
    equal(c.get("/before")[0], b"b", "what was there before")
    for number in range(20):
        equal(c.get("/n%d" % number)[0], b"y", "acknowledged: /n%d" % number)


def test_coordfs_started_without_descriptors(t):
    r = t.replica()
    point = t.path("mnt")
    os.makedirs(point)
    started = t.background("bash", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "bash", program("coordfs"), r.source, point, "-f")
    until(lambda: os.path.ismount(point), 20, "mounted")
    for fd in (0, 1, 2):
        equal(os.readlink("/proc/%d/fd/%d" % (started.pid, fd)), "/dev/null", "descriptor %d" % fd)
    started.send_signal(signal.SIGTERM)
    equal(started.wait(20), 0, "unmounted")
