"""Commands about the installation: models, doctor."""

from __future__ import annotations

from dataclasses import asdict

import typer

from cell_curator.cli.frame import DONE, FAILED, Answer, app, command, table

models = typer.Typer(rich_markup_mode="rich")
app.add_typer(models, name="models")


@models.callback(invoke_without_command=True)
def _models(context: typer.Context) -> None:
    """The models that find cells."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@command(models, name="list")
def list_() -> Answer:
    """List the models that are installed, with licence and where they lie."""
    from cell_curator.engines.cards import list_models

    cards = list_models()
    data = [
        {
            "name": card.name,
            "title": card.title,
            "engine": card.engine,
            "licence": card.licence,
            "bundled": card.bundled,
            "path": card.weights,
        }
        for card in cards
    ]
    rows = [(c.name, c.title, c.engine, c.licence, "bundled" if c.bundled else str(c.weights)) for c in cards]
    return Answer({"models": data}, table(("model", "for", "engine", "licence", "where"), rows))


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
