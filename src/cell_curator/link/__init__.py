"""One session in one viewer: layers that follow the session, and clicks that lead back to it.

Only napari's models and layers are used here, never Qt, so a `ViewerModel` is enough to test it.
"""

from __future__ import annotations
