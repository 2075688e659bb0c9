"""The documentation: current, complete, and without anything loaded from elsewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cell_curator.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["parameters.md", "commands.md"])
def test_the_reference_is_what_the_models_say(name, generator):
    page = ROOT / "docs" / "reference" / name
    assert page.read_text(encoding="utf-8") == generator.PAGES[name](), "run python docs/generate_reference.py"


def test_every_command_is_in_the_reference(generator):
    page = generator.commands()
    for command in app.registered_commands:
        assert f"\n## {command.name}\n" in page
    assert "\n## models list\n" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_and_pictures_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").glob("*.png")}
    assert sizes
    assert max(sizes.values()) < 500_000
    assert sum(sizes.values()) < 3_500_000


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(https?://[^"'\s>]+)""")
    for page in tmp_path.rglob("*.html"):
        outside = [
            address for address in loaded.findall(page.read_text(encoding="utf-8")) if "canonical" not in address
        ]
        assert not outside, page
