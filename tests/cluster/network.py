# SPDX-License-Identifier: Apache-2.0
"""The network of a cluster on one machine: a namespace a host, all on one bridge, which has a namespace of its own.

    kvt-n1 [eth0 10.77.0.1] --veth-- [n1 |          |
    kvt-e1 [eth0 10.77.0.11] --veth-- [e1 | kvt-hub | bridge]
    kvt-c  [eth0 10.77.0.100] --veth-- [c |         |

Nothing is ever made in the machine's own namespace, so nothing of it can be in the way or be broken. Everything is named
kvt-*, and whatever a driver that was killed left behind is swept before a new one begins.
"""
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess

from children import Trouble

PREFIX = "kvt-"
HUB = PREFIX + "hub"
DISK = "kvt-disk"                 # the source every mount of ours names
LOCK = "/run/lock/kvt-cluster"
SUBNET = "10.77.0."
CLONE_NEWNET = 0x40000000
NEEDS_ROOT = "network namespaces need root. Run it as: sudo ./run cluster"
TOOLS = ("ip", "tc", "iptables")
# A tbf whose burst holds what passes in a scheduler's tick, and the largest segment of offloading.
BURST_TICKS_PER_S = 100
BURST_BYTES_MIN = 128 << 10
QUEUE_MS = 50


def call(*words, check=True):
    """A tool's standard output. Trouble names the command and what it said."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise Trouble(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def ours(listing):
    """Namespaces of ours in what `ip netns list` prints: "kvt-n1 (id: 3)"."""
    return [line.split()[0] for line in listing.splitlines() if line.startswith(PREFIX)]


def mounts_of_ours(table):
    """Mount points of ours in /proc/mounts, deepest first."""
    return [line.split()[1] for line in reversed(table.splitlines()) if line.split()[:1] == [DISK]]


def why_not():
    """What is missing for the network, or ""."""
    missing = [tool for tool in TOOLS if subprocess.run(["which", tool], capture_output=True).returncode != 0]
    if missing:
        return f"{', '.join(missing)} not found. Install: apt-get install iproute2 iptables"
    probe = PREFIX + "probe"
    try:
        call("ip", "netns", "add", probe)
        call("ip", "-n", probe, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        call("ip", "netns", "exec", probe, "tc", "qdisc", "replace", "dev", "eth0", "root",
             "tbf", "rate", "1gbit", "burst", "1mb", "latency", "50ms")
        iptables(probe, "-A", "INPUT", "-s", SUBNET + "1", "-j", "DROP")
    except Trouble as trouble:
        return f"this machine cannot make the network: {trouble}"
    finally:
        call("ip", "netns", "del", probe, check=False)
    return ""


def iptables(namespace, *words):
    """The old tables where the kernel has them, else the new ones."""
    for tool in ("iptables-legacy", "iptables"):
        try:
            return call("ip", "netns", "exec", namespace, tool, "-w", *words)
        except Trouble as trouble:
            last = trouble
    raise last


def hold_lock():
    """One cluster a machine: the names are the machine's. Held until this process ends, however it ends."""
    if os.geteuid() != 0:
        raise Trouble(NEEDS_ROOT)
    os.makedirs(os.path.dirname(LOCK), exist_ok=True)
    lock = open(LOCK, "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Trouble(f"another ./run cluster is under way on this machine (it holds {LOCK}). Wait for its end") from None
    return lock


def sweep():
    """Removes what an earlier driver left behind: processes, namespaces with their links and rules, mounts."""
    for namespace in ours(call("ip", "netns", "list")):
        for pid in call("ip", "netns", "pids", namespace, check=False).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        call("ip", "netns", "del", namespace, check=False)
    with open("/proc/mounts") as table:
        for point in mounts_of_ours(table.read()):
            call("umount", "--lazy", point, check=False)


def burst_bytes(bits_per_s):
    return max(BURST_BYTES_MIN, bits_per_s // 8 // BURST_TICKS_PER_S)


class Network:
    """Hosts by name. Their addresses follow from the names: n1 is .1, e1 is .11, c is .100."""

    def __init__(self, bits_per_s):
        self.bits_per_s = bits_per_s
        self.hosts = {}
        self.cut_hosts = set()
        call("ip", "netns", "add", HUB)
        call("ip", "-n", HUB, "link", "add", "bridge", "type", "bridge")
        call("ip", "-n", HUB, "link", "set", "bridge", "up")

    @staticmethod
    def number(name):
        kind, digits = name[0], name[1:] or "0"
        return {"n": 0, "e": 10, "c": 100}[kind] + int(digits)

    def add(self, name):
        namespace, address = PREFIX + name, SUBNET + str(self.number(name))
        call("ip", "netns", "add", namespace)
        call("ip", "link", "add", name, "netns", HUB, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        call("ip", "-n", HUB, "link", "set", name, "master", "bridge", "up")
        call("ip", "-n", namespace, "addr", "add", address + "/24", "dev", "eth0")
        call("ip", "-n", namespace, "link", "set", "eth0", "up")
        call("ip", "-n", namespace, "link", "set", "lo", "up")
        self.hosts[name] = address
        self.speed(name, self.bits_per_s)
        return address

    def speed(self, name, bits_per_s):
        """Of both directions of a host's link."""
        shape = ["root", "tbf", "rate", f"{bits_per_s}bit", "burst", burst_bytes(bits_per_s), "latency", f"{QUEUE_MS}ms"]
        call("ip", "netns", "exec", PREFIX + name, "tc", "qdisc", "replace", "dev", "eth0", *shape)
        call("ip", "netns", "exec", HUB, "tc", "qdisc", "replace", "dev", name, *shape)

    def deaf(self, name, to):
        """One direction: `name` gets nothing any more of what `to` send."""
        self.cut_hosts.add(name)
        for other in to:
            iptables(PREFIX + name, "-A", "INPUT", "-s", self.hosts[other], "-j", "DROP")

    def cut(self, name, others):
        """Both directions."""
        self.deaf(name, others)
        for other in others:
            self.deaf(other, [name])

    def heal(self):
        for name in sorted(self.cut_hosts):
            iptables(PREFIX + name, "-F", "INPUT")
        self.cut_hosts.clear()

    def command(self, name, words):
        """What runs `words` on a host: `ip` becomes it, so that its pid is the program's."""
        return ["ip", "netns", "exec", PREFIX + name, *map(str, words)]

    def connect(self, name, address, seconds):
        """A TCP connection that begins on a host. A socket stays where it was made, whatever its owner does later."""
        with open("/proc/self/ns/net") as home, open(f"/run/netns/{PREFIX}{name}") as there:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
                raise Trouble(f"cannot enter {PREFIX}{name}: {os.strerror(ctypes.get_errno())}")
            try:
                return socket.create_connection(address, seconds)
            finally:
                libc.setns(home.fileno(), CLONE_NEWNET)

    def remove(self):
        sweep()
