"""U-Net and U-Net++: their heads, images of any size, learning from nothing, and what bad input is told."""

import json
import logging

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss, FocalLoss
from scenes import nuclei

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.recipe import DEFAULT
from cell_curator.core.scores import evaluate
from cell_curator.engines.batch import segment_folder
from cell_curator.engines.cards import find_model
from cell_curator.engines.downloads import add_file, fitting
from cell_curator.engines.finetune import Example, TrainParameters, finetune
from cell_curator.engines.loss import masked_loss
from cell_curator.engines.segmenter import SegmentParameters, rethreshold, segment_image
from cell_curator.engines.unet import model
from cell_curator.engines.unet.inference import predict_tiled
from cell_curator.engines.unet.networks import EARLY, FLOWS, FOREGROUND, Design, build, heads
from cell_curator.engines.unet.training import all_heads, deep_loss
from cell_curator.io.labels import read_labels

TINY = (8, 8, 16, 16, 16, 8)
QUICK = TrainParameters(
    epochs=8, learning_rate=1e-2, schedule="cosine", tile=64, batch_size=1, images_per_epoch=10, evaluate_every=8
)


@pytest.fixture(scope="module", autouse=True)
def _exact():
    """In float32, which for so small networks is also sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "bfloat16_is_faster", lambda: False)
        yield


def new(folder, kind="unet", outputs=FLOWS):
    """The weights file of a tiny network that is yet to be made."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.description(kind, TINY, outputs), folder / "weights.pth")
    (folder / "card.json").write_text(json.dumps({"engine": kind}))
    return folder / "weights.pth"


def lively(kind, outputs=FLOWS, channels=1):
    """An untrained network whose layers are not all alike."""
    module = build(Design(kind, TINY, channels, outputs), seed=1)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.manual_seed(2)
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return module


def example(seed, dark=False):
    image, labels = nuclei(seed=seed, shape=(96, 96), count=12)
    return Example(f"scene {seed}", 1 - image if dark else image, labels, np.ones(labels.shape, bool))


def taught(folder, base, engine, dark=False, resume=True, **settings):
    params = QUICK.model_copy(update=settings)
    train = [example(seed, dark) for seed in range(3)]
    made = drive(finetune(base, train, [example(9, dark)], params, folder, example(8, dark), resume, engine))
    card = {"engine": engine, "diameter_px": made.diameter, **made.details}
    (folder / "card.json").write_text(json.dumps(card))
    return made


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    """A U-Net++ that was taught dark cells in seconds, and what its training says."""
    place = tmp_path_factory.mktemp("unetpp")
    made = taught(place / "model", new(place / "base", "unetpp"), "unetpp", dark=True)
    return place / "model", made


def looks(folder, engine, **settings):
    return SegmentParameters(engine=engine, model=str(folder), **settings)


# --- heads


@pytest.mark.parametrize("kind", ["unet", "unetpp"])
def test_the_heads_are_those_of_monai(kind):
    module, data = lively(kind, channels=3), torch.randn(2, 3, 48, 64)
    with torch.inference_mode():
        theirs = module(data)
        for ours, other in zip(heads(module, data), theirs if kind == "unetpp" else [theirs], strict=True):
            assert torch.equal(ours, other)


def test_a_quick_look_computes_less_and_says_what_the_early_heads_say():
    module, data, run = lively("unetpp"), torch.randn(1, 1, 64, 64), []
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(lambda layer, _, out: run.append(layer.weight.numel() * out[0, 0].numel()))
    with torch.inference_mode():
        whole = heads(module, data)
        all_of_it, layers = sum(run), len(run)
        run.clear()
        early = heads(module, data, EARLY)
    assert len(early) == EARLY
    assert all(torch.equal(one, other) for one, other in zip(early, whole, strict=False))
    assert len(run) < layers / 2
    assert sum(run) < all_of_it / 2


def test_every_head_has_a_loss_and_learns():
    module = lively("unetpp").train()
    target, counts = torch.rand(1, 3, 32, 32), torch.ones((1, 32, 32), dtype=torch.bool)
    answer = all_heads(module, torch.randn(1, 1, 32, 32))
    deep_loss(target, answer, counts, outputs=FLOWS).backward()
    assert all(getattr(module, f"final_conv_0_{head}").weight.grad.abs().sum() > 0 for head in range(1, 5))
    one = deep_loss(target, answer[:, :3], counts, outputs=FLOWS)
    assert one.item() == masked_loss(target, answer[:, :3], counts).item()


def test_dice_and_focal_are_monais_where_everything_counts():
    target, logit = torch.rand(2, 3, 16, 16), torch.randn(2, 1, 16, 16)
    cell, counts = (target[:, :1] > 0.5).float(), torch.ones((2, 16, 16), dtype=torch.bool)
    dice = DiceCELoss(sigmoid=True, batch=True, smooth_nr=1, smooth_dr=1)(logit, cell)
    assert masked_loss(target, logit, counts, "dice").item() == pytest.approx(dice.item(), rel=1e-5)
    focal = FocalLoss(gamma=2.0)(logit, cell)
    assert masked_loss(target, logit, counts, "focal").item() == pytest.approx(focal.item(), rel=1e-5)
    counts[:, 8:] = False
    half = masked_loss(target[:, :, :8], logit[:, :, :8], counts[:, :8], "dice")
    assert masked_loss(target, logit, counts, "dice").item() == pytest.approx(half.item(), rel=1e-5)


# --- images of any size


@pytest.mark.parametrize("shape", [(230, 301), (47, 300), (20, 9)])
def test_in_tiles_an_image_is_answered_as_in_one_piece(shape, dark):
    net = model.read(dark[0] / "weights.pth")
    planes = nuclei(seed=4, shape=(240, 310), count=60)[0][np.newaxis, : shape[0], : shape[1]]
    whole = drive(predict_tiled(net.forward, planes, tile=1024))
    tiled = drive(predict_tiled(net.forward, planes, tile=160, overlap=96, batch=3))
    assert whole.shape == tiled.shape == (3, *shape)
    seen = [1 / (1 + np.exp(-answer[2])) for answer in (whole, tiled)]
    assert np.abs(seen[0] - seen[1]).max() < 1e-3
    assert np.abs(whole[:2] - tiled[:2]).max() < 1e-2


def test_blending_leaves_no_seam_and_memory_that_runs_short_changes_nothing(caplog):
    planes = np.random.default_rng(0).random((2, 333, 210), dtype=np.float32)
    tried = []

    def network(tiles):
        tried.append(tiles.shape)
        if len(tiles) * tiles.shape[2] * tiles.shape[3] > 150 * 150:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return np.stack([tiles[:, 0] + tiles[:, 1], tiles[:, 1] ** 2], axis=1)

    with caplog.at_level(logging.WARNING):
        out = drive(predict_tiled(network, planes, tile=256, overlap=64, batch=4))
    assert np.allclose(out[0], planes[0] + planes[1], atol=1e-6)
    assert np.allclose(out[1], planes[1] ** 2, atol=1e-6)
    assert "memory ran out" in caplog.text
    assert tried[-1][2] == 128

    def never(tiles):
        raise MemoryError

    with pytest.raises(UserError, match="smallest tiles"):
        drive(predict_tiled(never, planes))


# --- learning, and looking as it learned


def test_a_new_network_learns_dark_cells_and_looks_for_dark_ones_since_its_card_says_so(dark):
    folder, made = dark
    said = made.details["preprocessing"]
    assert (said["polarity"], said["channels"], said["percentiles"]) == ("dark", 1, [1.0, 99.0])
    assert made.details["learned_from"] == {"scene 0": 12, "scene 1": 12, "scene 2": 12}
    seen = example(20, dark=True)
    found = drive(segment_image(seen.image, looks(folder, "unetpp", diameter=made.diameter)))
    assert found.inverted
    assert evaluate(found.labels, seen.labels).ap[0.5] > 0.8
    (folder / "card.json").write_text(json.dumps({"engine": "unetpp"}))
    bright = drive(segment_image(seen.image, looks(folder, "unetpp", diameter=made.diameter, polarity="bright")))
    assert evaluate(bright.labels, seen.labels).ap[0.5] < 0.5


def test_flow_errors_are_told_in_the_unit_of_the_card_and_a_network_that_learns_on_keeps_it(dark, tmp_path):
    folder, made = tmp_path / "mine", dark[1]
    folder.mkdir()
    (folder / "weights.pth").write_bytes((dark[0] / "weights.pth").read_bytes())
    params = looks(folder, "unetpp", diameter=made.diameter, polarity="dark", flow_threshold=0)

    def search(unit):
        (folder / "card.json").write_text(json.dumps({"engine": "unetpp", "preprocessing": {"error_unit": unit}}))
        return drive(segment_image(example(22, dark=True).image, params))

    plain, told, nonsense = search(1), search(2.0), search("much")
    assert np.array_equal(plain.labels, told.labels)
    assert plain.flow_error[1:].min() > 0
    assert np.allclose(told.flow_error, plain.flow_error / 2)
    assert np.array_equal(nonsense.flow_error, plain.flow_error)
    middle = float(np.median(plain.flow_error[1:]))
    fewer = rethreshold(told, params.model_copy(update={"flow_threshold": middle / 2}))
    assert 0 < fewer.count < plain.count
    strict = rethreshold(plain, params.model_copy(update={"flow_threshold": middle}))
    assert np.array_equal(fewer.labels, strict.labels)
    search(2.0)
    again = taught(tmp_path / "again", folder / "weights.pth", "unetpp", dark=True, epochs=1, images_per_epoch=1)
    assert again.details["preprocessing"]["error_unit"] == 2.0


def test_thresholds_move_without_the_network_and_a_fast_look_finds_cells_too(dark, monkeypatch):
    folder, made = dark
    seen = example(21, dark=True)
    params = looks(folder, "unetpp", diameter=made.diameter, polarity="dark")
    found = drive(segment_image(seen.image, params))
    quick = drive(segment_image(seen.image, params.model_copy(update={"quality": "fast"})))
    assert evaluate(quick.labels, seen.labels).ap[0.5] > 0.6
    assert not np.array_equal(quick.cell_probability, found.cell_probability)
    stricter = params.model_copy(update={"cellprob_threshold": 1.5})
    anew = drive(segment_image(seen.image, stricter))
    monkeypatch.setattr(model.Network, "forward", None)
    moved = rethreshold(found, stricter)
    assert np.array_equal(moved.labels, anew.labels)
    assert (moved.labels > 0).sum() < (found.labels > 0).sum()


@pytest.mark.slow
def test_one_that_tells_foreground_alone_stops_goes_on_and_ends_as_one_that_never_stopped(tmp_path, monkeypatch):
    from cell_curator.engines import checkpoint

    base = new(tmp_path / "base", outputs=FOREGROUND)
    whole = taught(tmp_path / "a", base, "unet", cell_loss="dice")
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    params = QUICK.model_copy(update={"cell_loss": "dice"})
    train = [example(seed) for seed in range(3)]
    job = finetune(base, train, [example(9)], params, tmp_path / "b", example(8), engine="unet")
    while (progress := next(job)).payload is None or progress.payload.step < 45:
        pass
    job.close()
    again = taught(tmp_path / "b", base, "unet", cell_loss="dice")
    assert again.details["resumed_at_step"] == 45
    states = [torch.load(made.weights, weights_only=True) for made in (whole, again)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert whole.details["preprocessing"]["answers"] == "foreground"
    seen = example(22)
    found = drive(segment_image(seen.image, looks(tmp_path / "a", "unet")))
    inside, there = found.labels > 0, seen.labels > 0
    assert (inside & there).sum() / (inside | there).sum() > 0.75
    assert found.flow.size == 0
    assert (
        rethreshold(found, looks(tmp_path / "a", "unet", cellprob_threshold=3)).labels.astype(bool).sum() < inside.sum()
    )


def test_gray_and_coloured_images_of_one_folder_and_the_model_that_comes_with_the_package(tmp_path):
    (tmp_path / "images").mkdir()
    scene = nuclei(seed=5, shape=(120, 140), count=14)
    gray = (scene[0] * 200).astype(np.uint8)
    imageio.imwrite(tmp_path / "images" / "gray.png", gray)
    imageio.imwrite(tmp_path / "images" / "coloured.png", np.stack([255 - gray, 255 - gray, 250 - gray], axis=2))
    report = drive(segment_folder(tmp_path / "images", tmp_path / "out", SegmentParameters(engine="unetpp"), DEFAULT))
    assert report.folder.failed == ()
    for stem in ("gray", "coloured"):
        assert evaluate(read_labels(tmp_path / "out" / f"{stem}.tif"), scene[1]).ap[0.5] > 0.75


def test_the_engine_follows_the_model_and_a_weights_file_finds_its_engine(dark, tmp_path, monkeypatch):
    monkeypatch.setenv("CELL_CURATOR_MODELS", str(tmp_path))
    named = {"new-unet-area": "unet", "unetpp-nuclei": "unetpp", "cpsam": "cellpose-sam", "nowhere": "cellpose-unet"}
    assert {name: fitting(SegmentParameters(model=name)).engine for name in named} == named
    mine = tmp_path / "mine.pth"
    mine.write_bytes((dark[0] / "weights.pth").read_bytes())
    card = drive(add_file(mine))
    assert (card.engine, fitting(SegmentParameters(model="mine")).engine) == ("unetpp", "unetpp")
    assert card.details["diameter_px"] == pytest.approx(dark[1].diameter)


# --- bad input


def test_a_new_network_finds_nothing_and_says_what_to_do():
    found = drive(segment_image(example(1).image, SegmentParameters(engine="unetpp", model="new-unetpp")))
    assert found.count == 0
    assert "has learned nothing yet" in found.notes[0]


def test_weights_of_another_architecture_are_told_in_one_line(dark, tmp_path):
    starter = find_model("starter-nuclei")
    plain = tmp_path / "plain.pth"
    plain.write_bytes(starter.read_bytes())
    with pytest.raises(UserError, match=r"plain.pth: weights of Cellpose's U-Net \(engine cellpose-unet\), not of"):
        drive(segment_image(example(1).image, SegmentParameters(engine="unet", model=str(plain))))
    mine = tmp_path / "mine.pth"
    mine.write_bytes((dark[0] / "weights.pth").read_bytes())
    with pytest.raises(
        UserError, match=r"weights of a U-Net\+\+, but the engine unet is set; choose the engine unetpp"
    ):
        drive(segment_image(example(1).image, SegmentParameters(engine="unet", model=str(mine))))
    with pytest.raises(UserError, match="choose the engine unet or unetpp"):
        drive(segment_image(example(1).image, SegmentParameters(model=str(mine))))
    state = torch.load(mine, weights_only=True)
    torch.save({name: value for name, value in state.items() if "upcat_1_1" not in name}, mine)
    with pytest.raises(UserError, match=r"layers are not those of a U-Net\+\+"):
        drive(segment_image(example(1).image, SegmentParameters(engine="unetpp", model=str(mine))))
    two = np.stack([example(1).image] * 2)
    with pytest.raises(UserError, match="learned on 1 channel"):
        drive(segment_image(two, looks(dark[0], "unetpp", second_channel=1)))
