import numpy as np
import pytest

from cell_curator import reviewing
from cell_curator.core.audit import interval
from cell_curator.core.clean import CleanParameters
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.outliers import REASONS
from cell_curator.io.project import Change
from cell_curator.session import Session
from small_project import execute, session  # noqa: F401


def test_an_audit_is_blind_stored_and_undoable(session):  # noqa: F811
    assert reviewing.audit(session) is None
    begun = reviewing.start_audit(session, 6, seed=1)
    assert len(begun.cells) == 6
    assert begun.interval == (0.0, 1.0)
    verdicts = session.cells.frame["verdict"].tolist()
    for cell in begun.cells[:4]:
        reviewing.audit_verdict(session, cell, cell == begun.cells[0])
    state = reviewing.audit(session)
    assert (state.decided, state.bad, state.population) == (4, 1, 8)
    assert state.interval == interval(1, 4)
    assert state.next == begun.cells[4]
    assert "1 of 4 cells are bad" in state.text
    assert session.cells.frame["verdict"].tolist() == verdicts
    session.undo()
    assert reviewing.audit(session).decided == 3
    session.redo()
    reviewing.audit_verdict(session, begun.cells[0], None)
    assert reviewing.audit(session).bad == 0
    assert {"audit", "audit verdict"} <= set(session.project.journal()["action"])
    again = Session.open(session.folder)
    assert reviewing.audit(again) == reviewing.audit(session)
    again.close()


def test_cells_that_went_or_changed_leave_the_audit(session):  # noqa: F811
    begun = reviewing.start_audit(session, 8)
    row = session.row(begun.cells[0])
    labels = session.labels(int(row["image"]))
    labels[labels == row["label"]] = 0
    session.set_labels(int(row["image"]), labels)
    state = reviewing.audit(session)
    assert begun.cells[0] not in state.cells
    assert state.left_out == 1
    with pytest.raises(UserError, match="not in the audit"):
        reviewing.audit_verdict(session, 10_000, True)
    with pytest.raises(UserError, match="at least one"):
        reviewing.start_audit(session, 0)


def test_one_definition_of_the_cells_that_count(session):  # noqa: F811
    drive(session.score_outliers())
    ids = session.cells.frame.index
    session.set_verdict(ids[:2], "rejected")
    assert len(session.counting_cells()) == reviewing.funnel(session)[-1].left == len(ids) - 2
    session.put(CleanParameters(leave_out=True, threshold=0.05))
    assert len(session.counting_cells()) == reviewing.funnel(session)[-1].left
    because = {key: set(reviewing.by_reason(session, key)) for key in REASONS}
    session.set_verdict(ids, "rejected")
    assert {key: set(reviewing.by_reason(session, key)) for key in REASONS} == because  # also of what was rejected
    with pytest.raises(UserError, match="no reason"):
        reviewing.by_reason(session, "ugly")
    assert reviewing.learned(session) is None


def test_measurements_of_neighbours_are_known_to_new_cells(session):  # noqa: F811
    frame = session.cells.frame
    assert np.isfinite(frame["contrast"]).all()
    assert (frame["contrast"] > 0.9).all()


def test_a_condition_of_two_cells_gives_its_share(session):  # noqa: F811
    treated = session.images[1].image_id
    labels = session.labels(treated)
    session.set_labels(treated, np.where(labels <= 2, labels, 0))
    drawn = [reviewing.start_audit(session, 3, seed).cells for seed in range(6)]
    of_treated = [int((session.cells.frame.loc[list(cells), "condition"] == "treated").sum()) for cells in drawn]
    assert set(of_treated) <= {1}  # two of six cells: one of three
    assert len(set(drawn)) > 1
    assert reviewing.start_audit(session, 3, 5).cells == drawn[5]


def test_all_flagged_leaves_nothing_to_audit(session):  # noqa: F811
    session.put(CleanParameters(leave_out=True, threshold=0.5))
    rows = session.cells.frame.assign(score=0.9, verdict="proposed")
    session.commit(Change(cells=rows))
    assert reviewing.funnel(session)[-1].left == 0
    with pytest.raises(UserError, match="no cells to audit"):
        reviewing.start_audit(session, 10)
    assert reviewing.audit(session) is None


def test_how_many_to_draw_is_said_before_anybody_looked(session):  # noqa: F811
    begun = reviewing.start_audit(session, 8)
    assert begun.more == 183
    assert "look at all 8" in begun.text  # 183 cannot be looked at
    for cell in begun.cells:
        reviewing.audit_verdict(session, cell, cell == begun.cells[0])
    assert reviewing.audit(session).text == "1 of all 8 cells are bad (12.5%); every one of them was looked at."
