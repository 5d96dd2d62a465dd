# SPDX-License-Identifier: Apache-2.0
"""Every header of the house compiles alone. Usage: headers.py ROOT COMPILER. Only headers that do not need a vendor's
toolkit (CUDA) or a template body (-inl.h) are tried; syntax only. Two compilers at a time."""
import concurrent.futures
import subprocess
import sys
from pathlib import Path

BOXES = ("kernels", "transport", "store", "client", "deploy")
SKIP = ("-inl.h", ".pb.h", "/cuda/", "/simd/", "/stages/")


def compile_alone(compiler: str, root: Path, header: Path) -> str:
    done = subprocess.run([compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-pragma-once-outside-header", "-I", str(root),
                           "-include", str(header), "-x", "c++", "/dev/null"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"{header.relative_to(root)}:\n{done.stderr[:800]}"


def main(root: Path, compiler: str) -> int:
    headers = [h for box in BOXES for h in sorted((root / box).rglob("*.h")) if not any(s in f"/{h.relative_to(root)}" for s in SKIP)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        failures = [f for f in pool.map(lambda h: compile_alone(compiler, root, h), headers) if f]
    print("\n".join(failures))
    print(f"headers: {len(headers)} compiled alone, {len(failures)} failed")
    return 1 if failures or not headers else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
