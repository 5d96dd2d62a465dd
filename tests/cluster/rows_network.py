# SPDX-License-Identifier: Apache-2.0
"""Rows about the network: R14 (partitions) and R20 (one node a hundred times slower)."""
import contextlib
import threading
import time

from rows_kill import CYCLES_PER_CLUSTER, RECOPY_S, begin, finish, look_at_copies
from world import LINK_BITS_PER_S

HEAL_S = 5
FLAPS = 10
FLAP_READS = 15
# How long the network stays cut, at least: shorter than any deadline, than a lease, longer than a lease.
HOLD_S = {"symmetric": 12, "one-way in": 4, "one-way out": 4}
HOLDS_S = (0, 4, 12)
CUT_SWEEP_S = 20
SLOWER = 100
DUTY_S = 0.1                # of which a slow node runs 1 / SLOWER
GRAY_READS = {False: 400, True: 4000}
P99_TIMES, EXTRA_LOAD = 2, 1.05


def partition(world, kind, victim, others):
    """Cuts `victim` off from `others`."""
    network = world.network
    if kind == "symmetric":
        network.cut(victim, others)
    elif kind == "one-way in":
        network.deaf(victim, others)
    else:
        for other in others:
            network.deaf(other, [victim])


def r14(row):
    """Partitions that come and go: 0 wrong, and all is well soon after."""
    world = None
    for cycle in row.cycles(1000):
        if cycle % CYCLES_PER_CLUSTER == 0:
            if world:
                finish(row)
            world = begin(row)
        victim = row.random.choice(world.running())
        kind = ("symmetric", row.random.choice(("one-way in", "one-way out")), "flapping")[cycle % 3]
        # From everybody, or only from the other nodes: clients see both sides then.
        everybody = cycle < 2 or row.random.random() < 0.5
        others = [name for name in world.network.hosts if name != victim and (everybody or name in world.nodes)]
        hold = row.random.choice(HOLDS_S) if row.settings.long else HOLD_S.get(kind, 0)
        row.mark()
        swept, begun = True, time.monotonic()
        for flap in range(FLAPS if kind == "flapping" else 1):
            partition(world, "symmetric" if kind == "flapping" else kind, victim, others)
            if kind == "flapping":
                row.world.load.ask("await", reads=(2 * flap + 1) * FLAP_READS, s=CUT_SWEEP_S)
                world.network.heal()
                row.world.load.ask("await", reads=(2 * flap + 2) * FLAP_READS, s=CUT_SWEEP_S)
            else:
                swept = row.sweep(seconds=CUT_SWEEP_S)
                world.last(begun + hold - time.monotonic())
        world.network.heal()
        healed = time.monotonic()
        cut = row.mark()
        met = world.meet()
        world.settle("the partition healed")
        heal_s = time.monotonic() - healed
        row.time("heal_s", heal_s, HEAL_S)
        look_at_copies(row, RECOPY_S)
        row.sweep()
        after = row.mark()
        lasted = healed - begun
        row.tell(f"{kind}, {victim} from {'all' if everybody else 'the other nodes'}, {lasted:.1f} s: {cut['reads']} reads, "
                 f"{cut['missed']} blocks missed, longest read {cut['read_ms']['max']:.0f} ms, {cut['statuses']}"
                 f"{'' if swept else ', NOT every prompt was read'}; healed in {heal_s:.1f} s"
                 f"{'' if met is not None else ' (nodes probe nobody)'}, {after['missed']} missed then")
    finish(row)


@contextlib.contextmanager
def slow(world, name):
    """A hundredth of the link and of the processor, as long as the context lasts."""
    node, ended = world.nodes[name], threading.Event()

    def duty():
        while not ended.wait(DUTY_S / SLOWER):
            node.pause()
            ended.wait(DUTY_S - DUTY_S / SLOWER)
            node.resume()

    world.network.speed(name, LINK_BITS_PER_S // SLOWER)
    thread = threading.Thread(target=duty)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        node.resume()
        world.network.speed(name, LINK_BITS_PER_S)


def stretch(row, reads):
    """Figures and client calls per read of so many reads."""
    load = row.world.load
    row.mark()
    before = load.ask("stats")["counters"]
    reached = load.ask("await", reads=reads, s=60)["reached"]
    figures, after = row.mark(), load.ask("stats")["counters"]
    calls = sum(after[name] - before[name] for name in ("acquires", "offers", "hellos"))
    return figures, calls / max(1, figures["reads"]), reached


def r20(row):
    """A gray node: the others' clients hardly notice."""
    reads = GRAY_READS[row.settings.long]
    world = begin(row, load={"readers": 4, "reads_per_s": 60})
    for _ in row.cycles(100):
        victim = row.random.choice(world.running())
        healthy, calls, _ = stretch(row, reads)
        with slow(world, victim):
            gray, gray_calls, reached = stretch(row, reads)
        ratio = gray["read_ms"]["p99"] / max(0.001, healthy["read_ms"]["p99"])
        row.time("p99_times", ratio if reached else None, P99_TIMES)
        row.time("calls_times", gray_calls / calls, EXTRA_LOAD)
        row.tell(f"{victim} 100x slower: p99 {healthy['read_ms']['p99']:.1f} -> {gray['read_ms']['p99']:.1f} ms, p99.9 "
                 f"{healthy['read_ms']['p999']:.1f} -> {gray['read_ms']['p999']:.1f} ms, calls a read {calls:.2f} -> "
                 f"{gray_calls:.2f}, {gray['statuses']}{'' if reached else f', NOT {reads} reads in 60 s'}")
        world.settle("the slow node recovered")
        world.meet()
        look_at_copies(row, RECOPY_S)
    finish(row)
