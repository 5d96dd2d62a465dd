# SPDX-License-Identifier: Apache-2.0
"""Row HERD: ten thousand clients that want, or that all computed, the same block."""
from rows_kill import sum_of

CLIENTS, SESSIONS = 10_000, 32
BLOCK_BYTES = 2 * 32 * 16 * 2  # K and V, tokens, dimensions, bfloat16
PROMPTS = 400
ASKED = 2_000          # clients that have asked a node for what it lacks, before it can get it
ASKED_S = 30


def herd(row):
    """One fill a node, whatever the number of clients."""
    shape = {"blocks": 2, "layers": 1, "kv_heads": 1, "head_dim": 16, "block_tokens": 32, "only_raw": True}
    for _ in row.cycles(10):
        world = row.new_world()
        world.start(writers=0, **shape)
        world.load.ask("prefill", prompts=PROMPTS)
        row.mark()
        push(row, world, PROMPTS + 1000)
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
    row.note(*answer["examples"])
    row.hold("push_fills_a_node", max(sealed.values()), least=1, most=1)
    row.hold("push_nodes_filled", sum(sealed.values()), least=2, most=2)
    row.hold("push_bytes_a_node", pulled, least=BLOCK_BYTES, most=2 * BLOCK_BYTES - 1)  # with header and directory, once
    row.tell(f"{CLIENTS} clients push one block: {answer['succeeded']} acked in {answer['ms']} ms; sealed {sealed}, "
             f"owners {owners}, {answer['statuses']}")


def fetch(row, world):
    """The first owner lost everything, the second is stopped until thousands have asked the first in vain."""
    of = {number: world.load.ask("owners", prompt=number)["owners"] for number in range(0, PROMPTS, 4)}
    prompt = next(number for number, owners in of.items() if owners[0] == "n1")
    first, second = world.nodes["n1"], world.nodes[of[prompt][1]]
    observer = world.open_load(writers=0, readers=0)  # the load itself will be busy
    first.kill()
    first.wipe()
    second.pause()
    first.start()
    first.ready()
    world.load.say("herd", prompt=prompt, clients=CLIENTS, sessions=SESSIONS, push=False, s=120)

    def asked():
        status = observer.ask("status", nodes=[first.control], s=2)["nodes"][first.control]
        return status["reachable"] and status["counters"]["acquires"] >= ASKED

    try:
        world.wait(asked, ASKED_S, f"{ASKED} clients to ask n1")
    finally:
        second.resume()
    answer = world.load.hear()
    after = world.counters()
    fills = {name: counters.get("fills", 0) for name, counters in after.items()}
    row.counted["errors"] += answer["clients"] - answer["succeeded"]
    row.note(*answer["examples"])
    row.counted["wrong"] += answer["wrong"]
    row.hold("fetch_fills_of_n1", fills["n1"], most=1)
    # One that found nobody with the block, since the second was still silent, is followed by another.
    row.hold("fetch_fills_tried_by_n1", fills["n1"] + after["n1"].get("fills_empty", 0), least=1)
    row.tell(f"{CLIENTS} clients fetch one block that n1 has lost: {answer['succeeded']} got it in {answer['ms']} ms; "
             f"fills {fills}, {sum_of(after.values(), 'gathered_blocks')} blocks gathered in all, {answer['statuses']}")
    world.settle("n1 came back")
