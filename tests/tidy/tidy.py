# SPDX-License-Identifier: Apache-2.0
"""Reads the source tree and holds it to the rules of CONTRIBUTING.md. Usage: tidy.py ROOT. Prints each breach, exits 1.

Rules: includes point down the house; files have at most 500 lines, functions at most 70; no getenv outside deploy; no
`using namespace` and no feature #ifdef in headers; an SPDX line and a purpose comment first; no sleeps in tests; nothing
names a place that is not in the repository.
"""
import re
import subprocess
import sys
from pathlib import Path

# What each box may include beside itself. Order: longest prefix wins.
MAY_INCLUDE = {
    "kernels": [],
    "transport": [],
    "store/api": ["kernels", "transport"],
    "store/membership": ["store/api", "store/link", "kernels", "transport"],
    "store/wire": ["store/api", "store/membership", "kernels", "transport"],
    "store/tiers": ["store/api", "kernels", "transport"],
    "store/link": ["store/api", "kernels", "transport"],
    "store": ["store/api", "store/tiers", "store/link", "kernels", "transport"],
    "client": ["store/api", "store/link", "store/wire", "kernels", "transport"],
    "deploy": ["store", "store/api", "store/link", "store/membership", "store/wire", "store/tiers", "client", "kernels", "transport"],
}
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
SOURCES = (".h", ".cc", ".cu", ".cuh")
# Vendor and host macros that say what the compiler is, not what the build has.
HEADER_IFDEF_ALLOWED = re.compile(r"__CUDACC__|__CUDA_ARCH__|HWY_|__cplusplus|__x86_64__|__SSE4_2__|__GNUC__|__clang__|_H_|NDEBUG")
FUNCTION_BEGINS = re.compile(r"^[A-Za-z_].*\)[^;=]*\{\s*$")


def box_of(path: str) -> str:
    """The box a path belongs to, or '' outside the house."""
    found = [box for box in MAY_INCLUDE if path.startswith(box + "/")]
    return max(found, key=len) if found else ""


def check_includes(path: str, lines: list[str], report) -> None:
    box = box_of(path)
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#include\s+"([^"]+)"', line)
        if not match:
            continue
        target = box_of(match.group(1))
        if box and match.group(1).startswith("tests/"):
            report(path, number, "the house must not include tests/")
        elif box and target and target != box and target not in MAY_INCLUDE[box]:
            report(path, number, f"{box} must not include {target}: includes point down the house")


def check_functions(path: str, lines: list[str], report) -> None:
    """Bodies that begin at column 0 and end with a brace at column 0."""
    begun = None
    for number, line in enumerate(lines, 1):
        if line.startswith(("namespace", "class", "struct", "enum", "extern", "}  // namespace", "union")):
            begun = None
        elif begun is None and FUNCTION_BEGINS.match(line):
            begun = number
        elif begun is not None and line.startswith("}"):
            if number - begun + 1 > FUNCTION_LINES_MAX:
                report(path, begun, f"function of {number - begun + 1} lines; at most {FUNCTION_LINES_MAX}")
            begun = None


def check_text(path: str, lines: list[str], report) -> None:
    header = path.endswith(".h")
    in_tests = path.startswith("tests/")
    if len(lines) > FILE_LINES_MAX:
        report(path, len(lines), f"{len(lines)} lines; at most {FILE_LINES_MAX}")
    if "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
        report(path, 1, "the first line must be the SPDX tag")
    for number, line in enumerate(lines, 1):
        if re.search(r"\bgetenv\s*\(", line) and not path.startswith("deploy/") and path != "tests/support/test_main.cc":
            report(path, number, "getenv outside deploy")
        if header and re.match(r"\s*using namespace", line):
            report(path, number, "using namespace in a header")
        if header and re.match(r"\s*#\s*(ifdef|ifndef|if|elif)\b", line) and not HEADER_IFDEF_ALLOWED.search(line):
            report(path, number, "a feature #ifdef in a header")
        if in_tests and re.search(r"\b(sleep_for|sleep_until|usleep|nanosleep)\s*\(", line):
            report(path, number, "a sleep in a test")
        if re.search(r"\.\./shared\b", line):
            report(path, number, "names a place outside the repository")


def main(root: str) -> int:
    tracked = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True)
    breaches = []
    count = 0

    def report(path: str, number: int, why: str) -> None:
        breaches.append(f"{path}:{number}: {why}")

    for path in sorted(set(tracked.stdout.split("\n"))):
        file = Path(root) / path
        if not path.endswith(SOURCES) or not file.is_file():
            continue
        count += 1
        lines = file.read_text(encoding="utf-8").split("\n")
        check_includes(path, lines, report)
        check_functions(path, lines, report)
        check_text(path, lines, report)
    print("\n".join(breaches))
    print(f"tidy: {count} files, {len(breaches)} breaches")
    return 1 if breaches or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
