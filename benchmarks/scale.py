"""From ten images to ten thousand: many images, large ones, and a project of 500,000 cells, one after the other.

    python benchmarks/scale.py [--quick]

Runs `scale_many`, `scale_large` and `scale_open`, each in a process of its own, and prints their figures as one list.
Each has options of its own, and all want the computer for themselves. Where there is no screen, `scale_open` leaves
the window out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

PARTS = ("scale_many", "scale_large", "scale_open")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, in a few minutes")
    options = parser.parse_args()
    made = []
    for part in PARTS:
        words = [sys.executable, str(Path(__file__).with_name(f"{part}.py"))]
        words += ["--quick"] if options.quick else []
        words += ["--no-window"] if part == "scale_open" and not os.environ.get("DISPLAY") else []
        said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(said, end="", flush=True)
        made += json.loads(said.splitlines()[-1])
    print(json.dumps(made))


if __name__ == "__main__":
    main()
