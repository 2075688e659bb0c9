#!/usr/bin/env bash
# All tests, in two processes side by side: those with a window on a virtual screen of their own, and the others.
# Arguments go to both. Two screens would not help: windows on one screen take each other's focus.
set -uo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE # threads that wait must not take the processor from the other half

with_window=(tests/gui tests/widgets tests/link) # as long together as all the others
mkdir -p .pytest_cache
log=.pytest_cache/without-window.log
env -u DISPLAY QT_QPA_PLATFORM=offscreen .venv/bin/python -m pytest "${with_window[@]/#/--ignore=}" \
    -o cache_dir=.pytest_cache/without-window "$@" >"$log" 2>&1 &
others=$!
echo "== with a window"
xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python -m pytest "${with_window[@]}" "$@"
windows=$?
echo "== without a window"
wait "$others"
status=$?
cat "$log"
[ "$windows" -eq 0 ] && [ "$status" -eq 0 ]
