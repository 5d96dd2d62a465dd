# SPDX-License-Identifier: Apache-2.0
"""./run quality: what each codec of methods.txt and each method of selecting.txt costs the reference model, as tables, JSON lines, a
page and plots."""
import argparse
import json
import os
import shlex
import subprocess
import sys
import time

import goals
import orders
import plot
import selection

HERE = os.path.dirname(os.path.abspath(__file__))
FULL, QUICK = (24, 16), (3, 2)  # texts, passkeys
THREADS = 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run quality", description=__doc__)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one line a method on stdout, then a summary")
    parser.add_argument("--quick", action="store_true", help="few texts: shows that it runs, the figures are rough")
    parser.add_argument("--methods", default=os.path.join(HERE, "methods.txt"), metavar="FILE", help="another table")
    parser.add_argument("--report", metavar="FILE.svg", help="the plot of bits against loss; FILE_turns.svg beside it is that of two turns")
    parser.add_argument("--results", metavar="FILE.md", help="the table as a page")
    parser.add_argument("--only", choices=("codecs", "selection"), help="one half")
    return parser.parse_args()


def pareto(rows: list[dict]) -> set[int]:
    """Indices of the rows that no other beats: none has at most as many bits and at most the error, one of them less."""
    def beaten(a: dict) -> bool:
        return any(b["bits"] <= a["bits"] and b["attention_error"] <= a["attention_error"] and
                   (b["bits"] < a["bits"] or b["attention_error"] < a["attention_error"]) for b in rows if b["ok"])
    return {i for i, row in enumerate(rows) if row["ok"] and not beaten(row)}


def percent(change: float) -> str:
    return "0" if change == 0 else f"{change:+.2%}" if abs(change) < 1 else f"{change:+.0%}"


HEADINGS = ("method", "bits", "perplexity", "change", "attention error", "passkey", "encode", "decode")


def cells(row: dict) -> tuple[str, ...]:
    return (row["name"], f"{row['bits']:.2f}", f"{row['perplexity']:.3f}", percent(row["change"]),
            f"{row['attention_error']:.4f}" if row["attention_error"] else "0", f"{row['passkey']:.2f}",
            f"{row['encode_gbs']:.2f}", f"{row['decode_gbs']:.2f}")


class Progress:
    """A bar on a terminal; nothing elsewhere."""

    def __init__(self, total: int):
        self.total, self.began, self.on = total, time.monotonic(), sys.stderr.isatty()

    def of(self, done: int, total: int, name: str) -> None:
        self.total = total
        self.show(done, name)

    def show(self, done: int, name: str) -> None:
        if not self.on:
            return
        full = 24 * done // self.total
        took = time.monotonic() - self.began
        left = f"{took / done * (self.total - done):.0f} s left" if done else ""
        sys.stderr.write(f"\r\033[K{'█' * full}{'░' * (24 - full)} {done}/{self.total}  {left:<11} {name[:40]}")
        sys.stderr.flush()

    def close(self) -> None:
        if self.on:
            sys.stderr.write("\r\033[K")


def measure(options: argparse.Namespace) -> tuple[dict, list[dict]]:
    texts, passkeys = QUICK if options.quick else FULL
    command = [os.path.join(options.build, "tests/quality/quality"), os.path.join(HERE, "../model"), options.methods,
               str(texts), str(passkeys), str(THREADS)]
    rows: list[dict] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        if not first:
            process.wait()
            sys.exit(2)  # it has said why
        head = json.loads(first)
        progress = Progress(head["methods"])
        progress.show(0, "")
        for line in process.stdout:
            rows.append(json.loads(line))
            progress.show(len(rows), rows[-1]["name"])
            if options.json:
                print(line, end="", flush=True)
        progress.close()
    if process.returncode != 0 or len(rows) != head["methods"]:
        print(f"quality: the measuring program ended early, with status {process.returncode}", file=sys.stderr)
        sys.exit(1)
    return head, rows


def print_table(head: dict, rows: list[dict], front: set[int]) -> None:
    widths = (44, 6, 11, 9, 16, 8, 8, 8)
    print("".join(h.ljust(w) if i == 0 else h.rjust(w) for i, (h, w) in enumerate(zip(HEADINGS, widths))))
    family = rows[0]["family"]
    for i, row in enumerate(rows):
        if row["family"] != family:
            print()
            family = row["family"]
        mark = "  *" if i in front else ""
        if row["ok"]:
            print("".join(c[:w - 1].ljust(w) if n == 0 else c.rjust(w)
                          for n, (c, w) in enumerate(zip(cells(row), widths))) + mark)
        else:
            print(f"{row['name'][:43]:<44}not measured: {row['why']}")
    print(f"\nexact: perplexity {head['perplexity']:.4f} per byte, passkey {head['passkey']:.2f}; {head['texts']} texts, "
          f"{head['passkeys']} passkeys. Encode and decode in GB/s of bf16, one thread.\n"
          "* on the Pareto front of bits and attention error")


def codec_lines(head: dict, rows: list[dict], front: set[int], picture: str | None) -> list[str]:
    lines = [f"Exact K and V: perplexity {head['perplexity']:.4f} per byte, passkey {head['passkey']:.2f}. {head['texts']} texts, "
             f"{head['passkeys']} passkeys.", "Bold: on the Pareto front of bits and attention error. Speeds are those of the machine "
             "that ran it, one thread, and vary with its load.", ""]
    if picture:
        lines += [f"![bits against attention error]({picture})", ""]
    lines += ["| " + " | ".join(HEADINGS[:1] + ("spec",) + HEADINGS[1:6] + ("encode, GB/s", "decode, GB/s")) + " |",
              "|---|---|" + "--:|" * 7]
    for i, row in enumerate(rows):
        spec = "`" + row["spec"].replace("|", "\\|") + "`" + (f", first {row['planes']} planes" if row.get("planes", 0) > 1 else
                                                            ", the first plane" if "planes" in row else "")
        if not row["ok"]:
            lines.append(f"| {row['name']} | {spec} | not measured: {row['why']} |  |  |  |  |  |  |")
            continue
        shown = cells(row)
        name = f"**{shown[0]}**" if i in front else shown[0]
        lines.append("| " + " | ".join((name, spec) + shown[1:]) + " |")
    return lines


def write_results(options: argparse.Namespace, head: dict, rows: list[dict], front: set[int], chosen: tuple[dict, list[dict]],
                  kept: list[dict]) -> None:
    def beside(path: str) -> str:
        return os.path.relpath(path, os.path.dirname(os.path.abspath(options.results)))

    command = "./run quality" + (" --quick" if options.quick else "") + "".join(
        f" --{name} {shlex.quote(value)}" for name, value in (("results", options.results), ("report", options.report), ("only", options.only)) if value)
    lines = ["# What codecs cost the reference model", "", f"Made by `{command}`. What the columns mean: [README.md](README.md).", ""]
    if rows:
        lines += codec_lines(head, rows, front, beside(options.report) if options.report else None)
        lines += goals.page(goals.check(head, rows))
    if chosen[1]:
        lines += selection.page(*chosen, beside(turns_path(options.report)) if options.report else None)
    lines += orders.page(kept)
    write(options.results, "\n".join(lines) + "\n")


def turns_path(report: str) -> str:
    return os.path.splitext(report)[0] + "_turns.svg"


def measure_selection(options: argparse.Namespace) -> tuple[dict, list[dict]]:
    progress = Progress(1)
    emit = (lambda line: print(line, end="", flush=True)) if options.json else (lambda line: None)
    measured = selection.measure(options.build, options.quick, THREADS, progress.of, emit)
    progress.close()
    return measured


def write(path: str, words: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(words)


def main() -> int:
    options = arguments()
    head, rows, front = {}, [], set()
    if options.only != "selection":
        head, rows = measure(options)
        front = pareto(rows)
    if options.only != "codecs":
        chosen_head, chosen = measure_selection(options)
    else:
        chosen_head, chosen = {}, []
    kept = orders.check(rows + chosen)
    lossless_held = all(row["change"] == 0 and row["attention_error"] == 0
                        for row in rows if row["ok"] and row["family"] == "lossless")
    failed = [row["name"] for row in rows + chosen if not row["ok"]]
    reached = goals.check(head, rows) if rows else []
    if options.json:
        for order in kept:
            print(json.dumps({"order": order}))
        for goal in reached:
            print(json.dumps(goal))
        print(json.dumps({"verb": "quality", "ok": lossless_held and not failed, "passed": len(rows) + len(chosen) - len(failed),
                          "failed": len(failed), "skipped": 0, "lossless_exact": lossless_held, "orders": len(kept),
                          "orders_held": sum(order["held"] for order in kept),
                          "goals": len(reached), "goals_held": sum(goal["held"] for goal in reached), "pareto": [rows[i]["name"] for i in sorted(front)]}))
    else:
        if rows:
            print_table(head, rows, front)
            goals.print_table(reached)
        if chosen:
            selection.print_table(chosen_head, chosen)
        orders.print_table(kept)
    if options.report and rows:
        write(options.report, plot.draw(rows, front, head))
    if options.report and chosen:
        write(turns_path(options.report), selection.draw(chosen, chosen_head))
    if options.results:
        write_results(options, head, rows, front, (chosen_head, chosen), kept)
    return 0 if lossless_held and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
