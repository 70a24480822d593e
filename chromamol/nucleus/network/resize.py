"""Images and labels on another number of pixels over the same area."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int32
from scipy import ndimage

from chromamol.shapes import Labels

ANTIALIAS = 0.4
"""Gaussian in units of the new pixel before shrinking: what is finer than two new pixels is averaged out."""


def resize(image: Float32[np.ndarray, "y x"], scale: float) -> Float32[np.ndarray, "Y X"]:
    """Enlarge (`scale` above 1) or shrink an image; shrinking averages first, so that nothing is aliased."""
    if scale < 1:
        image = ndimage.gaussian_filter(image, ANTIALIAS / scale)
    return sample(image, tuple(max(1, round(n * scale)) for n in image.shape), order=1)


def resize_labels(
    labels: Labels, shape: tuple[int, ...], *, mask: Bool[np.ndarray, "y x"] | None = None
) -> Int32[np.ndarray, "y x"]:
    """Bring labels to another shape; enlarged outlines are those of the interpolated masks, not steps.

    Parameters
    ----------
    labels : 0 = background.
    shape : of the result.
    mask : of that shape: which pixels of the result are labelled. Then `labels` only say to which nucleus a pixel
        belongs, and should reach a little beyond the mask. Without it a pixel is labelled where the interpolated
        mask of a nucleus exceeds one half.
    """
    if shape[0] <= labels.shape[0]:
        small = sample(labels.astype(np.int32), shape, order=0)
        return small if mask is None else np.where(mask, small, 0).astype(np.int32)
    result = np.zeros(shape, dtype=np.int32)
    best = np.full(shape, 0.5 if mask is None else 0.0, dtype=np.float32)
    ratio = [n / m for n, m in zip(shape, labels.shape, strict=True)]
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        near = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in box)
        wide = tuple(
            slice(max(0, int((s.start - 1) * r)), min(n, int((s.stop + 1) * r) + 1))
            for s, r, n in zip(box, ratio, shape, strict=True)
        )
        soft = _interpolated(labels[near] == label, near, wide, ratio)
        wins = soft > best[wide]
        best[wide][wins] = soft[wins]
        result[wide][wins] = label
    return result if mask is None else np.where(mask, result, 0).astype(np.int32)


def _interpolated(
    own: Bool[np.ndarray, "y x"], near: tuple[slice, ...], wide: tuple[slice, ...], ratio: list[float]
) -> Float32[np.ndarray, "Y X"]:
    values = own.astype(np.float32)
    for axis in range(2):
        places = (np.arange(wide[axis].start, wide[axis].stop) + 0.5) / ratio[axis] - 0.5 - near[axis].start
        values = _along(values, places, axis)
    return values


def sample(values: np.ndarray, shape: tuple[int, ...], *, order: int) -> np.ndarray:
    """Sample an image on another number of pixels over the same area: linearly (order 1) or the nearest (0)."""
    for axis, n in enumerate(shape):
        places = (np.arange(n) + 0.5) * values.shape[axis] / n - 0.5
        values = _along(values, places, axis) if order else _nearest(values, places, axis)
    return values


def _along(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along one axis; beyond the ends the end's value."""
    last = values.shape[axis] - 1
    places = np.clip(places, 0, last)
    left = np.minimum(places.astype(np.intp), max(last - 1, 0))
    part = np.expand_dims(
        (places - left).astype(values.dtype), tuple(a for a in range(values.ndim) if a != axis)
    )
    return np.take(values, left, axis) * (1 - part) + np.take(values, np.minimum(left + 1, last), axis) * part


def _nearest(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    return np.take(values, np.clip(np.rint(places).astype(np.intp), 0, values.shape[axis] - 1), axis)
