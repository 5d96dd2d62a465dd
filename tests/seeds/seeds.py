# SPDX-License-Identifier: Apache-2.0
"""./run seeds: the 63 methods of rows.txt, each run as it stands there, as a table or JSON lines."""
import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../quality"))
from quality import Progress  # noqa: E402

THREADS = 2
WIDTHS = (4, 28, 92, 7, 8, 9)
HEADINGS = ("row", "method", "spec", "bits", "error", "result")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run seeds", description=__doc__)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one line a row on stdout, then a summary")
    parser.add_argument("--results", metavar="FILE.md", help="the table as a page")
    parser.add_argument("rows", nargs="*", type=int, help="only these")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> list[dict]:
    command = [os.path.join(options.build, "tests/seeds/seeds"), os.path.join(HERE, "../model"), os.path.join(HERE, "rows.txt"),
               str(THREADS), *map(str, options.rows)]
    rows: list[dict] = []
    total = len(options.rows) or 63
    progress = Progress(total)
    progress.show(0, "capturing a text of the reference model")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            rows.append(json.loads(line))
            progress.show(len(rows), rows[-1]["method"])
            if options.json:
                print(line, end="", flush=True)
    progress.close()
    if process.returncode != 0 or len(rows) != total:
        print(f"seeds: the measuring program ended early, with status {process.returncode}", file=sys.stderr)
        sys.exit(1)
    return rows


def cells(row: dict) -> tuple[str, ...]:
    ran = "spec" in row
    return (str(row["row"]), row["method"], row.get("spec", ""), f"{row['bits']:.2f}" if ran else "",
            f"{row['error']:.4f}" if ran else "", {"fails": "FAILED"}.get(row["result"], row["result"]))


def print_table(rows: list[dict]) -> None:
    print("".join(h.rjust(w) if i in (0, 3, 4) else "  " + h.ljust(w - 2) for i, (h, w) in enumerate(zip(HEADINGS, WIDTHS))) + "  own check")
    for row in rows:
        shown = cells(row)
        line = "".join(c.rjust(w) if i in (0, 3, 4) else "  " + c[:w - 3].ljust(w - 2) for i, (c, w) in enumerate(zip(shown, WIDTHS)))
        print(line + "  " + row["said"] + ("" if row["ok"] else f"  (rows.txt says {row['expected']})"))


def write_results(path: str, rows: list[dict]) -> None:
    counts = {result: sum(row["result"] == result for row in rows) for result in ("pass", "fails", "later")}
    lines = ["# The 63 methods", "", f"Made by `./run seeds --results {path}`. What the columns mean: [README.md](README.md).",
             f"{counts['pass']} pass, {counts['fails']} FAILED, {counts['later']} later.", "",
             "| row | method | spec | bits | error | result | own check |", "|--:|---|---|--:|--:|---|---|"]
    for row in rows:
        shown = list(cells(row))
        shown[2] = "`" + shown[2].replace("|", "\\|") + "`" if shown[2] else ""
        lines.append("| " + " | ".join(shown + [row["said"].replace("|", "\\|")]) + " |")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def main() -> int:
    options = arguments()
    rows = measure(options)
    held = sum(row["ok"] for row in rows)
    results = {result: sum(row["result"] == result for row in rows) for result in ("pass", "fails", "later")}
    if options.json:
        print(json.dumps({"verb": "seeds", "ok": held == len(rows), "passed": results["pass"], "failed": results["fails"],
                          "skipped": results["later"], "as_stated": held}))
    else:
        print_table(rows)
        print(f"\n{results['pass']} pass, {results['fails']} FAILED, {results['later']} later; "
              f"{held} of {len(rows)} as rows.txt says. Error: of attention outputs, every layer by itself.")
    if options.results:
        write_results(options.results, rows)
    return 0 if held == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
