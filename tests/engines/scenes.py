"""Synthetic nuclei with known truth for the engine's tests."""

import numpy as np
from scipy import ndimage


def nuclei(seed=0, shape=(160, 180), diameter=18.0, count=25, noise=0.04):
    """Blurred, noisy ellipses that may touch but do not overlap: ``(image (Y, X) float32 in 0..1, labels)``."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    labels = np.zeros(shape, dtype=np.int32)
    light = np.zeros(shape, dtype=np.float32)
    for value in range(1, count + 1):
        for _ in range(30):
            y, x = rng.uniform(0.05, 0.95, 2) * shape
            turn, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.35)
            radius = diameter / 2 * rng.uniform(0.9, 1.1)
            a = (xx - x) * np.cos(turn) + (yy - y) * np.sin(turn)
            b = -(xx - x) * np.sin(turn) + (yy - y) * np.cos(turn)
            cell = (a / stretch) ** 2 + (b * stretch) ** 2 < radius**2
            if not (labels[cell] > 0).any():
                labels[cell] = value
                light[cell] = rng.uniform(0.45, 0.9)
                break
    light = ndimage.gaussian_filter(light, diameter / 16)
    image = 0.08 + light + 0.05 * xx / shape[1] + rng.normal(0, noise, shape)
    return np.clip(image, 0, 1).astype(np.float32), labels
