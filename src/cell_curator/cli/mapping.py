"""Commands on the map of a project: embed, figures."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cell_curator.cli.arguments import CLUSTERS, LEARNING, MAP, PATCHES, Project, Scheduler, Workers
from cell_curator.cli.folders import also_failed, errors
from cell_curator.cli.frame import Answer, Typed, app, command, follow, table
from cell_curator.cli.manpower import LIGHT, manpower, say_who
from cell_curator.cli.projects import map_data, open_session
from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.jobs import UserError
from cell_curator.core.patches import PatchParameters
from cell_curator.core.permutation import p_text
from cell_curator.core.words import number_of
from cell_curator.engines.vae import VaeParameters

if TYPE_CHECKING:
    from cell_curator.core.cluster_count import KSuggestion
    from cell_curator.core.comparison import Comparison
    from cell_curator.map_reading import Judgement

# here nothing else is learned, so that the names need no prefix
_LEARNING = replace(LEARNING, names={"loss": "likeness"})


@command(app, _LEARNING, MAP, CLUSTERS, PATCHES)
def embed(
    project: Project,
    *,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A network to go on from: embeddings/NNNN.pt of a project.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="With --from: learn afresh, too, and say what going on was worth.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Learn nothing: only cells that changed or are new find their place.")
    ] = False,
    regroup: Annotated[
        bool, typer.Option("--regroup", help="Learn nothing: group the cells of the map again.")
    ] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Say how many clusters the map has, and change nothing.")
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = "",
    typed: Typed,
) -> Answer:
    """Learn the map of all cells and group them.

    Stores the map and its network in the project, writes clusters.csv there, and prints how distinct the
    clusters are, how conditions differ (tested by whole images or wells), and what speaks against the map.
    """  # fmt: skip
    from cell_curator import mapping
    from cell_curator.map_reading import judge
    from cell_curator.map_store import FOLLOWS_FROM
    from cell_curator.results import save_clusters
    from cell_curator.workflow import by_crew

    if sum((refresh, regroup, suggest, start is not None)) > 1:
        raise UserError("use one of --from, --refresh, --regroup and --suggest")
    if compare and start is None:
        raise UserError("--compare is for --from; name the network to go on from, too")
    with open_session(project) as session:
        if refresh:
            _only(typed, "--refresh", VaeParameters, MapParameters, PatchParameters, ClusterParameters)
        elif regroup or suggest:
            _only(typed, "--regroup" if regroup else "--suggest", VaeParameters, MapParameters, PatchParameters)
        if suggest:
            return _suggested(follow(mapping.suggest(session, typed.over(session.get(ClusterParameters)))))
        if refresh:
            made = follow(mapping.refresh(session))
        elif regroup:
            made = follow(mapping.recluster(session, typed.over(session.get(ClusterParameters))))
        else:
            chosen = [typed.over(session.get(model)) for model in FOLLOWS_FROM]
            power = manpower(workers, scheduler, *(record.path for record in session.images[:1]))
            learning = partial(mapping.embed, session, start, compare=compare, parameters=chosen)
            made = follow(by_crew(session, power, len(session.images) // LIGHT, learning, say_who))
        judged = follow(judge(session))
        path = save_clusters(session, session.folder / "clusters.csv")
        network = mapping.map_network(session)
        model = session.get(VaeParameters).model
    data = {
        "model": model,
        **map_data(made),
        "refreshed": made.refreshed,
        "notes": made.notes,
        "failed": len(made.unread),
        "errors": errors(made.unread),
        "comparison": _compared(judged),
        "honesty": judged.honesty,
        "warnings": judged.warnings,
        "network": network,
        "file": path,
    }
    done = f", {made.refreshed} of them looked at again" if refresh else ""
    lines = [
        f"{number_of(made.cells, 'cell')} in {number_of(made.clusters, 'cluster')}{done}{also_failed(made.unread)}",
        *made.notes,
        "",
        _text(judged),
        "",
        str(path),
    ]
    return Answer(data, "\n".join(lines))


@command(app)
def figures(
    project: Project,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the figures.", show_default=False)],
) -> Answer:
    """Draw the map, its clusters and conditions, and the sizes of cells, as SVG and PNG.

    One file of each kind for each figure; clusters have the colours they have in the window.
    """
    from cell_curator.map_figures import save_figures

    with open_session(project) as session:
        files = follow(save_figures(session, out))
    return Answer({"files": files}, "\n".join(str(file) for file in files))


def _only(typed: Typed, option: str, *models: Any) -> None:
    for model in models:
        if typed.options(model):
            names = ", ".join(typed.options(model))
            raise UserError(f"{option} keeps the map as it was made; leave out {names}, or make the map again")


def _suggested(found: KSuggestion) -> Answer:
    shown = found.table.reset_index()
    rows = [[int(row["k"]), row["bic"], row["silhouette"], row["stability"]] for row in shown.to_dict("records")]
    data = {"k": found.k, "why": found.why, "notes": found.notes, "table": shown.to_dict("records")}
    text = table(("clusters", "BIC", "silhouette", "agreement"), rows)
    return Answer(data, "\n".join((text, found.why, *found.notes)))


def _compared(judged: Judgement) -> dict[str, Any]:
    made = judged.comparison
    return {
        "conditions": made.conditions,
        "unit": made.unit,
        "units": made.units,
        "p": made.p,
        "exact": made.exact,
        "arrangements": made.arrangements,
        "correction": made.correction,
        "refused": made.refused,
        "trend": _trend_of(made),
        "clusters": [
            {
                "cluster": test.cluster,
                "cells": dict(zip(made.conditions, row.tolist(), strict=True)),
                "shares": dict(zip(made.conditions, test.shares.tolist(), strict=True)),
                "effect": test.effect,
                "effect_word": test.word,
                "p": test.p,
                "p_corrected": test.q,
                "sentence": test.sentence,
            }
            for test, row in zip(made.tests, made.counts, strict=True)
        ],
    }


def _trend_of(made: Comparison) -> dict[str, Any] | None:
    if made.trend is None:
        return None
    return {
        "doses": made.trend.doses,
        "exact": made.trend.exact,
        "arrangements": made.trend.arrangements,
        "clusters": [
            {"cluster": one.cluster, "rho": one.rho, "p": one.p, "p_corrected": one.q, "sentence": one.sentence}
            for one in made.trend.tests
        ],
    }


def _text(judged: Judgement) -> str:
    made = judged.comparison
    rows = [(r.what, "–" if math.isnan(r.value) else r.value, r.space, r.split) for r in judged.honesty]
    scores = table(("score", "value", "space", "cells"), rows)
    parts = [scores]
    if not made.refused:
        shares = [
            [
                test.cluster + 1,
                *(f"{100 * share:.1f} %" for share in test.shares),
                p_text(test.p),
                p_text(test.q),
                test.word,
            ]
            for test in made.tests
        ]
        parts.append(table(("cluster", *made.conditions, "p", f"p ({made.correction})", "effect"), shares))
    if made.trend is not None:
        parts.append("\n".join(one.sentence for one in made.trend.tests))
    parts += [f"! {line}" for line in judged.warnings]
    return "\n\n".join(parts)
