"""The training loop against stock Cellpose, and what it promises about regions, seeds, crashes and bad input."""

import json
import pickle
import time
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from cellpose import models, train, transforms
from scenes import nuclei

from cell_curator.core.jobs import UserError, drive
from cell_curator.engines import checkpoint, learning, trainable
from cell_curator.engines.cards import find_model
from cell_curator.engines.finetune import PRESETS, Example, TrainParameters, best_so_far, finetune, presets
from cell_curator.engines.loss import cellpose_rates, falling_rate, masked_loss
from cell_curator.engines.network import load_network, normalise, read_weights
from cell_curator.engines.segmenter import SegmentParameters, segment_image
from cell_curator.engines.trainable import Trainable
from cell_curator.engines.training_data import polarities, review, sources
from cell_curator.engines.training_tiles import Cut, batches
from cell_curator.engines.worker import Worker

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")
BASE = find_model("starter-nuclei")
QUICK = TrainParameters(
    epochs=6, learning_rate=1e-4, schedule="cosine", tile=64, batch_size=2, evaluate_every=2, polarity="bright"
)


def example(seed, region=None, shape=(90, 100)):
    image, labels = nuclei(seed=seed, shape=shape, count=12)
    counts = np.ones(shape, dtype=bool)
    if region is not None:
        counts[:] = False
        counts[region] = True
    return Example(f"scene {seed}", image, labels, counts)


@pytest.fixture(scope="module")
def scenes():
    return [example(seed) for seed in range(4)]


def learned(folder, train, holdout=(), watch=None, resume=True, preview=None, **settings):
    params = QUICK.model_copy(update=settings)
    return drive(finetune(BASE, train, holdout, params, folder, preview, resume), watch)


def made(examples, rescale=17.0, scale_range=0.5):
    reviewed = review(examples)
    return drive(sources(reviewed, [False] * len(reviewed), 18.0, rescale, scale_range))


def weights_of(trained):
    return read_weights(trained.weights)


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


# --- as stock Cellpose does


def test_the_loss_is_cellposes_where_everything_counts_and_that_of_the_part_where_a_part_does():
    rng = np.random.default_rng(0)
    target = rng.random((2, 3, 16, 24), dtype=np.float32)
    answer = torch.from_numpy(rng.normal(size=target.shape).astype(np.float32)).requires_grad_()
    counts = torch.ones((2, 16, 24), dtype=torch.bool)
    ours = masked_loss(torch.from_numpy(target), answer, counts)
    assert ours.item() == pytest.approx(train._loss_fn_seg(target, answer, torch.device("cpu")).item(), rel=1e-6)
    counts[:, :, 10:] = False
    part = masked_loss(torch.from_numpy(target), answer, counts)
    stock = train._loss_fn_seg(np.ascontiguousarray(target[..., :10]), answer[..., :10], torch.device("cpu"))
    assert part.item() == pytest.approx(stock.item(), rel=1e-6)
    part.backward()
    assert answer.grad[..., :10].abs().sum() > 0
    assert answer.grad[..., 10:].abs().sum() == 0
    nothing = masked_loss(torch.from_numpy(target), answer, torch.zeros_like(counts))
    assert nothing.item() == 0


def test_tiles_of_whole_images_are_those_of_stock_and_numpys_numbers_stay_as_they_were(scenes):
    ready = made(scenes[:2])
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    (tiles,) = batches(ready, Cut(64, 2, 0.5, 8), seed=3)
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(3)
    order = np.random.permutation(np.arange(2))
    planes, target, _ = transforms.random_rotate_and_resize(
        [ready[i].planes for i in order],
        Y=[ready[i].target for i in order],
        rescale=[ready[i].diameter / 17 for i in order],
        scale_range=0.5,
        xy=(64, 64),
    )
    assert np.array_equal(tiles.planes[:, :1], planes)
    assert np.array_equal(tiles.target, target)
    assert not tiles.planes[:, 1].any()
    assert tiles.counts.all()


def test_it_learns_what_train_seg_learns(scenes, tmp_path, monkeypatch):
    # The last bit of an answer grows with every step, so steps are few.
    monkeypatch.setattr("cell_curator.engines.network.bfloat16_is_faster", lambda: False)
    load_network.cache_clear()
    net = models.CellposeModel(pretrained_model=str(BASE), mkldnn=False).net
    _, losses, _ = train.train_seg(
        net,
        train_data=[normalise(scene.image) for scene in scenes[:2]],
        train_labels=[scene.labels.copy() for scene in scenes[:2]],
        normalize=False,
        channels=[0, 0],
        n_epochs=3,
        batch_size=2,
        learning_rate=1e-3,
        bsize=64,
        save_path=tmp_path,
    )
    ours = learned(tmp_path / "ours", scenes[:2], epochs=3, schedule="cellpose", learning_rate=1e-3, evaluate_every=3)
    assert [loss for _, loss, _ in ours.curve] == pytest.approx(losses, rel=1e-4)
    stock, mine = net.state_dict(), weights_of(ours)
    assert set(stock) == set(mine)
    base = read_weights(BASE)
    for name, value in stock.items():
        moved = (value - base[name]).abs().max()
        assert (mine[name] - value).abs().max() <= 1e-6 + 0.05 * moved, name
    load_network.cache_clear()


@pytest.mark.parametrize("epochs", [5, 20, 100, 101, 300, 301, 2000])
def test_the_rates_of_the_passes_are_those_of_train_seg(epochs):
    LR = np.linspace(0, 0.005, 10)
    LR = np.append(LR, 0.005 * np.ones(max(0, epochs - 10)))
    last, each = (100, 10) if epochs > 300 else (50, 5)
    if epochs > 100:
        LR = LR[:-last]
        for _ in range(10):
            LR = np.append(LR, LR[-1] / 2 * np.ones(each))
    assert cellpose_rates(0.005, epochs) == pytest.approx(LR[:epochs])


def test_the_falling_rate_grows_for_a_tenth_and_ends_near_zero():
    rates = [falling_rate(1.0, part) for part in np.linspace(0, 1, 101)]
    assert np.argmax(rates) == 10
    assert max(rates) == pytest.approx(1)
    assert rates[-1] < 0.01


def test_the_defaults_are_those_of_train_seg():
    import inspect

    stock = {name: value.default for name, value in inspect.signature(train.train_seg).parameters.items()}
    ours = PRESETS["cellpose"]
    assert ours == TrainParameters()
    names = {"epochs": "n_epochs", "sgd": "SGD", "tile": "bsize"}
    for name in (
        *("learning_rate", "epochs", "weight_decay", "momentum", "sgd"),
        *("batch_size", "tile", "rescale", "min_train_masks"),
    ):
        assert getattr(ours, name) == stock[names.get(name, name)], name
    sam = presets("cellpose-sam")["cellpose"]
    assert (sam.learning_rate, sam.weight_decay, sam.batch_size, sam.tile, sam.rescale) == (1e-5, 0.1, 1, 256, False)


def test_the_result_loads_in_stock_cellpose_and_answers_as_it_does_here(scenes, tmp_path):
    ours = learned(tmp_path, scenes[:2])
    model = models.CellposeModel(pretrained_model=str(ours.weights), mkldnn=False)
    assert model.diam_labels.item() == pytest.approx(ours.diameter, abs=0.01)
    assert model.diam_mean.item() == 17
    image = normalise(scenes[2].image)[:64, :64][None, None]
    with torch.no_grad():
        stock = model.net.eval()(torch.from_numpy(np.concatenate([image, np.zeros_like(image)], axis=1)))[0].numpy()
    here = replace(load_network(ours.weights), bfloat16=False).forward(image)
    here[:, :2] *= 5
    assert np.allclose(here, stock, atol=1e-3)
    found = model.eval(scenes[2].image, channels=[0, 0], diameter=18)[0]
    assert found.max() > 5


# --- only what was reviewed


REGION = (slice(20, 70), slice(30, 80))


def test_labels_outside_the_reviewed_area_do_not_matter():
    one = example(0, REGION)
    rng = np.random.default_rng(0)
    other = np.where(one.counts, one.labels, rng.integers(100, 130, one.labels.shape)).astype(np.int32)
    cut = np.unique(one.labels[~one.counts])
    clean = replace(one, counts=one.counts & ~np.isin(one.labels, cut[cut > 0]))
    noisy = replace(clean, labels=np.where(clean.counts, one.labels, other).astype(np.int32))
    for left, right in zip(*(batches(made([ex]), Cut(64, 2, 0.5, 4, 12), 0) for ex in (clean, noisy)), strict=True):
        for name in ("planes", "target", "counts"):
            assert np.array_equal(getattr(left, name), getattr(right, name))


def test_a_cell_cut_by_the_edge_does_not_count_and_others_do():
    one = example(0, REGION)
    (reviewed,) = review([one])
    cut = set(np.unique(one.labels[~one.counts])) - {0}
    inside = set(np.unique(one.labels[REGION])) - {0}
    assert cut & inside  # else this scene tests nothing
    assert set(np.unique(reviewed.labels)) - {0} == inside - cut
    assert not reviewed.counts[np.isin(one.labels, list(cut))].any()
    assert reviewed.counts[one.counts & (one.labels == 0)].all()
    assert len(reviewed.areas) == len(inside - cut)


def test_what_counts_turns_with_the_image_and_every_tile_shows_some_of_it():
    one = example(1, (slice(60, 84), slice(70, 95)))
    one = replace(one, labels=np.where(one.counts, 0, one.labels).astype(np.int32))
    marked = replace(one, image=one.counts.astype(np.float32))
    for tiles in batches(made([marked]), Cut(64, 2, 0.5, 4, 20), seed=1):
        assert tiles.counts.any(axis=(1, 2)).all()
        seen = tiles.planes[:, 0] > 0.999
        assert np.array_equal(tiles.counts, seen)


def test_outside_the_image_nothing_counts_where_a_part_was_reviewed():
    one = example(1, (slice(0, 89), slice(0, 99)))
    one = replace(one, image=np.where(one.counts, 1.0, 0.5).astype(np.float32) + np.eye(90, 100, dtype=np.float32))
    (tiles,) = batches(made([one], rescale=8.0), Cut(96, 2, 0.0, 4, 4), seed=1)
    padded = tiles.planes[:, 0] == 0
    assert padded.mean() > 0.3
    assert not tiles.counts[padded].any()


def test_large_cells_are_shrunk_by_area_as_when_cells_are_looked_for():
    image, labels = nuclei(seed=3, shape=(400, 400), diameter=70, count=12, noise=0.3)
    (source,) = made([Example("large", image, labels, np.ones(labels.shape, bool))])
    assert source.planes.shape[1] < 130
    assert source.planes.shape[1] == source.target.shape[1]
    assert source.rescale == pytest.approx(1.25, abs=0.02)
    ground = source.planes[0][source.target[0] == 0]
    assert ground.std() < 0.5 * normalise(image)[labels == 0].std()


def test_an_image_without_cells_teaches_that_there_are_none(scenes, tmp_path):
    empty = replace(scenes[1], name="empty", labels=np.zeros_like(scenes[1].labels))
    with_it = learned(tmp_path / "a", [scenes[0], empty], min_train_masks=0, epochs=2)
    assert with_it.details["learned_from"] == {"scene 0": 12, "empty": 0}
    without = learned(tmp_path / "b", [scenes[0], empty], min_train_masks=5, epochs=2)
    assert list(without.details["left_out"]) == ["empty"]


def test_polarity_is_one_for_all_unless_an_image_is_clear(scenes):
    dark = replace(scenes[0], image=1 - scenes[0].image)
    faint = replace(scenes[1], image=np.random.default_rng(0).random(scenes[1].image.shape, dtype=np.float32))
    reviewed = review([scenes[0], dark, faint, scenes[2]])

    def decide(one, diameter):
        yield from ()
        return one is reviewed[1] or one is reviewed[2]

    assert drive(polarities(reviewed, 4, decide, 18.0)) == [False, True, False, False]


@pytest.mark.slow
def test_dark_cells_are_shown_inverted_as_when_cells_are_looked_for(scenes, tmp_path):
    dark = [replace(scene, image=1 - scene.image) for scene in scenes[:2]]
    trained = learned(tmp_path, dark, polarity="auto", epochs=1)
    assert trained.details["shown_inverted"] == ["scene 0", "scene 1"]


# --- the same again, and again after a crash


def test_equal_seeds_give_equal_weights_and_another_seed_others(scenes, tmp_path):
    one, again, other = (
        weights_of(learned(tmp_path / name, scenes[:2], epochs=2, seed=seed))
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert same(one, again)
    assert not same(one, other)


ROUND = {"epochs": 2, "evaluate_every": 1, "images_per_epoch": 4}  # 2 steps a pass


@pytest.fixture(scope="module")
def uninterrupted(scenes, tmp_path_factory):
    return learned(tmp_path_factory.mktemp("whole"), scenes[:3], scenes[3:], **ROUND)


@pytest.mark.parametrize("stop", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_training_that_goes_on_after_a_crash_ends_as_one_that_was_never_stopped(
    scenes, uninterrupted, tmp_path, monkeypatch, stop
):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    job = finetune(BASE, scenes[:3], scenes[3:], QUICK.model_copy(update=ROUND), tmp_path)
    for progress in job:
        if progress.payload is not None and progress.payload.step == stop:
            break
    job.close()
    rest = learned(tmp_path, scenes[:3], scenes[3:], **ROUND)
    assert rest.details["resumed_at_step"] == stop
    assert rest.details["steps"] == uninterrupted.details["steps"] == 4
    assert rest.curve == uninterrupted.curve
    assert rest.epoch == uninterrupted.epoch
    assert same(weights_of(rest), weights_of(uninterrupted))
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    "what", ["settings", *(pytest.param(w, marks=pytest.mark.slow) for w in ("labels", "damaged", "not asked"))]
)
def test_a_checkpoint_of_another_training_is_not_gone_on_from(scenes, tmp_path, monkeypatch, what):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    job = finetune(BASE, scenes[:1], (), QUICK, tmp_path)
    for progress in job:
        if progress.payload is not None and progress.payload.step == 2:
            break
    job.close()
    assert (tmp_path / "checkpoint.pt").exists()
    changed, settings = scenes[0], {"epochs": 2}
    if what == "settings":
        settings = {"epochs": 2, "learning_rate": 2e-4}
    elif what == "labels":
        changed = replace(changed, labels=np.where(changed.labels == 1, 0, changed.labels))
    elif what == "damaged":
        (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps({"fingerprint": print}))
    trained = learned(tmp_path, [changed], resume=what != "not asked", **settings)
    assert "resumed_at_step" not in trained.details
    assert trained.details["steps"] == 2


# --- what is kept


@pytest.mark.slow
def test_whenever_it_is_stopped_the_best_so_far_lies_there_and_can_be_used(scenes, tmp_path):
    assert best_so_far(tmp_path / "nowhere") is None
    job = finetune(BASE, scenes[:2], scenes[2:3], QUICK, tmp_path)
    states = []
    for progress in job:
        if progress.payload is None:
            continue
        states.append(progress.payload)
        kept = best_so_far(tmp_path)
        assert (kept is not None) == (progress.payload.best_epoch > 0)
        if progress.payload.epoch == 3:
            break
    job.close()
    kept = best_so_far(tmp_path)
    assert (kept.stopped, kept.epoch, kept.epochs) == ("cancelled", 2, 2)
    assert kept.curve[1][2] == states[-1].holdout_loss
    assert drive(segment_image(scenes[3].image, SegmentParameters(model=str(kept.weights), diameter=18))).count > 0
    assert kept.details["steps"] == 2


def held(monkeypatch, losses):
    values = iter(losses)
    monkeypatch.setattr(learning._Run, "_holdout_loss", lambda run: next(values))


def test_the_best_on_the_hold_out_is_kept_and_training_stops_early(scenes, tmp_path, monkeypatch):
    held(monkeypatch, [9.0, 5.0, 4.0, 6.0, 6.0])  # the first is of the base
    snapshots = {}

    def watch(progress):
        if progress.payload is not None and progress.payload.preview is not None:
            snapshots[progress.payload.epoch] = (tmp_path / "weights.pth").read_bytes()

    trained = learned(
        tmp_path, scenes[:1], scenes[2:3], watch, preview=scenes[3], epochs=50, evaluate_every=1, patience=2
    )
    assert (trained.stopped, trained.epoch, trained.epochs) == ("early", 2, 4)
    assert trained.weights.read_bytes() == snapshots[2] != snapshots[1]
    assert [point[2] for point in trained.curve] == [5.0, 4.0, 6.0, 6.0]
    assert "favourable" in trained.details["kept"]
    assert trained.details["holdout_loss_before"] == 9.0


def test_the_last_is_kept_if_asked_for_or_if_there_is_no_hold_out(scenes, tmp_path, monkeypatch):
    held(monkeypatch, [9.0, 5.0, 6.0, 7.0])
    asked = learned(tmp_path / "a", scenes[:1], scenes[2:3], keep="last", epochs=3, evaluate_every=1)
    assert (asked.stopped, asked.epoch, asked.details["kept"]) == ("end", 3, "the last")
    without = learned(tmp_path / "b", scenes[:1], keep="best", epochs=3)
    assert (without.epoch, without.details["kept"]) == (3, "the last")
    assert all(point[2] is None for point in without.curve)


def test_the_clock_ends_it_annealed(scenes, tmp_path, monkeypatch):
    ticks = count()
    rates = []
    real = learning.falling_rate

    def watched(peak, part):
        rates.append(real(peak, part))
        return rates[-1]

    monkeypatch.setattr(learning, "falling_rate", watched)
    monkeypatch.setattr(learning.time, "perf_counter", lambda: 0.1 * next(ticks))  # a machine of known speed
    trained = learned(tmp_path, scenes[:1], minutes=0.02, epochs=1)
    assert 1.2 <= trained.seconds < 2
    assert trained.epochs > 1
    assert rates[-1] < 0.5 * max(rates)


def test_the_preview_shows_cells_in_the_marked_part_of_its_image(scenes, tmp_path):
    seen = []
    counts = np.zeros((90, 100), dtype=bool)
    counts[10:70, 30:] = True
    preview = replace(scenes[3], counts=counts)
    learned(tmp_path, scenes[:1], (), lambda progress: seen.append(progress.payload), preview=preview, epochs=2)
    shown = [state for state in seen if state is not None and state.preview is not None]
    assert [(state.epoch, state.preview_name) for state in shown] == [(2, "scene 3")]
    labels = shown[0].preview
    assert labels.shape == (90, 100)
    assert labels.dtype == np.int32
    assert labels[10:70, 30:].max() >= 3
    assert not labels[~counts].any()
    pickle.loads(pickle.dumps(seen))
    json.dumps(best_so_far(tmp_path).details)


# --- bad input


def test_examples_from_which_nothing_can_be_learned_say_so(scenes, tmp_path):
    with pytest.raises(UserError, match="no reviewed cell to learn from; mark a region"):
        learned(tmp_path, [])
    nowhere = replace(scenes[0], counts=np.zeros_like(scenes[0].counts))
    with pytest.raises(UserError, match="no reviewed cell"):
        learned(tmp_path, [nowhere])
    few = replace(scenes[0], labels=np.where(scenes[0].labels > 3, 0, scenes[0].labels))
    with pytest.raises(UserError, match=r"no image has the 5 reviewed cells that are asked for \(3 cells in 1 image\)"):
        learned(tmp_path, [few])
    small = replace(scenes[0], labels=scenes[0].labels[:50])
    with pytest.raises(UserError, match=r"scene 0: image \(90, 100\), cells \(50, 100\) .* differ in size"):
        learned(tmp_path, [small])
    flat = replace(scenes[0], image=np.ones_like(scenes[0].image))
    with pytest.raises(UserError, match="scene 0: all pixels are equal"):
        learned(tmp_path, [flat])


def test_a_base_that_is_no_u_net_or_the_model_itself_is_refused(scenes, tmp_path):
    torch.save({"W2": torch.zeros(1)}, tmp_path / "sam.pth")
    with pytest.raises(UserError, match=r"sam\.pth: weights of Cellpose 4"):
        drive(finetune(tmp_path / "sam.pth", scenes[:1], (), QUICK, tmp_path / "out"))
    own = tmp_path / "own"
    own.mkdir()
    (own / "weights.pth").write_bytes(BASE.read_bytes())
    with pytest.raises(UserError, match="holds the model that is to be trained on"):
        drive(finetune(own / "weights.pth", scenes[:1], (), QUICK, own))
    assert (own / "weights.pth").read_bytes() == BASE.read_bytes()


def failing(monkeypatch, step):
    real, calls = masked_loss, []

    def loss(*arguments):
        calls.append(1)
        return real(*arguments) * (float("nan") if len(calls) == step else 1)

    monkeypatch.setattr(trainable, "Trainable", partial(Trainable, loss=loss))


def test_a_loss_that_is_no_number_names_the_step_and_keeps_the_last_good_network(scenes, tmp_path, monkeypatch):
    failing(monkeypatch, 2)
    with pytest.raises(UserError, match=r"stopped being a number at step 2; lower the learning rate \(now 0.0001\)"):
        learned(tmp_path / "a", scenes[:1])
    failing(monkeypatch, 4)
    trained = learned(tmp_path / "b", scenes[:1])
    assert (trained.stopped, trained.epoch) == ("diverged", 2)
    assert "at step 4; the network of pass 2 is kept" in trained.details["note"]
    assert all(torch.isfinite(value).all() for value in weights_of(trained).values())


def test_a_full_disk_stops_training_says_so_and_leaves_the_best(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    real = checkpoint.write_atomic

    def full(path, write):
        if path.name == "checkpoint.pt" and (tmp_path / "weights.pth").exists():
            raise UserError(f"{path}: the disk is full; free some space or choose another disk, then save again")
        real(path, write)

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    with pytest.raises(UserError, match=r"training stopped.*the disk is full.*the network of pass 2 is kept"):
        learned(tmp_path, scenes[:1])
    kept = best_so_far(tmp_path)
    assert kept.epoch == 2
    assert same(weights_of(kept), read_weights(kept.weights))


@pytest.mark.slow
def test_in_the_worker_cancel_answers_within_a_second_and_the_next_call_goes_on(scenes, tmp_path):
    worker = Worker()
    params = QUICK.model_copy(update={"epochs": 100_000})
    call = {"base": BASE, "train": scenes[:2], "holdout": scenes[2:3], "params": params, "folder": tmp_path}
    try:
        job = worker.call("cell_curator.engines.finetune:finetune", **call)
        for progress in job:
            if progress.payload is not None and progress.payload.best_epoch:
                break
        start = time.perf_counter()
        job.close()
        assert time.perf_counter() - start < 1
        assert worker.pid is None
        assert best_so_far(tmp_path).epoch >= 2
        short = {**call, "params": QUICK}
        assert drive(worker.call("cell_curator.engines.finetune:finetune", **short)).stopped == "end"
    finally:
        worker.close()
