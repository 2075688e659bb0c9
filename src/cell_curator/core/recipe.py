"""The preprocessing recipe: what is done to every image before cells are looked for.

One frozen model per step, in the order in which they are applied:

rotate → channel → background → CLAHE → normalise → clip → zero below → tone → TV denoising

That is the published chain (MCF10A nuclei on microgrooves) with its optional steps put where
they do most good: an uneven background goes before contrast is raised, since CLAHE would raise
it too; grey levels are bent only once they lie in 0..1; noise is smoothed last, on the picture
that the segmenter sees. Defaults are the published values; steps that the published chain did
not always use are off. This module declares; `preprocess` computes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cell_curator.core.parameters import Parameters, parameter

RECIPE_VERSION = 1


class Rotate(Parameters):
    """Turn the image so that grooves (or fibres) stand vertical."""

    enabled: bool = parameter(False, "Rotate", "Turn every image so that its grooves stand vertical")
    method: Literal["tensor", "hough", "fixed"] = parameter(
        "tensor",
        "Angle from",
        "tensor: direction of all gradients (robust). hough: straight lines found in the image, most votes wins."
        " fixed: the angle below",
    )
    angle_deg: float = parameter(
        0.0,
        "Angle",
        "Counter-clockwise turn used when the angle is fixed",
        unit="°",
        ge=-180,
        le=180,
        step=0.1,
    )
    shared: bool = parameter(
        False,
        "One angle for all",
        "Turn all images of a folder by the median of the angles found in them; images without grooves get it too",
    )

    @property
    def votes(self) -> bool:
        """Whether the images of a folder have to agree on an angle before one of them is turned."""
        return self.enabled and self.shared and self.method != "fixed"


class Channel(Parameters):
    """Choose what becomes the one channel that everything later looks at."""

    mode: Literal["auto", "index", "luminance", "max", "mean"] = parameter(
        "auto",
        "Channel",
        "auto: the only channel, or the luminance of an RGB image. index: the channel numbered below."
        " luminance, max, mean: combine all channels",
    )
    index: int = parameter(0, "Channel number", "Counted from 0", ge=0, le=63)


class Background(Parameters):
    """Remove an uneven background by morphology with a disk."""

    enabled: bool = parameter(False, "Remove background", "Take away what is wider than a cell")
    method: Literal["black top-hat", "white top-hat"] = parameter(
        "black top-hat",
        "Method",
        "black top-hat: dark gaps narrower than the disk get darker (as published, by closing)."
        " white top-hat: only bright things narrower than the disk stay (by opening)",
    )
    radius_px: int = parameter(
        15, "Disk radius", "For the white top-hat, more than a cell's radius", unit="px", ge=1, le=200, step=1
    )

    @property
    def sign(self) -> int:
        """1 where gaps are filled to find the background, -1 where bright things are levelled."""
        return 1 if self.method == "black top-hat" else -1


class Clahe(Parameters):
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994)."""

    enabled: bool = parameter(True, "Local contrast (CLAHE)", "Even out contrast between dim and bright areas")
    clip_limit: float = parameter(
        0.01,
        "Clip limit",
        "Share of a tile's pixels that one grey level may hold, as in scikit-image; higher means more contrast",
        ge=0.0,
        le=1.0,
        step=0.005,
    )
    tile_px: int = parameter(
        0, "Tile", "Side of a tile; 0 means a tenth of the image height", unit="px", ge=0, le=4096, step=8
    )
    depth: Literal["8 bit", "16 bit"] = parameter(
        "8 bit",
        "Grey levels",
        "8 bit: 256 levels, as many as the published chain's. 16 bit: 65,536 levels, no banding, but with small tiles"
        " the clip limit acts in coarse steps only",
        more=True,
    )
    adaptive: bool = parameter(
        False,
        "Follow density",
        "Lower the clip limit where few cells are, raise it where many are; the limit holds for a field"
        " covered as the published ones",
    )


class Normalise(Parameters):
    """Stretch the grey levels to 0..1 (min–max)."""

    enabled: bool = parameter(True, "Normalise", "Stretch the darkest pixel to 0 and the brightest to 1")


class Clip(Parameters):
    """Cut off the extreme grey levels and stretch the rest to 0..1."""

    enabled: bool = parameter(True, "Clip extremes", "Cut off the darkest and brightest grey levels")
    low_percent: float = parameter(
        0.0, "Low", "Pixels below this percentile become black", unit="%", ge=0, le=100, step=0.1
    )
    high_percent: float = parameter(
        98.5, "High", "Pixels above this percentile become white", unit="%", ge=0, le=100, step=0.1
    )
    adaptive: bool = parameter(
        False,
        "Follow density",
        "Move the percentiles with the covered fraction, so that the same share of the cells turns white in a sparse"
        " and in a crowded field",
    )


class ZeroBelow(Parameters):
    """Make the darkest part of the image black."""

    enabled: bool = parameter(False, "Black below", "Set the darkest pixels to 0 and leave the others as they are")
    percent: float = parameter(40.0, "Share", "Pixels below this percentile become 0", unit="%", ge=0, le=100, step=1)


class Tone(Parameters):
    """Bend the grey levels; black stays black and white stays white."""

    enabled: bool = parameter(False, "Tone", "Lift or lower the middle grey levels")
    method: Literal["gamma", "sigmoid"] = parameter(
        "gamma", "Curve", "gamma: v to the power below. sigmoid: more contrast round a middle level"
    )
    gamma: float = parameter(1.0, "Gamma", "Below 1 brightens dim cells, above 1 darkens them", ge=0.1, le=5, step=0.05)
    gain: float = parameter(8.0, "Sigmoid gain", "Steepness of the sigmoid", ge=0.1, le=40, step=0.5, more=True)
    middle: float = parameter(
        0.5, "Sigmoid middle", "Grey level where the sigmoid is steepest", ge=0, le=1, step=0.01, more=True
    )


class TotalVariation(Parameters):
    """Total-variation denoising (Chambolle 2004)."""

    enabled: bool = parameter(True, "Denoise (TV)", "Smooth noise, keep edges")
    weight: float = parameter(0.02, "Strength", "Higher is smoother", ge=0.0, le=1.0, step=0.005)
    tolerance: float = parameter(
        2e-4,
        "Tolerance",
        "Stop when the energy changes less than this",
        ge=1e-6,
        le=1e-1,
        step=1e-4,
        more=True,
    )
    iterations: int = parameter(200, "Iterations", "At most this many", ge=1, le=1000, more=True)


class Recipe(Parameters):
    """The whole chain. `hash` changes whenever any value does."""

    version: int = Field(RECIPE_VERSION, ge=1, le=RECIPE_VERSION)
    rotate: Rotate = Rotate()
    channel: Channel = Channel()
    background: Background = Background()
    clahe: Clahe = Clahe()
    normalise: Normalise = Normalise()
    clip: Clip = Clip()
    zero_below: ZeroBelow = ZeroBelow()
    tone: Tone = Tone()
    total_variation: TotalVariation = TotalVariation()

    def up_to(self, step: str) -> Recipe:
        """The recipe with every step after ``step`` (a name of `STEPS`) switched off.

        ``up_to("channel")`` leaves nothing but the turn and the choice of the channel.
        """
        later = STEPS[STEPS.index(step) + 1 :]
        off = {name: getattr(self, name).model_copy(update={"enabled": False}) for name in later if name != "channel"}
        return self.model_copy(update=off)

    def turned_by(self, angle_deg: float) -> Recipe:
        """The recipe with this fixed turn, as for one image of a folder that agreed on it."""
        return self.model_copy(update={"rotate": Rotate(enabled=True, method="fixed", angle_deg=angle_deg)})


STEPS: tuple[str, ...] = tuple(name for name in Recipe.model_fields if name != "version")
"""Names of the steps in the order in which they are applied."""

PUBLISHED = "Nuclei on grooves (published)"

PRESETS: dict[str, Recipe] = {
    "Plain": Recipe(
        clahe=Clahe(enabled=False),
        clip=Clip(low_percent=0.1, high_percent=99.9),
        total_variation=TotalVariation(enabled=False),
    ),
    PUBLISHED: Recipe(rotate=Rotate(enabled=True)),
    "Noisy fluorescence": Recipe(
        clahe=Clahe(enabled=False),
        clip=Clip(low_percent=0.5, high_percent=99.8),
        total_variation=TotalVariation(weight=0.05),
    ),
    "Nuclei, sister project (published)": Recipe(
        clip=Clip(low_percent=20.0, high_percent=98.5), total_variation=TotalVariation(weight=0.05)
    ),
    "Dim fluorescence": Recipe(
        clahe=Clahe(enabled=False),
        clip=Clip(low_percent=1.0, high_percent=99.7),
        tone=Tone(enabled=True, gamma=0.6),
        total_variation=TotalVariation(weight=0.08),
    ),
    "Phase contrast": Recipe(
        clahe=Clahe(clip_limit=0.015, tile_px=128),
        clip=Clip(low_percent=0.5, high_percent=99.5),
        total_variation=TotalVariation(weight=0.03),
    ),
    "Two channels": Recipe(
        channel=Channel(mode="max"),
        clahe=Clahe(enabled=False),
        clip=Clip(low_percent=1.0, high_percent=99.5),
        total_variation=TotalVariation(weight=0.02),
    ),
}
"""Named starting points."""

DEFAULT = PRESETS["Plain"]
"""What `run` and the docks begin with."""
