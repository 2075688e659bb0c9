#!/usr/bin/env bash
# The main job on the shipped sample: images → cells → outliers → map → clusters, then napari or a screenshot of it.
set -euo pipefail
cd "$(dirname "$0")/.."
project=demo-output/grooves.curator

.venv/bin/cell-curator run sample_data/grooves "$project" --recipe sample_data/grooves_recipe.json

if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    echo "Opening napari. Close its window to end the demo."
    .venv/bin/python -c 'import sys; from cell_curator.widgets.window import open_window; open_window(sys.argv[1])' "$project"
else
    xvfb-run -a -s "-screen 0 1600x1000x24" \
        .venv/bin/python -c 'import sys; from cell_curator.widgets.window import save_screenshot; save_screenshot(*sys.argv[1:])' \
        "$project" demo-output/screenshot.png
    echo "There is no screen here, so napari was only photographed."
fi
echo
echo "Project:    $project"
echo "Report:     $project/report.html"
[ ! -f demo-output/screenshot.png ] || echo "Screenshot: demo-output/screenshot.png"
