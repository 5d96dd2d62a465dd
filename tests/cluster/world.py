# SPDX-License-Identifier: Apache-2.0
"""World: one cluster for one row: its network, etcd, nodes and load, what can be done to them, and waiting for what follows.

A wait looks at a condition again whenever a process ends and every POLL_S, up to a bound; what ran into it is Trouble.
"""
import contextlib
import json
import os
import selectors
import shutil
import subprocess
import time

from children import Trouble, tail
from network import Network
from processes import CONTROL_PORT, EtcdMember, Load, Node, leads

POLL_S = 0.1
SETTLE_S = 60          # the longest wait for a cluster to come to rest
ETCD_UP_S = 30
LINK_BITS_PER_S = 1_000_000_000
DRAM, SSD_SIZE, RUN_BLOCKS = "128MiB", "512MiB", 4  # ample for what the rows push: nothing is evicted
DRAIN_WAIT_S = 20      # the grace a node has after SIGTERM
ETCD_DISK_BYTES = 512 << 20  # its log is allocated ahead, 64 MB a segment


class StillWaiting(Trouble):
    """A wait that ran into its bound."""


class Builds:
    """The programs under test, and what they can do."""

    def __init__(self, build):
        self.kvasird = {2: build / "deploy/kvasird", 1: build / "tests/cluster/kvasird_wire1"}
        self.load = {2: build / "tests/cluster/cluster_load", 1: build / "tests/cluster/cluster_load_wire1"}
        self.kvasir = build / "deploy/kvasir"
        for program in [*self.kvasird.values(), *self.load.values(), self.kvasir]:
            if not program.is_file():
                raise Trouble(f"{program} is not built. Build it and run the rows with: ./run cluster")
        help_text = subprocess.run([self.kvasird[2], "--help"], capture_output=True, text=True).stdout
        self.knows_etcd = knows_etcd(help_text)


def knows_etcd(help_text):
    """Whether --members may name etcd, by the help."""
    return "etcd:" in help_text


def members_file(controls, run_blocks=RUN_BLOCKS):
    """The static list of node names and addresses."""
    members = [{"id": name, "control": control} for name, control in sorted(controls.items())]
    return json.dumps({"epoch": 1, "run_blocks": run_blocks, "members": members}, indent=1)


def unsettled(statuses, wanted, etcd):
    """Why the nodes named in `wanted` are not at rest with each other, or "". `statuses`: by name, as the load tells them."""
    epochs = set()
    for name in sorted(wanted):
        status = statuses.get(name, {"reachable": False, "cause": "not asked"})
        if not status["reachable"]:
            return f"{name} does not answer: {status['cause']}"
        if status["state"] != "serving":
            return f"{name} is {status['state']}"
        move = status["taking_over"]
        if not move["settled"]:
            return f"{name} is taking over: {move['bytes_done']} of {move['bytes_total']} bytes"
        if etcd and status["members"] != {other: "serving" for other in wanted}:
            return f"{name} sees members {status['members']}"
        epochs.add(status["membership_epoch"])
    return "" if len(epochs) <= 1 else f"memberships of epochs {sorted(epochs)}"


def not_met(statuses, wanted):
    """Why not every node of `wanted` has lately heard every peer it probes, or ""."""
    for name in sorted(wanted):
        peers = statuses.get(name, {}).get("peers", {})
        silent = [peer for peer, state in peers.items() if peer in wanted and state != "ok"]
        if silent:
            return f"{name} does not hear {', '.join(sorted(silent))}"
    return ""


class World:
    def __init__(self, builds, directory, seed, etcd_members=0, nodes=5, wire=2, etcd_disks=False, dram=DRAM,
                 bits_per_s=LINK_BITS_PER_S):
        self.builds, self.directory, self.seed, self.dram = builds, directory, seed, dram
        self.directory.mkdir(parents=True)
        self.etcd, self.nodes, self.loads, self.wire = {}, {}, [], wire
        self.with_etcd = etcd_members > 0
        self.network = Network(bits_per_s)
        self.network.add("c")
        names = [f"e{i + 1}" for i in range(etcd_members)]
        for name in names:
            self.network.add(name)
        peers = {name: self.network.hosts[name] for name in names}
        disk = ETCD_DISK_BYTES if etcd_disks else 0
        self.etcd = {name: EtcdMember(self.network, name, directory, peers, disk) for name in names}
        self.names = [f"n{i + 1}" for i in range(nodes)]
        for name in self.names:
            self.network.add(name)
        if not self.with_etcd:
            controls = {name: f"{self.network.hosts[name]}:{CONTROL_PORT}" for name in self.names}
            (directory / "members.json").write_text(members_file(controls))

    # ---- beginning and end -------------------------------------------------------------------------------------------
    def flags_of(self, name):
        flags = ["--dram", self.dram, "--ssd-size", SSD_SIZE, "--transports", "tcp", "--drain-wait", f"{DRAIN_WAIT_S}s"]
        if not self.with_etcd:
            return ["--members", self.directory / "members.json", *flags]
        urls = "etcd:" + ",".join(member.url for member in self.etcd.values())
        control = f"{self.network.hosts[name]}:{CONTROL_PORT}"
        return ["--members", urls, "--listen", control, "--run-blocks", RUN_BLOCKS, *flags]

    def start(self, **load):
        """etcd, then all nodes, then the load's Sessions with the options of `load` (commands.h)."""
        for member in self.etcd.values():
            member.start()
        if self.etcd:
            self.wait(lambda: self.etcd_leader() is not None, ETCD_UP_S, "etcd to have a leader")
        for name in self.names:
            self.nodes[name] = Node(self.network, name, self.directory, self.builds.kvasird[self.wire], self.flags_of(name))
            self.nodes[name].start()
        for node in self.nodes.values():
            node.ready()
        self.load = self.open_load(**load)
        self.settle("the start")

    def open_load(self, wire=None, **options):
        wire = wire or self.wire
        load = Load(self.network, "c", self.directory / f"load{len(self.loads)}.log", self.builds.load[wire])
        self.loads.append(load)
        log = self.directory / f"acked{len(self.loads) - 1}.jsonl"
        load.ask("open", nodes=self.controls(), seed=self.seed, log=log, **options)
        return load

    def add_node(self, name):
        """One more than there were; it starts and is ready."""
        if name not in self.network.hosts:
            self.network.add(name)
        self.nodes[name] = Node(self.network, name, self.directory, self.builds.kvasird[self.wire], self.flags_of(name))
        self.nodes[name].start()
        self.nodes[name].ready()

    def close(self):
        """Never raises: it runs when things have gone wrong already."""
        for process in [*self.loads, *self.nodes.values(), *self.etcd.values()]:
            with contextlib.suppress(Exception):
                process.kill()
        for member in self.etcd.values():
            member.unmount()
        self.network.remove()

    def forget_data(self):
        """The logs stay."""
        for path in self.directory.iterdir():
            if path.suffix in (".ssd", ".etcd"):
                shutil.rmtree(path, ignore_errors=True)

    # ---- looking -----------------------------------------------------------------------------------------------------
    def running(self):
        return [name for name, node in self.nodes.items() if node.running]

    def controls(self, names=None):
        return [self.nodes[name].control for name in names or self.running()]

    def statuses(self, names=None):
        """By name. Paused nodes do not answer, and are waited for."""
        names = names or self.running()
        answer = self.load.ask("status", nodes=self.controls(names), s=2)["nodes"]
        return {name: answer[self.nodes[name].control] for name in names}

    def counters(self, names=None):
        """By node and counter, of those that answer."""
        return {name: status["counters"] for name, status in self.statuses(names).items() if status["reachable"]}

    def etcd_leader(self):
        asked = (name for name, member in self.etcd.items() if member.running and not member.paused)
        return next((name for name in asked if leads(self.etcd[name].status("c"))), None)

    def evidence(self):
        """What a person needs who looks for the cause: per process its state and the end of its log."""
        lines = []
        statuses = {}
        with contextlib.suppress(Trouble):
            statuses = self.statuses(list(self.nodes))
            copies = self.load.ask("copies", nodes=self.controls(), wanted=2, s=10)
            lines.append(f"  acked blocks by number of copies: {copies['copies']}; fewer than 2: {copies['short'][:4]}")
        for name, node in self.nodes.items():
            status = statuses.get(name, {"reachable": False, "cause": "not asked"})
            state = json.dumps({key: status[key] for key in sorted(status) if key not in ("counters", "tiers")})
            lines.append(f"  {name} ({'running' if node.running else 'stopped'}): {state}\n{tail(node.log, 6)}")
        for process in [*self.etcd.values(), *self.loads]:
            lines.append(f"  {process.name} {process.log.name}:\n{tail(process.log, 4)}")
        return "\n".join(lines)

    # ---- waiting -----------------------------------------------------------------------------------------------------
    def look_alive(self):
        """Trouble when a process has ended that nobody asked to."""
        for process in [*self.nodes.values(), *self.loads, *self.etcd.values()]:
            if process.died():
                raise Trouble(process.died())

    def pause(self, seconds):
        """Until a running process ends, or so long."""
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            for process in [*self.nodes.values(), *self.loads, *self.etcd.values()]:
                if process.running and process.process.poll() is None:
                    pidfd = os.pidfd_open(process.process.pid)
                    stack.callback(os.close, pidfd)
                    selector.register(pidfd, selectors.EVENT_READ)
            selector.select(seconds)
        self.look_alive()

    def last(self, seconds):
        """What is done to the cluster lasts so long, whatever ends meanwhile that may."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.pause(left)

    def wait(self, condition, seconds, what):
        """Until condition() is true. Seconds that took."""
        begin = time.monotonic()
        while not condition():
            if time.monotonic() - begin > seconds:
                raise StillWaiting(f"waited {seconds} s for {what}")
            self.pause(POLL_S)
        return time.monotonic() - begin

    def settle(self, after, seconds=SETTLE_S):
        """Until every running node says that it holds all it should and all see the same membership. Seconds that took."""
        why = "not looked at"

        def settled():
            nonlocal why
            why = unsettled(self.statuses(), self.running(), self.with_etcd)
            return not why

        try:
            return self.wait(settled, seconds, "")
        except StillWaiting:
            raise StillWaiting(f"the cluster is not settled {seconds} s after {after}: {why}") from None

    def meet(self, seconds=SETTLE_S):
        """Until every running node hears its peers again. Seconds that took; None where nodes probe nobody."""
        if not any(status.get("peers") for status in self.statuses().values()):
            return None
        return self.wait(lambda: not not_met(self.statuses(), self.running()), seconds, "all nodes to hear each other")
