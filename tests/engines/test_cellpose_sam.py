"""The contract of the engine ``cellpose-sam``, with a randomly initialised transformer of one layer.

The tests need Cellpose 4, which ``cell-curator models add cellpose-sam`` installs: set
``CELL_CURATOR_OVERLAY`` to its folder.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cell_curator.core.jobs import UserError, drive
from cell_curator.engines import cellpose_sam, overlay
from cell_curator.engines.finetune import finetune, presets
from cell_curator.engines.network import read_tensors
from cell_curator.engines.segmenter import Segmenter, SegmentParameters, available, engines, rethreshold, segment_image
from cell_curator.engines.training_data import Example
from cell_curator.engines.worker import Worker

MAKE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from cell_curator.engines.cellpose_sam import _without_torchvision
_without_torchvision()
from cellpose.vit import CPSAM
with torch.device("meta"):
    module = CPSAM()
module.encoder.blocks = module.encoder.blocks[:1]
torch.manual_seed(0)
state = {name: 0.05 * torch.randn(value.shape) for name, value in module.state_dict().items()}
state["W2"] = torch.eye(192).reshape(192, 3, 8, 8)
torch.save(state, sys.argv[2])
"""


@pytest.fixture(scope="module")
def cellpose4():
    folder = os.environ.get("CELL_CURATOR_OVERLAY", "")
    if not (Path(folder) / "cellpose" / "vit.py").is_file():
        pytest.skip("Cellpose 4 is not here; install it and set CELL_CURATOR_OVERLAY to its folder")
    return Path(folder)


@pytest.fixture(scope="module")
def weights(cellpose4, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "random_sam"
    subprocess.run([sys.executable, "-c", MAKE, str(cellpose4), str(path)], check=True, capture_output=True)
    return path


@pytest.fixture
def installed(cellpose4, monkeypatch):
    monkeypatch.setattr(overlay, "overlay_folder", lambda: cellpose4)
    cellpose_sam._process.cache_clear()
    yield
    cellpose_sam._process().close()
    cellpose_sam._process.cache_clear()


@pytest.fixture
def params(weights):
    return SegmentParameters(engine="cellpose-sam", model=str(weights), cellprob_threshold=-6, flow_threshold=0)


def test_without_the_overlay_it_is_listed_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(overlay, "overlay_folder", lambda: tmp_path)
    states = {state.name: state for state in available()}
    assert states["cellpose-unet"].reason is None
    assert "cell-curator models add cellpose-sam" in states["cellpose-sam"].reason
    with pytest.raises(UserError, match="cellpose-sam cannot run here: Cellpose 4 is not installed; run"):
        drive(segment_image(np.eye(50), SegmentParameters(engine="cellpose-sam")))


def test_a_failed_installation_leaves_nothing_behind_and_names_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(overlay, "overlay_folder", lambda: tmp_path / "cellpose4")
    with pytest.raises(UserError, match=r"could not be installed .*check the network connection"):
        drive(overlay.install("--no-index"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("diameter", [0, 45])
def test_shapes_progress_and_thresholds_are_those_of_every_engine(installed, params, diameter):
    image = np.random.default_rng(0).random((120, 300))
    seen = []
    params = params.model_copy(update={"diameter": float(diameter)})
    found = drive(segment_image(image, params), seen.append)
    assert isinstance(engines()["cellpose-sam"], Segmenter)
    assert found.labels.shape == (120, 300)
    assert found.labels.dtype == np.int32
    assert found.flow_error.shape == (found.count + 1,)
    assert found.cell_probability.shape == ((120, 300) if diameter == 0 else (80, 200))
    assert np.isfinite(found.flow).all()
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert len({progress.message for progress in seen}) >= 2
    assert np.array_equal(rethreshold(found, params).labels, found.labels)
    assert rethreshold(found, params.model_copy(update={"cellprob_threshold": 6})).count == 0


def test_the_network_answers_as_stock_cellpose_4_does(installed, params, cellpose4, weights, tmp_path):
    image = np.random.default_rng(0).random((256, 256)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    code = f"""
import sys, json
sys.path.insert(0, {str(cellpose4)!r})
from cell_curator.engines.cellpose_sam import _without_torchvision, load
import numpy as np, torch
from pathlib import Path
module, fast = load(Path({str(weights)!r}))
data = np.zeros((1, 3, 256, 256), np.float32)
data[0, 0] = np.load({str(tmp_path / "image.npy")!r})
from cellpose.vit import CPSAM
module = module.float()
with torch.no_grad():
    out = module(torch.from_numpy(data))[0][0].numpy()
np.save({str(tmp_path / "out.npy")!r}, out)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    theirs = np.load(tmp_path / "out.npy")
    job = cellpose_sam._process().call("cell_curator.engines.cellpose_sam:look", planes=image[None], weights=weights)
    ours, note = drive(job)
    assert note == ""
    assert np.corrcoef(ours[2].ravel().astype(float), theirs[2].ravel())[0, 1] > 0.98
    assert np.corrcoef(5 * ours[0].ravel().astype(float), theirs[0].ravel())[0, 1] > 0.98


def test_cancelling_ends_its_process_and_the_next_search_works(installed, params):
    image = np.random.default_rng(0).random((256, 256))
    job = segment_image(image, params)
    while cellpose_sam._process().pid is None:
        next(job)
    pid = cellpose_sam._process().pid
    job.close()
    assert cellpose_sam._process().pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert drive(segment_image(image[:64, :64], params)).labels.shape == (64, 64)


def test_it_runs_inside_a_worker_which_may_be_cancelled(weights, cellpose4, tmp_path, monkeypatch, params):
    monkeypatch.setenv("CELL_CURATOR_MODELS", str(tmp_path / "models"))
    shutil.copytree(cellpose4, tmp_path / "cellpose4")
    worker = Worker()
    try:
        job = worker.call(
            "cell_curator.engines.segmenter:segment_image",
            image=np.random.default_rng(0).random((64, 64)),
            params=params,
        )
        assert drive(job).labels.shape == (64, 64)
    finally:
        worker.close()


def test_it_learns_in_its_own_process_and_the_result_is_of_the_same_kind(installed, params, weights, tmp_path):
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:120, :120]
    labels = ((yy // 30) * 4 + xx // 30 + 1).astype(np.int32) * ((yy % 30 > 4) & (xx % 30 > 4))
    image = (labels > 0) + rng.normal(0, 0.1, labels.shape)
    counts = np.ones(labels.shape, bool)
    counts[:, 90:] = False
    one = Example("squares", image.astype(np.float32), labels, counts)
    settings = presets("cellpose-sam")["cellpose"].model_copy(
        update={"epochs": 2, "schedule": "cosine", "evaluate_every": 1, "min_train_masks": 0}
    )
    seen = []
    job = finetune(weights, [one], [one], settings, tmp_path / "new", preview=one, engine="cellpose-sam")
    trained = drive(job, lambda progress: seen.append(progress.payload))
    assert [point[0] for point in trained.curve] == [1, 2]
    assert all(np.isfinite(point[1:]).all() for point in trained.curve)
    assert trained.details["tile_px"] == 256
    assert any(state is not None and state.preview is not None for state in seen)
    before, after = read_tensors(weights), read_tensors(trained.weights)
    assert set(before) <= set(after)
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert "encoder.blocks.0.attn.qkv.weight" in moved
    assert "out.weight" in moved
    assert "W2" not in moved
    answer = drive(segment_image(image, params.model_copy(update={"model": str(trained.weights)})))
    assert answer.cell_probability.shape == image.shape
    assert np.isfinite(answer.flow).all()


def test_weights_of_another_generation_say_so(installed):
    params = SegmentParameters(engine="cellpose-sam", model="starter-nuclei")
    with pytest.raises(UserError, match="a model for the engine cellpose-unet, but cellpose-sam is set"):
        drive(segment_image(np.eye(50), params))
    card = json.loads((Path(cellpose_sam.__file__).parent.parent / "models/starter-nuclei/card.json").read_text())
    assert card["engine"] == "cellpose-unet"
