"""Several nuclei in one field of view, with the labels that a perfect segmentation would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chromamol.errors import FieldError
from chromamol.shapes import FloatField, Labels, Mask


@dataclass(frozen=True, eq=False)
class PlacedNucleus:
    """A density with its mask, and where its box starts in the field (may be negative: a cut nucleus)."""

    density: FloatField
    mask: Mask
    corner: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """Volume fractions (..., y, x) of a whole field and labels: 0 background, 1..n in the order given."""

    density: FloatField
    labels: Labels


def place(nuclei: Sequence[PlacedNucleus], shape: tuple[int, ...]) -> Scene:
    """Put nuclei into one field; what lies beyond its border is cut off.

    Raises
    ------
    FieldError : two nuclei that overlap (touching is fine), or one that lies outside the field.
    """
    density, labels = np.zeros(shape), np.zeros(shape, dtype=np.int32)
    for label, nucleus in enumerate(nuclei, start=1):
        target, source = _overlap(nucleus.corner, nucleus.mask.shape, shape)
        inside = nucleus.mask[source]
        if not inside.any():
            raise FieldError(f"Nucleus {label} at {nucleus.corner} lies outside the field of {shape}.",
                             expected="at least one of its pixels in the field.", do="move it.")  # fmt: skip
        if (labels[target][inside] > 0).any():
            raise FieldError(f"Nucleus {label} at {nucleus.corner} overlaps another one.",
                             expected="nuclei that touch at most.", do="move it apart.")  # fmt: skip
        labels[target][inside] = label
        density[target][inside] = nucleus.density[source][inside]
    return Scene(density, labels)


def touch(left: Mask, right: Mask, left_corner: tuple[int, int]) -> tuple[int, int]:
    """Corner at which `right` touches `left` from its right side, one pixel apart at the closest row.

    Both masks are 2D; the rows of their boxes are aligned at the centres.
    """
    row = left_corner[0] + left.shape[0] // 2 - right.shape[0] // 2
    gaps = []
    for y in range(right.shape[0]):
        yl = row + y - left_corner[0]
        if 0 <= yl < left.shape[0] and left[yl].any() and right[y].any():
            gaps.append(np.flatnonzero(left[yl])[-1] - np.flatnonzero(right[y])[0])
    if not gaps:
        raise FieldError("Two masks that share no row.", expected="two nuclei.", do="check the masks.")
    return row, left_corner[1] + int(max(gaps)) + 1


def _overlap(
    corner: tuple[int, ...], size: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    low = [max(c, 0) for c in corner]
    high = [max(min(c + s, n), lo) for c, s, n, lo in zip(corner, size, shape, low, strict=True)]
    target = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True))
    return target, source
