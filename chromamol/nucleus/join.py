"""Pieces of one nucleus put together again: a verdict on every seam, from shape, light and size.

A watershed cuts at every notch and every dark fold of chromatin. Whether two pieces are one nucleus shows in
what the union would look like.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy import ndimage
from scipy.spatial import ConvexHull

from chromamol.nucleus.boxes import touching_pixels
from chromamol.shapes import Labels

Image = Float32[np.ndarray, "..."]


STRIP_RADII = 0.5
"""Width of the strips beside a seam: shows a step in brightness, not the nucleus's own slope."""
SMALLEST_CONCAVITY = 0.01  # pixel steps leave this much of any hull empty


@dataclass(frozen=True)
class SeamWeights:
    """Log-odds that a seam separates two nuclei: `constant` + weights times evidence.

    Fitted by logistic regression to the seams of 200 labelled fields (the tuning half of the 2018 Data
    Science Bowl fields, those whose file name has an even first SHA-256 byte).
    """

    concavity: float = 2.5
    """Log of the part of its convex hull that the union leaves empty: two ellipses side by side leave more."""
    irregularity: float = -23.0
    """Part of their own hulls that the pieces leave empty: where outlines are ragged, concavity says less."""
    dark_seam: float = 21.2
    """Log ratio of the light beside the seam, on its dimmer side, to the light along it."""
    unlike: float = 20.5
    """Absolute log ratio of the light on both sides of the seam."""
    size: float = 1.4
    """Log of the smaller piece's size over that of a typical nucleus."""
    constant: float = 7.1


@dataclass(frozen=True, eq=False)
class Piece:
    """What the verdict needs of a piece; two pieces add up to their union without a look at pixels."""

    size: float
    light: float
    corners: Float[np.ndarray, "corners axes"]
    hull: float

    @property
    def solidity(self) -> float:
        return self.size / self.hull

    def __add__(self, other: Piece) -> Piece:
        hull = ConvexHull(np.concatenate([self.corners, other.corners]))
        size = self.size + other.size
        light = (self.light * self.size + other.light * other.size) / size
        return Piece(size, light, hull.points[hull.vertices], float(hull.volume))


@dataclass(frozen=True)
class Strip:
    """Some pixels: how many, and their summed light."""

    pixels: float = 0.0
    total: float = 0.0

    @property
    def light(self) -> float:
        return self.total / self.pixels

    def __add__(self, other: Strip) -> Strip:
        return Strip(self.pixels + other.pixels, self.total + other.total)


@dataclass(frozen=True)
class Seam:
    """Where two pieces meet: the seam itself, and the strip beside it in the first and in the second piece."""

    line: Strip
    first: Strip
    second: Strip

    def __add__(self, other: Seam) -> Seam:
        return Seam(self.line + other.line, self.first + other.first, self.second + other.second)

    def turned(self) -> Seam:
        return Seam(self.line, self.second, self.first)


def seam_evidence(
    first: Piece, second: Piece, union: Piece, seam: Seam, typical_size: float
) -> tuple[float, float, float, float, float]:
    """Return the evidence in the order of `SeamWeights`."""
    solidity = (first.solidity * first.size + second.solidity * second.size) / union.size
    return (
        math.log(SMALLEST_CONCAVITY + max(0.0, 1 - union.solidity)),
        1 - solidity,
        math.log(min(seam.first.light, seam.second.light) / seam.line.light),
        abs(math.log(seam.first.light / seam.second.light)),
        math.log(min(first.size, second.size) / typical_size),
    )


def join_pieces(
    pieces: Labels, light: Image, *, spacing: tuple[float, ...], radius: float, weights: SeamWeights
) -> Labels:
    """Join pieces across the seams that don't separate nuclei, the least convincing seam first.

    Parameters
    ----------
    pieces : labels of the over-segmented image, 0 = background.
    light : smoothed light above background, not negative.
    spacing : pixel spacing along each axis, in the unit of `radius`.
    radius : typical nuclear radius.
    """
    ndim = pieces.ndim
    typical = (math.pi if ndim == 2 else 4 / 3 * math.pi) * radius**ndim
    # A floor keeps the logarithms finite where a seam or a piece is as dark as the background.
    lit = np.maximum(light, 0.01 * float(light.max()) + 1e-12)
    parts = describe_pieces(pieces, lit, spacing)
    seams = find_seams(pieces, lit, spacing, STRIP_RADII * radius)
    parent = np.arange(int(pieces.max()) + 1, dtype=np.int32)
    queue: list[tuple[float, int, int]] = []

    def consider(pair: tuple[int, int]) -> None:
        first, second = (parts[name] for name in pair)
        evidence = seam_evidence(first, second, first + second, seams[pair], typical)
        w = weights
        odds = w.constant + np.dot((w.concavity, w.irregularity, w.dark_seam, w.unlike, w.size), evidence)
        if odds < 0:
            heapq.heappush(queue, (float(odds), *pair))

    for pair in sorted(seams):
        consider(pair)
    fresh = itertools.count(len(parent))
    names = {name: name for name in parts}  # current name -> lowest label in it
    members = {name: [name] for name in parts}
    while queue:
        _, one, other = heapq.heappop(queue)
        if one not in parts or other not in parts:
            continue  # joined with something else since
        new = next(fresh)
        parts[new] = parts.pop(one) + parts.pop(other)
        members[new] = members.pop(one) + members.pop(other)
        names[new] = min(names.pop(one), names.pop(other))
        for pair in _inherit(seams, one, other, new):
            consider(pair)
    for name, labels in members.items():
        parent[labels] = names[name]
    return parent[pieces]


def _inherit(seams: dict[tuple[int, int], Seam], one: int, other: int, new: int) -> list[tuple[int, int]]:
    """Hand the seams of two joined pieces to their union; return the union's pairs."""
    changed: dict[tuple[int, int], Seam] = {}
    for pair in [p for p in seams if one in p or other in p]:
        seam = seams.pop(pair)
        rest = [name for name in pair if name not in (one, other)]
        if rest:
            key = (rest[0], new)
            seam = seam if pair[0] == rest[0] else seam.turned()
            changed[key] = changed[key] + seam if key in changed else seam
    seams.update(changed)
    return sorted(changed)


def describe_pieces(pieces: Labels, light: Image, spacing: tuple[float, ...]) -> dict[int, Piece]:
    """Measure every piece: size, mean light, corners of the convex hull and its volume."""
    volume = math.prod(spacing)
    # Hulls run through the middles of pixel faces: along a slanted edge these lie on it, corners outside of it.
    faces = 0.5 * np.concatenate([np.eye(pieces.ndim), -np.eye(pieces.ndim)])
    result = {}
    for label, box in enumerate(ndimage.find_objects(pieces), start=1):
        if box is None:
            continue
        own = pieces[box] == label
        rim = own & ~ndimage.binary_erosion(own)
        origin = np.array([s.start for s in box])
        points = (np.argwhere(rim)[:, None] + origin + faces).reshape(-1, pieces.ndim) * np.array(spacing)
        hull = ConvexHull(np.unique(points, axis=0))
        result[label] = Piece(
            float(np.count_nonzero(own)) * volume,
            float(light[box][own].mean()),
            hull.points[hull.vertices],
            float(hull.volume),
        )
    return result


def find_seams(
    pieces: Labels, light: Image, spacing: tuple[float, ...], reach: float
) -> dict[tuple[int, int], Seam]:
    """Find where pieces meet, by pairs of labels in rising order; strips are `reach` wide on either side."""
    names, contacts, near = _contacts(pieces)
    if names.size == 0:
        return {}
    distance, nearest = ndimage.distance_transform_edt(near == 0, sampling=spacing, return_indices=True)
    beside = (distance <= reach) & (pieces > 0)
    seam_here = near[tuple(nearest[:, beside])] - 1
    sides = []
    for side in (0, 1):
        # The pixels in contact come first: where three pieces meet, a strip may hold nothing else.
        own = pieces[beside] == names[seam_here, side]
        index = np.concatenate([contacts[:, 0], seam_here[own]])
        lit = np.concatenate([light.ravel()[contacts[:, 1 + side]], light[beside][own]])
        sides.append(_strips(index, lit, len(names)))
    seams = {}
    in_contact = light.ravel()[contacts[:, 1:]].mean(axis=1)
    for name, line, first, second in zip(
        names, _strips(contacts[:, 0], in_contact, len(names)), *sides, strict=True
    ):
        seams[int(name[0]), int(name[1])] = Seam(line, first, second)
    return seams


def _contacts(
    pieces: Labels,
) -> tuple[Int[np.ndarray, "seams 2"], Int[np.ndarray, "contacts 3"], Labels]:
    """Return the pairs of labels that touch; every contact as (seam, pixel of the lower label, of the higher);
    and an image of seam number + 1 at the pixels in contact."""
    flat = pieces.ravel()
    pixels = np.concatenate([np.stack(pair, axis=1) for pair in touching_pixels(pieces)])
    turned = flat[pixels[:, 0]] > flat[pixels[:, 1]]
    pixels[turned] = pixels[turned][:, ::-1]
    names, seam = np.unique(flat[pixels], axis=0, return_inverse=True)
    near = np.zeros(pieces.shape, dtype=np.int64)
    for side in (0, 1):
        near.flat[pixels[:, side]] = seam.ravel() + 1
    return names, np.column_stack([seam.ravel(), pixels]), near


def _strips(index: Int[np.ndarray, " pixels"], light: Float32[np.ndarray, " pixels"], n: int) -> list[Strip]:
    counts = np.bincount(index, minlength=n)
    sums = np.bincount(index, weights=light, minlength=n)
    return [Strip(float(c), float(t)) for c, t in zip(counts, sums, strict=True)]
