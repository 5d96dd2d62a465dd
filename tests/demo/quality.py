# SPDX-License-Identifier: Apache-2.0
"""What a lossy view costs in perplexity, measured through the store.

Windows of held-out text, evenly spaced. Of each window the prefill engine computes the first CONTEXT bytes and pushes
their KV in every view; the decode engine fetches them back, decoded, and says how surprised it is by the SCORED bytes
behind them, each given all that came before (teacher-forced; the KV of the scored bytes themselves stays bf16). The truth
is the prefill engine's own score on the KV that never left it. Short-sighted: the same bytes, each given only the last
KEEP to KEEP + STRIDE - 1 bytes; while that costs less than GATE the model hardly looks at its cache and says little about
codecs: every figure of it is then marked "weak model".
"""
import json
import math

CONTEXT = 768
SCORED = 256
WINDOWS = 12
KEEP, STRIDE = 64, 32
GATE_RISE, GATE_PASSKEY = 0.10, 0.20

LOSSLESS = "splitexp"
VIEWS = {"int8": "int(8,tok)", "int4": "k:int(4,chan,32)|v:int(4,tok,64)", "int2": "k:int(2,chan,32)|v:int(2,tok,32)"}


def windows(path, count=WINDOWS):
    total = path.stat().st_size - CONTEXT - SCORED
    return [total * i // (count - 1) for i in range(count)]


class Quality:
    """Figures of the run. `views` is by name: perplexity and its change against the truth."""

    def __init__(self):
        self.scored, self.truth, self.short, self.views = 0, 0.0, 0.0, {}
        self.lossless_equal = True
        self.passkey = None

    @property
    def rise(self):
        return self.short / self.truth - 1

    @property
    def weak(self):
        return self.rise < GATE_RISE or self.passkey is None or self.passkey >= GATE_PASSKEY

    @property
    def mark(self):
        return " (weak model)" if self.weak else ""


def measure(prefill, decode, solo, heldout, model, screen):
    """Asks the engines window by window."""
    specs = {"lossless": LOSSLESS, **VIEWS}
    loss = dict.fromkeys(specs, 0.0)
    truth = short = scored = 0
    result = Quality()
    starts = windows(heldout)
    with screen.bar("held-out text, windows", len(starts)) as bar:
        for start in starts:
            place = {"file": heldout, "offset": start}
            prefill.ask("prefill", **place, bytes=CONTEXT, view=LOSSLESS)
            own = prefill.ask("score", **place, context=CONTEXT, bytes=SCORED)
            truth, scored = truth + own["loss"], scored + own["scored"]
            for name, spec in specs.items():
                if name != "lossless":
                    prefill.ask("push", **place, bytes=CONTEXT, view=spec)
                got = decode.ask("score", **place, context=CONTEXT, bytes=SCORED, accept=[spec])["loss"]
                loss[name] += got
                if name == "lossless" and got != own["loss"]:
                    result.lossless_equal = False
            short += solo.ask("score_short", **place, context=CONTEXT, bytes=SCORED, keep=KEEP, stride=STRIDE)["loss"]
            bar.step()
    result.scored = scored
    result.truth, result.short = math.exp(truth / scored), math.exp(short / scored)
    for name in specs:
        perplexity = math.exp(loss[name] / scored)
        result.views[name] = {"perplexity": perplexity, "change": perplexity / result.truth - 1}
    result.passkey = passkey_without_memory(model)
    return result


def passkey_without_memory(model):
    """Of the model's own probe (tests/model/probe.json), as its training left it; None where it was not run."""
    try:
        return json.loads((model / "probe.json").read_text())["gate_window_64"]["passkey_1024"]
    except (OSError, ValueError, KeyError):
        return None
