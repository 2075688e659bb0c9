"""What a report says of a session's map; see `io.report_map`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from cell_curator.core.jobs import Job, UserError
from cell_curator.io.report_map import ReportJudged
from cell_curator.map_reading import judge, set_apart_by, sizes

if TYPE_CHECKING:
    from cell_curator.core.size_study import SizeStudy
    from cell_curator.session import Session


def judged_content(session: Session) -> Job[ReportJudged | None]:
    """The judgement of the map for the report; None where there is no map, or no cell of it counts."""
    stored = session.embedding
    if stored is None or not np.isin(stored.cell_id, session.counting_ids()).any():
        return None
    made = yield from judge(session)
    study: SizeStudy | None = None
    with suppress(UserError):  # every cell was rejected since
        study = sizes(session)
    return ReportJudged(
        comparison=made.comparison,
        honesty=made.honesty,
        warnings=made.warnings,
        set_apart=set_apart_by(session),
        stability=dict(zip(made.stability.clusters, made.stability.jaccard, strict=True)),
        names=stored.cluster_names,
        notes=stored.cluster_notes,
        sizes=study,
        split=str(stored.detail.get("split", "")),
    )
