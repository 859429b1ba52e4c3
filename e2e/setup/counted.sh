#!/usr/bin/env bash
# Runs a command that runs `cargo test`, and fails if it fails or if not one test ran.
set -euo pipefail

output=$(mktemp)
trap 'rm -f "$output"' EXIT
"$@" 2>&1 | tee "$output"
ran=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1/p' "$output" | awk '{n += $1} END {print n + 0}')
if [ "$ran" = 0 ]; then
  echo "no test ran" >&2
  exit 1
fi
echo "$ran tests passed"
