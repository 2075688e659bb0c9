"""Floor 1: arrays and tables. No torch, no napari, no Qt, no files."""
