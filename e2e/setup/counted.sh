#!/usr/bin/env bash
# Runs a command that runs `cargo test`, says which tests were the slowest, and fails if it fails or if not one test ran.
set -euo pipefail

output=$(mktemp)
trap 'rm -f "$output"' EXIT
timed=$(cd "$(dirname "$0")" && pwd)/timed.sh
host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${host}_RUNNER=$timed"
"$@" 2>&1 | tee "$output"
ran=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1/p' "$output" | awk '{n += $1} END {print n + 0}')
if [ "$ran" = 0 ]; then
  echo "no test ran" >&2
  exit 1
fi
echo "the slowest, in seconds:"
sed -n 's/^test \(.*\) \.\.\. ok <\([0-9.]*\)s>$/\2 \1/p' "$output" | sort -rn | sed -n 1,20p
echo "$ran tests passed"
