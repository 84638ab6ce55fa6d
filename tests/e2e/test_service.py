"""Units, man pages and readiness: what an administrator's tools see."""

import glob
import os
import re
import shutil
import socket

from lib import ROOT, BIN, Skipped, check, equal, program, run, until

SYSTEMD = os.path.join(ROOT, "systemd")


class Notified:
    """A NOTIFY_SOCKET, as systemd gives it."""

    def __init__(self, t):
        self.path = t.path("notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(20)
        self.seen = []
        t.undo.callback(self.sock.close)

    def wait(self, word, seconds=20):
        def look():
            self.seen += self.sock.recv(4096).decode().splitlines()
            return word in self.seen
        if word not in self.seen:
            until(look, seconds, "%s on the notify socket (so far %r)" % (word, self.seen))


def test_coordd_notifies(t):
    notified = Notified(t)
    r = t.replica(start=False, env={"NOTIFY_SOCKET": notified.path, "WATCHDOG_USEC": "2000000"})
    r.start(wait=False)
    notified.wait("READY=1")
    check(r.serving(), "it serves when it says READY=1")
    notified.wait("WATCHDOG=1")
    equal(r.terminate(), 0, "exit status")
    notified.wait("STOPPING=1")


def test_coordfs_notifies(t):
    r = t.replica()
    notified = Notified(t)
    m = t.mount(r, start=False, env={"NOTIFY_SOCKET": notified.path, "WATCHDOG_USEC": "2000000"})
    m.start(wait=False)
    notified.wait("READY=1")
    check(m.mounted() and os.listdir(m.path) is not None, "it is mounted when it says READY=1")
    notified.wait("WATCHDOG=1")
    m.terminate()
    notified.wait("STOPPING=1")


def test_coordfs_is_not_ready_without_a_replica(t):
    """READY=1 comes after the first answer of the replica."""
    r = t.replica(start=False)
    notified = Notified(t)
    m = t.mount(r, start=False, options="wait=30", env={"NOTIFY_SOCKET": notified.path})
    m.start(wait=False)
    notified.sock.settimeout(1.5)
    try:
        text = notified.sock.recv(4096)
        check(b"READY=1" not in text, "READY=1 without a replica", text)
    except socket.timeout:
        pass
    notified.sock.settimeout(20)
    r.start()
    notified.wait("READY=1")


def test_daemon_mode_returns_when_the_mount_answers(t):
    r = t.replica()
    point = t.path("mnt")
    os.makedirs(point)
    run(program("coordfs"), r.source, point, timeout=20)
    check(os.listdir(point) is not None, "it answers when the command has returned")
    run("umount", point)


def test_mount_helper(t):
    """mount.coordfs as mount(8) calls it."""
    r = t.replica()
    helper = t.path("mount.coordfs")
    os.symlink(program("coordfs"), helper)
    point = t.path("mnt")
    os.makedirs(point)
    run(helper, r.source, point, "-n", "-o", "rw,_netdev,wait=5", timeout=20)
    with open(point + "/f", "w") as out:
        out.write("x")
    run("umount", point)


def test_units_are_understood(t):
    if not shutil.which("systemd-analyze"):
        raise Skipped("systemd-analyze is not installed")
    # The programs are looked up where the units expect them: give it copies that name the built ones.
    for unit in ("coordd.service", "coordfs@.service", "coord.mount"):
        text = open(os.path.join(SYSTEMD, unit)).read().replace("/usr/sbin/coord", BIN + "/coord")
        text = re.sub(r"^Documentation=.*\n", "", text, flags=re.M)
        t.write(unit, text)
        name = unit.replace("@.", "@coord.")
        if name != unit:
            os.symlink(unit, t.path(name))
    for unit in ("coordd.service", "coordfs@coord.service", "coord.mount"):
        done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", t.path(unit), ok=False)
        ours = [line for line in (done.out + done.err).splitlines() if "coord" in line and "man " not in line]
        equal(ours, [], "systemd-analyze verify %s" % unit)


def test_mount_service_has_no_mount_namespace(t):
    text = open(os.path.join(SYSTEMD, "coordfs@.service")).read()
    for key in ("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ReadWritePaths",
                "ProtectKernelTunables", "ProtectControlGroups", "PrivateMounts", "RootDirectory", "NoExecPaths",
                "MountFlags"):
        check(not re.search(r"^%s=" % key, text, re.M), "%s would hide the mount from the host" % key)


def test_man_pages(t):
    pages = sorted(glob.glob(SYSTEMD + "/*.[1-8]"))
    equal([os.path.basename(p) for p in pages], ["coord.cfg.5", "coordctl.1", "coordd.8", "coordfs.8"], "man pages")
    for page in pages:
        done = run("groff", "-mdoc", "-ww", "-z", page)
        equal(done.err, "", "warnings of groff for %s" % page)


def options_of(text):
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text))


def test_man_pages_name_every_option(t):
    for name, page in (("coordd", "coordd.8"), ("coordctl", "coordctl.1")):
        source = open(os.path.join(SYSTEMD, page)).read()
        named = {"--" + o for o in re.findall(r"Fl -([\w-]+)", source)}
        missing = options_of(run(program(name), "--help").out) - named
        equal(missing, set(), "options of %s --help that its man page does not have" % name)


def test_mount_options_of_help_are_in_the_man_page(t):
    source = open(os.path.join(SYSTEMD, "coordfs.8")).read()
    text = run(program("coordfs"), "--help").out
    for option in re.findall(r"\b([a-z_]+)=", text):
        check(option in source, "coordfs(8) does not have the option %s=" % option)


def test_example_config_starts(t):
    text = open(os.path.join(SYSTEMD, "coord.cfg")).read()
    keys = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    keys.pop("clientPort")
    keys.update({"dataDir": None, "coord.socket": None})
    r = t.replica(config={k: v for k, v in keys.items() if v is not None})
    equal(r.four("ruok"), b"imok", "the words of its whitelist")
    check("warn" not in r.log_text().lower(), "no warnings", r.log_text())
