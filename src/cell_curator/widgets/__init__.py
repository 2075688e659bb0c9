"""The docks: what the user sees and presses. They emit intent; `session` does the work.

Each dock is one module with one widget whose first argument is ``napari_viewer``.
"""

from __future__ import annotations
