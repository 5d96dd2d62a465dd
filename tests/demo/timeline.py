# SPDX-License-Identifier: Apache-2.0
"""The timeline as SVG: three engines, one time axis that begins when each is given the prompt."""
import html

WIDTH, LEFT, RIGHT = 1000, 150, 24
LANE, GAP, HEAD = 20, 5, 50
# Lanes of an engine: the span's name in its trace, what people call it, and the colour class.
PREFILL = [("compute", "prefill", "compute"), ("encode", "encode", "codec"), ("push", "push", "travel")]
DECODE = [("acquire", "ask", "ask"), ("pull", "fetch", "travel"), ("decode", "decode", "codec"), ("compute", "compute the tail", "compute"),
          ("token", "new tokens", "token")]
SOLO = [("compute", "prefill", "compute"), ("token", "new tokens", "token")]
LONG_BAR = 60  # a bar this wide carries a text


class Engine:
    """One group of lanes: its title, its answer (spans, begin_ns) and the moments marked in it."""

    def __init__(self, title, answer, lanes, marks):
        self.title, self.marks, self.begin = title, marks, answer["begin_ns"]
        self.lanes = [(label, colour, [span for span in answer["spans"] if span[0] == name]) for name, label, colour in lanes]

    def height(self):
        return HEAD + len(self.lanes) * (LANE + GAP) + GAP


def engines(facts):
    def marks(answer):
        return [(answer["first_token_ns"], "first token")]
    return [
        Engine("With the store: prefill engine", facts["pushed"], PREFILL,
               [(facts["pushed"]["computed_ns"], "computed"), (facts["pushed"]["acknowledged_ns"], "on two disks")]),
        Engine("With the store: decode engine, two ranks", facts["found"], DECODE, marks(facts["found"])),
        Engine("Without the store: one engine", facts["truth"], SOLO, marks(facts["truth"])),
    ]


def step_of(span):
    """A distance of axis labels in ms: 1, 2 or 5 times a power of ten, six to twelve of them."""
    for power in range(-2, 7):
        for digit in (1, 2, 5):
            if span / (digit * 10 ** power) <= 10:
                return digit * 10 ** power
    return span


def draw(facts):
    """The whole picture. The axis ends a little behind the last first token; what lasts longer is cut off there."""
    groups = engines(facts)
    end = max((at - group.begin) / 1e6 for group in groups for at, _ in group.marks) * 1.12
    scale = (WIDTH - LEFT - RIGHT) / end
    axis = sum(group.height() for group in groups) + 8
    out = [f'<svg viewBox="0 0 {WIDTH} {axis + 40}" role="img" aria-label="Timeline of prefill, encode, push, fetch, decode and first token">']
    step = step_of(end)
    for i in range(int(end / step) + 1):
        x = LEFT + i * step * scale
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{axis}"/>'
                   f'<text class="tick" x="{x:.1f}" y="{axis + 16}">{i * step:g}</text>')
    out.append(f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{axis + 34}">ms since the engine was given the prompt</text>')
    top = 0
    for group in groups:
        out += draw_group(group, top, scale, end)
        top += group.height()
    out.append("</svg>")
    return "\n".join(out)


def draw_group(group, top, scale, end):
    out = [f'<text class="group" x="0" y="{top + 19}">{html.escape(group.title)}</text>']
    y = top + HEAD
    for label, colour, spans in group.lanes:
        out.append(f'<text class="lane" x="{LEFT - 10}" y="{y + 14}">{html.escape(label)}</text>'
                   f'<rect class="track" x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{LANE}"/>')
        faint = " many" if len(spans) > 40 else ""
        for _, begin, finish, block, layer, amount in spans:
            begin, finish = (begin - group.begin) / 1e6, min((finish - group.begin) / 1e6, end)
            if begin >= end:
                continue
            x, width = LEFT + begin * scale, max((finish - begin) * scale, 0.8)
            out.append(f'<rect class="{colour}{faint}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LANE}">'
                       f'<title>{label}, block {block}, layer {layer}: {begin:.1f} to {finish:.1f} ms</title></rect>')
            if width > LONG_BAR and colour == "compute":
                out.append(f'<text class="inside" x="{x + width / 2:.1f}" y="{y + 14}">{amount} tokens</text>')
        y += LANE + GAP
    return out + draw_marks(group, top, y, scale)


def draw_marks(group, top, bottom, scale):
    """A line for each moment, and one text at the last: two moments may lie too close for two."""
    places = [LEFT + (at - group.begin) / 1e6 * scale for at, _ in group.marks]
    text = ", ".join(f"{what}: {(at - group.begin) / 1e6:.0f} ms" for at, what in group.marks)
    out = [f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 28}" y2="{bottom - GAP}"/>' for x in places]
    left = places[-1] > WIDTH * 0.6
    out.append(f'<text class="mark" x="{places[-1] + (-6 if left else 6):.1f}" y="{top + 40}" text-anchor="{"end" if left else "start"}">'
               f'{html.escape(text)}</text>')
    return out
