"""Arguments and option groups that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cell_curator.cli.frame import Group
from cell_curator.core.clean import CleanParameters
from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.confluency import ConfluencyParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.image_flags import ImageFlagParameters
from cell_curator.core.outliers import OutlierParameters
from cell_curator.core.patches import PatchParameters
from cell_curator.core.pixel_clusters import KmeansParameters
from cell_curator.engines.augment import AugmentParameters
from cell_curator.engines.finetune import NOT_VARIED, TrainParameters
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.volumes import StackParameters

Images = Annotated[
    Path,
    typer.Argument(metavar="IMAGES", help="Folder of images (TIFF, PNG, JPEG, BMP), or one image.", show_default=False),
]
Project = Annotated[Path, typer.Argument(metavar="PROJECT", help="Project folder, made by run.", show_default=False)]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe", metavar="FILE", help="How images are prepared: a recipe saved by Cell Curator.", show_default=False
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="How many images are worked on at once, each in a process of its own; 1: one after the other, in this "
        "process. By default as many as cores and memory allow, from 16 images on.",
        min=1,
        max=1024,
        show_default=False,
    ),
]
Scheduler = Annotated[
    str,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Let a Dask cluster do the work that is there already, as tcp://HOST:8786.",
        show_default=False,
    ),
]

TRAINING = Group(TrainParameters, "Learning from examples")
VARY = Group(
    AugmentParameters,
    "Varying images while a U-Net learns",
    {name: f"vary_{name}" for name in AugmentParameters.model_fields},
    brief=True,
    without=NOT_VARIED,
)
SEGMENT = Group(SegmentParameters, "Finding cells")
STACKS = Group(
    StackParameters,
    "Stacks and time lapses",
    {"method": "stack", "stitch_threshold": "stack_overlap", "anisotropy": "stack_distance"},
)
OUTLIERS = Group(OutlierParameters, "Unusual cells")
CLEAN = Group(CleanParameters, "Cells that count", {"leave_out": "leave_out_flagged", "threshold": "leave_out_above"})
IMAGE_FLAGS = Group(
    ImageFlagParameters,
    "Images that look wrong",
    {
        "focus_z": "image_focus_z",
        "exposure": "image_exposure",
        "light": "image_light",
        "magnification": "image_magnification",
    },
)
PATCHES = Group(PatchParameters, "Patches", {name: f"patch_{name}" for name in PatchParameters.model_fields})
LEARNING = Group(VaeParameters, "Learning the map", {"model": "map_model", "loss": "map_loss"})
MAP = Group(
    MapParameters,
    "Drawing the map",
    {"method": "map_method", "neighbours": "map_neighbours", "min_dist": "map_spacing"},
)
CLUSTERS = Group(
    ClusterParameters,
    "Clusters",
    {"k": "clusters", **{name: f"cluster_{name}" for name in ClusterParameters.model_fields if name != "k"}},
)
KMEANS = Group(KmeansParameters, "Groups of pixels", {"k": "groups", "cells": "cell_groups", "even": "even_light"})
COVER = Group(ConfluencyParameters, "Cover", {"parts": "interval_parts"})
