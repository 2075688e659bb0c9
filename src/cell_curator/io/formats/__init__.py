"""Formats of other programs, one file each; a list of them is `registry.FORMATS`."""
