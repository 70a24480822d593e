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

from chromamol.shapes import Labels

Image = Float32[np.ndarray, "..."]


@dataclass(frozen=True)
class SeamWeights:
    """Log-odds that a seam separates two nuclei: `constant` + weights times evidence.

    Fitted by logistic regression to the seams of 200 labelled fields (the tuning half of the 2018 Data
    Science Bowl fields, those whose file name has an even first SHA-256 byte).
    """

    concavity: float = 17.0
    """Solidity (part of the convex hull that is filled) that the union loses against its pieces."""
    irregularity: float = -19.0
    """Lack of solidity of the pieces themselves: where outlines are ragged, concavity says less."""
    dark_seam: float = 8.0
    """Log ratio of the dimmer piece's light to the light along the seam."""
    unlike: float = 9.0
    """Absolute log ratio of the light of the two pieces."""
    size: float = 0.8
    """Log of the smaller piece's size over that of a typical nucleus."""
    constant: float = 1.75


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
class Seam:
    """Pixels where two pieces meet: how many, and their mean light."""

    length: int
    light: float

    def __add__(self, other: Seam) -> Seam:
        length = self.length + other.length
        return Seam(length, (self.light * self.length + other.light * other.length) / length)


def seam_evidence(
    first: Piece, second: Piece, union: Piece, seam: Seam, typical_size: float
) -> tuple[float, float, float, float, float]:
    """Return the evidence in the order of `SeamWeights`."""
    solidity = (first.solidity * first.size + second.solidity * second.size) / union.size
    return (
        solidity - union.solidity,
        1 - solidity,
        math.log(min(first.light, second.light) / seam.light),
        abs(math.log(first.light / second.light)),
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
    seams = find_seams(pieces, lit)
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
            changed[key] = changed[key] + seam if key in changed else seam
    seams.update(changed)
    return sorted(changed)


def describe_pieces(pieces: Labels, light: Image, spacing: tuple[float, ...]) -> dict[int, Piece]:
    """Measure every piece: size, mean light, corners of the convex hull and its volume."""
    volume = math.prod(spacing)
    corners = np.array(list(itertools.product((-0.5, 0.5), repeat=pieces.ndim)))
    result = {}
    for label, box in enumerate(ndimage.find_objects(pieces), start=1):
        if box is None:
            continue
        own = pieces[box] == label
        rim = own & ~ndimage.binary_erosion(own)
        origin = np.array([s.start for s in box])
        points = (np.argwhere(rim)[:, None] + origin + corners).reshape(-1, pieces.ndim) * np.array(spacing)
        hull = ConvexHull(np.unique(points, axis=0))
        result[label] = Piece(
            float(np.count_nonzero(own)) * volume,
            float(light[box][own].mean()),
            hull.points[hull.vertices],
            float(hull.volume),
        )
    return result


def find_seams(pieces: Labels, light: Image) -> dict[tuple[int, int], Seam]:
    """Find where pieces meet, by pairs of labels in rising order."""
    pairs: list[Int[np.ndarray, "2 pixels"]] = []
    levels: list[Float32[np.ndarray, " pixels"]] = []
    for axis in range(pieces.ndim):
        here = tuple(slice(None, -1) if a == axis else slice(None) for a in range(pieces.ndim))
        there = tuple(slice(1, None) if a == axis else slice(None) for a in range(pieces.ndim))
        touching = (pieces[here] != pieces[there]) & (pieces[here] > 0) & (pieces[there] > 0)
        pairs.append(np.sort(np.stack([pieces[here][touching], pieces[there][touching]]), axis=0))
        levels.append((light[here][touching] + light[there][touching]) / 2)
    names, index = np.unique(np.concatenate(pairs, axis=1), axis=1, return_inverse=True)
    counts = np.bincount(index.ravel(), minlength=names.shape[1])
    sums = np.bincount(index.ravel(), weights=np.concatenate(levels), minlength=names.shape[1])
    return {
        (int(a), int(b)): Seam(int(n), float(s / n)) for a, b, n, s in zip(*names, counts, sums, strict=True)
    }
