"""What became of the cover of images: a row for each, the curve by condition and time, and the tables of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cell_curator.core.confluency import Calibration, Confluency, ConfluencyParameters, CurvePoint, curve
from cell_curator.io.atomic import write_atomic
from cell_curator.io.folders import note_failures

TABLE, CURVE = "confluency.csv", "confluency_curve.csv"


@dataclass(frozen=True)
class CoverRow:
    """One image, or one plane of a stack, counted from 0 (else None). ``as_found`` is the percentage uncorrected."""

    image: str
    condition: str
    time: float | None
    plane: int | None
    cover: Confluency
    as_found: float
    note: str = ""


@dataclass(frozen=True)
class CoverReport:
    """What became of a folder or project.

    Parameters
    ----------
    rows
        In the order of the images.
    failed
        (file or image, reason).
    threshold
        From which score a pixel is a cell; None where masks were taken as they are.
    calibration
        What the hand-marked parts taught, or None.
    """

    rows: tuple[CoverRow, ...]
    failed: tuple[tuple[str, str], ...]
    threshold: float | None = None
    calibration: Calibration | None = None

    @property
    def curve(self) -> list[CurvePoint]:
        """Cover by condition and time."""
        rows = self.rows
        return curve([r.condition for r in rows], [r.time for r in rows], [r.cover.percent for r in rows])

    def alarming(self, say: ConfluencyParameters) -> list[str]:
        """Names of the images that reach the alarm, each once."""
        return list(dict.fromkeys(row.image for row in self.rows if row.cover.alarming(say)))


def written(out: Path, report: CoverReport, say: ConfluencyParameters, taught: Calibration | None) -> CoverReport:
    """Correct the percentages by what was taught, if anything was, and write the tables and errors.csv."""
    if taught is not None:
        rows = tuple(replace(row, cover=taught.apply(row.cover)) for row in report.rows)
        report = replace(report, rows=rows, calibration=taught)
    _write(out / TABLE, table(report, say))
    points = report.curve
    _write(out / CURVE, pd.DataFrame([vars(point) for point in points], columns=list(CurvePoint.__dataclass_fields__)))
    note_failures(out, report.failed)
    return report


def table(report: CoverReport, say: ConfluencyParameters) -> pd.DataFrame:
    """One row per image, as in confluency.csv; what is not known is empty."""
    rows = [
        {
            "image": row.image,
            "condition": row.condition,
            "time": row.time,
            "plane": row.plane,
            "percent": row.cover.percent,
            "low": None if row.cover.interval is None else row.cover.interval[0],
            "high": None if row.cover.interval is None else row.cover.interval[1],
            "covered_um2": row.cover.covered_um2,
            "count": row.cover.count,
            "density_per_mm2": row.cover.density,
            "as_found": row.as_found,
            "threshold": report.threshold,
            "alarm": row.cover.alarming(say),
            "note": row.note,
        }
        for row in report.rows
    ]
    return pd.DataFrame(rows).astype({"plane": "Int64", "count": "Int64"})


def _write(path: Path, rows: pd.DataFrame) -> None:
    text = rows.to_csv(index=False, lineterminator="\n", float_format="%.7g")
    write_atomic(path, lambda stream: stream.write(text.encode()))
