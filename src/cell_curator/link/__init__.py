"""Floor 4: one session, one viewer. `napari.layers` is known here, Qt is not."""
