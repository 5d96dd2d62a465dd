# SPDX-License-Identifier: Apache-2.0
"""Rows about nodes that die or fall silent: R3 and R11. And DETECT: that what these rows look for would be seen."""
import time

from world import StillWaiting

PROMPTS = 60
KILL_OUTAGE_S, STOP_OUTAGE_S = 1, 2
REPAIR_GIB_S = 10
RECOPY_S = 10  # after a node was away, until what was written meanwhile is on two of its owners again
# 1,000 prompts of 4 MiB, of which 5/8 are not shared, twice, on five nodes: 1 GiB each.
GIB_PROMPTS = 1000
GIB_LOAD = {"layers": 8, "kv_heads": 4, "head_dim": 64, "block_tokens": 64, "only_raw": True, "durable_every": 0}
CYCLES_PER_CLUSTER = 50  # with --long: what is acked grows, so a cluster is used for so many


def begin(row, prompts=PROMPTS, load=None, **world):
    """A fresh cluster with prompts in it and the load going."""
    world = row.new_world(**world)
    world.start(**(load or {}))
    world.load.ask("prefill", prompts=prompts, s=60)
    row.mark()
    world.load.ask("start")
    return world


def finish(row):
    """The load ends, and everything acked is read."""
    row.world.load.ask("stop")
    row.mark()
    row.verify()


def look_at_copies(row, seconds=0):
    """Everything acked is on two nodes: at once where "settled" says so, else `seconds` later at the latest."""
    world = row.world
    copies = {}

    def short():
        copies.update(world.load.ask("copies", nodes=world.controls(), wanted=2, s=20))
        return sum(count for number, count in copies["copies"].items() if int(number) < 2)

    try:
        row.time("two_copies_after_s", world.wait(lambda: not short(), seconds, "copies"))
        row.hold("short_of_copies", row.found.get("short_of_copies", 0), most=0)
    except StillWaiting:
        row.hold("short_of_copies", max(short(), row.found.get("short_of_copies", 0)), most=0)
        row.note(*(f"fewer than 2 copies: {where}" for where in copies["short"][:4]))


def detect(row):
    """A block pushed with one bit turned over under honest checksums, and an ack of what nobody pushed."""
    for _ in row.cycles(3):
        world = row.new_world(nodes=2, etcd_members=0)
        world.start()
        world.load.ask("prefill", prompts=8)
        clean = world.load.ask("verify", s=1)
        world.load.ask("plant", what="wrong")
        world.load.ask("plant", what="lost")
        planted = world.load.ask("verify", s=1)
        row.tell(f"before: {clean['wrong']} wrong, {clean['lost']} lost; planted 1 and 1: {planted['wrong']} wrong, "
                 f"{planted['lost']} lost")
        row.counted["wrong"] += clean["wrong"]
        row.counted["lost"] += clean["lost"]
        row.hold("wrong_seen", planted["wrong"], least=1, most=1)
        row.hold("lost_seen", planted["lost"], least=1, most=1)
        row.close_world()


def r3(row):
    """kill -9 of any one of five, the next when repair says that it is done."""
    world = None
    for cycle in row.cycles(5000):
        if cycle % CYCLES_PER_CLUSTER == 0:
            if world:
                finish(row)
            world = begin(row)
        victim = row.random.choice(world.running())
        # Dead for good (its lease ends and others take over) in one cycle of three; else back at once, with its disk or not.
        leaves = world.with_etcd and cycle % 3 == 2
        wiped = row.random.random() < 0.5
        row.mark()
        others = [name for name in world.running() if name != victim]  # the victim's counters begin anew
        gathered = sum_of(world.counters(others).values(), "gathered_bytes")
        killed = time.monotonic()
        world.nodes[victim].kill()
        swept = row.sweep()
        if leaves:
            row.time("settle_without_it_s", world.settle(f"{victim} was killed"))
            look_at_copies(row)
        if wiped:
            world.nodes[victim].wipe()
        world.nodes[victim].start()
        world.nodes[victim].ready()
        back = time.monotonic()
        row.time("settle_with_it_s", world.settle(f"{victim} came back"))
        moved = sum_of(world.counters().values(), "gathered_bytes") - gathered
        figures = row.mark()
        row.tell(f"kill -9 {victim}, {'wiped, ' if wiped else ''}back {back - killed:.1f} s later, settled after "
                 f"{time.monotonic() - back:.1f} s, {moved / 1e6:.1f} MB gathered; {figures['missed']} blocks missed meanwhile, "
                 f"longest outage {figures['longest_outage_ms']:.0f} ms{'' if swept else '; NOT every prompt was read again'}")
        look_at_copies(row)
    finish(row)
    if row.settings.long:
        repair_of_a_gib(row)


def repair_of_a_gib(row):
    """How long a node takes that lost 1 GiB, where the link is not what it waits for."""
    world = row.new_world(dram="2GiB", bits_per_s=10_000_000_000)
    world.start(**GIB_LOAD)
    world.load.ask("prefill", prompts=GIB_PROMPTS, s=600)
    row.mark()
    victim = max(world.statuses().items(), key=lambda item: item[1]["tiers"]["dram"]["used"])[0]
    held = world.statuses()[victim]["tiers"]["dram"]["used"]
    world.nodes[victim].kill()
    world.nodes[victim].wipe()
    world.nodes[victim].start()
    world.nodes[victim].ready()
    took = world.settle(f"{victim} came back empty", 120)
    row.tell(f"{victim} had lost {held / 2**30:.2f} GiB and has it again after {took:.1f} s")
    row.time("repair_s_a_gib", took * 2**30 / held, REPAIR_GIB_S)
    look_at_copies(row)
    row.verify()


def sum_of(many, name):
    """Over all; what a build does not count is 0."""
    return sum(one.get(name, 0) for one in many)


def r11(row):
    """Reads after the death, and during the silence, of one node."""
    world = None
    for cycle in row.cycles(1000):
        if cycle % CYCLES_PER_CLUSTER == 0:
            if world:
                finish(row)
            world = begin(row)
        for how, limit in (("kill", KILL_OUTAGE_S), ("stop", STOP_OUTAGE_S)):
            victim = row.random.choice(world.running())
            node = world.nodes[victim]
            row.mark()
            node.kill() if how == "kill" else node.pause()
            swept = row.sweep()
            figures = row.mark()
            reads = figures["read_ms"]
            row.time(f"{how}_p999_s", reads["p999"] / 1000 if swept else None, limit)
            row.time(f"{how}_longest_read_s", reads["max"] / 1000)
            row.tell(f"{'kill -9' if how == 'kill' else 'SIGSTOP'} {victim}: {reads['count']} reads until every prompt was "
                     f"read, p50 {reads['p50']:.1f} ms, p99.9 {reads['p999']:.0f} ms, longest {reads['max']:.0f} ms; {figures['statuses']}")
            if how == "kill":
                node.start()
                node.ready()
            else:
                node.resume()
            world.settle(f"{victim} came back")
            world.meet()
            look_at_copies(row, RECOPY_S)  # the next fault must not meet what this one has left behind
    finish(row)
