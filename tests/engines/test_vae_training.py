"""Going on, stopping, refining, and what training tells on its way."""

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from skimage.draw import ellipse

from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.jobs import UserError, drive
from cell_curator.engines.map_cells import (
    decode_cells,
    encode_cells,
    map_cells,
    map_kept,
    paint_otherwise,
    traverse,
)
from cell_curator.engines.vae import VaeParameters, training
from cell_curator.engines.vae.loss import VaeLoss
from cell_curator.engines.vae.material import Batches
from cell_curator.engines.vae.model import VaeModel, decode, describe, load_model, save_model
from cell_curator.engines.vae.preview import Previews, aligned
from cell_curator.engines.vae.progress import Embedding, VaeProgress, active_units
from cell_curator.engines.vae.refining import steps_saved
from cell_curator.engines.vae.state import best_so_far
from cell_curator.engines.vae.training import keep, train

QUICK = VaeParameters(steps=25, width=4, latent=4, batch=16, precision="float32")


def draw_cells(count: int, size: int = 16, channels: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of ellipses, and where they are."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, size, size), bool)
    for mask in masks:
        mask[ellipse(size / 2, size / 2, *(size * rng.uniform(0.15, 0.45, 2)), mask.shape)] = True
    images = (masks * rng.uniform(0.5, 0.9, (count, 1, 1))).astype(np.float32)
    if channels > 1:
        images = np.stack([images * (number + 1) / channels for number in range(channels)], axis=1)
    return images, masks


IMAGES, MASKS = draw_cells(96)
GROUPS = np.arange(96) % 8
CONDITIONS = np.arange(96) % 2
NAMES = ("control", "mutated")


def learn(params: VaeParameters = QUICK, **options: object) -> Embedding:
    return drive(train(IMAGES, MASKS, GROUPS, params, **options))


def stop_after(looks: int, params: VaeParameters, **options: object) -> list[VaeProgress]:
    """Run a training as a worker does that is cancelled after so many looks at the cells held back."""
    job, seen = train(IMAGES, MASKS, GROUPS, params, **options), []
    while len(seen) < looks:
        payload = next(job).payload
        if payload is not None and payload.preview is not None:
            seen.append(payload)
    job.close()
    return seen


@pytest.fixture
def always_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps here are so short that a checkpoint would not be worth its time."""
    monkeypatch.setattr(training, "_SAVED_SHARE", math.inf)


@pytest.mark.parametrize("model", ["vae", "dense", "cvae", "cvae-mixed"])
@pytest.mark.parametrize("kind", ["bce", "mse", "gaussian"])
def test_every_model_learns(model, kind):
    params = VaeParameters(model=model, loss=kind, steps=40, width=4, latent=4, batch=16, precision="float32")
    made = learn(params, conditions=CONDITIONS, condition_names=NAMES)
    first, best = made.history[0].validation, min(one.validation for one in made.history)
    assert best < first - 0.1 * abs(first)
    assert made.latent.shape == (96, 4)
    assert np.isfinite(made.latent).all()
    assert (made.error >= 0).all()
    assert made.model.conditions == (NAMES if model.startswith("cvae") else ())


@pytest.mark.parametrize("model", ["cvae", "cvae-mixed"])
def test_no_condition_is_in_the_embedding(model):
    """The latent is a function of the picture alone: given other conditions, the same network says the same."""
    params = QUICK.model_copy(update={"model": model})
    made = learn(params, conditions=CONDITIONS, condition_names=NAMES)
    again, error = describe(made.model, IMAGES, MASKS, 1 - CONDITIONS)
    np.testing.assert_array_equal(again, made.latent)
    assert not np.array_equal(error, made.error)


def test_conditions_do_not_matter_to_models_that_are_told_of_none():
    np.testing.assert_array_equal(learn().latent, learn(conditions=CONDITIONS, condition_names=NAMES).latent)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", [14, 16])
def test_saved_models_do_the_same(tmp_path, size, channels):
    images, masks = draw_cells(40, size, channels)
    params = QUICK.model_copy(update={"model": "cvae", "steps": 5, "loss": "gaussian"})
    groups, told = np.arange(40) % 4, np.arange(40) % 2
    made = drive(train(images, masks, groups, params, conditions=told, condition_names=NAMES))
    save_model(made.model, tmp_path / "map.pt")
    back = load_model(tmp_path / "map.pt")
    assert (back.size, back.channels, back.conditions, back.params) == (size, channels, NAMES, params)
    assert back.card == made.model.card
    latent, error = drive(encode_cells(tmp_path / "map.pt", images, masks, told))
    np.testing.assert_array_equal(latent, made.latent)
    np.testing.assert_array_equal(error, made.error)
    np.testing.assert_array_equal(drive(decode_cells(tmp_path / "map.pt", latent, 1)), decode(made.model, latent, 1))
    assert drive(paint_otherwise(tmp_path / "map.pt", images, masks, 1)).shape == images.shape
    shape = (size, size) if channels == 1 else (channels, size, size)
    assert drive(traverse(tmp_path / "map.pt", latent[0], 3, condition=0)).shape == (4, 3, *shape)


def test_the_card_says_what_was_done():
    card = learn().model.card
    assert card["parameters"] == QUICK.model_dump(mode="json")
    assert card["cells"] == 96
    assert "of 96 cells held back" in card["split"]
    assert set(card["versions"]) == {"cell-curator", "torch", "numpy"}
    assert card["data"] == learn().model.card["data"]
    assert card["weights"] == learn().model.card["weights"]
    assert card["weights"] != learn(QUICK.model_copy(update={"seed": 1})).model.card["weights"]


@pytest.mark.parametrize("extra", [{}, {"jitter": 0.5, "background": 0.2}, {"precision": "bfloat16"}])
def test_going_on_ends_where_one_run_would_have(tmp_path, always_saved, extra):
    params = QUICK.model_copy(update={"any_turn": True, **extra})
    whole = learn(params)
    looks, seen = stop_after(11, params, checkpoint=tmp_path / "state.pt"), []
    going_on = train(IMAGES, MASKS, GROUPS, params, checkpoint=tmp_path / "state.pt")
    rest = drive(going_on, lambda p: seen.append(p.payload))
    np.testing.assert_array_equal(rest.latent, whole.latent)
    assert rest.history == whole.history
    assert looks == list(whole.history[:11])
    assert min(p.step for p in seen if p is not None) == 12
    assert rest.model.card["resumed at step"] == 11
    assert not (tmp_path / "state.pt").exists()


@pytest.mark.parametrize("other", [{"beta": 2.0}, {"seed": 1}, {"latent": 5}])
def test_another_training_does_not_go_on(tmp_path, always_saved, other):
    params = QUICK.model_copy(update=other)
    stop_after(5, QUICK, checkpoint=tmp_path / "state.pt")
    made = learn(params, checkpoint=tmp_path / "state.pt")
    np.testing.assert_array_equal(made.latent, learn(params).latent)
    assert made.model.card["resumed at step"] is None


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"fingerprint": 1})])
def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    assert best_so_far(tmp_path / "state.pt") is None
    np.testing.assert_array_equal(learn(checkpoint=tmp_path / "state.pt").latent, learn().latent)


def test_a_cancelled_training_keeps_its_best(tmp_path, always_saved):
    looks = stop_after(9, QUICK, checkpoint=tmp_path / "state.pt")
    best = min(looks, key=lambda one: one.validation)
    made = drive(keep(tmp_path / "state.pt", IMAGES, MASKS))
    assert made.notes == (f"training was stopped early; the network of step {best.step} of 25 is kept",)
    assert made.history == tuple(looks)
    assert made.model.card["validation loss"] == best.validation
    np.testing.assert_array_equal(made.latent, describe(made.model, IMAGES, MASKS)[0])
    parts = (MapParameters(method="pca"), ClusterParameters(k=2))
    drawn = drive(map_kept(tmp_path / "state.pt", IMAGES, MASKS, QUICK, *parts))
    assert "stopped early" in drawn.notes[0]
    assert drawn.map2d.shape == (96, 2)


def test_what_was_held_back_stays_so_when_cells_go(tmp_path, always_saved):
    """Cells rejected since the training stopped must not turn a learned image into one held back."""
    ids = np.arange(96) + 1000
    whole = learn(ids=ids)
    stop_after(5, QUICK, ids=ids, checkpoint=tmp_path / "state.pt")
    left = np.flatnonzero(np.arange(96) % 3)
    made = drive(keep(tmp_path / "state.pt", IMAGES[left], MASKS[left], ids=ids[left]))
    np.testing.assert_array_equal(made.validation, whole.validation[left])
    assert made.split == whole.split


def test_nothing_to_keep_is_said(tmp_path):
    with pytest.raises(UserError, match="nothing was learned yet"):
        drive(keep(tmp_path / "state.pt", IMAGES, MASKS))


def test_a_checkpoint_that_cannot_be_written_ends_the_training(tmp_path):
    with pytest.raises(UserError, match="folder does not exist"):
        learn(checkpoint=tmp_path / "missing" / "state.pt")


def spoil(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The loss is NaN from this training step on."""
    genuine, calls = training.loss, itertools.count(1)

    def spoiled(network, *rest, **more):
        terms = genuine(network, *rest, **more)
        if network.modules.training and next(calls) >= step:
            return VaeLoss(terms.total * math.nan, terms.reconstruction, terms.kl)
        return terms

    monkeypatch.setattr(training, "loss", spoiled)


def test_a_loss_that_is_not_a_number_names_its_step_and_keeps_the_last_good(monkeypatch):
    whole = learn()
    spoil(monkeypatch, 14)
    made = learn()
    assert made.history == whole.history[:13]
    best = min(made.history, key=lambda one: one.validation).step
    assert made.notes[-1].startswith(f"the loss stopped being a number at step 14; the network of step {best} is kept")
    assert np.isfinite(made.latent).all()


def test_a_network_that_breaks_between_two_looks_is_not_kept(monkeypatch):
    """The loss of the step is still a number, but that of the cells held back is none any more."""
    genuine, calls = training.loss, itertools.count(1)

    def broken(network, *rest, **more):
        terms = genuine(network, *rest, **more)
        if not network.modules.training and next(calls) >= 6:
            return VaeLoss(terms.total * math.nan, terms.reconstruction, terms.kl)
        return terms

    monkeypatch.setattr(training, "loss", broken)
    made = learn()
    assert [one.step for one in made.history] == [1, 2, 3, 4, 5]
    assert "stopped being a number at step 6" in made.notes[-1]
    assert np.isfinite(made.latent).all()


def test_going_on_after_the_last_look_stops_as_one_run_would_have(tmp_path, always_saved):
    params = QUICK.model_copy(update={"learning_rate": 1.0, "patience": 2, "warmup": 0.0})
    whole = learn(params)
    stop_after(len(whole.history), params, checkpoint=tmp_path / "state.pt")
    rest = learn(params, checkpoint=tmp_path / "state.pt")
    assert rest.notes == whole.notes
    assert "no more improvement" in rest.notes[-1]
    np.testing.assert_array_equal(rest.latent, whole.latent)


def test_the_map_is_drawn_at_each_look_with_the_cells_own_ids():
    ids = np.arange(96) * 10 + 3
    seen = []
    drive(train(IMAGES, MASKS, GROUPS, QUICK, ids=ids), lambda p: seen.append(p.payload))
    previews = [p.preview for p in seen if p is not None and p.preview is not None]
    assert len(previews) == 25
    for preview in previews:
        assert preview.map2d.shape == (len(preview.cell_id), 2)
        assert set(preview.cell_id) <= set(ids)
    before, after = previews[-2].map2d, previews[-1].map2d
    assert np.linalg.norm(after - before) < 0.5 * np.linalg.norm(after)  # the map forms, it does not jump
    assert all(one.preview is None for one in learn().history)


def test_a_map_is_turned_and_mirrored_onto_the_one_before():
    before = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    before -= before.mean(axis=0)
    turn = np.array([[0.6, 0.8], [0.8, -0.6]], np.float32)  # a turn and a mirror
    np.testing.assert_allclose(aligned(before @ turn, before), before, atol=1e-5)


def test_previews_cost_little_and_show_enough():
    previews = Previews(np.arange(5000), seed=0)
    assert len(previews.rows(seconds=1.0, per_cell=1e-4)) == 400
    assert len(previews.rows(seconds=0.0, per_cell=1e-4)) == 200
    assert len(previews.rows(seconds=1e9, per_cell=1e-4)) == 2000
    few, many = previews.rows(1.0, 1e-4), previews.rows(2.0, 1e-4)
    np.testing.assert_array_equal(many[: len(few)], few)


def test_dead_units_are_counted():
    """A unit that is charged for at a great β holds nothing any more."""
    rich, poor = learn(), learn(QUICK.model_copy(update={"beta": 100.0, "steps": 150, "warmup": 0.0}))
    assert rich.active_units == active_units(rich.latent) > 0
    assert poor.active_units < 4
    assert rich.history[-1].active in range(5)


def started(refine: str, steps: int = 40) -> tuple[VaeModel, Embedding]:
    """A model of round cells, and one that went on from it with long cells."""
    base = learn(QUICK.model_copy(update={"steps": 150})).model
    images, masks = draw_cells(96, seed=5)
    params = QUICK.model_copy(update={"refine": refine, "steps": steps})
    return base, drive(train(images, masks, GROUPS, params, start=base))


def test_going_on_from_a_model_begins_where_that_model_stands():
    base, refined = started("full")
    images, masks = draw_cells(96, seed=5)
    afresh = drive(train(images, masks, GROUPS, QUICK.model_copy(update={"steps": 40})))
    assert refined.history[0].step == 0
    assert refined.history[0].validation < afresh.history[0].validation
    gain, step = steps_saved(refined, afresh)
    assert gain > 0
    assert step is not None
    assert step < 40
    assert refined.model.card["started from"] == base.card["weights"]


def test_a_frozen_encoder_says_the_same_of_every_cell():
    images, masks = draw_cells(96, seed=5)
    for refine, same in (("frozen encoder", True), ("full", False)):
        base, refined = started(refine)
        assert np.array_equal(describe(base, images, masks)[0], refined.latent) == same
        assert not np.array_equal(decode(base, refined.latent), decode(refined.model, refined.latent))


def test_conditions_are_matched_by_name():
    params = QUICK.model_copy(update={"model": "cvae"})
    base = learn(params, conditions=CONDITIONS, condition_names=NAMES).model
    frozen = params.model_copy(update={"steps": 1, "learning_rate": 1e-6})
    made = learn(frozen, conditions=CONDITIONS + 1, condition_names=("new", *NAMES), start=base).model
    table, before = made.weights["condition.weight"], base.weights["condition.weight"]
    np.testing.assert_allclose(table[1:], before, atol=1e-4)
    np.testing.assert_allclose(table[0], before.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"latent": 5}, "Features = 4, here it is 5"), ({"width": 8}, "Width = 4"), ({"model": "dense"}, "Model = vae")],
)
def test_another_network_cannot_go_on(change, words):
    base = learn().model
    with pytest.raises(UserError, match=words):
        learn(QUICK.model_copy(update=change), start=base)


@pytest.mark.parametrize(("size", "channels"), [(20, 1), (16, 2)])
def test_a_model_for_other_patches_cannot_go_on(size, channels):
    base = learn().model
    images, masks = draw_cells(40, size, channels)
    with pytest.raises(UserError, match=r"is for patches of 16 px and 1 channel\(s\)") as refusal:
        drive(train(images, masks, np.arange(40) % 4, QUICK, start=base))
    assert "\n" not in str(refusal.value)


def test_patches_of_one_grey_level():
    flat = np.broadcast_to(np.linspace(0, 1, 96, dtype=np.float32)[:, None, None], IMAGES.shape)
    with pytest.raises(UserError, match="every patch is of one grey level"):
        drive(train(flat, MASKS, GROUPS, QUICK))
    some = np.where((np.arange(96) < 9)[:, None, None], flat, IMAGES)
    made = drive(train(some, MASKS, GROUPS, QUICK))
    assert "9 of 96 patches are of one grey level" in made.notes[0]
    assert np.isfinite(made.latent).all()


def test_conditional_models_need_conditions():
    params = QUICK.model_copy(update={"model": "cvae"})
    with pytest.raises(UserError, match="needs conditions, and the cells have none"):
        learn(params)
    one = learn(params, conditions=np.zeros(96, np.int64), condition_names=("control",))
    assert "only 1 condition" in one.notes[0]
    some = learn(params, conditions=np.where(np.arange(96) < 20, -1, CONDITIONS), condition_names=NAMES)
    assert np.isfinite(some.latent).all()


def test_every_cell_comes_once_before_any_comes_again():
    rows = np.arange(100, 123)
    batches = Batches(rows, 10, seed=0)
    stream = np.concatenate([batches[step] for step in range(23)])
    for start in range(0, 230, 23):
        assert sorted(stream[start : start + 23]) == list(rows)
    np.testing.assert_array_equal(Batches(rows, 10, seed=0)[17], batches[17])
    assert len(Batches(rows[:3], 10, seed=0)[5]) == 3


def test_map_cells_hands_everything_on():
    params = QUICK.model_copy(update={"model": "cvae", "steps": 5})
    parts = (MapParameters(method="pca"), ClusterParameters(k=2))
    ids = np.arange(96) + 500
    seen = []
    job = map_cells(IMAGES, MASKS, GROUPS, params, *parts, ids=ids, conditions=CONDITIONS, condition_names=NAMES)
    made = drive(job, lambda p: seen.append(p.payload))
    assert made.embedding.model.conditions == NAMES
    assert min(p.preview.cell_id.min() for p in seen if p is not None and p.preview is not None) >= 500
    assert len(made.clustering.labels) == 96
    assert not torch.is_inference_mode_enabled()
