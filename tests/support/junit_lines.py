# SPDX-License-Identifier: Apache-2.0
"""Turns ctest's JUnit file into JSON lines, one a test, and a summary. Usage: junit_lines.py VERB FILE."""
import json
import sys
import xml.etree.ElementTree as xml


def main(verb: str, path: str) -> int:
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in xml.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.get("status") == "fail":
            outcome = "failed"
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            outcome = "skipped"
        else:
            outcome = "passed"
        counts[outcome] += 1
        print(json.dumps({"check": case.get("name"), "result": outcome, "seconds": round(float(case.get("time") or 0), 2)}))
    ok = counts["failed"] == 0 and counts["passed"] > 0
    print(json.dumps({"verb": verb, "ok": ok, **counts}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
