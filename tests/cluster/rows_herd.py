# SPDX-License-Identifier: Apache-2.0
"""Row HERD: ten thousand clients that want, or that all computed, the same block."""
from rows_kill import sum_of
from world import LINK_BITS_PER_S

CLIENTS, SESSIONS = 10_000, 32
BLOCK_BYTES = 2 * 64 * 64 * 2  # K and V, tokens, dimensions, bfloat16
# What a node that lost all has to gather, and how fast it may: for seconds the herd finds it without its run.
BALLAST_PROMPTS, GATHER_BITS_PER_S = 1500, 40_000_000


def herd(row):
    """One fill a node, whatever the number of clients."""
    shape = {"blocks": 2, "layers": 1, "kv_heads": 1, "head_dim": 64, "block_tokens": 64, "only_raw": True}
    for _ in row.cycles(10):
        world = row.new_world()
        world.start(writers=0, **shape)
        world.load.ask("prefill", prompts=BALLAST_PROMPTS, s=60)
        row.mark()
        push(row, world, BALLAST_PROMPTS + 1000)
        fetch(row, world)
        row.verify()
        row.close_world()


def push(row, world, prompt):
    """All push the block that nobody had: each owner pulls it once."""
    before = world.counters()
    answer = world.load.ask("herd", prompt=prompt, clients=CLIENTS, sessions=SESSIONS, push=True, s=120)
    after = world.counters()
    owners = world.load.ask("owners", prompt=prompt)["owners"][:2]
    sealed = {name: after[name]["parts_sealed"] - before[name]["parts_sealed"] for name in after}
    pulled = max(after[name]["pulled_bytes"] - before[name]["pulled_bytes"] for name in after)
    row.counted["errors"] += answer["clients"] - answer["succeeded"]
    row.hold("push_fills_a_node", max(sealed.values()), least=1, most=1)
    row.hold("push_nodes_filled", sum(sealed.values()), least=2, most=2)
    row.hold("push_bytes_a_node", pulled, least=BLOCK_BYTES, most=2 * BLOCK_BYTES - 1)  # with header and directory, once
    row.tell(f"{CLIENTS} clients push one block: {answer['succeeded']} acked in {answer['ms']} ms; sealed {sealed}, "
             f"owners {owners}, {answer['statuses']}")


def fetch(row, world):
    """One owner lost everything; all fetch a block of its while it is still gathering."""
    prompt = next(number for number in range(BALLAST_PROMPTS) if world.load.ask("owners", prompt=number)["owners"][0] == "n1")
    node = world.nodes["n1"]
    node.kill()
    node.wipe()
    world.network.speed("n1", GATHER_BITS_PER_S)
    node.start()
    node.ready()
    before = world.counters()
    answer = world.load.ask("herd", prompt=prompt, clients=CLIENTS, sessions=SESSIONS, push=False, s=120)
    after = world.counters()
    fills = {name: after[name].get("fills", 0) - before.get(name, {}).get("fills", 0) for name in after}
    row.counted["errors"] += answer["clients"] - answer["succeeded"]
    row.counted["wrong"] += answer["wrong"]
    row.hold("fetch_fills_a_node", max(fills.values()), most=1)
    row.tell(f"{CLIENTS} clients fetch one block that n1 has lost: {answer['succeeded']} got it in {answer['ms']} ms; "
             f"fills {fills}, {sum_of(after.values(), 'gathered_blocks')} blocks gathered in all, {answer['statuses']}")
    world.network.speed("n1", LINK_BITS_PER_S)
    world.settle("n1 came back")
