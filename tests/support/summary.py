# SPDX-License-Identifier: Apache-2.0
"""Reads a benchmark's JSON lines and closes them: a summary line with --json, else a table on stderr.
Usage: summary.py VERB JSON(0|1) < lines."""
import json
import sys


def main(verb: str, as_json: bool) -> int:
    rows = [json.loads(line) for line in sys.stdin if line.strip()]
    failed = sum(1 for row in rows if not row["ok"])
    ok = bool(rows) and failed == 0
    if as_json:
        print(json.dumps({"verb": verb, "ok": ok, "passed": len(rows) - failed, "failed": failed, "skipped": 0}))
    else:
        print(f"{'goal':<5} {'what':<44} {'ratio':>7} {'must':>7} {'moonshot':>9}  {'spread':<14}  {'limit':>5} {'reached':>7}", file=sys.stderr)
        for row in rows:
            low, high = row["spread"]
            mark = "" if row["ok"] else "  MISSED"
            limit = f"{row['limit']:>5.2f} {row['share']:>7.0%}" if "limit" in row else " " * 13
            print(f"{row['goal']:<5} {row['what']:<44.44} {row['ratio']:>7.2f} {row['must']:>7.2f} {row['moonshot']:>9.2f}"
                  f"  {f'{low:.2f} to {high:.2f}':<14}  {limit}{mark}".rstrip(), file=sys.stderr)
        if any("limit" in row for row in rows):
            print("limit: the ratio that only moving the same bytes reaches here; must holds at its value or at "
                  "must_share of the limit, whichever is less (ARCHITECTURE.md)", file=sys.stderr)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2] == "1"))
