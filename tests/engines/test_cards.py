import json

import pytest

from cell_curator.core.jobs import UserError
from cell_curator.core.recipe import Clahe, Recipe
from cell_curator.engines.cards import BUNDLED, find_model, learned_recipe, list_models, read_card, user_models_folder


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("CELL_CURATOR_MODELS", str(tmp_path))
    return tmp_path


def add_model(folder, name, card=None):
    place = folder / name
    place.mkdir(parents=True)
    (place / "weights.pth").write_bytes(b"weights")
    if card is not None:
        (place / "card.json").write_text(card if isinstance(card, str) else json.dumps(card))
    return place


def test_the_starter_model_is_bundled_with_its_provenance(models):
    card = {card.name: card for card in list_models()}["starter-nuclei"]
    assert card.bundled
    assert card.engine == "cellpose-unet"
    assert card.licence == "CC0-1.0"
    assert card.weights == BUNDLED / "starter-nuclei" / "weights.pth"
    assert card.weights.stat().st_size <= 15_000_000
    assert {"data", "citation", "split", "seeds", "hours", "scores"} <= set(card.details)
    assert "Caicedo" in card.details["citation"]


def test_a_users_model_is_listed_and_found_by_name_folder_or_file(models):
    place = add_model(models, "mine", {"title": "My cells", "licence": "CC BY 4.0"})
    assert [(c.name, c.title, c.bundled) for c in list_models() if c.name == "mine"] == [("mine", "My cells", False)]
    weights = place / "weights.pth"
    assert find_model("mine") == find_model(str(place)) == find_model(str(weights)) == weights


def test_a_model_of_a_project_goes_before_the_users_and_the_bundled_one(models, tmp_path):
    add_model(models, "starter-nuclei")
    theirs = add_model(tmp_path / "project", "starter-nuclei")
    assert find_model("starter-nuclei", tmp_path / "project") == theirs / "weights.pth"
    assert find_model("starter-nuclei") == models / "starter-nuclei" / "weights.pth"


def test_the_recipe_that_a_model_learned_with_comes_from_its_card(models):
    recipe = Recipe(clahe=Clahe(enabled=False))
    place = add_model(models, "mine", json.dumps({"recipe": recipe.model_dump(mode="json")}))
    assert learned_recipe("mine") == learned_recipe(str(place)) == recipe
    add_model(models, "mute")
    assert learned_recipe("mute") is learned_recipe("nowhere") is None
    add_model(models, "damaged", json.dumps({"recipe": {"clahe": 3}}))
    with pytest.raises(UserError, match="its recipe cannot be read"):
        learned_recipe("damaged")


def test_an_unknown_name_is_answered_with_the_names_there_are(models):
    add_model(models, "mine")
    with pytest.raises(UserError, match=r"^cyto9: no such model; there are: mine, .*starter-nuclei.*, or give"):
        find_model("cyto9")


@pytest.mark.parametrize("name", ["", "../mine", "."])
def test_a_name_cannot_leave_the_folder(models, name):
    add_model(models, "mine")
    with pytest.raises(UserError, match="no such model"):
        find_model(name, models / "mine")


@pytest.mark.parametrize("card", ["{broken", "[1, 2]"])
def test_a_model_with_a_broken_card_is_left_out_of_the_list_and_says_why_when_asked_for(models, card):
    place = add_model(models, "broken", card)
    assert "broken" not in {c.name for c in list_models()}
    with pytest.raises(UserError, match=r"card\.json: no readable card"):
        find_model("broken")
    (place / "weights.pth").unlink()
    with pytest.raises(UserError, match=r"weights\.pth is missing"):
        read_card(place)


def test_a_missing_user_folder_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("CELL_CURATOR_MODELS", str(tmp_path / "nowhere"))
    assert all(card.bundled for card in list_models())


def test_the_users_folder_is_in_the_accounts_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("CELL_CURATOR_MODELS", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_models_folder() == tmp_path / "cell-curator" / "models"
