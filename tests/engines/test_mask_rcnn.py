"""Mask R-CNN: masks that become one label image, pieces that are joined, what is learned from, training, files."""

from __future__ import annotations

import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.engines.mask_rcnn import MaskRcnnParameters
from cell_curator.engines.mask_rcnn import prediction as looking
from cell_curator.engines.mask_rcnn.instances import Mask, as_labels
from cell_curator.engines.mask_rcnn.material import UNKNOWN, Pieces, TypedImage, planes_of, scale, target
from cell_curator.engines.mask_rcnn.model import load, read_about
from cell_curator.engines.mask_rcnn.network import Layout, begin_from, build, norm_of
from cell_curator.engines.mask_rcnn.prediction import find
from cell_curator.engines.mask_rcnn.training import train

TINY = MaskRcnnParameters(
    minutes=0, steps=2, batch=1, crop=64, cell_side=16, channels=16, tile=128, threads=1, holdout=0.0
)


def disc(y, x, radius, likely, piece=0, cut=False):
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    pixels = rows**2 + columns**2 <= radius**2
    return Mask(y - radius, x - radius, pixels, np.array(likely, float), piece, cut)


def scene(rng, number=0, size=96):
    """Large bright and small dim cells, eight of each; the type is the size."""
    labels, types = np.zeros((size, size), np.int32), {}
    y, x = np.ogrid[:size, :size]
    image = rng.normal(20, 2, (size, size))
    for label, (cy, cx) in enumerate([(a, b) for a in range(12, size, 24) for b in range(12, size, 24)], 1):
        big = bool((label + number) % 2)
        mask = (y - cy) ** 2 + (x - cx) ** 2 <= (9 if big else 5) ** 2
        labels[mask], types[label] = label, "big" if big else "small"
        image[mask] += 100 if big else 60
    return TypedImage(f"image {number}", f"image {number}", image.astype(np.float32), labels, types)


# ---------------------------------------------------------------------- masks


def test_cells_that_touch_survive_and_the_surer_keeps_what_both_have():
    masks = [disc(20, 20, 8, [0.6, 0.1]), disc(20, 33, 8, [0.1, 0.9])]
    labels, kept = as_labels(masks, (40, 60))
    assert [mask.likely.argmax() for mask in kept] == [1, 0]
    assert labels[20, 33] == 1
    assert labels[20, 20] == 2
    assert (labels == 1).sum() == masks[1].area
    assert (labels == 2).sum() == masks[0].area - np.count_nonzero(masks[0].pixels & (labels[12:29, 12:29] == 1))


def test_a_cell_that_is_found_twice_is_one_cell_and_the_surer_speaks():
    labels, kept = as_labels([disc(20, 20, 8, [0.3, 0.2]), disc(20, 21, 8, [0.1, 0.7])], (40, 40))
    assert labels.max() == 1
    assert kept[0].likely.tolist() == [0.1, 0.7]


def test_unsure_finds_are_left_out_and_whole_ones_go_before_cut_ones():
    labels, kept = as_labels([disc(20, 20, 8, [0.3])], (40, 40), least=0.5)
    assert not labels.any()
    assert not kept
    pieces = [(slice(0, 40), slice(0, 24)), (slice(0, 40), slice(8, 48))]
    whole, cut = disc(20, 20, 8, [0.6], piece=1), disc(20, 19, 8, [0.9], piece=0, cut=True)
    labels, kept = as_labels([cut, whole], (40, 48), pieces)
    assert len(kept) == 1
    assert (labels > 0).sum() == whole.area


def test_a_cell_larger_than_the_overlap_is_joined_from_its_pieces():
    whole = disc(30, 50, 25, [0.8])
    pieces = [(slice(0, 60), slice(0, 55)), (slice(0, 60), slice(45, 100))]
    parts = [
        Mask(5, 25, whole.pixels[:, :30], np.array([0.8]), 0, cut=True),
        Mask(5, 45, whole.pixels[:, 20:], np.array([0.7]), 1, cut=True),
    ]
    labels, kept = as_labels(parts, (60, 100), pieces)
    assert len(kept) == 1
    assert (labels > 0).sum() == whole.area
    assert as_labels(parts, (60, 100), [pieces[0], pieces[0]])[0].max() <= 2


def test_no_limit_on_how_many_cells_there_are():
    masks = [disc(5 + 10 * row, 5 + 10 * column, 4, [0.9]) for row in range(20) for column in range(20)]
    labels, _ = as_labels(masks, (200, 200))
    assert labels.max() == 400


# ---------------------------------------------------------------------- what is learned from


def test_planes_of_grey_two_and_three_channels(rng):
    grey = rng.random((20, 30)) * 1000
    assert (planes_of(grey, "x") == planes_of(grey[None], "x")).all()
    two = planes_of(np.stack([grey, grey**2]), "x")
    assert two.shape == (3, 20, 30)
    assert not two[2].any()
    assert planes_of(rng.random((3, 20, 30)), "x").max() <= 1
    with pytest.raises(UserError, match="all pixels are equal"):
        planes_of(np.full((20, 30), 7), "x")


def test_a_cell_without_type_is_neither_background_nor_a_type(rng):
    one = scene(rng)
    one = TypedImage(one.name, one.group, one.image, one.labels, {k: v for k, v in one.types.items() if k != 3})
    scaled = scale(one, ["big", "small"], 1.0)
    assert scaled.numbers[3] == UNKNOWN
    told = target(scaled.labels, scaled.numbers, scaled.areas)
    assert told["labels"].tolist()[2] == -1
    assert len(told["boxes"]) == len(told["masks"]) == 16
    for box, mask in zip(told["boxes"].tolist(), told["masks"].numpy(), strict=True):
        rows, columns = np.nonzero(mask)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_pieces_are_the_same_for_the_same_seed_and_types_come_alike_often(rng):
    one = scene(rng)
    few = {label: name for label, name in one.types.items() if name == "big" or label == 2}
    scaled = [scale(TypedImage("a", "a", one.image, one.labels, few), ["big", "small"], 1.0)]
    pieces, again = Pieces(scaled, 48, 2, 5), Pieces(scaled, 48, 2, 5)
    assert all((a == b).all() for a, b in zip(pieces[7][0], again[7][0], strict=True))
    assert len(pieces.by_type[1]) == 1
    seen = np.concatenate([one["labels"].numpy() for step in range(20) for one in pieces[step][1]])
    assert (seen == 2).sum() > 5


# ---------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model that learned two steps, and what it learned from."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(3)
    images = [scene(rng, number) for number in range(3)]
    states = []
    params = TINY.model_copy(update={"holdout": 0.4})
    about = drive(train(images, ["big", "small"], params, folder), lambda p: states.append(p.payload))
    return folder, images, about, [state for state in states if state is not None]


def test_images_that_judge_are_held_out_whole(made):
    _, _, about, states = made
    assert len(about.details["held_out"]) == 1
    assert not set(about.details["held_out"]) & set(about.details["learned_from"])
    assert states[-1].curve[-1][2] is not None
    assert np.isfinite(states[-1].loss)
    assert states[-1].step == 2


def test_a_model_is_read_back_and_looks(made):
    folder, images, about, _ = made
    again = read_about(folder)
    assert (again.types, again.layout, again.factor) == (("big", "small"), about.layout, about.factor)
    found = drive(find(images[0].image, folder, score=0.05))
    assert found.labels.shape == images[0].image.shape
    assert found.count == found.labels.max() == len(found.likely)
    assert np.allclose(found.likely.sum(axis=1), 1)


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_as_if_it_had_not_been(made, tmp_path, monkeypatch):
    from cell_curator.engines import checkpoint

    _, images, _, _ = made
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    whole = drive(train(images, ["big", "small"], TINY, tmp_path / "whole"))
    job = train(images, ["big", "small"], TINY, tmp_path / "parts")
    while not (tmp_path / "parts" / "checkpoint.pt").exists():
        next(job)
    job.close()
    assert read_about(tmp_path / "parts").details["stopped"] == "cancelled"
    parts = drive(train(images, ["big", "small"], TINY, tmp_path / "parts"))
    assert parts.details["curve"] == whole.details["curve"]
    a, b = (load(tmp_path / name)[0].state_dict() for name in ("whole", "parts"))
    assert all((a[name] == b[name]).all() for name in a)
    assert not (tmp_path / "parts" / "checkpoint.pt").exists()


def test_too_little_to_learn_from_is_one_line(rng, tmp_path):
    one = scene(rng)
    with pytest.raises(UserError, match="no cell has a type yet"):
        drive(train([], ["a"], TINY, tmp_path))
    few = TypedImage("a", "a", one.image, one.labels, {1: "big", 2: "small"})
    with pytest.raises(UserError, match="only one cell of type 'big'"):
        drive(train([few], ["big", "small"], TINY, tmp_path))


def test_weights_to_start_from(made, tmp_path):
    import torch

    folder, images, about, _ = made
    states = []
    more = train(images, ["big", "small"], TINY.model_copy(update={"heads_first": 0.6}), tmp_path, start=folder)
    going_on = drive(more, lambda p: states.append(p.payload))
    assert going_on.details["layers_begun_from"] == len(build(about.layout).state_dict())
    assert any(state.heads_only for state in states if state is not None)
    body = {
        name.removeprefix("backbone.body."): value
        for name, value in build(Layout("resnet18", 16, 1, "frozen", (8, 16, 24, 32))).state_dict().items()
        if name.startswith("backbone.body.")
    }
    assert norm_of(body) == "frozen"
    layout = Layout("resnet18", 32, 2, "frozen", (8, 16, 24, 32))
    assert begin_from(build(layout), body, layout, tmp_path) == len(body)
    other = Layout("resnet50", 32, 2, "frozen", (8, 16, 24, 32))
    with pytest.raises(UserError, match="another architecture"):
        begin_from(build(other), body, other, tmp_path)
    torch.save({"weights": [1, 2]}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="no plain weights"):
        drive(train(images, ["big", "small"], TINY, tmp_path / "x", start=tmp_path / "odd.pth"))


def test_what_is_no_such_model_is_refused_in_one_line(made, tmp_path):
    import json

    folder, *_ = made
    with pytest.raises(UserError, match="no such model folder"):
        read_about(tmp_path / "none")
    for name in ("weights.pth", "card.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**card, "engine": "cellpose-unet"}))
    with pytest.raises(UserError, match="another architecture"):
        read_about(tmp_path)
    (tmp_path / "card.json").write_text(json.dumps({**card, "layout": {**card["layout"], "channels": 32}}))
    with pytest.raises(UserError, match="another architecture than its card says"):
        load(tmp_path)
    (tmp_path / "card.json").write_text(json.dumps({**card, "factor": "x"}))
    with pytest.raises(UserError, match="damaged"):
        read_about(tmp_path)


# ---------------------------------------------------------------------- looking


class Eyes:
    """Stands for the network: says every bright spot of a piece with its box."""

    def __call__(self, module, piece):
        from scipy import ndimage

        labels, count = ndimage.label(piece[0].numpy() > 0.5)
        boxes, masks = [], []
        for number, box in enumerate(ndimage.find_objects(labels), 1):
            boxes.append([box[1].start, box[0].start, box[1].stop, box[0].stop])
            part = (labels[box] == number).astype(np.float32)
            rows, columns = (np.arange(28) * length // 28 for length in part.shape)
            masks.append(part[np.ix_(rows, columns)][None])
        return {
            "boxes": np.array(boxes, np.float32).reshape(-1, 4),
            "likely": np.tile([0.9, 0.0], (count, 1)),
            "masks": np.array(masks, np.float32).reshape(-1, 1, 28, 28),
        }


def test_a_crowded_image_is_looked_at_in_pieces_and_each_cell_is_there_once(made, monkeypatch, discs):
    folder, *_ = made
    monkeypatch.setattr(looking, "_raw", Eyes())
    places = [(12 + 20 * row, 12 + 20 * column, 7) for row in range(20) for column in range(20)]
    truth = discs((420, 420), places)
    module, about = load(folder)
    image = np.where(truth > 0, 1000.0, 10.0)
    found = drive(looking.look(module, about, image))
    assert found.count == 400
    for y, x, _ in places:
        mine = found.labels == found.labels[y, x]
        true = truth == truth[y, x]
        assert (mine & true).sum() / (mine | true).sum() > 0.8


def test_cells_at_the_border_are_left_out_where_asked(made, monkeypatch, discs):
    folder, *_ = made
    monkeypatch.setattr(looking, "_raw", Eyes())
    truth = discs((60, 60), [(5, 30, 7), (30, 30, 7), (50, 10, 7)])
    image = np.where(truth > 0, 1000.0, 10.0)
    assert drive(find(image, folder)).count == 3
    found = drive(find(image, folder, drop_border=True))
    assert found.count == len(found.likely) == 2
    assert set(np.unique(found.labels)) == {0, 1, 2}


def test_smaller_pieces_where_memory_runs_out(made, monkeypatch):
    folder, images, *_ = made
    eyes = Eyes()

    def short(module, piece):
        if piece.shape[-1] > 64:
            raise MemoryError
        return eyes(module, piece)

    monkeypatch.setattr(looking, "_raw", short)
    monkeypatch.setattr(looking, "_SMALLEST", 32)
    module, about = load(folder)
    found = drive(looking.look(module, about, images[0].image))
    assert "smaller pieces (64 px)" in found.notes[0]
    monkeypatch.setattr(looking, "_SMALLEST", 128)
    with pytest.raises(UserError, match="memory ran out"):
        drive(looking.look(module, about, images[0].image))
