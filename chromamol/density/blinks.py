"""One molecule, one localisation: duplicates and blinking taken together before anything is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from chromamol.errors import ParameterError
from chromamol.io import Localizations

DISTANCE_PER_PRECISION = 4.0
"""Two sightings of one molecule differ by √2 precisions along each axis: in the plane 98 % of the pairs lie within 4,
1 - exp(-4²/4)."""

DARK_FRAMES = 1
"""Frames that a molecule may be missing within one blink. Longer dark times can't be told from a neighbour
without knowing the fluorophore, so they stay apart."""


_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)


def drop_duplicates(table: Localizations) -> Localizations:
    """Remove rows of one frame at one position: tables joined twice, fits that met in one spot."""
    keys = [table.x_um, table.y_um]
    keys += [extra for extra in (table.z_um, table.frame, table.channel) if extra is not None]
    # Equal rows have equal sums of scrambled bits: one sort in place of one per column.
    scrambled = np.zeros(len(table), dtype=np.uint64)
    for factor, key in zip(_ODD, keys, strict=False):
        scrambled += np.ascontiguousarray(key, dtype=np.float64).view(np.uint64) * np.uint64(factor)
    order = np.argsort(scrambled)
    same = np.ones(len(table), dtype=bool)
    same[:1] = False
    for key in keys:
        same[1:] &= key[order][1:] == key[order][:-1]
    if not same.any():
        return table
    kept = np.sort(order[~same])
    return table.select(kept, note=f"{int(np.count_nonzero(same)):,} exact duplicates left out")


def merge_blinks(
    table: Localizations, *, distance_um: float | None = None, dark_frames: int = DARK_FRAMES
) -> Localizations:
    """Join localisations of one molecule in successive frames.

    Each localisation is linked to at most one later one, the earliest and then the nearest within
    `distance_um` and `dark_frames` + 1 frames, and each has at most one before it: pairs come from a k-d tree on
    (x, y, [z,] frame), so the work is O(n log n) at a given density per frame. A chain becomes one localisation
    at the mean position weighted by 1 / σ², with σ = (Σ 1 / σᵢ²)^(-1/2), the sum of intensities and the first frame.
    Molecules that the instrument followed (`trace`) are joined by their number.

    Parameters
    ----------
    distance_um : in µm; `DISTANCE_PER_PRECISION` median precisions when None.
    dark_frames : frames without the molecule that a chain may bridge.

    Returns
    -------
    Localizations; the table itself, with a note, where it has neither frames nor traces, or no distance is known.
    """
    if dark_frames < 0 or (distance_um is not None and not distance_um >= 0.0):
        raise ParameterError(f"distance_um = {distance_um}, dark_frames = {dark_frames}.",
                             expected="numbers >= 0.", do="use 0 to merge nothing.")  # fmt: skip
    if table.trace is not None:
        return _joined(table, np.unique(table.trace, return_inverse=True)[1], "by the instrument's traces")
    if table.frame is None:
        return replace(table, notes=(*table.notes, "blinks not merged: no frame numbers"))
    if distance_um is None:
        precision = np.empty(0) if table.precision_um is None else table.precision_um
        if not np.isfinite(precision).any():
            return replace(
                table, notes=(*table.notes, "blinks not merged: neither precision nor distance known")
            )
        distance_um = DISTANCE_PER_PRECISION * float(np.nanmedian(precision))
    if distance_um == 0.0 or len(table) < 2:
        return table
    molecule = _chains(table, distance_um, dark_frames)
    return _joined(table, molecule, f"within {1e3 * distance_um:.3g} nm and {dark_frames} dark frames")


def _chains(table: Localizations, distance_um: float, dark_frames: int) -> np.ndarray:
    """Number the chains of linked localisations."""
    assert table.frame is not None
    reach = dark_frames + 1
    axes = [table.x_um, table.y_um] + ([table.z_um] if table.is_3d and table.z_um is not None else [])
    places = np.stack([axis / distance_um for axis in axes], axis=1)
    # A frame further than `reach` lies outside of the box, whatever the position. Float64 holds frames exactly.
    time = table.frame.astype(np.float64) / (reach + 0.5)
    tree = cKDTree(np.column_stack([places, time]), balanced_tree=False, compact_nodes=False)
    first, second = tree.query_pairs(1.0, p=np.inf, output_type="ndarray").T
    gap = table.frame[second] - table.frame[first]
    swap = gap < 0
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    distance = np.sum(np.square(places[first] - places[second]), axis=1)
    kept = np.flatnonzero((gap != 0) & (distance <= 1.0))
    first, second = first[kept], second[kept]
    cost = np.abs(gap[kept]) + 0.5 * distance[kept]  # the earliest first, then the nearest
    for side in (0, 1):  # one successor each, then one predecessor each
        own = (first, second)[side]
        cheapest = np.full(len(table), np.inf)
        np.minimum.at(cheapest, own, cost)
        best = cost == cheapest[own]
        first, second, cost = first[best], second[best], cost[best]
    count = len(table)
    links = coo_matrix((np.ones(first.size, dtype=np.int8), (first, second)), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1])


def _joined(table: Localizations, molecule: np.ndarray, how: str) -> Localizations:
    count = int(molecule.max()) + 1 if molecule.size else 0
    sigma = table.precision_um
    known = sigma is not None and bool(np.isfinite(sigma).all())
    weight = 1.0 / np.square(sigma) if known and sigma is not None else np.ones(len(table))
    total = np.bincount(molecule, weight, count)

    def mean(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.bincount(molecule, weight * values, count) / total

    # Reversed, so that the first row of each molecule is the one that stays.
    first = np.zeros(count, dtype=np.int64)
    by_frame = np.arange(len(table)) if table.frame is None else np.argsort(table.frame, kind="stable")
    first[molecule[by_frame[::-1]]] = by_frame[::-1]
    x, y = mean(table.x_um), mean(table.y_um)
    assert x is not None
    assert y is not None
    return replace(
        table.select(first), x_um=x, y_um=y, z_um=mean(table.z_um),
        precision_um=1.0 / np.sqrt(total) if known else None if sigma is None else sigma[first],
        intensity=None if table.intensity is None else np.bincount(molecule, table.intensity, count),
        notes=(*table.notes, f"{len(table):,} localisations merged into {count:,} {how}"),
    )  # fmt: skip
