"""Commands about the installation: models, doctor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cell_curator.cli.frame import DONE, FAILED, Answer, app, command, follow, table

models = typer.Typer(rich_markup_mode="rich")
app.add_typer(models, name="models")


@models.callback(invoke_without_command=True)
def _models(context: typer.Context) -> None:
    """The models that find cells."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@command(models, name="list")
def list_() -> Answer:
    """List the models: those that are here, with licence and place, and those that can be downloaded."""
    from cell_curator.engines.downloads import known_models

    here, away, rows = [], [], []
    for state in known_models():
        card, reason = state.card, state.reason
        about: dict[str, Any] = {"name": state.name, "title": state.title, "engine": state.engine}
        if card is None:
            away.append({**about, "unavailable": reason})
            rows.append((state.name, state.title, state.engine, "", (reason or "here").partition(";")[0]))
        else:
            here.append({**about, "licence": card.licence, "bundled": card.bundled, "path": card.weights})
            place = "bundled" if card.bundled else str(card.weights)
            rows.append((state.name, state.title, state.engine, card.licence, place))
    data = {"models": here, "public": away}
    return Answer(data, table(("model", "for", "engine", "licence", "where"), rows))


@command(models)
def add(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A weights file of Cellpose 2, 3 or 4; the name of a public model; or cellpose-sam for the "
            "engine of Cellpose 4.",
            show_default=False,
        ),
    ],
    *,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model; default: the file's.", show_default=False)
    ] = "",
) -> Answer:
    """Add a model, or the engine of Cellpose 4.

    A weights file is checked (no code in it is run) and copied into your models folder with a
    card; a public model is downloaded.
    """
    from cell_curator.engines import downloads, overlay

    if model == "cellpose-sam":
        place = follow(overlay.install())
        return Answer(
            {"engine": model, "path": place},
            f"Cellpose 4 is installed in {place}; its model is downloaded when it is first used, or by "
            "`cell-curator models add cpsam` (1.2 GB)",
        )
    if model in downloads.PUBLIC:
        weights = follow(downloads.fetch(model))
        return Answer({"name": model, "path": weights}, f"{model} is here: {weights}")
    card = follow(downloads.add_file(Path(model), name))
    return Answer(
        {"name": card.name, "engine": card.engine, "path": card.weights, **card.details},
        f"{card.name}: a model for the engine {card.engine}, now in {card.weights.parent}",
    )


@command(models)
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model that is here.", show_default=False)],
) -> Answer:
    """Show the card of a model: data, licence, citation, scores."""
    from cell_curator.engines.cards import find_model, read_card

    card = read_card(find_model(model).parent)
    return Answer(
        {"name": card.name, "engine": card.engine, "path": card.weights, **card.details},
        "\n".join(f"{key}: {value}" for key, value in {"name": card.name, **card.details}.items()),
    )


@command(app)
def doctor() -> Answer:
    """Check the installation: versions, processor, devices, engines, models.

    Ends with 1 if something is missing that the program needs.
    """
    from cell_curator.engines.checkup import checkup

    found = checkup()
    bfloat16 = {True: "yes, used", False: "slower here, not used", None: "unknown"}[found.bfloat16]
    memory = f"{found.memory_gb} GB" if found.memory_gb is not None else "unknown"
    machine = [
        ("system", found.system),
        ("python", found.python),
        ("cores", found.cores),
        ("memory", memory),
        ("devices", ", ".join(found.devices)),
        ("fast arithmetic (bfloat16)", bfloat16),
    ]
    lines = [f"{name}: {value}" for name, value in machine]
    lines += ["", "packages", *(f"  {name} {value}" for name, value in found.versions.items())]
    lines += ["", "engines", *(f"  {e.name}: {e.reason or 'ready'}" for e in found.engines)]
    lines += ["", "models", *(f"  {card.name} ({card.licence})" for card in found.models)]
    lines += [f"  your own go into {found.models_folder}", "", *(found.problems or ["Everything is in order."])]
    return Answer(asdict(found), "\n".join(lines), code=FAILED if found.problems else DONE)
