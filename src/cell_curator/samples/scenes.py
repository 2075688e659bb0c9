"""Synthetic microscopy with known truth: nuclei on grooves, cells with nuclei, phase contrast.

Each scene is drawn as light (or phase) first and then seen through a microscope: blur, haze,
uneven lamp, shot and read noise, a 12-bit camera. The same seed gives the same scene.
For samples, tests and tutorials; not a simulator to train or to publish on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cell_curator.samples.microscope import Floats, blur, camera, debris, edge, grooves, lamp, noise, specks, spots

Kind = Literal["cell", "blurred", "apoptotic"]

SIZE = 512
PIXEL_UM = 0.4
GROOVE_UM = 10.0
"""Period of the substrate: grooves of 5 µm and ridges of 5 µm."""


@dataclass(frozen=True)
class Scene:
    """An image and everything that is true of it.

    Parameters
    ----------
    image
        (C, Y, X) uint16 or uint8.
    labels
        (Y, X) int32, one number per cell from 1, 0 = background.
    kinds
        What cell ``i + 1`` is: ``"cell"``, ``"blurred"`` (out of focus) or ``"apoptotic"``.
    angle_deg
        Counter-clockwise turn (as `skimage.transform.rotate`) that makes the grooves vertical.
    nuclei
        (Y, X) int32 nuclei with the numbers of their cells, where cells and nuclei differ.
    """

    name: str
    image: NDArray[Any]
    labels: NDArray[np.int32]
    condition: str
    channel_names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    angle_deg: float = 0.0
    pixel_size_um: float = PIXEL_UM
    nuclei: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class _Body:
    """A wavy ellipse: centre (px), half axes (px), direction of the long one (x, y), waves on the outline."""

    y: float
    x: float
    major: float
    minor: float
    direction: float
    waves: tuple[tuple[int, float, float], ...]
    kind: Kind = "cell"

    def window(self, size: int) -> tuple[slice, slice]:
        """Part of the image that the body may reach."""
        reach = self.major * 1.4 + 8
        return tuple(  # type: ignore[return-value]
            slice(int(np.clip(c - reach, 0, size)), int(np.clip(c + reach, 0, size))) for c in (self.y, self.x)
        )

    def coordinates(self, window: tuple[slice, slice]) -> tuple[Floats, Floats, Floats]:
        """(u along, v across) in px, and depth below the outline in px, negative outside."""
        yy, xx = np.mgrid[window].astype(float)
        yy, xx = yy - self.y, xx - self.x
        cos, sin = np.cos(self.direction), np.sin(self.direction)
        u, v = xx * cos + yy * sin, -xx * sin + yy * cos
        turn = np.arctan2(v / self.minor, u / self.major)
        rim = 1 + sum(a * np.cos(k * turn + p) for k, a, p in self.waves)
        rho = np.hypot(u / self.major, v / self.minor)
        radius = np.hypot(self.major * np.cos(turn), self.minor * np.sin(turn))
        depth = (rim - rho) * np.minimum(radius, self.minor * 1.5)
        return u, v, depth


def nuclei_on_grooves(
    seed: int = 0,
    *,
    elongated: bool = True,
    angle_deg: float = 12.0,
    count: int = 60,
    size: int = SIZE,
) -> Scene:
    """Lamin-stained nuclei on microgrooves.

    Parameters
    ----------
    elongated
        Control: long nuclei along the grooves. Otherwise mutant: rounder, of many sizes and directions.
    angle_deg
        Counter-clockwise turn that will make the grooves vertical.
    count
        Nuclei aimed at; a crowded image may hold a few less.
    size
        Edge of the image in px.
    """
    rng = np.random.default_rng([seed, int(elongated)])
    along = np.deg2rad(angle_deg) - np.pi / 2  # direction of the grooves, y pointing down
    bodies, labels = _place(rng, lambda: _nucleus(rng, elongated, along), count, size, touching=0.25)
    texture = 0.7 * noise(rng, size, 1.6) + 0.5 * noise(rng, size, 3.5)
    sharp, soft = np.zeros((size, size)), np.zeros((size, size))
    for body in bodies:
        window = body.window(size)
        light = _lamin(rng, body, window, texture[window])
        (soft if body.kind == "blurred" else sharp)[window] += light
    debris(rng, sharp)
    ridges = grooves(rng, size, angle_deg, GROOVE_UM / PIXEL_UM)
    light = blur(sharp, 1.0) + blur(soft, 4.5)
    light = light * (1 + 0.06 * ridges) + 0.05 * blur(light, 6) + 0.10 * blur(light, 25)
    light += 0.075 * (1 + 0.16 * ridges) * (1 + 0.15 * noise(rng, size, 40))
    image = camera(rng, 900 * light * lamp(rng, size), offset=100)
    condition = "control" if elongated else "mutant"
    kinds = tuple(body.kind for body in bodies)
    return Scene(f"{condition}-{seed + 1:02d}", image[None], labels, condition, ("lamin",), kinds, angle_deg)


def two_channel_cells(seed: int = 0, *, count: int = 42, size: int = SIZE) -> Scene:
    """Spread cells that touch: cytoplasm in the first channel, nuclei in the second."""
    rng = np.random.default_rng([seed, 2])
    centres = _scatter(rng, count, size, 44.0)
    cells, nearness = _spread(rng, centres, size, reach=(29.0, 52.0), warp=9.0, slender=2.4)
    bodies = [
        _Body(y, x, rng.uniform(11.5, 15), rng.uniform(8.5, 11), rng.uniform(0, np.pi), _waves(rng, 0.03))
        for y, x in centres
    ]
    nuclei = np.zeros_like(cells)
    green, blue = np.zeros((size, size)), np.zeros((size, size))
    grain = noise(rng, size, 1.3)
    strength = rng.lognormal(-0.35, 0.55, len(centres) + 1)
    strength[0] = 0
    fibres = 1 + 0.15 * grain + 0.08 * noise(rng, size, 4)
    thick = (0.35 + 0.65 * nearness**2) * (1 - 0.6 * np.exp(-_rim_distance(cells) / 3))
    green += strength[cells] * thick * np.clip(fibres, 0.2, None)
    for number, body in enumerate(bodies, 1):
        window = body.window(size)
        _, _, depth = body.coordinates(window)
        inside = (depth > 0) & (cells[window] == number)
        nuclei[window][inside] = number
        cover = edge(depth) * (cells[window] == number)
        green[window] *= 1 + cover * rng.uniform(-0.55, 0.2)
        chromatin = 1 + 0.16 * grain[window] - 0.5 * spots(rng, depth, 3, 1.8)
        blue[window] += cover * rng.lognormal(0, 0.25) * np.clip(chromatin, 0.2, None)
    debris(rng, blue)
    field = lamp(rng, size)
    channels = [
        camera(rng, scale * field * (blur(c, 1.1) + 0.10 * blur(c, 14) + 0.05), offset=100)
        for c, scale in ((green, 900), (blue, 1000))
    ]
    return Scene(
        f"cells-{seed + 1:02d}", np.stack(channels), cells, "", ("cytoplasm", "nuclei"),
        _cells(len(centres)), nuclei=nuclei,
    )  # fmt: skip


def phase_like(seed: int = 0, *, count: int = 20, size: int = SIZE) -> Scene:
    """Phase contrast: dark-grey textured bodies in a bright halo on a grey ground, uint8.

    The halo is what a phase ring does: it loses the slow part of the phase, here a wide blur.
    """
    rng = np.random.default_rng([seed, 3])
    centres = _scatter(rng, count, size, 66.0)
    cells, nearness = _spread(rng, centres, size, reach=(36.0, 66.0), warp=17.0, slender=3.2, wave=16.0)
    grain = 0.7 * noise(rng, size, 1.0) + 0.6 * noise(rng, size, 2.2)
    rim = _rim_distance(cells)
    thick = 0.30 + 0.30 * (1 - np.exp(-rim / 5)) + 0.55 * nearness**2
    phase = (cells > 0) * thick * (1 + (0.05 + 0.17 * nearness) * grain)
    for number, (y, x) in enumerate(centres, 1):
        body = _Body(y, x, rng.uniform(9, 12), rng.uniform(7, 8.5), rng.uniform(0, np.pi), _waves(rng, 0.03))
        window = body.window(size)
        _, _, depth = body.coordinates(window)
        own = (cells[window] == number) * np.clip(rim[window] / 4, 0, 1)
        within = own * edge(depth)
        phase[window] += within * (0.95 - phase[window]) * 0.75  # a nucleus is smoother than what is round it
        phase[window] += own * 0.30 * np.exp(-(((depth - 0.5) / 1.2) ** 2))
        phase[window] += within * 1.1 * spots(rng, depth - 2, int(rng.integers(1, 4)), 1.5)
        around = 6 - np.abs(depth + 6)  # vesicles gather round the nucleus
        phase[window] += own * 0.9 * spots(rng, around, int(rng.integers(3, 14)), 0.9)
        phase[window] -= own * 1.0 * spots(rng, around, int(rng.integers(0, 5)), 1.1)
    specks(rng, phase)
    seen = blur(phase, 0.8)
    seen = 0.43 - 0.36 * (seen - 0.42 * blur(phase, 3.0) - 0.53 * blur(phase, 9))
    seen += 0.03 * noise(rng, size, 60) + 0.006 * noise(rng, size, 2.0)
    seen = (seen * (0.75 + 0.25 * lamp(rng, size)) + 0.006 * rng.standard_normal(seen.shape)) * 255
    image = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
    return Scene(f"phase-{seed + 1:02d}", image[None], cells, "", ("phase",), _cells(len(centres)))


def _cells(count: int) -> tuple[Kind, ...]:
    kind: Kind = "cell"
    return (kind,) * count


# ---------------------------------------------------------------- shapes


def _waves(rng: np.random.Generator, amplitude: float) -> tuple[tuple[int, float, float], ...]:
    return tuple((k, rng.normal(0, amplitude / (k - 1)), rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))


def _nucleus(rng: np.random.Generator, elongated: bool, along: float) -> _Body:
    """A nucleus at the origin; one in twenty is dying, one in fifteen out of focus."""
    area = 690 * rng.lognormal(0, 0.16 if elongated else 0.38)  # px², 110 µm²
    aspect = rng.normal(2.7, 0.35) if elongated else 1.15 + abs(rng.normal(0, 0.28))
    tilt = rng.normal(0, np.deg2rad(5 if elongated else 40))
    draw = rng.uniform()
    kind: Kind = "apoptotic" if draw < 0.05 else "blurred" if draw < 0.12 else "cell"
    if kind == "apoptotic":
        area, aspect = area * 0.26, rng.uniform(1.0, 1.5)
    minor = np.sqrt(area / np.pi / max(aspect, 1.0))
    waves = _waves(rng, 0.12 if kind == "apoptotic" else 0.03 if elongated else 0.055)
    return _Body(0, 0, minor * max(aspect, 1.0), minor, along + tilt, waves, kind)


def _place(
    rng: np.random.Generator, draw: Any, count: int, size: int, touching: float
) -> tuple[list[_Body], NDArray[np.int32]]:
    """Put bodies on the image, most apart, a part of them slid against a neighbour."""
    from dataclasses import replace

    labels = np.zeros((size, size), np.int32)
    bodies: list[_Body] = []
    for _ in range(count * 12):
        if len(bodies) == count:
            break
        body = draw()
        gap = 2.5
        y, x = rng.uniform(-6, size + 6, 2)
        if bodies and rng.uniform() < touching:
            near = bodies[int(rng.integers(len(bodies)))]
            y, x = _slide(rng, replace(body, y=y, x=x), near, size, labels)
            gap = -0.06 * body.minor
        body = replace(body, y=y, x=x)
        window = body.window(size)
        depth = body.coordinates(window)[2]
        taken = labels[window] > 0
        if (depth[taken] > -gap).any() or np.count_nonzero(depth > 0) < 25:
            continue
        labels[window][(depth > 0) & ~taken] = len(bodies) + 1
        bodies.append(body)
    return bodies, labels


def _slide(
    rng: np.random.Generator, body: _Body, near: _Body, size: int, labels: NDArray[np.int32]
) -> tuple[float, float]:
    """Where ``body``, pushed towards ``near`` from a random side, first touches something."""
    from dataclasses import replace

    side = rng.uniform(0, 2 * np.pi)
    for distance in np.arange(near.major + body.major, 0, -0.5):
        y, x = near.y + distance * np.sin(side), near.x + distance * np.cos(side)
        window = (moved := replace(body, y=y, x=x)).window(size)
        if ((moved.coordinates(window)[2] > 0) & (labels[window] > 0)).any():
            break
    return float(y), float(x)


def _scatter(rng: np.random.Generator, count: int, size: int, apart: float) -> list[tuple[float, float]]:
    """Centres in loose colonies, no two nearer than ``apart`` px."""
    density = noise(rng, size, 70)
    centres: list[tuple[float, float]] = []
    for _ in range(count * 60):
        y, x = rng.uniform(6, size - 6, 2)
        if density[int(y), int(x)] < rng.normal(-0.2, 0.5):
            continue
        if all(np.hypot(y - b, x - a) > apart for b, a in centres):
            centres.append((float(y), float(x)))
        if len(centres) == count:
            break
    return centres


def _spread(
    rng: np.random.Generator,
    centres: list[tuple[float, float]],
    size: int,
    *,
    reach: tuple[float, float],
    warp: float,
    slender: float = 1.9,
    wave: float = 11.0,
) -> tuple[NDArray[np.int32], Floats]:
    """Territories of spread cells: (Y, X) labels, and 1 at the centre falling to 0 at the rim."""
    yy, xx = np.mgrid[:size, :size].astype(float)
    yy += warp * noise(rng, size, wave) + 1.6 * noise(rng, size, 3.5)
    xx += warp * noise(rng, size, wave) + 1.6 * noise(rng, size, 3.5)
    best, labels = np.ones((size, size)), np.zeros((size, size), np.int32)
    for number, (y, x) in enumerate(centres, 1):
        direction, aspect = rng.uniform(0, np.pi), rng.uniform(1.1, slender)
        long = rng.uniform(*reach)
        # The warp must not move the cell away from its nucleus.
        dy, dx = yy - yy[int(y), int(x)], xx - xx[int(y), int(x)]
        u = dx * np.cos(direction) + dy * np.sin(direction)
        v = -dx * np.sin(direction) + dy * np.cos(direction)
        distance = np.hypot(u / long, v / (long / aspect))
        nearer = distance < best
        best[nearer], labels[nearer] = distance[nearer], number
    labels = _one_piece(labels, centres)
    return labels, np.where(labels > 0, np.sqrt(np.clip(1 - best**2, 0, 1)), 0.0)


def _one_piece(labels: NDArray[np.int32], centres: list[tuple[float, float]]) -> NDArray[np.int32]:
    """Drop islands that the warp cut off from their cell, and fill the holes it left."""
    from scipy import ndimage

    pieces, filled = np.zeros_like(labels), np.zeros_like(labels)
    for number, (y, x) in enumerate(centres, 1):
        parts, _ = ndimage.label(labels == number)
        pieces[parts == (parts[int(y), int(x)] or -1)] = number
    for number in range(1, len(centres) + 1):
        filled[ndimage.binary_fill_holes(pieces == number) & ((pieces == number) | (pieces == 0))] = number
    return filled


def _rim_distance(labels: NDArray[np.int32]) -> Floats:
    """Distance (px) of each pixel of a cell from its outline, neighbours included."""
    from scipy import ndimage

    distance = np.zeros(labels.shape)
    for number, window in enumerate(ndimage.find_objects(labels), 1):
        if window is not None:
            own = np.pad(labels[window] == number, 1)
            distance[window] += ndimage.distance_transform_edt(own)[1:-1, 1:-1]
    return distance


def _lamin(rng: np.random.Generator, body: _Body, window: tuple[slice, slice], texture: Floats) -> Floats:
    """Light of one nucleus: a rim brighter than the centre, chromatin, now and then a fold."""
    u, v, depth = body.coordinates(window)
    cover = edge(depth)
    if body.kind == "apoptotic":
        blebs = spots(rng, depth - 1, 6, body.minor * 0.22)
        return rng.uniform(1.1, 1.7) * cover * (0.4 + np.clip(blebs, 0, 1.3))
    turn = np.arctan2(v, u)
    uneven = 1 + 0.25 * np.cos(turn + rng.uniform(0, 6.3)) + 0.2 * np.cos(3 * turn + rng.uniform(0, 6.3))
    light = 0.5 + 0.42 * uneven * np.exp(-((depth / 2.2) ** 2)) + 0.11 * texture
    if rng.uniform() < 0.4:  # wrinkle of the envelope, along the nucleus
        bend = v - rng.uniform(-0.3, 0.3) * body.minor - 1.5 * np.sin(u / body.major * 2 + rng.uniform(0, 6))
        light += rng.uniform(0.12, 0.3) * np.exp(-((bend / 1.2) ** 2)) * np.clip(depth / 3, 0, 1)
    nucleoli = spots(rng, depth, int(rng.integers(0, 3)), 2.2)
    lit: Floats = rng.lognormal(-0.1, 0.28) * cover * np.clip(light - 0.2 * nucleoli, 0.1, None)
    return lit
