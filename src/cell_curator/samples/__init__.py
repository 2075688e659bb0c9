"""Sample data: written to a folder for the command line, or as layers for *File ▸ Open Sample*.

The pictures come from `scenes`, so nothing is downloaded and the truth is known. No napari
here: layers are plain ``(data, options, kind)`` tuples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cell_curator.samples.scenes import Scene

LayerData = tuple[Any, dict[str, Any], str]

SETS = ("grooves", "cells", "phase")
"""Names of the sample sets, and of their folders."""

GROOVE_ANGLES = {"control": (12.0, 13.0, 11.0), "mutant": (-8.0, -7.0, -9.0)}
"""Turn (° counter-clockwise) that makes the grooves of each sample image vertical."""

_COLOURS = {"lamin": "gray", "cytoplasm": "green", "nuclei": "blue", "phase": "gray"}


def scenes_of(name: str) -> Iterator[Scene]:
    """Draw the scenes of one sample set, always the same ones.

    Parameters
    ----------
    name
        ``"grooves"`` (nuclei, two conditions), ``"cells"`` (two channels) or ``"phase"``.

    Raises
    ------
    ValueError
        Another name.
    """
    from cell_curator.samples.scenes import nuclei_on_grooves, phase_like, two_channel_cells

    if name == "grooves":
        for condition, angles in GROOVE_ANGLES.items():
            for seed, angle in enumerate(angles):
                yield nuclei_on_grooves(seed, elongated=condition == "control", angle_deg=angle)
    elif name == "cells":
        yield two_channel_cells(0)
    elif name == "phase":
        yield phase_like(0)
    else:
        raise ValueError(f"no sample set {name!r}; choose from {', '.join(SETS)}")


def write_sample(folder: Path | str, names: Iterable[str] = SETS) -> list[Path]:
    """Write sample images and their truth, about half a second each.

    ``SET/[CONDITION/]NAME.tif`` are the images; ``SET_truth/`` repeats that tree with the label
    images (and ``SET_truth/nuclei/`` where nuclei and cells differ) and holds ``truth.json``:
    for each image its condition, angle, pixel size, channels, and what each label is.

    Returns
    -------
    list of Path
        One folder of images for each set, to hand to ``cell-curator run``.

    Raises
    ------
    UserError
        The folder cannot be written to.
    """
    return [_write_set(Path(folder), name) for name in names]


def _write_set(folder: Path, name: str) -> Path:
    from cell_curator.io.atomic import write_atomic, write_error
    from cell_curator.io.labels import write_labels
    from cell_curator.io.tiff import write_tiff

    images, truth = folder / name, folder / f"{name}_truth"
    facts = {}
    for scene in scenes_of(name):
        place = Path(scene.condition, f"{scene.name}.tif")
        todo = [images / place, truth / place]
        if scene.nuclei is not None:
            todo.append(truth / "nuclei" / place)
        for path in todo:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(path.parent, error) from error
        image = scene.image[0] if len(scene.image) == 1 else scene.image
        size = scene.pixel_size_um
        write_tiff(todo[0], image, pixel_size_um=size, channel_names=scene.channel_names)
        write_labels(todo[1], scene.labels, pixel_size_um=size)
        if scene.nuclei is not None:
            write_labels(todo[2], scene.nuclei, pixel_size_um=size)
        facts[place.as_posix()] = _facts(scene)
    text = json.dumps(facts, indent=1).encode()
    write_atomic(truth / "truth.json", lambda file: file.write(text))
    return images


def _facts(scene: Scene) -> dict[str, Any]:
    odd = {number: kind for number, kind in enumerate(scene.kinds, 1) if kind != "cell"}
    return {
        "condition": scene.condition,
        "angle_deg": scene.angle_deg,
        "pixel_size_um": scene.pixel_size_um,
        "channels": list(scene.channel_names),
        "cells": len(scene.kinds),
        "not_ordinary": odd,
    }


# ---------------------------------------------------------------- File ▸ Open Sample


def sample_grooves() -> list[LayerData]:
    """Nuclei on grooves: one image of each condition, the second hidden, truth hidden."""
    from cell_curator.samples.scenes import nuclei_on_grooves

    control = nuclei_on_grooves(0, elongated=True, angle_deg=GROOVE_ANGLES["control"][0])
    mutant = nuclei_on_grooves(0, elongated=False, angle_deg=GROOVE_ANGLES["mutant"][0])
    return [*_layers(control), *_layers(mutant, visible=False)]


def sample_cells() -> list[LayerData]:
    """Cells with nuclei in two channels, truth hidden."""
    return _layers(next(scenes_of("cells")))


def sample_phase() -> list[LayerData]:
    """Cells in phase contrast, truth hidden."""
    return _layers(next(scenes_of("phase")))


def _layers(scene: Scene, *, visible: bool = True) -> list[LayerData]:
    """One image layer per channel, then the truth as hidden labels."""
    metadata = {"condition": scene.condition, "angle_deg": scene.angle_deg, "pixel_size_um": scene.pixel_size_um}
    layers: list[LayerData] = []
    for channel, word in zip(scene.image, scene.channel_names, strict=True):
        options = {
            "name": f"{scene.name} {word}",
            "colormap": _COLOURS[word],
            "blending": "additive",
            "visible": visible,
            "metadata": metadata,
        }
        layers.append((channel, options, "image"))
    options = {"name": f"{scene.name} truth", "visible": False, "metadata": metadata}
    return [*layers, (scene.labels, options, "labels")]
