# SPDX-License-Identifier: Apache-2.0
"""./run cluster: does to a cluster of real processes what the world does, and counts what clients see of it.

Usage: cluster.py --build DIR [ROW ...] [--long] [--seed N] [--cycles N] [--members static|etcd] [--keep] [--json]
One JSON line a row on stdout and a summary line with --json; progress on stderr. Exit status 0 when every row is ok, 1 when
one is not, 2 when the rows cannot be run here at all.
"""
import argparse
import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))

from children import Trouble  # noqa: E402  (the path comes first)
import network  # noqa: E402
import rows  # noqa: E402
import rows_etcd  # noqa: E402
import rows_herd  # noqa: E402
import rows_kill  # noqa: E402
import rows_move  # noqa: E402
import rows_network  # noqa: E402
from world import Builds  # noqa: E402

ROWS = {
    "DETECT": ("a planted wrong bit and a planted lost block are seen", rows_kill.detect),
    "R3": ("kill -9 of any one of five, the next after repair", rows_kill.r3),
    "R11": ("reads after a kill and during a SIGSTOP", rows_kill.r11),
    "R13": ("etcd: all down, leader stopped, disk full", rows_etcd.r13),
    "R14": ("partitions: symmetric, one-way, flapping", rows_network.r14),
    "R20": ("one node 100x slower", rows_network.r20),
    "R32": ("rolling upgrade and downgrade, wire 1 and 2", rows_move.r32),
    "R33": ("drain under load", rows_move.r33),
    "JOIN": ("a sixth node joins", rows_move.join),
    "HERD": ("10,000 clients, one block", rows_herd.herd),
}
SEED = 20261121


def parse(arguments):
    parser = argparse.ArgumentParser(prog="./run cluster",
                                     description="What happens to clients of a cluster when the world happens to it.",
                                     epilog="rows: " + "; ".join(f"{goal} {what}" for goal, (what, _) in ROWS.items()))
    parser.add_argument("--build", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default: all")
    parser.add_argument("--long", action="store_true", help="the full counts of cycles (hours); times are held to their limits")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N",
                        help="victims, prompts and bytes follow from it; default %(default)s")
    parser.add_argument("--cycles", type=int, metavar="N", help="of each row, instead of 3 or the full count")
    parser.add_argument("--members", choices=("static", "etcd"), help="default: etcd where kvasird knows it")
    parser.add_argument("--keep", action="store_true", help="keep the logs of rows that are ok, too")
    parser.add_argument("--json", action="store_true", help="a summary line at the end")
    options = parser.parse_args(arguments)
    unknown = [goal for goal in options.rows if goal not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; the rows are {' '.join(ROWS)}")
    if options.cycles is not None and options.cycles < 1:
        parser.error("--cycles must be at least 1")
    options.rows = options.rows or list(ROWS)
    options.build = options.build.resolve()
    return options


def run_rows(options):
    """Results by row."""
    options.builds = Builds(options.build)
    options.directory = options.build / "cluster-run"
    if options.members is None:
        options.members = "etcd" if options.builds.knows_etcd else "static"
    shutil.rmtree(options.directory, ignore_errors=True)
    options.directory.mkdir()
    results = {}
    for goal in options.rows:
        what, drive = ROWS[goal]
        results[goal] = rows.run(goal, what, drive, options)
    return results


def run_here(options):
    """Results by row; Trouble when they cannot be run here."""
    with network.hold_lock():
        missing = network.why_not()
        if missing:
            raise Trouble(missing)
        try:
            network.sweep()
            return run_rows(options)
        finally:
            network.sweep()


def main(arguments):
    options = parse(arguments)
    summary = {"verb": "cluster", "ok": False}
    try:
        results = run_here(options)
        failed = [goal for goal, ok in results.items() if not ok]
        summary.update(ok=not failed, passed=len(results) - len(failed), failed=len(failed), skipped=0)
        status = 1 if failed else 0
    except Trouble as trouble:
        print(f"cluster: {trouble}", file=sys.stderr)
        summary["why"] = str(trouble)
        status = 2
    if options.json:
        print(json.dumps(summary))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
