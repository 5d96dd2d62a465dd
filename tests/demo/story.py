# SPDX-License-Identifier: Apache-2.0
"""The story, step by step: each does something to the store, says what is seen, and checks it."""
import json
import time

import quality
import segments
from cluster import Trouble
from prompts import shared_blocks
from show import milliseconds, percent, readable, size

NEW_TOKENS = 64


def first_token(answer):
    return answer["first_token_ns"] - answer["begin_ns"]


def counted(answer, before, *names):
    """How far the engine's counters of these names went up."""
    return sum(answer["counters"].get(name, 0) - before["counters"].get(name, 0) for name in names)


MISSES = ("miss_absent", "miss_crc", "miss_header", "miss_late", "miss_unavailable")


class Story:
    """Holds what the steps learn from one another. `facts` is what the report draws."""

    def __init__(self, cluster, screen, checks, options):
        self.cluster, self.screen, self.checks, self.options = cluster, screen, checks, options
        self.facts = {"new_tokens": NEW_TOKENS, "prompt_bytes": len(options.text)}
        self.blocks = len(options.text) // 128

    def start(self):
        self.screen.head("Three nodes and three engines")
        with self.screen.bar("processes", 6) as bar:
            self.cluster.start()
            bar.step(), bar.step(), bar.step()
            self.solo, self.prefill, self.decode = (self.cluster.engine(name) for name in ("solo", "prefill", "decode"))
            for engine in (self.solo, self.prefill, self.decode):
                self.opened = self.open(engine)
                bar.step()
        self.screen.say(f"""Each kvasird has a port, 64 MiB of memory and a directory in {self.cluster.directory}. The prefill engine
            computes prompts; the decode engine generates and is split in two tensor-parallel ranks, each with half of the heads and
            pages laid out in another order; the solo engine has no store: what it says is the truth. The model reads bytes: one
            byte, one token. A block is 128 tokens, {size(self.block_bytes())} of KV; two blocks are a run, and a run lives on two nodes.""")
        seen = [node.status() for node in self.cluster.nodes]
        source = seen[0]["membership_source"]
        self.checks.add("nodes_serve", all(one["state"] == "serving" for one in seen) and len({one["epoch"] for one in seen}) == 1,
                        f"three nodes serve and know each other ({source})", nodes=self.cluster.addresses(), members=source)

    def open(self, engine, nodes=None):
        return engine.ask("open", role=engine.name, model=self.options.model, threads=2,
                          nodes=nodes or self.cluster.addresses(), transports=[self.options.transport])

    def block_bytes(self):
        o = self.opened
        return o["block_tokens"] * o["layers"] * o["kv_heads"] * o["head_dim"] * 2 * 2

    def generate(self, engine, file=None, accept=("lossless",)):
        return engine.ask("generate", file=file or self.options.file, accept=list(accept), tokens=NEW_TOKENS)

    def lossless(self):
        """The main path: prefill pushes, decode fetches, and the text is the same."""
        self.screen.head("One prompt, without and with the store")
        self.generate(self.solo)  # once for warm caches: what is compared shall be alike
        self.truth = self.generate(self.solo)
        self.pushed = self.prefill.ask("prefill", file=self.options.file, view=quality.LOSSLESS, replicas=2, durable=True)
        self.found = self.generate(self.decode)
        pushed, found = self.pushed, self.found
        text = bytes.fromhex(self.truth["text"])
        self.screen.say(f"""Prompt: {len(self.options.text)} bytes, {self.blocks} whole blocks; the tail of
            {len(self.options.text) - self.blocks * 128} bytes stays with the engine. {NEW_TOKENS} bytes are generated. The prefill
            engine pushed each layer of each block while the next one was computed; each block was acknowledged when two nodes had
            it on their disks.""")
        self.screen.say(f"Generated: {readable(text)}")
        self.facts.update(truth=self.truth, pushed=pushed, found=found)
        self.checks.add("text_equal", found["text"] == self.truth["text"] and found["blocks"] == self.blocks,
                        f"from {found['blocks']} fetched blocks, the decode engine generates the same {NEW_TOKENS} bytes as the solo engine",
                        blocks=found["blocks"], text=found["text"])
        without, with_store = first_token(self.truth), first_token(found)
        self.checks.add("first_token", with_store < without,
                        f"time to first token: {milliseconds(without)} without the store, {milliseconds(with_store)} with it: "
                        f"{without / with_store:.1f} times as fast",
                        without_ms=without / 1e6, with_ms=with_store / 1e6)
        ratio = pushed["raw_bytes"] / pushed["stored_bytes"]
        self.checks.add("bytes", ratio > 1 and 0 < found["moved_bytes"] <= pushed["stored_bytes"] and pushed["replicas"] == 2,
                        f"lossless: {size(pushed['raw_bytes'])} raw, {size(pushed['stored_bytes'])} stored on each of two nodes, "
                        f"{size(found['moved_bytes'])} moved to the decode engine; ratio {ratio:.2f}",
                        raw=pushed["raw_bytes"], stored=pushed["stored_bytes"], moved=found["moved_bytes"], ratio=ratio,
                        bits_per_value=16 / ratio)

    def views(self):
        """The same blocks again, smaller."""
        self.screen.head("The same blocks in 8, 4 and 2 bits")
        rows = {"lossless": (self.pushed, self.found)}
        for name, spec in quality.VIEWS.items():
            pushed = self.prefill.ask("push", file=self.options.file, view=spec, replicas=2, durable=True)
            rows[name] = (pushed, self.generate(self.decode, accept=[spec]))
        measured = quality.measure(self.prefill, self.decode, self.solo, self.options.heldout, self.options.model, self.screen)
        self.facts.update(views=rows, quality=measured)
        self.screen.say(f"""Perplexity of held-out text: {measured.scored} bytes, each window's first {quality.CONTEXT} bytes through the
            store and back. On KV that never left its engine it is {measured.truth:.3f} per byte; given only the last
            {quality.KEEP} to {quality.KEEP + quality.STRIDE - 1} bytes it is {measured.short:.3f} ({percent(measured.rise)}).
            Passkeys found with the last 64 bytes only, from the model's own probe:
            {'not measured' if measured.passkey is None else f'{measured.passkey:.2f}'}.""")
        if measured.weak:
            self.screen.say("""The figures below are those of a weak model: it needs its cache too little (less than 10 % of perplexity, or
                passkeys found without it, or the probe was not run), so that they say little about codecs.""")
        for name, spec in quality.VIEWS.items():
            pushed, got = rows[name]
            bits = 16 * pushed["stored_bytes"] / pushed["raw_bytes"]
            same = sum(1 for a, b in zip(bytes.fromhex(got["text"]), bytes.fromhex(self.truth["text"])) if a == b)
            view = measured.views[name]
            one_view = len(set(got["views"])) == 1
            self.checks.add(f"view_{name}", one_view and got["blocks"] == self.blocks and pushed["stored_bytes"] < self.pushed["stored_bytes"],
                            f"{name}: {bits:.2f} bits per value, ratio {16 / bits:.2f}, {size(got['moved_bytes'])} moved; perplexity "
                            f"{view['perplexity']:.3f}, {percent(view['change'])}{measured.mark}; {same} of {NEW_TOKENS} bytes as the truth",
                            spec=got["views"][0] if got["views"] else spec, bits_per_value=bits, ratio=16 / bits,
                            stored=pushed["stored_bytes"], moved=got["moved_bytes"], perplexity=view["perplexity"],
                            change=view["change"], weak_model=measured.weak)
        self.checks.add("lossless_perplexity", measured.lossless_equal,
                        f"through the lossless view the perplexity is that of the KV that never left, bit for bit{measured.mark}",
                        perplexity=measured.truth, scored=measured.scored, short_sighted=measured.short, rise=measured.rise,
                        weak_model=measured.weak)

    def prefix(self):
        """Another prompt that begins like the first."""
        self.screen.head("A second prompt with the same beginning")
        shared = shared_blocks(self.options.text, self.options.text2)
        truth = self.generate(self.solo, self.options.file2)
        got = self.generate(self.decode, self.options.file2)
        self.facts.update(prefix={"shared": shared, "truth": truth, "got": got})
        self.checks.add("shared_prefix", got["blocks"] == shared and got["text"] == truth["text"],
                        f"of {len(self.options.text2)} tokens {got['blocks'] * 128} were found in the store and {got['computed_tokens']} "
                        f"computed; first token after {milliseconds(first_token(got))} instead of {milliseconds(first_token(truth))}; the "
                        f"text is the solo engine's", found=got["blocks"] * 128, computed=got["computed_tokens"],
                        with_ms=first_token(got) / 1e6, without_ms=first_token(truth) / 1e6)

    def kill(self):
        """kill -9 of the node that is primary of the first run: the other copies serve."""
        owners = self.pushed["owners"]
        self.victim = self.cluster.node(owners[0][0])
        runs = [owners[block] for block in range(0, self.blocks, 2)]
        primary = sum(1 for run in runs if run[0] == self.victim.name)
        self.screen.head(f"kill -9 of {self.victim.name}, primary of {primary} of {len(runs)} runs")
        self.parts_before = next(tier["parts"] for tier in self.victim.status()["tiers"] if tier["name"] == "ssd")
        self.victim.kill()
        got = self.generate(self.decode)
        failovers = counted(got, self.found, "failovers")
        self.facts.update(victim=self.victim.name, primary=primary, runs=len(runs), killed=got)
        self.checks.add("killed_node", got["blocks"] == self.blocks and got["text"] == self.truth["text"] and failovers > 0,
                        f"{got['blocks']} of {self.blocks} blocks still hit, the dead node's from the other copy ({failovers} failovers "
                        f"counted, no miss); first token after {milliseconds(first_token(got))}; the text is right",
                        victim=self.victim.name, primary_of=primary, runs=len(runs), blocks=got["blocks"], failovers=failovers)

    def restart(self):
        """The dead node's directory holds what was acknowledged: verified, and served by it alone."""
        self.screen.head(f"{self.victim.name} again, on the same directory")
        verified = self.verify()
        begun = time.monotonic()
        self.victim.start(), self.victim.ready()
        started = time.monotonic() - begun
        if self.cluster.etcd is not None:
            self.cluster.await_serving(self.cluster.nodes)
        recovered = self.victim.status()["counters"].get("parts_recovered", 0)
        self.others = [node for node in self.cluster.nodes if node is not self.victim]
        stopped = [node.stop() for node in self.others]
        self.screen.say(f"kvasir verify read {verified['parts']} parts, {size(verified['bytes'])}, and found {len(verified['damaged'])} "
                        f"damaged. It started in {started:.1f} s; the two others were stopped with SIGTERM, exit status {stopped}.")
        before = self.reopen([self.victim.control])
        got = self.generate(self.decode)
        served = self.served_runs()
        # Where a list is all they know, nobody takes over from a node that stops; etcd tells, and they hand over what they hold.
        handed_over = self.cluster.etcd is not None
        mine = [run for run, owners in self.runs() if handed_over or self.victim.name in owners]
        self.facts.update(recovered=recovered, alone=got)
        self.checks.add("restarted_node",
                        min(recovered, verified["parts"]) >= self.parts_before > 0 and not verified["damaged"]
                        and stopped == [0, 0] and served == mine and got["blocks"] >= 2 and got["text"] == self.truth["text"],
                        f"after kill -9 and a start on the same directory {recovered} durable parts are found again; alone, it serves all "
                        f"{len(served)} runs {'that were there' if handed_over else 'it had a copy of'} ({got['blocks']} leading blocks of "
                        f"the prompt; {counted(got, before, *MISSES)} misses counted for the rest) and the text is right",
                        parts=recovered, verified=verified["parts"], runs_served=len(served), blocks=got["blocks"], start_s=started)

    def reopen(self, nodes):
        """New Sessions for the decode engine; counters begin at 0."""
        self.open(self.decode, nodes)
        return {"counters": {}}

    def runs(self):
        """(first block, owners) of each run."""
        return [(block, self.pushed["owners"][block]) for block in range(0, self.blocks, 2)]

    def served_runs(self):
        """First blocks of the runs that the nodes which are up bring whole."""
        served = []
        for first, _ in self.runs():
            count = min(2, self.blocks - first)
            got = self.decode.ask("fetch", file=self.options.file, first_block=first, blocks=count, accept=["lossless"])
            if got["blocks"] == count:
                served.append(first)
        return served

    def verify(self, damaged=False):
        """`kvasir verify` over the node's directory, as JSON."""
        return json.loads(self.cluster.kvasir("-o", "json", "verify", self.victim.ssd, allowed=(0, 1) if damaged else (0,)))

    def damage(self):
        """One flipped bit on the disk of the only node that is up: a counted miss, computed instead."""
        self.screen.head(f"One flipped bit on {self.victim.name}'s disk")
        self.victim.stop()
        place = segments.flip_a_bit(self.victim.ssd, self.pushed["keys"][1], quality.LOSSLESS)
        if place is None:
            raise Trouble(f"block 1 ({self.pushed['keys'][1]}) is in no segment of {self.victim.ssd}: nothing to damage")
        verified = self.verify(damaged=True)
        cause = verified["damaged"][0]["cause"] if verified["damaged"] else "nothing found"
        self.screen.say(f"A bit of block 1 was flipped in {place[0].name} at byte {place[1]}. kvasir verify says: {cause}.")
        self.victim.start(), self.victim.ready()
        before = self.reopen([self.victim.control])
        got = self.generate(self.decode)
        misses = {name: counted(got, before, name) for name in MISSES if counted(got, before, name)}
        prevented = sum(self.victim.status()["counters"].get(name, 0) for name in ("wrong_prevented_ssd", "wrong_prevented_seal"))
        self.facts.update(damaged=got, misses=misses)
        self.checks.add("flipped_bit",
                        len(verified["damaged"]) == 1 and got["blocks"] == 1 and misses and prevented and got["text"] == self.truth["text"],
                        f"block 1 is a miss, counted ({', '.join(f'{k} {v}' for k, v in misses.items()) or 'no miss'} in the engine, "
                        f"wrong_prevented_ssd {prevented} in the node); {got['computed_tokens']} tokens were computed instead and the text is right",
                        misses=misses, wrong_prevented=prevented, blocks=got["blocks"], computed=got["computed_tokens"])
        for node in self.others:
            node.start()
        for node in self.others:
            node.ready()
        self.reopen(self.cluster.addresses())
        got = self.generate(self.decode)
        self.facts.update(whole=got)
        self.checks.add("other_copy", got["blocks"] == self.blocks and got["text"] == self.truth["text"],
                        f"with the two others back, on their directories, all {got['blocks']} blocks are found again: the damaged one from its "
                        f"other copy", blocks=got["blocks"], failovers=got["counters"].get("failovers", 0))
