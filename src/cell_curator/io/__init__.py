"""Floor 2: files in and out."""
