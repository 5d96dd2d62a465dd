#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target of a KVASIR_FUZZ build for SECONDS each: run.sh SECONDS [BUILD_DIR]. One line a target; exits 1
# when any found something. Findings stay in BUILD_DIR/fuzz/<target>.findings.
set -u
seconds=${1:?usage: run.sh SECONDS [BUILD_DIR]}
build=${2:-build-fuzz}
failed=0
found_any=0
for target in "$build"/fuzz/fuzz_*; do
  [ -f "$target" ] && [ -x "$target" ] || continue
  found_any=1
  name=$(basename "$target")
  corpus=$build/fuzz/$name.corpus
  findings=$build/fuzz/$name.findings
  log=$build/fuzz/$name.txt
  mkdir -p "$corpus" "$findings"
  if "$target" --seeds="$corpus" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$findings/" "$corpus" >"$log" 2>&1; then
    result=ok
  else
    result="FAILED, see $log and $findings"
    failed=1
  fi
  execs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  printf '%-22s %12s execs  %6s edges  %s\n' "$name" "${execs:-?}" "${coverage:-?}" "$result"
done
if [ "$found_any" -eq 0 ]; then
  echo "no targets in $build/fuzz: build with clang, -DKVASIR_FUZZ=ON, target fuzz_targets"
  exit 1
fi
exit $failed
