"""From the map to the Review dock: its queue with the chosen cells, its gallery with one cluster."""

from __future__ import annotations

from typing import Any

from cell_curator.widgets.review_dock import ReviewDock
from cell_curator.widgets.review_filter import ALL, ANY, CHOSEN
from cell_curator.widgets.workbench import Workbench

_PLUGIN = "napari-cell-curator"


def list_chosen(bench: Workbench) -> None:
    """Bring Review to the front with the chosen cells in its queue."""
    review = _review(bench)
    review.queue.filter.show_list(CHOSEN)
    review.queue.filter.changed.emit()


def list_cluster(bench: Workbench, number: int) -> None:
    """Bring Review to the front with the cells of one cluster; -1: those in none."""
    review = _review(bench)
    if review.session is None or review.session.embedding is None:
        return
    names = review.session.embedding.cluster_names
    wanted = review.queue.filter
    wanted.follow(review.session)
    wanted.show_list(ALL)
    name = names.get(number, f"Cluster {number + 1}") if number >= 0 else "no cluster"
    wanted.cluster.set_value(name if wanted.cluster.findText(name) >= 0 else ANY)
    wanted.changed.emit()


def _review(bench: Workbench) -> ReviewDock:
    """The Review dock of this window, brought to the front; opened if there is none."""
    window: Any = bench.viewer.window
    found = window._qt_window.findChildren(ReviewDock)
    if not found:
        return window.add_plugin_dock_widget(_PLUGIN, "Review")[1]  # type: ignore[no-any-return]
    review: ReviewDock = found[0]
    holder: Any = review.parent()
    while holder is not None and not hasattr(holder, "show_dock"):
        holder = holder.parent()
    if holder is not None:
        holder.show_dock(review.title)
    review.show()
    review.raise_()
    return review
