"""Write reference/parameters.md and reference/commands.md from the models and the commands themselves.

Run it after a change of a parameter or a command; a test compares the pages with what this
script makes. Nothing is written by hand in those two pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from cell_curator.cli import app
from cell_curator.core.parameters import ParameterInfo, describe
from cell_curator.results import PARTS

HERE = Path(__file__).parent / "reference"

_MADE = "<!-- Made by docs/generate_reference.py; do not edit. -->\n"
_PARAMETERS = """# Parameters

Every setting of the program, by the step it belongs to. The same names stand in the docks, in the
options of the commands and in the files, because all of them are made from one declaration. Settings
marked † are folded under *More* in the docks. The name in `code` is the one in recipe and project files.
"""
_COMMANDS = """# Commands

What the docks do, without a window. Every command ends with 0 (done), 1 (failed) or 2 (wrong
arguments or unusable input, with one line that says what to do). With `--json` the answer is one JSON
object on the last line of standard output; progress and errors go to standard error. With `--seed` the
same input gives the same result.
"""


def parameters() -> str:
    """The page of all parameters."""
    return _MADE + _PARAMETERS + "".join(part for title, model in PARTS for part in _model(title, model, 2))


def _model(title: str, model: type[BaseModel], level: int) -> Iterator[str]:
    about = " ".join((model.__doc__ or "").split()).split(". ")[0].rstrip(".")
    yield f"\n{'#' * level} {title}\n\n{about}.\n"
    own = list(describe(model))
    nested = [
        (name, field.annotation)
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]
    if own and not nested:  # a model of models has nothing of its own but the version of its file
        yield "\n| Setting | What it does | Default | Allowed |\n|---|---|---|---|\n"
        yield from (_row(info) for info in own)
    for name, inner in nested:
        yield from _model(name.replace("_", " ").capitalize(), inner, level + 1)


def _row(info: ParameterInfo) -> str:
    more = " †" if info.more else ""
    text = info.description.rstrip(".")
    return f"| {info.title}{more} (`{info.name}`) | {text} | {_value(info)} | {_allowed(info)} |\n"


def _value(info: ParameterInfo) -> str:
    if info.annotation is bool:
        return "on" if info.default else "off"
    return f"{info.default} {info.unit}".strip()


def _allowed(info: ParameterInfo) -> str:
    if info.choices:
        return ", ".join(info.choices)
    if info.annotation is bool:
        return "on, off"
    if info.minimum is not None and info.maximum is not None:
        return f"{info.minimum:g} to {info.maximum:g}"
    return "text" if info.minimum is None else f"{info.minimum:g} or more"


def commands() -> str:
    """The page of all commands."""
    group: Any = typer.main.get_command(app)
    return _MADE + _COMMANDS + "".join(_group(group, "cell-curator"))


def _group(group: Any, path: str) -> Iterator[str]:
    for name in group.list_commands(None):
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from _group(command, f"{path} {name}")
        else:
            yield from _command(command, f"{path} {name}")


def _command(command: Any, path: str) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join([path, *(p.metavar.strip("{}[]") for p in arguments), "[OPTIONS]"])
    yield f"\n## {path.removeprefix('cell-curator ')}\n\n```\n{usage}\n```\n\n{command.help.strip()}\n"
    if arguments:
        yield "\n| Argument | |\n|---|---|\n"
        yield from (f"| `{p.metavar.strip('{}[]')}` | {_plain(p.help)} |\n" for p in arguments)
    yield "\n| Option | |\n|---|---|\n"
    for option in options:
        flags = "`, `".join((*option.opts, *option.secondary_opts))
        yield f"| `{flags}` | {_plain(option.help)} |\n"


def _plain(text: str) -> str:
    """Help text without the marks for colour; the bracket with bounds and default stands in italics."""
    text = text.replace("[dim]", "").replace("[/dim]", "")
    return re.sub(r"\\\[(.*)\]$", r"*\1*", text).replace("|", "\\|")


PAGES = {"parameters.md": parameters, "commands.md": commands}


def main() -> None:
    """Write both pages."""
    HERE.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")
        print(HERE / name)


if __name__ == "__main__":
    main()
