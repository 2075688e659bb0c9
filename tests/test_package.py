"""What holds for the package as a whole: floors, manifest, wheel."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).parents[1]
VIEWER = ("napari", "qtpy", "PyQt6", "magicgui", "superqt")
HEAVY = ("torch", "cellpose", "torchvision")


def _modules_of(floor):
    folder = ROOT / "src" / "cell_curator" / floor
    for file in sorted(folder.rglob("*.py")):
        yield ".".join(file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize(
    ("floor", "banned"),
    [
        ("core", (*VIEWER, *HEAVY)),
        ("io", (*VIEWER, *HEAVY)),
        ("engines", (*VIEWER, *HEAVY)),
        ("link", ("qtpy", "PyQt6", "magicgui", "superqt", *HEAVY)),
        ("widgets", HEAVY),
    ],
)
def test_importing_a_floor_brings_nothing_it_must_not_know(floor, banned):
    modules = list(_modules_of(floor))
    program = f"""
import importlib, json, sys
for name in {modules!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not set(banned) & set(json.loads(done.stdout.splitlines()[-1]))


def test_session_and_command_line_know_no_viewer_and_no_torch():
    program = "import sys, cell_curator.session, cell_curator.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {*VIEWER, *HEAVY} & set(done.stdout.split())


def test_the_manifest_inside_the_package_is_the_one_at_the_top():
    inside, top = ROOT / "src" / "cell_curator" / "napari.yaml", ROOT / "napari.yaml"
    text = inside.read_text()
    assert text in (top.read_text(), "../../napari.yaml")


def test_the_installed_manifest_is_found():
    manifest = PluginManifest.from_distribution("napari-cell-curator")
    assert manifest.contributions.widgets
    assert manifest.contributions.sample_data


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(target.glob("*.whl"))


def test_the_wheel_carries_manifest_entry_point_and_starter_model(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        manifest = tmp_path / "napari.yaml"
        manifest.write_bytes(archive.read("cell_curator/napari.yaml"))
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert PluginManifest.from_file(manifest).name == "napari-cell-curator"
    assert "napari-cell-curator = cell_curator:napari.yaml" in entry_points
    assert any(n.startswith("cell_curator/models/starter-nuclei/") and n.endswith("card.json") for n in names)
    assert wheel.stat().st_size < 25e6
