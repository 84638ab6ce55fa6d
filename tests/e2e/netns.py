"""A private network for an ensemble: one network namespace for each replica, all on a bridge in a namespace of its own.

Nothing of the host's network is touched. A namespace lives as long as its holder, a sleeping process that carries the
run's marker, so the runner's cleaning takes everything away. Partitions are nft rules in the namespace of the replica
that is not to hear: one-way, full, or any set of pairs. (`tc netem` is missing in many kernels.)
"""

import contextlib
import ctypes
import os
import subprocess

from lib import Failure, Replica, bash, kill_and_reap, run, until

CLONE_NEWNET = 0x40000000


class Net:
    def __init__(self, context, count):
        self.context = context
        self.hub = self.holder()
        self.nodes = {}
        self.inside(self.hub, "ip", "link", "add", "br0", "type", "bridge")
        self.inside(self.hub, "ip", "addr", "add", "10.213.0.254/24", "dev", "br0")
        self.inside(self.hub, "ip", "link", "set", "br0", "up")
        self.inside(self.hub, "ip", "link", "set", "lo", "up")
        for number in range(1, count + 1):
            node = self.nodes[number] = self.holder()
            self.inside(self.hub, "ip", "link", "add", "v%d" % number, "type", "veth", "peer", "name", "eth0", "netns",
                        str(node))
            self.inside(self.hub, "ip", "link", "set", "v%d" % number, "master", "br0", "up")
            self.inside(node, "ip", "addr", "add", self.ip(number) + "/24", "dev", "eth0")
            self.inside(node, "ip", "link", "set", "eth0", "up")
            self.inside(node, "ip", "link", "set", "lo", "up")
            self.inside(node, "nft", "add table inet cut; add chain inet cut in { type filter hook input priority 0; }")
        self.enter()

    @staticmethod
    def ip(number):
        return "10.213.0.%d" % number

    def holder(self):
        process = self.context.background("unshare", "--net", "sleep", "100000")
        ours = os.readlink("/proc/self/ns/net")
        until(lambda: os.readlink("/proc/%d/ns/net" % process.pid) != ours, 10, "a network namespace")
        return process.pid

    @staticmethod
    def inside(pid, *argv):
        return run("nsenter", "-t", pid, "-n", *argv)

    def enter(self):
        """This thread, and those that it starts from here on, are in the hub's network until the test ends."""
        here = os.open("/proc/self/ns/net", os.O_RDONLY)

        def back():
            setns(here)
            os.close(here)
        there = os.open("/proc/%d/ns/net" % self.hub, os.O_RDONLY)
        setns(there)
        os.close(there)
        self.context.undo.callback(back)

    # --- faults; `deaf` hears nothing that `mute` sends (replies to what it sent before included)
    def cut(self, deaf, mute):
        self.inside(self.nodes[deaf], "nft", "add rule inet cut in ip saddr %s drop" % self.ip(mute))

    def part(self, one, other):
        """No packet passes between the two groups."""
        for a in one:
            for b in other:
                self.cut(a, b)
                self.cut(b, a)

    def heal(self):
        for node in self.nodes.values():
            self.inside(node, "nft", "flush chain inet cut in")


def setns(fd):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise Failure("setns: %s" % os.strerror(ctypes.get_errno()))


class NetReplica(Replica):
    """A coordd of an ensemble in a namespace of its own. Clients reach it at its address on port 2181."""

    def __init__(self, context, net, number, config, env=None):
        super().__init__(context, config=config, env=env, port=2181)
        self.net, self.number = net, number
        with open(os.path.join(self.data_dir, "myid"), "w") as f:
            f.write("%d\n" % number)

    @property
    def host(self):
        return self.net.ip(self.number)

    @property
    def address(self):
        return "%s:%d" % (self.host, self.port)

    def command(self):
        return ["nsenter", "-t", str(self.net.nodes[self.number]), "-n"] + super().command()


def faults_library(context):
    """The preload library that makes storage calls fail, built where the test works."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faults", "storage_faults.c")
    library = context.path("storage_faults.so")
    run("gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", timeout=60)
    return library


def set_faults(path, lines):
    """Switches storage faults of one replica, all at once."""
    if not lines:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with open(path + ".new", "w") as f:
        f.write("".join(line + "\n" for line in lines))
    os.rename(path + ".new", path)
