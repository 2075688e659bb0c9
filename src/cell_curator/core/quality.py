"""Figures of image quality, live beside the picture: noise, contrast, focus, saturation.

They compare one image before and after a step, or two images of one experiment; none of them
says anything about the cells found. All work on a grey image of any range and are relative to it,
so that the raw and the prepared picture can be set side by side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.density import otsu
from cell_curator.core.grey_levels import extremes, histogram, stretch

Better = Literal["higher", "lower"]

_DARKEST = 1e-9
_SATURATED_AT = 0.999  # of the range; one level of 8 bits is 0.004


def _figure(title: str, unit: str, better: Better, description: str) -> Any:
    return field(metadata={"title": title, "unit": unit, "better": better, "description": description})


@dataclass(frozen=True)
class Quality:
    """Quality figures of one grey image whose darkest pixel counts as 0 and whose brightest as 1."""

    noise: float = _figure("Noise", "% of range", "lower", "Standard deviation of the pixel noise (Immerkær 1996)")
    snr: float = _figure(
        "SNR", "", "higher", "Mean of the cells over the spread of the background (Otsu), as published"
    )
    cnr: float = _figure("CNR", "", "higher", "Cells minus background, over the spread of the background")
    focus: float = _figure("Focus", "", "higher", "Variance of the Laplacian of the image, less that of its noise")
    saturated: float = _figure("Saturated", "%", "lower", "Pixels that are as bright as the brightest one")
    gradient: float = _figure("Gradient", "", "higher", "Mean length of the gradient: how much structure there is")

    def compare(self, before: Quality) -> dict[str, int]:
        """Per figure: 1 better than ``before``, -1 worse, 0 the same to 1 %."""
        return {name: _direction(name, value, getattr(before, name)) for name, value in asdict(self).items()}


def _direction(name: str, now: float, before: float) -> int:
    if abs(now - before) <= 0.01 * max(abs(now), abs(before)):
        return 0
    rise = 1 if now > before else -1
    return rise if Quality.__dataclass_fields__[name].metadata["better"] == "higher" else -rise


def measure_quality(grey: NDArray[np.float32]) -> Quality:
    """Measure ``(Y, X)`` float32, finite. A constant image has nothing: all figures are 0.

    Meant for a preview: about 20 ms a megapixel.
    """
    low, high = extremes(grey)
    if not high > low or min(grey.shape) < 3:
        return Quality(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    unit = stretch(grey, low, high)
    noise = noise_sigma(unit)
    counts, values = histogram(unit, 0.0, 1.0, 256)
    bright = unit > otsu(counts, values)
    cells, background = (cv2.meanStdDev(unit, mask=mask.astype(np.uint8)) for mask in (bright, ~bright))
    spread = max(float(background[1][0, 0]), _DARKEST)
    signal = float(cells[0][0, 0])
    return Quality(
        noise=100 * noise,
        snr=signal / spread,
        cnr=(signal - float(background[0][0, 0])) / spread,
        focus=_focus(unit, noise),
        saturated=100 * float((unit >= _SATURATED_AT).mean()),
        gradient=_gradient(unit),
    )


def _gradient(unit: NDArray[np.float32]) -> float:
    gx, gy = (cv2.Sobel(unit, cv2.CV_32F, dx, 1 - dx, scale=0.125) for dx in (1, 0))
    return float(cv2.mean(cv2.magnitude(gx, gy))[0])


_IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # blind to steps and slopes


def noise_sigma(grey: NDArray[np.float32]) -> float:
    """Standard deviation of white noise in ``(Y, X)`` float32, in its grey levels.

    Immerkær 1996 (*Comput. Vis. Image Underst.* 64:300), with the median absolute deviation in place of
    the mean, so that edges of cells do not count as noise.
    """
    if min(grey.shape) < 3:
        return 0.0
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, _IMMERKAER)[1:-1, 1:-1])
    return float(np.median(response[:: _every(response), :: _every(response)])) / (0.6745 * 6.0)


def _every(image: NDArray[np.float32]) -> int:
    """A median of 250,000 pixels is exact enough."""
    return max(1, int(np.sqrt(image.size / 250_000)))


_FOCUS_BLUR = 1.5
_FOCUS_NOISE = 0.0119  # variance of the Laplacian of white noise of variance 1 after that blur


def _focus(unit: NDArray[np.float32], noise: float) -> float:
    """Variance of the Laplacian, less what noise alone would give, times 10,000."""
    smooth = cv2.GaussianBlur(unit, (0, 0), _FOCUS_BLUR)
    variance = float(cv2.meanStdDev(cv2.Laplacian(smooth, cv2.CV_32F))[1][0, 0]) ** 2
    return 10_000 * max(0.0, variance - _FOCUS_NOISE * noise**2)
