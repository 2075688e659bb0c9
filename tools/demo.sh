#!/usr/bin/env bash
# The main job on the shipped sample: images → cells → outliers → map → clusters, then napari or a screenshot of it.
set -euo pipefail
cd "$(dirname "$0")/.."
project=demo-output/grooves.curator

.venv/bin/cell-curator run sample_data/grooves "$project" --recipe sample_data/grooves_recipe.json

if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    echo "Opening napari. Close its window to end the demo."
    .venv/bin/python -m cell_curator.widgets.window "$project"
else
    xvfb-run -a -s "-screen 0 1600x1000x24" \
        .venv/bin/python -m cell_curator.widgets.window "$project" --screenshot demo-output/screenshot.png
    echo "There is no screen here, so napari was only photographed."
fi
echo
echo "Project:    $project"
echo "Report:     $project/report.html"
[ ! -f demo-output/screenshot.png ] || echo "Screenshot: demo-output/screenshot.png"
