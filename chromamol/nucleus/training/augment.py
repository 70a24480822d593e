"""Variants of a labelled field: what other microscopes, stains and cells would have made of it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float32, Int32
from scipy import ndimage

from chromamol.nucleus.training.fields import FINENESS, TrainingField

SIDE = 160
"""Side of a training crop: about seven nuclei."""

SCALES = (0.58, 1.7)
"""Nuclei are shown this much smaller and larger: fields are mixed, and their scale is estimated."""

FAITHFUL_SCALES = (0.8, 1.25)
"""The same for crops that are shown about as they are."""

EMPTY_SHARE = 0.02
"""Part of the crops that are noise without nuclei."""

Image = Float32[np.ndarray, "y x"]
Variant = tuple[Image, Int32[np.ndarray, "y x"], Bool[np.ndarray, "y x"]]


def variant(field: TrainingField, rng: np.random.Generator, *, faithful: float = 0.0) -> Variant:
    """Return image, labels and the pixels that lie inside the field, for one random crop.

    Parameters
    ----------
    faithful : how often a crop is shown about as it is, turned and mirrored only.
    """
    if rng.random() < EMPTY_SHARE:
        return _empty(rng)
    as_it_is = faithful > 0 and rng.random() < faithful
    coordinates, ratio = _coordinates(field, rng, FAITHFUL_SCALES if as_it_is else SCALES)
    low = np.floor(coordinates.min(axis=(1, 2))).astype(int) - 2
    high = np.ceil(coordinates.max(axis=(1, 2))).astype(int) + 3
    box = tuple(slice(max(0, a), min(n, b)) for a, b, n in zip(low, high, field.image.shape, strict=True))
    local = coordinates - np.array([s.start for s in box])[:, None, None]
    source = field.image[box]
    if ratio > 1.2:
        source = ndimage.gaussian_filter(source, 0.4 * ratio)
    image = ndimage.map_coordinates(source, local, order=1, mode="reflect")
    labels = ndimage.map_coordinates(field.labels[box], local, order=0, mode="constant", cval=0)
    inside = np.all(
        [(c > -0.5) & (c < n - 0.5) for c, n in zip(coordinates, field.image.shape, strict=True)], axis=0
    )
    image = image * math.exp(rng.normal(0, 0.1)) if as_it_is else _retouch(image, labels, rng)
    return image.astype(np.float32), labels.astype(np.int32), inside


def _coordinates(
    field: TrainingField, rng: np.random.Generator, scales: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """Where in the field each pixel of the crop lies: turned, mirrored, scaled, slightly stretched."""
    scale = math.exp(rng.uniform(math.log(scales[0]), math.log(scales[1])))
    stretch = math.exp(rng.normal(0, 0.06))
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mirror = np.diag([1.0, rng.choice([-1.0, 1.0])])
    ratio = FINENESS / scale
    matrix = turn @ np.diag([ratio * stretch, ratio / stretch]) @ mirror
    shape = np.array(field.image.shape)
    if len(field.centres) and rng.random() < 0.8:
        centre = field.centres[rng.integers(len(field.centres))] + rng.uniform(-0.4, 0.4, 2) * SIDE * ratio
    else:
        centre = rng.uniform(0, shape)
    # Crops mostly stay in the field: what lies outside teaches nothing.
    margin = np.minimum(0.35 * SIDE * ratio, shape / 2)
    centre = np.clip(centre, margin, shape - margin)
    steps = np.arange(SIDE) - (SIDE - 1) / 2
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"))
    return np.einsum("ij,jyx->iyx", matrix, offsets) + centre[:, None, None], ratio


def _empty(rng: np.random.Generator) -> Variant:
    noise = rng.normal(0, 1, (SIDE, SIDE))
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, rng.uniform(0.3, 2.5))
    low, high = np.percentile(noise, [1, 99.8])
    image = ((noise - low) / (high - low) * rng.uniform(0.7, 1.5)).astype(np.float32)
    return image, np.zeros((SIDE, SIDE), dtype=np.int32), np.ones((SIDE, SIDE), dtype=bool)


def _retouch(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change light, contrast, sharpness and noise; each change happens to some crops only."""
    if rng.random() < 0.35:
        image = _dim_some(image, labels, rng)
    if rng.random() < 0.25:
        image = image * _texture(labels, rng)
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.8))
    if rng.random() < 0.5:
        image = np.sign(image) * np.abs(image) ** math.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.35:
        image = _uneven(image, rng)
    image = image * math.exp(rng.uniform(math.log(0.5), math.log(1.6))) + rng.normal(0, 0.02)
    if rng.random() < 0.4:
        image = image + rng.normal(0, math.exp(rng.uniform(math.log(0.004), math.log(0.1))), image.shape)
    if rng.random() < 0.25:
        photons = math.exp(rng.uniform(math.log(15), math.log(600)))
        image = rng.poisson(np.clip(image + 0.05, 0, 3) * photons) / photons - 0.05
    if rng.random() < 0.1:
        image = np.minimum(image, rng.uniform(0.4, 1.0))
    return image


def _dim_some(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the brightness of single nuclei, each by its own factor."""
    factors = np.exp(rng.uniform(math.log(0.3), math.log(1.5), int(labels.max()) + 1))
    factors[0] = 1.0
    return image * ndimage.gaussian_filter(factors[labels], 0.8)


def _texture(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clumps of chromatin inside the nuclei, as finer microscopes show them."""
    grain = ndimage.gaussian_filter(rng.normal(0, 1, labels.shape), rng.uniform(0.8, 3.0))
    grain = np.exp(rng.uniform(0.1, 0.6) * grain / max(float(grain.std()), 1e-6))
    return np.where(labels > 0, grain, 1.0)


def _uneven(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uneven illumination, and haze."""
    steps = np.linspace(-1, 1, SIDE)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    a, b, c = rng.uniform(-0.35, 0.35, 3)
    haze = rng.uniform(0, 0.25) * ndimage.gaussian_filter(image, rng.uniform(6, 25))
    return image * (1 + a * y + b * x + c * (x**2 + y**2) / 2) + haze
