"""Floor 5: the docks."""
