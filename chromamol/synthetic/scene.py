"""Several nuclei in one field of view, with the labels that a perfect segmentation would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation

from chromamol.errors import FieldError
from chromamol.shapes import FloatField, Labels, Mask

SCATTER_TRIALS = 500


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


def scatter(
    masks: Sequence[Mask], shape: tuple[int, int], *, touching: int = 0, cut: int = 0, gap: int = 6,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:  # fmt: skip
    """Return corners at random places for nuclei that do not overlap; see `place`.

    Parameters
    ----------
    masks : 2D outlines, one per nucleus.
    shape : of the field.
    touching : pairs that touch: the 2nd nucleus sits at the right side of the 1st, the 4th at that of the 3rd, ...
    cut : so many of the last nuclei lie across the border of the field.
    gap : free pixels between nuclei that do not touch.

    Raises
    ------
    FieldError : the field is too small for them, or fewer nuclei than `touching` and `cut` need.
    """
    if 2 * touching + cut > len(masks):
        raise FieldError(f"{touching} touching pairs and {cut} cut nuclei of {len(masks)}.",
                         expected="no more than there are nuclei.", do="ask for more nuclei.")  # fmt: skip
    taken = np.zeros(shape, dtype=bool)
    corners: list[tuple[int, int]] = []
    index = 0
    while index < len(masks):
        group = list(masks[index : index + 2] if index < 2 * touching else masks[index : index + 1])
        across = index >= len(masks) - cut
        found = _free_place(group, taken, across=across, gap=gap, rng=rng)
        for mask, corner in zip(group, found, strict=True):
            target, source = _overlap(corner, mask.shape, shape)
            taken[target] |= mask[source]
        corners += found
        index += len(group)
    return corners


def _free_place(
    group: Sequence[Mask], taken: Mask, *, across: bool, gap: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Corners of one nucleus, or of two that touch, where nothing lies within `gap`."""
    blocked = binary_dilation(taken, iterations=gap) if gap and taken.any() else taken
    for _ in range(SCATTER_TRIALS):
        corners = [_draw_corner(group[0].shape, taken.shape, across=across, rng=rng)]
        if len(group) == 2:
            corners.append(touch(group[0], group[1], corners[0]))
        if all(_fits(m, c, blocked, across=across) for m, c in zip(group, corners, strict=True)):
            return corners
    raise FieldError(f"No free place for a nucleus of {group[0].shape} pixels in a field of {taken.shape}.",
                     expected="a field with room for all nuclei.",
                     do="enlarge the field or ask for fewer nuclei.")  # fmt: skip


def _draw_corner(
    size: tuple[int, ...], shape: tuple[int, ...], *, across: bool, rng: np.random.Generator
) -> tuple[int, int]:
    """Anywhere inside, or with 30 to 70 % of the nucleus beyond one of the four sides."""
    room = [max(n - s, 0) for s, n in zip(size, shape, strict=True)]
    corner = [int(rng.integers(0, r + 1)) for r in room]
    if across:
        axis, far, out = int(rng.integers(2)), bool(rng.integers(2)), float(rng.uniform(0.3, 0.7))
        corner[axis] = shape[axis] - round((1.0 - out) * size[axis]) if far else -round(out * size[axis])
    return corner[0], corner[1]


def _fits(mask: Mask, corner: tuple[int, int], blocked: Mask, *, across: bool) -> bool:
    target, source = _overlap(corner, mask.shape, blocked.shape)
    inside = mask[source]
    whole = inside.sum() == mask.sum()
    return bool(inside.any()) and (across or whole) and not (blocked[target] & inside).any()


def _overlap(
    corner: tuple[int, ...], size: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    low = [max(c, 0) for c in corner]
    high = [max(min(c + s, n), lo) for c, s, n, lo in zip(corner, size, shape, low, strict=True)]
    target = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True))
    return target, source
