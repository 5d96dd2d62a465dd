# SPDX-License-Identifier: Apache-2.0
"""The plot of bits against attention error: points by family, the Pareto front as a line, in the style of deploy/kvasir/svg.h
(which draws lines only, without labels at points). Lossless methods have no error: they stand on a rail at the bottom."""
import html
import math
import re

WIDTH, HEIGHT = 1000, 620
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 126, 64
RAIL = 34  # height of the lossless rail
PLOT_BOTTOM = HEIGHT - BOTTOM - RAIL
LETTER = 6.9  # width of a 12 px letter, about
LABEL = 14  # height kept free for a label

STYLE = """
svg { --ink: #1b1e23; --soft: #626a75; --page: #fcfcfb; --line: #dcdfe3;
  --c0: #3b6fb6; --c1: #c9822b; --c2: #2f9183; --c3: #8a63b8; --c4: #b3261e; --c5: #1a7f4b; --c6: #7a6a4f; --c7: #c2528b; --c8: #a08a00; }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e8eb; --soft: #9aa2ad; --page: #16181b; --line: #33383f;
  --c0: #6d9fe3; --c1: #e0a75c; --c2: #56b8aa; --c3: #b293dd; --c4: #f2867f; --c5: #5cc98f; --c6: #b8a888; --c7: #e58fbb; --c8: #d9c34a; } }
text { fill: var(--ink); font: 12px system-ui, -apple-system, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }
.page { fill: var(--page); } .title { font-size: 17px; font-weight: 650; } .soft { fill: var(--soft); }
.x { text-anchor: middle; } .y { text-anchor: end; } .grid { stroke: var(--line); }
.front { fill: none; stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 6 5; }
"""
FAMILIES = {"lossless": "lossless", "floats": "floats", "tok": "int, per token", "tok32": "int, per token", "chan": "int, per channel",
            "kivi": "KIVI", "had": "Hadamard", "lm": "Lloyd-Max", "hier": "planes", "chains": "chains", "gear": "GEAR",
            "ac": "arithmetic-coded"}
COLOURS = {"int, per token": 0, "int, per channel": 1, "KIVI": 2, "Hadamard": 3, "Lloyd-Max": 4, "planes": 6, "chains": 5, "GEAR": 7,
           "arithmetic-coded": 8}


def x_of(bits: float) -> float:  # linear in log2: 2, 3, 4 bits need room
    return LEFT + (WIDTH - RIGHT - LEFT) * (math.log2(bits) - 1) / 3.1


def colour(row: dict) -> str:
    index = COLOURS.get(FAMILIES.get(row["family"], ""))
    return "var(--soft)" if index is None else f"var(--c{index})"


def text(x: float, y: float, words: str, kind: str = "", extra: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{extra}>{html.escape(words)}</text>\n'


def axes(y_of, decades: list[float]) -> str:
    out = ""
    for bits in (2, 3, 4, 5, 6, 8, 12, 16):
        out += f'<line class="grid" x1="{x_of(bits):.1f}" x2="{x_of(bits):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        out += text(x_of(bits), HEIGHT - BOTTOM + 18, str(bits), "x soft")
    for tick in decades:
        out += f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}"/>'
        out += text(LEFT - 8, y_of(tick) + 4, f"{tick:g}", "y soft")
    out += f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
    out += text(LEFT - 8, HEIGHT - BOTTOM - 13, "0", "y soft")
    out += text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, "bits per value, metadata counted", "x soft")
    return out + text(LEFT, TOP - 12, "relative error of attention outputs", "soft")


def legend(families: list[str]) -> str:
    out, left, y = "", LEFT, 69
    for family in [*families, "Pareto front"]:
        if left + 39 + LETTER * len(family) > WIDTH - RIGHT:
            left, y = LEFT, y + 17
        if family == "Pareto front":
            out += f'<line class="front" x1="{left}" x2="{left + 24}" y1="{y}" y2="{y}"/>' + text(left + 30, y + 4, family)
            continue
        index = COLOURS.get(family)
        paint = "var(--soft)" if index is None else f"var(--c{index})"
        out += f'<circle cx="{left + 5:.1f}" cy="{y}" r="4.5" style="fill: {paint}"/>' + text(left + 15, y + 4, family)
        left += 15 + LETTER * len(family) + 9
    return out


def for_all_viewers(svg: str) -> str:
    """Each colour in plain before its variable: what knows no variables (librsvg, say) takes the light ones."""
    light = dict(re.findall(r"--(\w+): (#\w+)", svg[:svg.index("@media")]))
    return re.sub(r"(fill|stroke): var\(--(\w+)\)", lambda m: f"{m[1]}: {light[m[2]]}; {m[0]}", svg)


def overlaps(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def place(x: float, y: float, words: str, taken: list[tuple]) -> tuple[float, float] | None:
    """Where a label stands free: below left, where the front leaves room, else about. None: nowhere."""
    width = LETTER * len(words)
    for dx, dy in ((-8 - width, 14), (-8 - width, 4), (-width / 2, 20), (8, 4), (8, -6), (8, 16), (-8 - width, -8), (-width / 2, -10),
                   (-12 - width, 26), (-width / 2, 32), (10, -18), (-width / 2, -22), (-20, 44)):
        box = (x + dx, y + dy - 11, x + dx + width, y + dy + 3)
        if box[0] > LEFT and box[2] < WIDTH - 4 and box[3] < HEIGHT - BOTTOM and box[1] > TOP and \
                not any(overlaps(box, other) for other in taken):
            taken.append(box)
            return x + dx, y + dy
    return None


def points(rows: list[dict], front: set[int], y_of) -> str:
    out, at = "", {}
    for i, row in enumerate(rows):
        if row["ok"]:
            error = row["attention_error"]
            at[i] = (x_of(row["bits"]), y_of(error) if error else HEIGHT - BOTTOM - RAIL / 2)
    ordered = sorted(front, key=lambda i: rows[i]["bits"])
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in at.values()]
    for a, b in zip(ordered, ordered[1:]):  # labels keep off the line of the front too
        (x1, y1), (x2, y2) = at[a], at[b]
        steps = max(2, int(math.hypot(x2 - x1, y2 - y1) / 6))
        taken += [(x1 + (x2 - x1) * s / steps - 2, y1 + (y2 - y1) * s / steps - 2, x1 + (x2 - x1) * s / steps + 2,
                   y1 + (y2 - y1) * s / steps + 2) for s in range(steps + 1)]
    out += '<polyline class="front" points="' + " ".join(f"{at[i][0]:.1f},{at[i][1]:.1f}" for i in ordered) + '"/>\n'
    for i, (x, y) in at.items():
        row = rows[i]
        told = f"{row['name']}: {row['bits']:.2f} bits, error {row['attention_error']:.4f}, perplexity {row['change']:+.2%}"
        ring = "; stroke: var(--ink); stroke-width: 1.5" if i in front else "; opacity: .75"
        out += (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5.5 if i in front else 4}" style="fill: {colour(row)}{ring}">'
                f"<title>{html.escape(told)}</title></circle>\n")
    for i in ordered + [i for i in at if i not in front]:
        short = rows[i]["name"].split(" (")[0]
        where = place(*at[i], short, taken)
        if where:
            out += text(*where, short, "" if i in front else "soft")
    return out


def draw(rows: list[dict], front: set[int], head: dict) -> str:
    errors = [row["attention_error"] for row in rows if row["ok"] and row["attention_error"] > 0]
    ticks = [m * 10.0 ** p for p in range(-6, 2) for m in (1, 2, 5)]
    low = max([t for t in ticks if t <= min(errors)], default=ticks[0])
    high = min([t for t in ticks if t >= max(errors)], default=ticks[-1])

    def y_of(error: float) -> float:
        return PLOT_BOTTOM - (PLOT_BOTTOM - TOP) * math.log(error / low) / math.log(high / low)

    families = list(dict.fromkeys(FAMILIES.get(row["family"], row["family"]) for row in rows if row["ok"]))
    others = [f for f in families if f not in COLOURS]
    shown = [f for f in families if f in COLOURS] + ([" and ".join(others)] if others else [])
    title = "What codecs cost the reference model"
    return for_all_viewers(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">\n'
            f'<style>{STYLE}</style>\n<rect class="page" width="100%" height="100%"/>\n' + text(LEFT, 28, title, "title") +
            text(LEFT, 48, f"bits against error of attention; {head['texts']} held-out texts, all keys and values of 1,024 bytes "
                 "coded; ringed: on the Pareto front", "soft") +
            legend(shown) + axes(y_of, [t for t in ticks if low <= t <= high]) + points(rows, front, y_of) + "</svg>\n")
