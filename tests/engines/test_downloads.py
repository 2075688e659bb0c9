import io
import json
import urllib.error

import pytest
import torch
from cellpose.resnet_torch import CPnet

from cell_curator.core.jobs import UserError, drive
from cell_curator.engines import downloads
from cell_curator.engines.cards import find_model, read_card
from cell_curator.engines.downloads import add_file, download, fetch, known_models
from cell_curator.engines.network import load_network


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("CELL_CURATOR_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path / "cellpose"))
    load_network.cache_clear()
    yield tmp_path / "models"
    load_network.cache_clear()


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    """A weights file of Cellpose 1, which does not name its diameter."""
    path = tmp_path_factory.mktemp("unet") / "nuclei_mine"
    state = CPnet([2, 32, 64, 128, 256], 3, sz=3).state_dict()
    torch.save({name: value for name, value in state.items() if not name.startswith("diam_")}, path)
    return path


def served(monkeypatch, content, length=None):
    """Let the internet answer with ``content``."""

    def answer(url, timeout):
        body = io.BytesIO(content)
        body.headers = {"Content-Length": str(len(content) if length is None else length)}
        return body

    monkeypatch.setattr(downloads.urllib.request, "urlopen", answer)


def offline(url, timeout):
    raise urllib.error.URLError("Name or service not known")


def test_public_models_are_listed_with_the_reason_why_they_cannot_be_used_yet(unet):
    known = {state.name: state for state in known_models()}
    assert known["starter-nuclei"].reason is None
    assert "not downloaded yet" in known["cyto3"].reason
    assert "cell-curator models add cyto3" in known["cyto3"].reason
    assert known["cpsam"].engine == "cellpose-sam"


def test_a_public_model_is_downloaded_when_asked_for_with_progress_and_only_once(monkeypatch, unet, models):
    served(monkeypatch, unet.read_bytes())
    seen = []
    weights = drive(fetch("nuclei"), seen.append)
    assert weights == models / "nuclei" / "weights.pth"
    assert any("MB" in progress.message for progress in seen)
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    assert load_network(weights).diam_mean == 17
    monkeypatch.setattr(downloads.urllib.request, "urlopen", offline)
    assert drive(fetch("nuclei")) == weights
    assert "nuclei" in {state.name for state in known_models() if state.reason is None}


@pytest.mark.parametrize(
    ("content", "length", "says"),
    [(b"<html>", None, "damaged|refused"), (b"x" * 100, 200, "the connection was cut")],
)
def test_what_is_no_model_is_refused_and_leaves_nothing(monkeypatch, models, content, length, says):
    served(monkeypatch, content, length)
    with pytest.raises(UserError, match=says):
        drive(download("cyto3"))
    assert list(models.iterdir()) == []


def test_without_a_connection_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr(downloads.urllib.request, "urlopen", offline)
    with pytest.raises(UserError, match=r"^cyto3: cannot be downloaded .*not known.*models add PATH"):
        drive(fetch("cyto3"))


def test_what_cellpose_itself_downloaded_is_used(tmp_path, unet):
    (tmp_path / "cellpose").mkdir()
    (tmp_path / "cellpose" / "cyto3").write_bytes(unet.read_bytes())
    assert drive(fetch("cyto3")) == tmp_path / "cellpose" / "cyto3"
    assert {state.name: state.reason for state in known_models()}["cyto3"] is None


def test_the_users_file_becomes_a_model_with_a_card(unet, models):
    card = drive(add_file(unet, "mine"))
    assert find_model("mine") == models / "mine" / "weights.pth"
    assert card.engine == "cellpose-unet"
    assert json.loads((models / "mine" / "card.json").read_text())["diameter_px"] == 17
    assert load_network(card.weights).diam_mean == 17
    with pytest.raises(UserError, match="of this name already"):
        drive(add_file(unet, "mine"))


@pytest.mark.parametrize("name", ["../out", "cyto3", ".hidden", "a/b"])
def test_a_model_cannot_be_put_elsewhere_or_take_a_public_name(unet, models, name):
    with pytest.raises(UserError, match="not usable as the name"):
        drive(add_file(unet, name))


def test_files_of_other_generations_are_told_apart(tmp_path, unet, models):
    sam = {"W2": torch.zeros(1), "encoder.patch_embed.proj.weight": torch.zeros(1), "encoder.pos_embed": torch.zeros(1)}
    torch.save(sam, tmp_path / "sam")
    torch.save({"W2": torch.zeros(1), "encoder.cls_token": torch.zeros(1)}, tmp_path / "dino")
    torch.save({"encoder.patch_embed1.proj.weight": torch.zeros(1)}, tmp_path / "segformer")
    assert drive(add_file(tmp_path / "sam")).engine == "cellpose-sam"
    assert read_card(models / "sam").engine == "cellpose-sam"
    with pytest.raises(UserError, match="CPDINO"):
        drive(add_file(tmp_path / "dino"))
    with pytest.raises(UserError, match="Cellpose 3's transformer"):
        drive(add_file(tmp_path / "segformer"))
    with pytest.raises(UserError, match="a model for the engine cellpose-sam, but cellpose-unet is set"):
        drive(fetch("sam", engine="cellpose-unet"))
