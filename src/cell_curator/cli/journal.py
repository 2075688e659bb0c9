"""The command on a project's journal: what was done, by whom, with what; and all of it as a script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cell_curator.cli.arguments import Project
from cell_curator.cli.frame import Answer, app, command, table

_WIDTH = 100  # characters of an entry's detail in the list


@command(app)
def journal(
    project: Project,
    *,
    script: Annotated[
        bool, typer.Option("--script", help="Write a Python script that does the work again on a fresh project.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where the script goes.", show_default="replay.py in the project"),
    ] = None,
) -> Answer:
    """List what was done in a project: when, by whom, with which model and thresholds.

    With --script, the same as a Python script: it segments with the parameters of then and makes every
    correction again.
    """
    from cell_curator.io.project import Project as Folder

    folder = Folder.open(project)
    try:
        if script:
            return _script(folder, out or folder.folder / "replay.py")
        entries = folder.journal().to_dict("records")
    finally:
        folder.close()
    rows = [(e["time"][:19].replace("T", " "), e["user"], e["action"], _short(e["detail"])) for e in entries]
    data = [{**entry, "detail": _plain(entry["detail"])} for entry in entries]
    return Answer({"entries": data}, table(("when (UTC)", "who", "what", "with"), rows))


def _script(folder: Any, out: Path) -> Answer:
    from cell_curator.io.atomic import write_atomic
    from cell_curator.replay import script as written

    text = written(folder, out.name)
    write_atomic(out, lambda stream: stream.write(text.encode("utf-8")))
    count = len(folder.journal())
    return Answer({"file": out, "entries": count}, f"{count} entries: {out}\npython {out} NEW.curator does them again")


def _plain(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The detail without painted pixels, which only the script needs."""
    return {name: value for name, value in detail.items() if name != "pixels"}


def _short(detail: Mapping[str, Any]) -> str:
    parts = []
    for name, value in _plain(detail).items():
        if value not in ([], {}, "", None):
            long = isinstance(value, list) and len(value) > 4
            parts.append(f"{name} {len(value)}" if long else f"{name} {_said(value)}")
    text = ", ".join(parts)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
