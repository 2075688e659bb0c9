"""The part of a report that says how clean the set is: the funnel, the audit, images that look wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cell_curator.core.clean import Step

_KEPT, _STEP = "#009e73", "#56b4e9"


@dataclass(frozen=True)
class ReportReview:
    """What the reader should know of the set.

    ``audit`` is a sentence, empty without one; ``images`` are (name, reasons) of those that look wrong, ``looked_at`` a
    line on all of them, empty where nobody looked.
    """

    funnel: tuple[Step, ...]
    audit: str = ""
    looked_at: str = ""
    images: tuple[tuple[str, Sequence[str]], ...] = ()


def review_part(review: ReportReview | None) -> dict[str, Any]:
    """What the template shows; nothing before there are cells."""
    if review is None or not review.funnel or not review.funnel[0].left:
        return {"review": None}
    most = review.funnel[0].left
    steps = [
        {
            "name": step.name.capitalize(),
            "count": f"{step.left:,}",
            "removed": f"−{step.removed:,}" if step.removed else "",
            "percent": 100 * step.left / most,
            "color": _KEPT if step is review.funnel[-1] else _STEP,
        }
        for step in review.funnel
    ]
    images = [{"name": name, "reasons": list(reasons)} for name, reasons in review.images]
    return {"review": {"steps": steps, "audit": review.audit, "looked_at": review.looked_at, "images": images}}
