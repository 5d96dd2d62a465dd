# SPDX-License-Identifier: Apache-2.0
"""Rows about planned movement: R32 (rolling upgrade), R33 (drain), JOIN (a sixth node)."""
import time

from children import Trouble
from rows_kill import CYCLES_PER_CLUSTER, begin, finish, look_at_copies, sum_of
from world import DRAIN_WAIT_S

RUNS, JOIN_READS = 10_000, 4_000
SHARE = 1.1 / 6
STOP_MARGIN_S = 2
UPGRADES_PER_CLUSTER = 10  # even: it begins with old nodes


def replace(row, victim, wire=None):
    """Drains a node by SIGTERM and starts it again, perhaps as another build."""
    world, node = row.world, row.world.nodes[victim]
    begun = time.monotonic()
    node.terminate()
    status = node.ended()
    stopped = time.monotonic() - begun
    row.time("drain_s", stopped, DRAIN_WAIT_S + STOP_MARGIN_S)
    row.hold("bad_exits", row.found.get("bad_exits", 0) + (status != 0), most=0)
    if wire is not None:
        node.program = world.builds.kvasird[wire]
    node.start()
    node.ready()
    settled = world.settle(f"{victim} came back")
    row.time("settle_s", settled)
    return status, stopped, settled


def r33(row):
    """SIGTERM under load: clients see nothing, and it ends within its grace."""
    world = None
    for cycle in row.cycles(1000):
        if cycle % CYCLES_PER_CLUSTER == 0:
            if world:
                finish(row)
            world = begin(row)
        victim = row.random.choice(world.running())
        row.mark()
        status, stopped, settled = replace(row, victim)
        row.sweep()
        figures = row.mark()
        row.hold("missed", row.found["missed"], most=0)
        row.tell(f"SIGTERM {victim}: ended with {status} after {stopped:.1f} s, settled {settled:.1f} s after it was back; "
                 f"{figures['reads']} reads, {figures['missed']} blocks missed, {figures['errors']} errors {figures['statuses']}")
        look_at_copies(row)
    finish(row)


def wires(world, load):
    """By node: the wire version that `load`'s build and it agree on."""
    return {name: load.ask("hello", node=node.control, s=5).get("wire") for name, node in world.nodes.items()}


def r32(row):
    """Every node in turn becomes the other build, up and down, with clients of both."""
    world, loads = None, {}
    for cycle in row.cycles(100):
        wire = 2 if cycle % 2 == 0 else 1
        if cycle % UPGRADES_PER_CLUSTER == 0:
            if world:
                exchange(row, loads)
            world, loads = both_builds(row)
        seen = {build: [] for build in loads}
        for victim in sorted(world.nodes):
            replace(row, victim, wire)
            for load in loads.values():
                row.sweep(load)
            for build, load in loads.items():
                seen[build].append(row.mark(load))
        world.wire = wire
        spoken = {build: wires(world, load) for build, load in loads.items()}
        row.hold("wires_not_as_built", sum(found != 1 for found in spoken["old"].values()) +
                 sum(found != wire for found in spoken["new"].values()), most=0)
        clients = "; ".join(f"{build} clients {sum_of(seen[build], 'reads')} reads, {sum_of(seen[build], 'missed')} blocks missed, "
                            f"{sum_of(seen[build], 'errors')} errors" for build in seen)
        row.tell(f"all nodes speak wire {wire} now; {clients}")
    exchange(row, loads)


def both_builds(row):
    """A cluster of old nodes; clients of both builds write and read what is theirs."""
    world = row.new_world(wire=1)
    world.start()
    loads = {"old": world.load, "new": world.open_load(wire=2, first_prompt=1_000_000)}
    for load in loads.values():
        load.ask("prefill", prompts=30)
        row.mark(load)
        load.ask("start")
    return world, loads


def exchange(row, loads):
    """At the end each reads what the other has written, too."""
    for load in loads.values():
        load.ask("stop")
        row.mark(load)
    loads["new"].ask("adopt", log=row.world.directory / "acked0.jsonl")
    loads["old"].ask("adopt", log=row.world.directory / "acked1.jsonl")
    for load in loads.values():
        row.verify(load)


def join(row):
    """A sixth node takes its share and no more, and meanwhile everything is found."""
    if row.settings.members == "static":
        raise Trouble("a static membership does not change: this build's kvasird knows no --members etcd:URL")
    # One run a prompt, and many readers: the join itself is short.
    small = {"blocks": 1, "layers": 1, "kv_heads": 1, "head_dim": 64, "only_raw": True, "writers": 0, "durable_every": 0,
             "readers": 4, "reads_per_s": 400}
    world = begin(row, prompts=RUNS, load=small)
    for _ in row.cycles(20):
        row.mark()
        begun = time.monotonic()
        world.add_node("n6")
        row.time("join_s", world.settle("n6 joined", 120))
        row.world.load.ask("await", reads=JOIN_READS, s=60)
        figures = row.mark()
        copies = world.load.ask("copies", nodes=world.controls(), wanted=2, s=60)
        share = copies["run_copies"]["n6"] / (2 * copies["runs"])
        row.hold("runs", copies["runs"], least=RUNS)
        row.hold("share_of_copies", round(share, 4), most=round(SHARE, 4))
        row.hold("missed", row.found["missed"], most=0)
        row.tell(f"n6 holds {copies['run_copies']['n6']} of {2 * copies['runs']} run copies ({share:.3f}, 1/6 is {1 / 6:.3f}) "
                 f"{time.monotonic() - begun:.1f} s after it was started; {figures['reads']} reads, {figures['missed']} missed")
        look_at_copies(row)
        world.nodes["n6"].terminate()
        row.hold("bad_exits", row.found.get("bad_exits", 0) + (world.nodes["n6"].ended() != 0), most=0)
        world.nodes["n6"].wipe()
        del world.nodes["n6"]
        world.settle("n6 left")
    finish(row)
