#!/usr/bin/env bash
# Runs a test binary so that it says how long each test took (`… ok <1.234s>`). The harness has that behind an unstable
# option only; what is compiled does not change by it.
set -euo pipefail

binary=$1
shift
help=$("$binary" --help 2>/dev/null || true)
# Scenarios mostly wait, for servers and for time to pass: more of them run side by side than there are processors.
if [[ $(basename "$binary") == scenarios-* ]]; then
  export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
fi
if [[ $help == *--report-time* ]]; then
  RUSTC_BOOTSTRAP=1 exec "$binary" -Zunstable-options --report-time "$@"
fi
# Not every test binary has the usual harness.
exec "$binary" "$@"
