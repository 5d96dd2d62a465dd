# SPDX-License-Identifier: Apache-2.0
"""What a person sees: headlines, sentences, bars and tables. Bars move on a terminal only; elsewhere each end is a line."""
import json
import shutil
import sys
import textwrap
import time

BAR_WIDTH = 28
INDENT = "  "


def size(count):
    """Bytes for people: 6.0 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def milliseconds(nanoseconds):
    value = nanoseconds / 1e6
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def percent(change):
    return "0 %" if change == 0 else f"{100 * change:+.2f} %"


def readable(text):
    """Bytes that may be anything, as one line."""
    return "".join(c if c.isprintable() else "·" for c in text.decode("utf-8", errors="replace").replace("\n", "⏎"))


def table(rows):
    """Rows of texts as lines; the first row is the heading, the first column names what the others measure."""
    columns = list(zip(*rows))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [i > 0 for i in range(len(columns))]
    lines = []
    for row in rows:
        cells = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("─" * w for w in widths))
    return lines


class Screen:
    """Writes to one stream: stdout, or stderr where stdout belongs to JSON lines."""

    def __init__(self, stream):
        self.stream, self.terminal = stream, stream.isatty()
        self.width = min(100, shutil.get_terminal_size((100, 25)).columns)
        self.begun = time.monotonic()
        self.unicode = "utf" in (stream.encoding or "").lower()

    def line(self, text=""):
        if not self.unicode:
            text = text.translate(str.maketrans({"─": "-", "·": ".", "⏎": "/"})).encode("ascii", "replace").decode()
        print(text, file=self.stream, flush=True)

    def head(self, text):
        text = f"{text}  ({time.monotonic() - self.begun:.1f} s)"
        self.line()
        self.line(f"\033[1m{text}\033[0m" if self.terminal else f"== {text}")

    def say(self, text):
        for line in textwrap.wrap(" ".join(text.split()), self.width - len(INDENT)):
            self.line(INDENT + line)

    def verdict(self, ok, text):
        mark = "ok  " if ok else "FAIL"
        if self.terminal:
            mark = f"\033[{32 if ok else 31}m{mark}\033[0m"
        first, *rest = textwrap.wrap(" ".join(text.split()), self.width - 8) or [""]
        self.line(f"{INDENT}{mark} {first}")
        for line in rest:
            self.line(f"{INDENT}     {line}")

    def rows(self, rows):
        for line in table(rows):
            self.line(INDENT + line)

    def bar(self, what, total):
        return Bar(self, what, total)


class Bar:
    """Progress of `total` steps. Use as a context; step() after each."""

    def __init__(self, screen, what, total):
        self.screen, self.what, self.total, self.done = screen, what, total, 0

    def __enter__(self):
        self.begun = time.monotonic()
        self.draw()
        return self

    def step(self, note=""):
        self.done += 1
        self.draw(note)

    def draw(self, note=""):
        if self.screen.terminal:
            full = BAR_WIDTH * self.done // self.total
            text = f"{INDENT}{self.what:<30} [{'#' * full}{'-' * (BAR_WIDTH - full)}] {self.done}/{self.total} {note}"
            print("\r" + text[:self.screen.width].ljust(self.screen.width), end="", file=self.screen.stream, flush=True)

    def __exit__(self, kind, *_):
        if self.screen.terminal:
            print("\r" + " " * self.screen.width + "\r", end="", file=self.screen.stream, flush=True)
        if kind is None:
            self.screen.line(f"{INDENT}{self.what}: {self.done}/{self.total} in {time.monotonic() - self.begun:.1f} s")


class Checks:
    """What must hold. Each is said when it is known, as a sentence and, with `json_stream`, as a line of JSON."""

    def __init__(self, screen, json_stream):
        self.screen, self.json_stream = screen, json_stream
        self.done, self.sentences = [], []

    def add(self, name, ok, sentence, **figures):
        self.done.append({"check": name, "ok": bool(ok), **figures})
        self.sentences.append(" ".join(sentence.split()))
        self.screen.verdict(ok, sentence)
        self.emit(self.done[-1])

    def emit(self, line):
        if self.json_stream:
            print(json.dumps(line), file=self.json_stream, flush=True)

    def failed(self):
        return [check for check in self.done if not check["ok"]]

    def finish(self, trouble=None):
        """The last line. True where everything held."""
        failed = len(self.failed()) + (1 if trouble else 0)
        ok = failed == 0 and bool(self.done)
        self.emit({"verb": "demo", "ok": ok, "passed": len(self.done) - len(self.failed()), "failed": failed, "skipped": 0,
                   **({"trouble": trouble} if trouble else {})})
        return ok


def to_stream(as_json):
    return Screen(sys.stderr if as_json else sys.stdout)
