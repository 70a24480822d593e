"""Where each label lies in its image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
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
