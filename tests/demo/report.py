# SPDX-License-Identifier: Apache-2.0
"""The last table, and the page: one HTML file that needs nothing else."""
import html

import quality
import timeline
from show import milliseconds, percent, readable, size

STYLE = """
:root { --ink: #1b1e23; --soft: #626a75; --page: #fcfcfb; --line: #dcdfe3; --track: #f1f2f3; --good: #1a7f4b; --bad: #b3261e;
  --compute: #3b6fb6; --codec: #c9822b; --travel: #2f9183; --ask: #8a63b8; --token: #a9b0b9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa2ad; --page: #16181b; --line: #33383f; --track: #202328;
  --good: #5cc98f; --bad: #f2867f; --compute: #6d9fe3; --codec: #e0a75c; --travel: #56b8aa; --ask: #b293dd; --token: #6f7782; } }
body { margin: 0 auto; padding: 3rem 1.5rem 5rem; max-width: 62rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; font-weight: 650; letter-spacing: -.01em; margin: 0 0 .4rem; }
h2 { font-size: 1.1rem; font-weight: 650; margin: 3rem 0 .8rem; }
p { max-width: 46rem; margin: .5rem 0; } .soft { color: var(--soft); }
.wide { overflow-x: auto; }
svg { width: 100%; height: auto; min-width: 44rem; display: block; } svg text { fill: var(--ink); font-size: 13px; }
svg .group { font-weight: 650; } svg .lane { text-anchor: end; fill: var(--soft); } svg .tick { text-anchor: middle; fill: var(--soft); font-size: 12px; }
svg .inside { text-anchor: middle; fill: var(--page); font-size: 12px; } svg .grid { stroke: var(--line); } svg .track { fill: var(--track); }
svg line.mark { stroke: var(--ink); stroke-width: 1.5; } svg text.mark { font-weight: 600; }
svg rect.compute { fill: var(--compute); stroke: var(--page); stroke-width: .6; } svg rect.codec { fill: var(--codec); } svg rect.travel { fill: var(--travel); }
svg rect.ask { fill: var(--ask); } svg rect.token { fill: var(--token); stroke: var(--page); stroke-width: .4; } svg rect.many { fill-opacity: .3; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; font-size: .94rem; }
th, td { padding: .38rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; color: var(--soft); } th:first-child, td:first-child { text-align: left; padding-left: 0; }
.checks td { text-align: left; white-space: normal; } .good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
pre { white-space: pre-wrap; word-break: break-word; border-left: 3px solid var(--line); padding: .2rem 0 .2rem 1rem; font-size: .9rem; }
"""


def first_token(answer):
    return milliseconds(answer["first_token_ns"] - answer["begin_ns"])


def as_truth(got, truth):
    one, other = bytes.fromhex(got["text"]), bytes.fromhex(truth["text"])
    return f"{sum(a == b for a, b in zip(one, other))} of {len(other)}"


def rows(facts):
    """The last table: what was seen, without the store and in each view. The first row is the heading."""
    truth, views, q, prefix = facts["truth"], facts["views"], facts["quality"], facts["prefix"]
    names = list(views)
    mark = q.mark
    blocks = facts["pushed"]["blocks"]

    def row(what, without, of_view):
        return [what, without, *(of_view(name, *views[name]) for name in names)]

    def lossless_only(what, without, text):
        return [what, without, text, *[""] * (len(names) - 1)]

    return [
        ["", "no store", *names],
        row("bits per value", "16", lambda _, pushed, got: f"{16 * pushed['stored_bytes'] / pushed['raw_bytes']:.2f}"),
        row("ratio", "1", lambda _, pushed, got: f"{pushed['raw_bytes'] / pushed['stored_bytes']:.2f}"),
        row("raw", size(facts["pushed"]["raw_bytes"]), lambda _, pushed, got: size(pushed["raw_bytes"])),
        row("stored, on each of two nodes", "", lambda _, pushed, got: size(pushed["stored_bytes"])),
        row("moved to the decode engine", "", lambda _, pushed, got: size(got["moved_bytes"])),
        row("prompt tokens found", "0", lambda _, pushed, got: str(got["blocks"] * 128)),
        row("prompt tokens computed", str(truth["computed_tokens"]), lambda _, pushed, got: str(got["computed_tokens"])),
        row("time to first token", first_token(truth), lambda _, pushed, got: first_token(got)),
        row("new bytes as without the store", as_truth(truth, truth), lambda _, pushed, got: as_truth(got, truth)),
        row(f"perplexity, held-out text{mark}", f"{q.truth:.3f}", lambda name, *_: f"{q.views[name]['perplexity']:.3f}"),
        row(f"its change{mark}", "", lambda name, *_: percent(q.views[name]["change"])),
        lossless_only("second prompt: tokens found", "0", str(prefix["got"]["blocks"] * 128)),
        lossless_only("second prompt: tokens computed", str(prefix["truth"]["computed_tokens"]), str(prefix["got"]["computed_tokens"])),
        lossless_only("second prompt: first token", first_token(prefix["truth"]), first_token(prefix["got"])),
        lossless_only("a node killed: blocks hit", "", f"{facts['killed']['blocks']} of {blocks}"),
        lossless_only("started again: parts verified", "", str(facts["recovered"])),
        lossless_only("a bit flipped: blocks hit, one copy", "", f"{facts['damaged']['blocks']} of {blocks}"),
        lossless_only("a bit flipped: blocks hit, two copies", "", f"{facts['whole']['blocks']} of {blocks}"),
    ]


def html_table(lines):
    head, *body = lines
    out = ["<table><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    out += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in body]
    return "\n".join(out) + "</table>"


def html_checks(checks):
    out = ['<table class="checks">']
    for check, sentence in zip(checks.done, checks.sentences):
        mark = '<td class="good">holds</td>' if check["ok"] else '<td class="bad">fails</td>'
        out.append(f"<tr>{mark}<td>{html.escape(sentence)}</td></tr>")
    return "\n".join(out) + "</table>"


def page(facts, checks, text):
    q = facts["quality"]
    pushed = facts["pushed"]
    new = readable(bytes.fromhex(facts["truth"]["text"]))
    weak = ("""<p>The model is a <strong>weak model</strong>: what it says about codecs is marked so, because it needs its cache too
        little, or its probe was not run.</p>""" if q.weak else "")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Kvasir: one prompt, without and with the store</title><style>{STYLE}</style></head><body>
<h1>One prompt, without and with the store</h1>
<p>Three nodes, a prefill engine and a decode engine on one machine. The prompt has {facts['prompt_bytes']} bytes, one token each:
{pushed['blocks']} blocks of 128 went through the store, each on two nodes and their disks.</p>
<h2>When what happened</h2>
<div class="wide">{timeline.draw(facts)}</div>
<p class="soft">Each engine's time begins when it is given the prompt. A faint bar is one layer of one block or of one part of it, from the
moment it is asked for; where they overlap the colour is full. What lasts longer than the axis is cut off.</p>
<h2>What it costs and what it saves</h2>
<div class="wide">{html_table(rows(facts))}</div>
{weak}
<p class="soft">Perplexity per byte of {q.scored} bytes of held-out text, each window's first {quality.CONTEXT} bytes pushed and fetched in the view,
the {quality.SCORED} behind them scored teacher-forced. Given only the last {quality.KEEP} to {quality.KEEP + quality.STRIDE - 1} bytes it is
{q.short:.3f} ({percent(q.rise)}).</p>
<h2>What was checked</h2>
{html_checks(checks)}
<h2>The text</h2>
<p>The last bytes of the prompt, and what follows:</p>
<pre><span class="soft">{html.escape(readable(text[-240:]))}</span><strong>{html.escape(new)}</strong></pre>
</body></html>
"""


def write(directory, facts, checks, text):
    """The path of the page."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "index.html"
    path.write_text(page(facts, checks, text), encoding="utf-8")
    return path
