"""The microscope of the synthetic scenes: specks, grooves, blur, lamp, camera.

Plain functions on (Y, X) arrays of light; knows nothing of cells. Used by `scenes` only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def edge(depth: Floats) -> Floats:
    """Cover of each pixel (0..1) by a body, from the depth (px) below its outline."""
    return np.clip(depth + 0.5, 0, 1)


def spots(rng: np.random.Generator, depth: Floats, count: int, sigma: float) -> Floats:
    """Soft spots of height 1 at random places where ``depth`` > 1 px."""
    out = np.zeros_like(depth)
    places = np.argwhere(depth > 1)
    if len(places) == 0:
        return out
    yy, xx = np.indices(depth.shape)
    for y, x in places[rng.integers(len(places), size=count)]:
        width = sigma * rng.uniform(0.7, 1.3)
        out += np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * width**2))
    return out


def debris(rng: np.random.Generator, light: Floats) -> None:
    """Bright specks between and on the cells; not in the truth."""
    for _ in range(int(rng.integers(5, 11))):
        y, x = rng.integers(3, len(light) - 3, 2)
        for _ in range(int(rng.integers(1, 4))):
            dy, dx = rng.integers(-2, 3, 2)
            light[y + dy, x + dx] += rng.uniform(1.5, 8)


def specks(rng: np.random.Generator, phase: Floats) -> None:
    """Dust on a phase image: small dark grains, some of them in heaps."""
    size = len(phase)
    for _ in range(26):
        y, x = rng.uniform(8, size - 8, 2)
        for _ in range(int(rng.integers(1, 5))):
            b, a = np.clip(np.rint(np.array([y, x]) + rng.normal(0, 3, 2)), 1, size - 2).astype(int)
            phase[b : b + 2, a : a + 2] += rng.uniform(0.4, 1.4)


def grooves(rng: np.random.Generator, size: int, angle_deg: float, period: float) -> Floats:
    """-1 in the grooves to 1 on the ridges, each a little different; ``period`` in px."""
    yy, xx = np.mgrid[:size, :size].astype(float)
    angle = np.deg2rad(angle_deg)
    across = (xx * np.cos(angle) + yy * np.sin(angle)) / period + rng.uniform()
    number = np.floor(across).astype(int)
    strength = rng.uniform(0.6, 1.3, number.max() - number.min() + 1)[number - number.min()]
    ridges: Floats = strength * np.tanh(3 * np.sin(2 * np.pi * across))
    return ridges


def noise(rng: np.random.Generator, size: int, sigma: float) -> Floats:
    """(size, size) smooth noise of mean 0 and standard deviation 1."""
    field = blur(rng.standard_normal((size, size)), sigma, mode="wrap")
    scaled: Floats = (field - field.mean()) / field.std()
    return scaled


def blur(image: Floats, sigma: float, mode: str = "nearest") -> Floats:
    """Gaussian blur, sigma in px."""
    from scipy import ndimage

    blurred: Floats = ndimage.gaussian_filter(image, sigma, mode=mode)
    return blurred


def lamp(rng: np.random.Generator, size: int) -> Floats:
    """Uneven illumination: 1 at a point near the middle, down to about 0.6 in the far corner."""
    yy, xx = np.mgrid[:size, :size] / size - 0.5
    cy, cx = rng.uniform(-0.15, 0.15, 2)
    lamp: Floats = 1 - 0.55 * ((yy - cy) ** 2 + (xx - cx) ** 2)
    return lamp


def camera(rng: np.random.Generator, photons: Floats, offset: float) -> NDArray[np.uint16]:
    """Shot and read noise, two photo-electrons a grey level, 12 bits.

    Shot noise is drawn as a normal deviate (there are 40 electrons or more everywhere), so that
    rounding differences between computers cannot shift the stream of random numbers.
    """
    error = rng.standard_normal(photons.shape) * np.sqrt(photons + 3.0**2)
    levels: NDArray[np.uint16] = np.clip(np.rint((photons + error) / 2 + offset), 0, 4095).astype(np.uint16)
    return levels
