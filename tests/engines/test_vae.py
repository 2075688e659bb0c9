import inspect
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.draw import ellipse
from sklearn.metrics import adjusted_rand_score

from cell_curator.core.clustering import ClusterParameters, cluster
from cell_curator.core.jobs import Progress, UserError, drive
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.vae.loss import VaeLoss, reconstruction_error
from cell_curator.engines.vae.model import decode, encode, load_model, plain, reconstruct, save_model
from cell_curator.engines.vae.network import build
from cell_curator.engines.vae.progress import Embedding, VaeProgress
from cell_curator.engines.vae.split import split_by_group
from cell_curator.engines.vae.training import train

QUICK = VaeParameters(steps=25, width=8, latent=4, batch=16, precision="float32")

Cells = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def draw_cells(count: int, size: int = 32) -> Cells:
    """Images, masks, image ids and truth of upright ellipses, every second one elongated."""
    rng = np.random.default_rng(0)
    truth = np.arange(count) % 2
    masks = np.zeros((count, size, size), bool)
    for mask, long in zip(masks, truth, strict=True):
        minor = rng.uniform(4, 5) if long else rng.uniform(6.5, 7.5)
        major = rng.uniform(12, 14) if long else rng.uniform(7.5, 8.5)
        centre = size / 2 + rng.uniform(-1, 1, 2)
        mask[ellipse(*centre, major, minor, mask.shape)] = True
    level = rng.uniform(0.4, 0.8, (count, 1, 1))
    images = ndimage.gaussian_filter(masks * level, (0, 1, 1)) + rng.normal(0, 0.03, masks.shape)
    return images.clip(0, 1).astype(np.float32), masks, np.repeat(np.arange(10), count)[::10], truth


@pytest.fixture(scope="module")
def cells() -> Cells:
    return draw_cells(240)


@pytest.fixture(scope="module")
def learned(cells) -> Embedding:
    images, masks, groups, _ = cells
    return drive(train(images, masks, groups, VaeParameters(steps=150, width=8, latent=8, precision="float32")))


def test_shapes_are_told_apart_without_being_told(cells, learned):
    truth = cells[3]
    found = cluster(learned.latent, ClusterParameters(method="kmeans", k=2))
    assert adjusted_rand_score(truth, found.labels) > 0.5


def test_result_describes_every_cell(cells, learned):
    count = len(cells[0])
    assert learned.latent.shape == (count, 8)
    assert learned.latent.dtype == learned.error.dtype == np.float32
    assert learned.error.shape == learned.validation.shape == (count,)
    assert (learned.error >= 0).all()
    assert learned.precision == "float32"
    assert f"of {count} cells" in learned.split
    assert all(math.isfinite(h.validation) for h in learned.history)
    assert learned.history[-1].total < 0.6 * learned.history[0].total


def test_an_odd_cell_is_reconstructed_worst(cells, learned):
    images = cells[0].copy()[:50]
    images[7] = np.indices((32, 32)).sum(0) // 4 % 2  # a chequerboard among cells
    made = reconstruct(learned.model, images)
    assert made.shape == images.shape
    assert 0 <= made.min() <= made.max() <= 1
    assert ((made - images) ** 2).mean((1, 2)).argmax() == 7


def test_encoding_does_not_sample(cells, learned):
    images = cells[0]
    np.testing.assert_array_equal(encode(learned.model, images), learned.latent)
    np.testing.assert_allclose(encode(learned.model, images[5:9]), learned.latent[5:9], atol=1e-4)
    assert encode(learned.model, images[:0]).shape == (0, 8)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_same_seed_gives_the_same_numbers(cells, precision):
    images, masks, groups, _ = cells
    params = QUICK.model_copy(update={"precision": precision})
    first = drive(train(images, masks, groups, params))
    torch.rand(3)  # other random numbers in the process must not matter
    second = drive(train(images, masks, groups, params))
    other = drive(train(images, masks, groups, params.model_copy(update={"seed": 1})))
    np.testing.assert_array_equal(first.latent, second.latent)
    assert first.history == second.history
    assert not np.allclose(first.latent, other.latent)
    assert np.isfinite(first.latent).all()


def test_training_leaves_the_callers_random_numbers_and_threads_alone(cells):
    images, masks, groups, _ = cells
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    job = train(images, masks, groups, QUICK)
    next(job), next(job)
    job.close()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_no_label_can_leak_into_the_latent(cells):
    """To encode takes pixels only, and image ids decide the split and nothing else."""
    assert list(inspect.signature(encode).parameters) == ["model", "images"]
    images, masks, groups, _ = cells
    renamed = np.array([f"image {g}" for g in groups])  # same order of names, so the same split
    first, second = (drive(train(images, masks, g, QUICK)) for g in (groups, renamed))
    np.testing.assert_array_equal(first.latent, second.latent)


def test_noise_is_not_clustered_by_image():
    rng = np.random.default_rng(0)
    images = rng.random((120, 16, 16), dtype=np.float32)
    groups = np.arange(120) % 4
    got = drive(train(images, np.ones(images.shape, bool), groups, QUICK))
    labels = cluster(got.latent, ClusterParameters(method="kmeans", k=4)).labels
    assert adjusted_rand_score(groups, labels) < 0.1


def test_background_of_weight_zero_does_not_count(cells):
    images, masks, *_ = cells
    logits = torch.ones((4, 1, 32, 32))
    network = build(QUICK, 32)
    spoiled = np.where(masks, images, 1 - images)[:4]
    inside = torch.from_numpy(masks[:4, None].astype(np.float32))
    everywhere = torch.ones_like(inside)

    def errors(pictures: np.ndarray, weights: torch.Tensor) -> torch.Tensor:
        return reconstruction_error(network, torch.from_numpy(pictures[:, None]), logits, weights, "bce")

    assert torch.equal(errors(images[:4], inside), errors(spoiled, inside))
    assert not torch.allclose(errors(images[:4], everywhere), errors(spoiled, everywhere))


def test_training_with_masks_ignores_the_background(cells):
    """With weight 0 the network paints what it likes outside the cells, yet learns the inside."""
    images, masks, groups, _ = cells
    striped = np.where(masks, images, (np.arange(32) % 2).astype(np.float32))
    got = drive(train(striped, masks, groups, QUICK.model_copy(update={"background": 0.0, "steps": 80})))
    wrong = np.abs(reconstruct(got.model, striped) - striped)
    assert wrong[masks].mean() < 0.15 < wrong[~masks].mean()


def test_split_holds_back_whole_images():
    groups = np.repeat([3, 8, 9, 11, 20, 21], [40, 10, 12, 30, 8, 25])
    for seed in range(20):
        held, words, notes = split_by_group(groups, 0.15, seed)
        assert not set(groups[held]) & set(groups[~held])
        assert 0 < held.sum() < 0.4 * len(groups)
        assert "images" in words
        assert not notes


def test_one_large_image_among_small_ones_is_not_held_back():
    groups = np.array([0] * 95 + [1] * 5)
    assert split_by_group(groups, 0.15, 0)[0].sum() == 5


def test_a_single_image_is_split_by_cells_with_a_warning():
    held, _, notes = split_by_group(np.zeros(40), 0.2, 0)
    assert held.sum() == 8
    assert "one image" in notes[0]


def test_progress_is_frequent_picklable_and_rises(cells):
    images, masks, groups, _ = cells
    seen: list[Progress] = []
    drive(train(images, masks, groups, QUICK), seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    payloads = [p.payload for p in seen if isinstance(p.payload, VaeProgress)]
    assert len(payloads) == 25
    assert pickle.loads(pickle.dumps(payloads[-1])) == payloads[-1]


def test_training_stops_when_nothing_improves(cells):
    images, masks, groups, _ = cells
    params = QUICK.model_copy(update={"steps": 50, "learning_rate": 1.0, "patience": 2, "warmup": 0.0})
    got = drive(train(images, masks, groups, params))
    assert len(got.history) < 25
    assert "no more improvement" in got.notes[-1]


@pytest.mark.parametrize(("count", "words"), [(0, "0 cells are"), (1, "1 cell is"), (7, "7 cells are")])
def test_too_few_cells(cells, count, words):
    images, masks, groups, _ = cells
    with pytest.raises(UserError, match=f"{words} too few"):
        drive(train(images[:count], masks[:count], groups[:count], QUICK))


def test_eight_cells_are_enough(cells):
    images, masks, groups, _ = cells
    got = drive(train(images[:8], masks[:8], groups[:8], QUICK))
    assert np.isfinite(got.latent).all()
    assert "one image" in got.notes[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 7])
def test_patches_that_are_not_prepared(cells, value):
    images, masks, groups, _ = cells
    spoiled = images.copy()
    spoiled[3, 4, 5] = value
    with pytest.raises(UserError, match=r"outside 0\.\.1 or not numbers"):
        drive(train(spoiled, masks, groups, QUICK))


def test_a_loss_that_is_not_a_number_names_the_step_and_the_remedy(cells, monkeypatch):
    images, masks, groups, _ = cells
    fail_after(monkeypatch, 0)
    with pytest.raises(UserError, match="at step 1; lower the learning rate"):
        drive(train(images, masks, groups, QUICK))


def test_the_last_good_network_survives_a_loss_that_is_not_a_number(cells, monkeypatch):
    images, masks, groups, _ = cells
    fail_after(monkeypatch, 20)
    got = drive(train(images, masks, groups, QUICK))
    assert "the network of step" in got.notes[-1]
    assert np.isfinite(got.latent).all()


def fail_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the learning rate's worst case happen: the loss is NaN after so many training steps."""
    from cell_curator.engines.vae import training

    genuine, calls = training.loss, iter(range(10_000))

    def spoiled(network, *rest, **more):
        terms = genuine(network, *rest, **more)
        if network.modules.training and next(calls) >= steps:
            return VaeLoss(terms.total * math.nan, terms.reconstruction, terms.kl)
        return terms

    monkeypatch.setattr(training, "loss", spoiled)


def test_saved_models_encode_alike(learned, cells, tmp_path):
    save_model(learned.model, tmp_path / "map.pth")
    back = load_model(tmp_path / "map.pth")
    assert back.params == learned.model.params
    np.testing.assert_array_equal(encode(back, cells[0]), learned.latent)


def test_models_cross_processes(learned, cells):
    back = pickle.loads(pickle.dumps(learned.model))
    np.testing.assert_array_equal(encode(back, cells[0]), learned.latent)


class Stranger:
    """Something a plain weights file never holds."""


def test_models_of_painters_with_biases_paint_as_they_did(learned, tmp_path):
    """Biases before a layer that normalises were dropped from the network; files from before hold them."""
    content = plain(learned.model)
    weights, generator = content["weights"], torch.Generator().manual_seed(0)
    for name in [name for name in weights if name.startswith("decoder") and name.endswith("running_mean")][1:]:
        bias = torch.randn(weights[name].shape, generator=generator)
        weights[f"decoder.{int(name.split('.')[1]) - 1}.bias"] = bias
        weights[name] = weights[name] + bias
    assert set(weights) != set(learned.model.weights)
    torch.save(content, tmp_path / "old.pt")
    old = load_model(tmp_path / "old.pt")
    latent = learned.latent[:3]
    np.testing.assert_allclose(decode(old, latent), decode(learned.model, latent), atol=1e-5)


def test_foreign_and_damaged_files_are_refused(learned, tmp_path):
    save_model(learned.model, tmp_path / "good.pth")
    whole = (tmp_path / "good.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"kind": "something else"}, tmp_path / "other.pth")
    torch.save(Stranger(), tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("cut", "text", "other", "code", "list", "missing"):
        with pytest.raises(UserError, match=f"{name}.pth"):
            load_model(tmp_path / f"{name}.pth")


def test_patches_of_another_size_are_refused(learned):
    with pytest.raises(UserError, match="learned on 32 px"):
        encode(learned.model, np.zeros((2, 64, 64), np.float32))


def test_importing_the_module_does_not_import_torch():
    code = "import cell_curator.engines.vae.training, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
