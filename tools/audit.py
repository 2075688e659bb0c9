"""Known holes in what is installed, after pip-audit and the list of PyPI; part of ``make lint``.

A hole that a newer version closes fails the run. Where the list cannot be reached, one line says so and nothing
fails: a laptop on a train must be able to run the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from importlib.metadata import version

LIST = f"https://pypi.org/pypi/numpy/{version('numpy')}/json"
PATIENCE_S = 5
AUDIT = ("pip_audit", "--skip-editable", "--progress-spinner=off", "--format=json", f"--timeout={PATIENCE_S}")


def reached() -> bool:
    """Whether the list answers."""
    try:
        with urllib.request.urlopen(LIST, timeout=PATIENCE_S) as answer:
            return "vulnerabilities" in json.load(answer)
    except (OSError, ValueError):
        return False


def audited() -> list[dict]:
    """What pip-audit says of each package that it could look up; nothing where it could not run."""
    made = subprocess.run([sys.executable, "-m", *AUDIT], capture_output=True, text=True, check=False)
    try:
        found = json.loads(made.stdout)["dependencies"]
    except (ValueError, KeyError):
        return []
    return [one for one in found if "vulns" in one]


def main() -> int:
    """Say what was found; 1 where a newer version would help."""
    packages = audited() if reached() else []
    if not packages:
        print("pip-audit: the list of known holes cannot be reached; nothing was looked up")
        return 0
    failed = False
    for package in packages:
        for hole in package["vulns"]:
            newer = ", ".join(hole["fix_versions"])
            failed |= bool(newer)
            print(f"{package['name']} {package['version']}: {hole['id']}; {newer or 'no version closes it yet'}")
    print(f"pip-audit: {len(packages)} packages looked up, {sum(len(one['vulns']) for one in packages)} known holes")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
