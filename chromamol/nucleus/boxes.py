"""Where each label lies in its image, and where two of them touch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from scipy import ndimage

from chromamol.shapes import Labels

MOST_NUMBERS = 100_000
"""Largest number up to which labels are looked up as they are: a list of all numbers takes 34 s and 2 GB at 5e7."""


def label_boxes(labels: Labels) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yield the number and bounding box of each label, in the order of the numbers, which may have any gaps."""
    if not labels.size:
        return
    if int(labels.max()) <= MOST_NUMBERS:
        yield from (
            (n, box) for n, box in enumerate(ndimage.find_objects(labels), start=1) if box is not None
        )
        return
    numbers = np.unique(labels)
    numbers = numbers[numbers > 0]
    ranks = np.searchsorted(numbers, labels, side="right").astype(np.int32)  # 0 for the background
    yield from zip(numbers.tolist(), ndimage.find_objects(ranks), strict=True)


def shadow_sizes(labels: Labels) -> dict[int, int]:
    """Return how many pixels (y, x) each label covers; in a stack along z, whatever lies above or below it."""
    each = ((number, labels[box] == number) for number, box in label_boxes(labels))
    return {
        number: int(np.count_nonzero(inside if inside.ndim == 2 else inside.any(axis=0)))
        for number, inside in each
    }


def touching_pixels(
    labels: Labels,
) -> Iterator[tuple[Int[np.ndarray, " contacts"], Int[np.ndarray, " contacts"]]]:
    """Yield, axis by axis, the flat indices of neighbouring pixels that belong to two different labels."""
    number = np.arange(labels.size).reshape(labels.shape)
    for axis in range(labels.ndim):
        here = tuple(slice(None, -1) if a == axis else slice(None) for a in range(labels.ndim))
        there = tuple(slice(1, None) if a == axis else slice(None) for a in range(labels.ndim))
        touching = (labels[here] != labels[there]) & (labels[here] > 0) & (labels[there] > 0)
        yield number[here][touching], number[there][touching]
