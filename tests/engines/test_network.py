import pickle

import numpy as np
import pytest
import torch
from cellpose.resnet_torch import CPnet

from cell_curator.core.jobs import UserError, drive
from cell_curator.engines.cards import find_model
from cell_curator.engines.network import (
    Network,
    load_network,
    normalise,
    read_weights,
    resize,
)


@pytest.fixture(scope="module")
def starter():
    return load_network(find_model("starter-nuclei"))


class Bomb:
    def __reduce__(self):
        return (print, ("this must never run",))


def saved(tmp_path, content, name="weights.pth"):
    path = tmp_path / name
    torch.save(content, path)
    return path


def test_the_starter_weights_are_the_whole_stock_network(starter):
    assert starter.diam_mean == 17.0
    names = set(CPnet([2, 32, 64, 128, 256], 3, sz=3).state_dict())
    assert set(read_weights(find_model("starter-nuclei"))) == names


def test_output_is_finite_float32_of_the_size_of_the_image(starter):
    image = np.random.default_rng(0).random((50, 61), dtype=np.float32)
    output, note = drive(starter.predict(image))
    assert output.shape == (3, 50, 61)
    assert output.dtype == np.float16
    assert note == ""
    assert np.isfinite(output).all()


def test_float32_and_bfloat16_agree(starter):
    image = np.random.default_rng(0).random((96, 96), dtype=np.float32)
    plain, _ = drive(Network(starter.module, 17.0, bfloat16=False).predict(image))
    fast, _ = drive(Network(starter.module, 17.0, bfloat16=True).predict(image))
    assert np.corrcoef(plain.ravel(), fast.ravel())[0, 1] > 0.99


def test_normalising_maps_percentiles_and_survives_odd_pixels():
    image = np.linspace(0, 1000, 10_000).reshape(100, 100)
    low, high = np.percentile(normalise(image), (1, 99))
    assert (low, high) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-5))
    odd = image.copy()
    odd[0, :3] = np.nan, np.inf, -np.inf
    assert np.isfinite(normalise(odd)).all()
    few = np.zeros((100, 100))
    few[:3, :3] = 50  # 0.09 % of the pixels: both usual percentiles are 0
    assert normalise(few).max() == pytest.approx(1)


@pytest.mark.parametrize("image", [np.zeros((5, 5)), np.full((5, 5), 7, np.uint8), np.full((4, 4), np.nan)])
def test_a_constant_image_normalises_to_nothing(image):
    assert normalise(image) is None


def test_resize_keeps_what_has_the_right_size_and_the_mean_otherwise():
    image = np.random.default_rng(0).random((80, 60), dtype=np.float32)
    assert resize(image, (80, 60)) is image
    assert resize(image, (20, 15)).mean() == pytest.approx(image.mean(), abs=0.01)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"weights\.pth: refused"):
        load_network(path)
    with pytest.raises(UserError, match="refused"):
        load_network(saved(tmp_path, {"output.2.weight": Bomb()}, "zip.pth"))
    assert "never run" not in capsys.readouterr().out


def test_each_wrong_file_says_what_it_is(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    cut = find_model("starter-nuclei").read_bytes()[:100_000]
    (tmp_path / "cut.pth").write_bytes(cut)
    for name in ("text.pth", "empty.pth", "cut.pth"):
        with pytest.raises(UserError, match=rf"^{name}: (damaged|refused)"):
            load_network(tmp_path / name)
    with pytest.raises(UserError, match="there is no such weights file"):
        load_network(tmp_path / "missing.pth")
    with pytest.raises(UserError, match="does not hold the weights"):
        load_network(saved(tmp_path, [1, 2, 3], "list.pth"))
    with pytest.raises(UserError, match=r"Cellpose 4 \(Cellpose-SAM\).*Cellpose 2 or 3"):
        load_network(saved(tmp_path, {"W2": torch.zeros(1), "encoder.neck.0.weight": torch.zeros(1)}, "sam.pth"))
    with pytest.raises(UserError, match="Cellpose 3's transformer"):
        load_network(saved(tmp_path, {"encoder.patch_embed1.proj.weight": torch.zeros(1)}, "segformer.pth"))
    with pytest.raises(UserError, match="another network"):
        load_network(saved(tmp_path, {"fc.weight": torch.zeros(1)}, "other.pth"))


def test_a_unet_of_another_shape_is_refused(tmp_path):
    with pytest.raises(UserError, match="the layers are not those"):
        load_network(saved(tmp_path, CPnet([1, 8, 16, 32, 64], 3, sz=3).state_dict(), "small.pth"))
    half = CPnet([2, 32, 64, 128, 256], 3, sz=3).state_dict()
    part = {name: value for name, value in half.items() if "upsample" not in name}
    with pytest.raises(UserError, match="are missing"):
        load_network(saved(tmp_path, part, "part.pth"))


def test_a_model_saved_by_stock_cellpose_without_a_diameter_has_the_usual_one(tmp_path):
    state = CPnet([2, 32, 64, 128, 256], 3, sz=3).state_dict()
    state = {name: value for name, value in state.items() if not name.startswith("diam_")}
    assert load_network(saved(tmp_path, state, "cyto_1")).diam_mean == 30
    assert load_network(saved(tmp_path, state, "nuclei_1")).diam_mean == 17
    load_network.cache_clear()
