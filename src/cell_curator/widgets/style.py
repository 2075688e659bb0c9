"""The look that all docks share, for napari's dark and light theme.

Only what Qt and napari do not give: one primary button, quiet text, errors that are seen.
"""

from __future__ import annotations

PRIMARY = "#0072b2"
_PRIMARY_OVER = "#1a86c4"

_DARK = {"quiet": "#aeb4bf", "error": "#ffab85", "panel": "#1f232b", "line": "#4c5262", "good": "#5fd3a9"}
_LIGHT = {"quiet": "#555a63", "error": "#9c3100", "panel": "#f4f4f4", "line": "#b9bcc2", "good": "#00694d"}


def colors(theme: str) -> dict[str, str]:
    """Named colours of a napari theme; any theme that is not light counts as dark."""
    return _LIGHT if theme == "light" else _DARK


def sheet(theme: str) -> str:
    """The style sheet of a dock."""
    c = colors(theme)
    return f"""
    QPushButton {{ padding: 4px 8px; }}
    QPushButton#primary {{ background: {PRIMARY}; color: white; font-weight: 600; padding: 7px 10px; }}
    QPushButton#primary:hover {{ background: {_PRIMARY_OVER}; }}
    QPushButton#primary:disabled {{ background: {c["line"]}; color: {c["quiet"]}; }}
    QLabel#heading {{ font-size: 12pt; font-weight: 600; }}
    QLabel#project {{ font-weight: 600; }}
    QLabel#quiet {{ color: {c["quiet"]}; }}
    QLabel#error {{ color: {c["error"]}; }}
    QLabel#picture {{ background: black; border: 1px solid {c["line"]}; }}
    QCheckBox#section {{ font-weight: 600; padding-top: 4px; }}
    QToolButton#fold {{ border: none; background: transparent; text-align: left; padding: 2px 0; color: {c["quiet"]}; }}
    QToolButton#fold:hover {{ text-decoration: underline; }}
    QAbstractSpinBox#sweepNumber {{ padding: 2px 5px; min-width: 56px; }}
    QAbstractSpinBox#sweepSteps {{ padding: 2px 5px; min-width: 22px; }}
    QToolButton#tool {{ padding: 5px 2px; border: 1px solid {c["line"]}; border-radius: 3px; }}
    QToolButton#tool:hover {{ border-color: {_PRIMARY_OVER}; }}
    QToolButton#tool:checked {{ background: {PRIMARY}; color: white; font-weight: 600; }}
    QLabel#section {{ font-weight: 600; }}
    QWidget#line {{ background: {c["line"]}; }}
    QTableView, QListView {{ border: 1px solid {c["line"]}; }}
    QTableView::item:selected {{ background: {PRIMARY}; color: white; }}
    QScrollArea {{ border: none; background: transparent; }}
    """


def tabs_sheet(theme: str) -> str:
    """The style sheet of the tabs and of the list of keys."""
    c = colors(theme)
    return f"""
    QToolButton#tab {{ padding: 4px 0; font-size: 8pt; border: none; border-radius: 0; }}
    QToolButton#tab {{ border-bottom: 2px solid {c["line"]}; }}
    QToolButton#tab:hover {{ border-bottom-color: {_PRIMARY_OVER}; }}
    QToolButton#tab:checked {{ border-bottom-color: {PRIMARY}; font-weight: 600; background: {c["panel"]}; }}
    QFrame#keys {{ background: {c["panel"]}; border: 1px solid {c["line"]}; }}
    """
