"""The frame that all commands share: options, progress, the answer, and how errors are told.

A command is a function that takes what was typed and returns an `Answer`. `command` gives it
``--seed`` and ``--json`` and one option for each parameter of the models named. Standard output
carries the answer alone; progress and errors go to standard error.
"""

from __future__ import annotations

import errno
import inspect
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from cell_curator.core.jobs import Job, Progress, UserError, drive
from cell_curator.core.parameters import ParameterInfo, Parameters, describe

T = TypeVar("T")
P = TypeVar("P", bound=Parameters)

DONE, FAILED, BAD_INPUT = 0, 1, 2
INTERRUPTED = 130

_PLAIN_SECONDS = 5.0  # between two lines of progress where there is no terminal
_MACHINE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM)


@dataclass(frozen=True)
class Answer:
    """What a command says: ``data`` for ``--json``, ``text`` for people, and what could not be done."""

    data: Mapping[str, Any]
    text: str
    failed: Sequence[tuple[str, str]] = ()
    code: int = DONE


@dataclass(frozen=True)
class Group:
    """Parameters of one model as options of a command.

    Parameters
    ----------
    panel
        Heading in ``--help``.
    names
        Option name by parameter name, where the parameter's own would be unclear or is taken.
    brief
        Leave out the parameters that the docks fold under "More".
    without
        Parameters that this command has no use for.
    """

    model: type[Parameters]
    panel: str
    names: Mapping[str, str] = field(default_factory=dict)
    brief: bool = False
    without: frozenset[str] = frozenset()

    def parameters(self) -> list[tuple[str, ParameterInfo]]:
        """(name of the option, parameter); the seed is left out, since every command has ``--seed``."""
        return [
            (self.names.get(info.name, info.name), info)
            for info in describe(self.model)
            if info.name not in {"seed", *self.without} and not (self.brief and info.more)
        ]


class Typed:
    """The values that were typed, by model; everything else keeps its stored or default value."""

    def __init__(self, groups: Sequence[Group], values: Mapping[str, Any], seed: int | None) -> None:
        self.seed = seed
        self._options = {(group.model, info.name): name for group in groups for name, info in group.parameters()}
        self._values = {
            group.model: {info.name: values[name] for name, info in group.parameters() if values[name] is not None}
            for group in groups
        }

    def names(self, model: type[Parameters]) -> frozenset[str]:
        """Parameters of a model that were typed."""
        return frozenset(self._values.get(model, {}))

    def options(self, model: type[Parameters]) -> list[str]:
        """The same as they were typed, ``--clusters``."""
        return [f"--{self._options[model, name].replace('_', '-')}" for name in sorted(self.names(model))]

    def over(self, start: P) -> P:
        """``start`` with what was typed put over it.

        Raises
        ------
        UserError
            A value is out of bounds.
        """
        given = dict(self._values.get(type(start), {}))
        if self.seed is not None and "seed" in type(start).model_fields:
            given["seed"] = self.seed
        try:
            return type(start).model_validate({**start.model_dump(), **given})
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            option = self._options.get((type(start), name), name).replace("_", "-")
            raise UserError(f"--{option}: {_reason(first['msg'])} (see --help)") from None


_ORDER = (
    "run",
    "preprocess",
    "restore",
    "segment",
    "evaluate",
    "confluency",
    "train",
    "rounds",
    "outliers",
    "audit",
    "embed",
    "classify",
    "figures",
    "export",
    "import",
    "relocate",
    "repair",
    "journal",
    "models",
    "doctor",
)


class OneLineErrors(TyperGroup):
    """A group of commands that tells every error as one line on standard error."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order of the work."""
        return sorted(super().list_commands(ctx), key=_ORDER.index)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """Run a command and exit with 0, 1 or 2."""
        given = list(sys.argv[1:] if args is None else args)
        standalone = options.get("standalone_mode", True)
        options["standalone_mode"] = False
        try:
            code = super().main(given, *rest, **options)
        except typer.Abort:
            code = _tell(FAILED, "stopped; what was finished is kept", given)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except UserError as error:
            code = _tell(FAILED if _fault_of_the_machine(error) else BAD_INPUT, str(error), given)
        except MemoryError:
            code = _tell(FAILED, "not enough memory; use smaller images or close other programs", given)
        except Exception as error:
            # Typer brings its own copy of click in some versions, so the class cannot be named.
            if not hasattr(error, "format_message"):
                raise
            code = _tell(BAD_INPUT, f"{_reason(error.format_message())} (see {_help_for(error)})", given)
        if code == INTERRUPTED:
            code = _tell(INTERRUPTED, "stopped; what was finished is kept", given)
        if not standalone:
            return code
        sys.exit(code or DONE)


app = typer.Typer(
    name="cell-curator",
    cls=OneLineErrors,
    help="Find, curate and map cells in microscopy images. Without a window: what the docks do, for many images.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    from cell_curator import __version__

    if version:
        print(f"cell-curator {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def command(
    where: typer.Typer, *groups: Group, name: str | None = None
) -> Callable[[Callable[..., Answer]], Callable[..., None]]:
    """Make a function a command.

    The function receives its own arguments by name, and ``typed`` (a `Typed`) if it asks for it.
    """

    def register(function: Callable[..., Answer]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "typed"]
        wants = "typed" in inspect.signature(function).parameters
        generated = [_option(group, option, info) for group in groups for option, info in group.parameters()]

        @wraps(function)
        def call(**values: Any) -> None:
            as_json, seed = values.pop("as_json"), values.pop("seed")
            mine = {p.name: values.pop(p.name) for p in own}
            if wants:
                mine["typed"] = Typed(groups, values, seed)
            answer = function(**mine)
            _print(answer, as_json)
            if answer.code != DONE:
                raise typer.Exit(answer.code)

        call.__signature__ = inspect.Signature([*own, *generated, *_COMMON])  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in (*own, *generated, *_COMMON)}
        del call.__wrapped__  # type: ignore[attr-defined]  # or the signature of the original would be read
        return where.command(name or function.__name__, help=_paragraphs(function.__doc__))(call)

    return register


def _paragraphs(text: str | None) -> str:
    """A docstring with its paragraphs unwrapped, for the help to wrap anew."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text or "").split("\n\n"))


def _option(group: Group, name: str, info: ParameterInfo) -> inspect.Parameter:
    """One option; its default stays None so that only what was typed is passed on."""
    flag = "--" + name.replace("_", "-")
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if info.annotation is bool else flag,
        help=f"{info.description.rstrip('.')}. [dim]\\[{_allowed(info)}][/dim]",
        metavar={bool: None, int: "N", float: "X"}.get(info.annotation, "WORD"),
        show_default=False,
        rich_help_panel=group.panel,
    )
    annotation: Any = Annotated[info.annotation | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _allowed(info: ParameterInfo) -> str:
    """Words for the allowed values and the default, ``"0 to 3 px; default 0.4"``."""
    default = {True: "on", False: "off"}[info.default] if info.annotation is bool else info.default
    if info.choices:
        bounds = ", ".join(info.choices)
    elif info.minimum is not None and info.maximum is not None:
        bounds = f"{info.minimum:,g} to {info.maximum:,g}"
    else:
        bounds = "" if info.minimum is None else f"{info.minimum:g} or more"
    return "; ".join(part for part in (f"{bounds} {info.unit}".strip(), f"default {default}") if part)


_COMMON = (
    inspect.Parameter(
        "seed",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            int | None, typer.Option("--seed", help="Start of all random numbers: same seed, same result.", min=0)
        ],
    ),
    inspect.Parameter(
        "as_json",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object, on one line.")],
    ),
)


# ---------------------------------------------------------------------- progress and answers


def follow(job: Job[T]) -> T:
    """Drive a job under a progress bar on a terminal, with plain lines elsewhere (standard error)."""
    if not sys.stderr.isatty():
        return drive(job, _PlainLines())
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        return drive(job, lambda p: bar.update(task, completed=p.fraction, description=p.message))


class _PlainLines:
    """Progress as lines: a new message every few seconds at most."""

    def __init__(self) -> None:
        self._message, self._time = "", -math.inf

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.message != self._message and now - self._time >= _PLAIN_SECONDS:
            print(f"{progress.fraction:4.0%} {progress.message}", file=sys.stderr, flush=True)
            self._message, self._time = progress.message, now


def _print(answer: Answer, as_json: bool) -> None:
    for file, reason in answer.failed:
        print(reason if reason.startswith(file) else f"{file}: {reason}", file=sys.stderr)
    if as_json:
        print(json.dumps(plain(answer.data), ensure_ascii=False, allow_nan=False))
    else:
        print(answer.text)


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: NaN becomes null, arrays lists, paths and keys text."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy numbers and arrays
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns of plain text; the first is flush left, numbers flush right."""
    cells = [list(header), *([f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            t.ljust(w) if i == 0 else t.rjust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _tell(code: int, message: str, arguments: Sequence[str]) -> int:
    """Print one line of error, and for ``--json`` the same as an object."""
    line = " ".join(message.splitlines())
    print(f"cell-curator: {line}", file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps({"error": line, "exit_code": code}, ensure_ascii=False))
    return code


def _reason(message: str) -> str:
    """A message of pydantic or click without its frills."""
    return message.replace("Value error, ", "").rstrip(".")


def _help_for(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context is not None else 'cell-curator'} --help"


def _fault_of_the_machine(error: UserError) -> bool:
    """A full disk or broken device: the input was good, so the work *failed*."""
    cause = error.__cause__
    if isinstance(cause, OSError):
        return cause.errno in _MACHINE_FAULTS
    return "disk is full" in str(error)
