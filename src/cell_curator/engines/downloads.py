"""Models that do not come with the package: the public ones by name, and the user's own files.

The public weights are downloaded when they are first asked for and then lie in the user's models
folder with a card. Their licence is not ours to give: see the page that each card names.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.engines.cards import CARD, WEIGHTS, ModelCard, find_model, list_models, read_card, user_models_folder
from cell_curator.engines.network import load_network, read_tensors

if TYPE_CHECKING:
    from cell_curator.engines.segmenter import SegmentParameters

_CELLPOSE = "https://www.cellpose.org/models/"
_CHUNK = 1 << 18
_SECONDS = 20.0


@dataclass(frozen=True)
class Public:
    """A public model: its file, where it is, and its usual diameter (px)."""

    name: str
    title: str
    file: str
    base: str = _CELLPOSE
    engine: str = "cellpose-unet"
    megabytes: int = 25
    diameter_px: float = 30.0

    @property
    def url(self) -> str:
        """Where it is downloaded from."""
        return self.base + self.file


PUBLIC = {
    model.name: model
    for model in (
        Public("cyto3", "Cells of many kinds (Cellpose 3)", "cyto3"),
        Public("cyto2", "Cells of many kinds, cytoplasm and nucleus (Cellpose 2)", "cyto2torch_0"),
        Public("cyto", "Cells, cytoplasm and nucleus (Cellpose 1)", "cytotorch_0"),
        Public("nuclei", "Nuclei (Cellpose 1)", "nucleitorch_0", diameter_px=17.0),
        Public("tissuenet_cp3", "Tissue, multiplexed (Cellpose 3)", "tissuenet_cp3"),
        Public("livecell_cp3", "Phase contrast, living cells (Cellpose 3)", "livecell_cp3"),
        Public("yeast_PhC_cp3", "Yeast, phase contrast (Cellpose 3)", "yeast_PhC_cp3"),
        Public("yeast_BF_cp3", "Yeast, brightfield (Cellpose 3)", "yeast_BF_cp3"),
        Public("bact_phase_cp3", "Bacteria, phase contrast (Cellpose 3)", "bact_phase_cp3"),
        Public("bact_fluor_cp3", "Bacteria, fluorescence (Cellpose 3)", "bact_fluor_cp3"),
        Public("deepbacs_cp3", "Bacteria (Cellpose 3)", "deepbacs_cp3"),
        Public(
            "cpsam",
            "Anything with cells (Cellpose 4)",
            "cpsam",
            "https://huggingface.co/mouseland/cellpose-sam/resolve/main/",
            "cellpose-sam",
            1150,
        ),
    )
}


@dataclass(frozen=True)
class ModelState:
    """One model by name; ``reason`` says why it cannot be used at once and what to do, None where it can."""

    name: str
    title: str
    engine: str
    reason: str | None
    card: ModelCard | None = None


def known_models() -> tuple[ModelState, ...]:
    """The models that are installed, then the public ones that would have to be downloaded first."""
    here = [ModelState(card.name, card.title, card.engine, None, card) for card in list_models()]
    names = {state.name for state in here}
    away = [
        ModelState(
            model.name,
            model.title,
            model.engine,
            None
            if _cached_by_cellpose(model)
            else f"not downloaded yet ({model.megabytes} MB); "
            f"run `cell-curator models add {model.name}` once while connected",
        )
        for model in PUBLIC.values()
        if model.name not in names
    ]
    return (*here, *away)


def fetch(name_or_path: str, engine: str = "") -> Job[Path]:
    """Weights of a model; a public one that is not here yet is downloaded.

    With ``engine`` given, a model of another engine is answered with an error that names both.

    Raises
    ------
    UserError
        See `cards.find_model` and `download`.
    """
    public = PUBLIC.get(name_or_path)
    if public is not None and public.name not in {card.name for card in list_models()}:
        return _cached_by_cellpose(public) or (yield from download(public.name))
    weights = find_model(name_or_path)
    made_for = read_card(weights.parent).engine if weights.name == WEIGHTS else engine
    if engine and made_for != engine:
        raise UserError(
            f"{name_or_path}: a model for the engine {made_for}, but {engine} is set; choose the engine {made_for}, "
            f"or a model for {engine}"
        )
    return weights


def fitting(params: SegmentParameters, *folders: Path) -> SegmentParameters:
    """The same with the engine that the model is for, where its name or card tells.

    Parameters
    ----------
    folders
        Where to look for models beside the usual places.
    """
    public = PUBLIC.get(params.model)
    if public is not None and public.name not in {card.name for card in list_models()}:
        engine = public.engine
    else:
        try:
            weights = find_model(params.model, *folders)
        except UserError:
            return params
        engine = read_card(weights.parent).engine if weights.name == WEIGHTS else params.engine
    return params.model_copy(update={"engine": engine})


def download(name: str) -> Job[Path]:
    """Download a public model into the user's models folder and check it; returns its weights.

    Raises
    ------
    UserError
        If it cannot be reached, or is not what it should be.
    """
    public = PUBLIC[name]
    with _new_model(name) as folder:
        yield from scaled(_download(public.url, folder / WEIGHTS, public), 0.0, 0.95)
        yield Progress(0.95, "checking the model")
        card = {
            "title": public.title,
            "engine": public.engine,
            "licence": "see cellpose.org",
            "diameter_px": public.diameter_px,
            "source": public.url,
        }
        (folder / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")
        _check(folder / WEIGHTS, public.engine)
    return user_models_folder() / name / WEIGHTS


def add_file(path: Path, name: str = "") -> Job[ModelCard]:
    """Copy a weights file into the user's models folder and make its card.

    Raises
    ------
    UserError
        If the file is missing, unsafe, damaged or of no engine here, or the name is taken.
    """
    path = path.expanduser()
    yield Progress(0.0, "checking the model")
    engine = generation(path)
    _check(path, engine)
    name = name or path.stem
    if name in PUBLIC or not name.strip() or name.startswith((".", "_")) or Path(name).name != name:
        raise UserError(f"{name}: not usable as the name of a model; give another one with --name")
    if (user_models_folder() / name).exists():
        raise UserError(f"{name}: there is a model of this name already; give another one with --name")
    with _new_model(name) as folder:
        yield Progress(0.5, "copying the model")
        shutil.copyfile(path, folder / WEIGHTS)
        card: dict[str, Any] = {"title": name, "engine": engine, "licence": "", "source": str(path.resolve())}
        if engine == "cellpose-unet":
            card["diameter_px"] = load_network(path).diam_mean
        elif engine != "cellpose-sam":
            from cell_curator.engines.unet.model import read

            card["diameter_px"] = read(path).learned_diameter
        (folder / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")
    return read_card(user_models_folder() / name)


def generation(path: Path) -> str:
    """Name of the engine that a weights file is for.

    Raises
    ------
    UserError
        If the file cannot be read, or is for none.
    """
    state = read_tensors(path)
    if "W2" in state:
        if "encoder.patch_embed.proj.weight" in state and "encoder.pos_embed" in state:
            return "cellpose-sam"
        raise UserError(f"{path.name}: weights of CPDINO (Cellpose 4.2), which no engine here runs; use cpsam instead")
    nested = {"conv_0_0.conv_0.conv.weight": "unetpp", "conv_0.conv_0.conv.weight": "unet"}
    return next((engine for layer, engine in nested.items() if layer in state), "cellpose-unet")


def _check(weights: Path, engine: str) -> None:
    """Refuse a file that ``engine`` cannot load; the transformer is looked at by its names only."""
    found = generation(weights)
    if found != engine:
        raise UserError(f"{weights.name}: a model for the engine {found}, not for {engine}; download it again")
    if engine == "cellpose-unet":
        load_network(weights)
    elif engine in ("unet", "unetpp"):
        from cell_curator.engines.unet.model import read

        read(weights)


@contextmanager
def _new_model(name: str) -> Iterator[Path]:
    """A folder that becomes the model ``name`` if all goes well."""
    root = user_models_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".new-") as temporary:
            folder = Path(temporary) / "model"
            folder.mkdir()
            yield folder
            load_network.cache_clear()
            os.replace(folder, root / name)
    except OSError as error:
        raise UserError(f"{root}: the model cannot be stored ({error.strerror or error}); make room there") from error


def _download(url: str, target: Path, public: Public) -> Job[None]:
    away = (
        f"{public.name}: cannot be downloaded from {url} ({{}}); check the network connection, or copy the file "
        "here from another computer and run `cell-curator models add PATH`"
    )
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer, target.open("wb") as file:
            length = int(answer.headers.get("Content-Length") or public.megabytes * 1e6)
            done = 0
            while piece := answer.read(_CHUNK):
                file.write(piece)
                done += len(piece)
                yield Progress(min(done / length, 1.0), f"downloading {public.name}: {done / 1e6:.0f} MB")
            if answer.headers.get("Content-Length") and done != length:
                raise UserError(away.format("the connection was cut"))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise UserError(away.format(getattr(error, "reason", None) or error)) from error


def _cached_by_cellpose(public: Public) -> Path | None:
    """The file where Cellpose itself keeps it, if it is there."""
    chosen = os.environ.get("CELLPOSE_LOCAL_MODELS_PATH")
    path = (Path(chosen) if chosen else Path.home() / ".cellpose" / "models") / public.file
    return path if path.is_file() else None
