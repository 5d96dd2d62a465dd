# SPDX-License-Identifier: Apache-2.0
"""The second half of ./run quality: methods that choose tokens (selecting.txt), in two turns over one stored context: table, plot, page."""
import json
import math
import os
import subprocess
import sys

import plot
from plot import text

HERE = os.path.dirname(os.path.abspath(__file__))
FULL, QUICK = (12, 24), (2, 4)  # texts, cases of two turns
BUDGETS = ("0.5", "0.25", "0.125")
HEADINGS = ("method", "budget", "bits", "kept", "change", "attention error", "first turn", "second turn", "lost")
WIDTHS = (28, 8, 7, 7, 9, 17, 12, 13, 7)


def measure(build: str, quick: bool, threads: int, show, emit) -> tuple[dict, list[dict]]:
    """`show(done, total, name)` tells progress; `emit(line)` takes each row's JSON as it comes."""
    texts, turns = QUICK if quick else FULL
    command = [os.path.join(build, "tests/quality/quality_select"), os.path.join(HERE, "../model"),
               os.path.join(HERE, "selecting.txt"), str(texts), str(turns), str(threads), *(BUDGETS[1:2] if quick else BUDGETS)]
    rows: list[dict] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        show(0, 1, "capturing what methods ask of an engine")
        first = process.stdout.readline()
        if not first:
            process.wait()
            sys.exit(2)  # it has said why
        head = json.loads(first)
        for line in process.stdout:
            rows.append(json.loads(line))
            show(len(rows), head["methods"], rows[-1]["name"])
            emit(line)
    if process.returncode != 0 or len(rows) != head["methods"]:
        print(f"quality: the program that measures selections ended early, with status {process.returncode}", file=sys.stderr)
        sys.exit(1)
    return head, rows


def cells(row: dict) -> tuple[str, ...]:
    lost = row["first_turn"] - row["second_turn"]
    return (row["name"], row["budget"], f"{row['bits']:.2f}", f"{row['kept']:.0%}", f"{row['change']:+.2%}" if row["change"] else "0",
            f"{row['attention_error']:.4f}" if row["attention_error"] else "0", f"{row['first_turn']:.2f}", f"{row['second_turn']:.2f}",
            f"{lost:+.2f}" if lost else "0")


def print_table(head: dict, rows: list[dict]) -> None:
    print("\nMethods that choose tokens, and codecs of all tokens beside them; two questions over one stored context\n")
    print("".join(h.ljust(w) if i == 0 else h.rjust(w) for i, (h, w) in enumerate(zip(HEADINGS, WIDTHS))))
    name = rows[0]["name"]
    for row in rows:
        if row["name"] != name and len({r["budget"] for r in rows}) > 2:
            print()
        name = row["name"]
        print("".join(c.ljust(w) if n == 0 else c.rjust(w) for n, (c, w) in enumerate(zip(cells(row), WIDTHS)))
              if row["ok"] else f"{row['name'][:27]:<28}not measured: {row['why']}")
    print(f"\nexact: perplexity {head['perplexity']:.4f} per byte, first turn {head['first_turn']:.2f}, second turn "
          f"{head['second_turn']:.2f}; {head['texts']} texts, {head['turns']} cases of two turns")


def page(head: dict, rows: list[dict], picture: str | None) -> list[str]:
    lines = ["", "## Methods that choose tokens", "",
             f"Two questions over one stored context (SCBench's multi-turn mode, arXiv 2412.10319): {head['turns']} cases, {head['texts']} texts. The "
             "choice is made when the first question is known; the second comes later.", f"Exact K and V: perplexity "
             f"{head['perplexity']:.4f}, first turn {head['first_turn']:.2f}, second turn {head['second_turn']:.2f}. Bits are of all tokens, kept or "
             "not; lost = first turn less second.", ""]
    if picture:
        lines += [f"![passkeys found in the first and the second turn]({picture})", ""]
    lines += ["| " + " | ".join(HEADINGS[:1] + ("spec",) + HEADINGS[1:]) + " |", "|---|---|" + "--:|" * 8]
    for row in rows:
        spec = "`" + row["spec"].replace("|", "\\|") + "`"
        shown = cells(row) if row["ok"] else (row["name"], row["budget"], "not measured: " + row["why"]) + ("",) * 6
        lines.append("| " + " | ".join((shown[0], spec) + shown[1:]) + " |")
    return lines


# Of the plot: the methods that tell the story, each a line over its budgets.
DRAWN = {"all tokens": None, "KIVI int4, all tokens": None, "KIVI int2, all tokens": None, "StreamingLLM": 0, "H2O": 1, "SnapKV": 2, "KVzip": 3,
         "MiKV, int3": 4, "SnapKV and int4": 5, "KVzip and int4": 7, "DuoAttention": 6}
WIDTH, HEIGHT, TOP, BOTTOM = 1000, 470, 120, 60
PANELS = ((64, 480, "first_turn", "first turn: the question was known when the tokens were chosen"),
          (560, 976, "second_turn", "second turn: the question came after"))


def draw(rows: list[dict], head: dict) -> str:
    """Share of passkeys found against bits, one panel a turn."""
    def x_of(left: float, right: float, bits: float) -> float:
        return left + (right - left) * (math.log2(max(bits, 1.0)) / 4.0)

    def y_of(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share

    title = "What memory that drops tokens loses in the second turn"
    out = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">\n'
           f'<style>{plot.STYLE}</style>\n<rect class="page" width="100%" height="100%"/>\n' + text(64, 28, title, "title") +
           text(64, 48, f"bits against passkeys found; {head['turns']} stored contexts with two keys each, 768 bytes", "soft"))
    left = 64.0
    for name in DRAWN:
        if DRAWN[name] is None and name != "all tokens":
            continue
        paint = "var(--soft)" if DRAWN[name] is None else f"var(--c{DRAWN[name]})"
        words = "all tokens: exact, KIVI 4, 2" if DRAWN[name] is None else name
        out += f'<circle cx="{left + 5:.1f}" cy="69" r="4.5" style="fill: {paint}"/>' + text(left + 14, 73, words)
        left += 14 + plot.LETTER * len(words) + 8
    for begin, end, key, words in PANELS:
        out += text(begin, TOP - 16, words, "soft")
        for bits in (1, 2, 3, 4, 6, 8, 16):
            x = x_of(begin, end, bits)
            out += f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>' + text(x, HEIGHT - BOTTOM + 18, str(bits), "x soft")
        for share in (0, 0.25, 0.5, 0.75, 1):
            out += f'<line class="grid" x1="{begin}" x2="{end}" y1="{y_of(share):.1f}" y2="{y_of(share):.1f}"/>'
            out += text(begin - 6, y_of(share) + 4, f"{share:g}", "y soft")
        for name, index in DRAWN.items():
            paint = "var(--soft)" if index is None else f"var(--c{index})"
            at = [(x_of(begin, end, r["bits"]), y_of(r[key]), r) for r in rows if r["name"] == name and r["ok"]]
            if len(at) > 1:
                out += f'<polyline style="fill: none; stroke: {paint}; stroke-width: 1.8" points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in at) + '"/>'
            for x, y, r in at:
                told = f"{r['name']} {r['budget']}: {r['bits']:.2f} bits, {r[key]:.2f}"
                out += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" style="fill: {paint}"><title>{told}</title></circle>\n'
        out += text((begin + end) / 2, HEIGHT - 18, "bits per value of all tokens", "x soft")
    return plot.for_all_viewers(out + "</svg>\n")
