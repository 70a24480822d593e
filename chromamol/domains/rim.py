"""Lamina-associated chromatin as molecules along the wall show it: how deep it reaches, column by column.

The rim is cut into narrow columns along the wall. A column of thickness t has the density

    λ(d) = Φ(d / σ_p) [low + (high - low) Φ((t - d) / σ)]      for d < t + 2σ,      σ² = interface² + σ_p²,

σ_p the precision; deeper, domains and what lies between them alternate as a two-state chain. t is a second chain, along
the wall: neighbours have similar thickness, jumps are rare. Both chains are summed over exactly (forward and backward),
and how frequent each thickness is follows from the nucleus itself (expectation maximisation). The mean of each
column's posterior is its thickness. Nothing is smoothed: thin layers are seen as far as their molecules tell.

References
----------
Rabiner, Proc. IEEE 77, 257 (1989), doi:10.1109/5.18626 (hidden Markov chains).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from chromamol.domains.wall import Wall
from chromamol.grid import Grid
from chromamol.shapes import Mask

DEPTH_STEP = 0.05
COLUMN = 0.2
THINNEST, DEEPEST, SEEN = 0.3, 3.0, 4.2
"""In radii of a domain: step in depth, width of a column, thickness of the thinnest and the deepest layer, depth of the
rim. An interface alone is as wide as the thinnest."""

CHORDS = (1.7, 3.5)
"""Mean length of a line in domains and between them, in radii: discs that cover a third."""

GAP = 0.3
"""In radii, behind a layer: cleared where the smoothed density had spread it. Half an interface."""

SLOPE, JUMP = 0.5, 0.003
"""Thickness changes by |Δt| with a probability that goes as exp(-|Δt| / (SLOPE · Δs)) + JUMP. Chosen on twelve
simulated nuclei: with larger ones layers of few molecules stayed undecided, without jumps the sides of steep LADs were
cut off."""

_ROUNDS = 12
_FLOOR = 0.02
_POINTS_PER_COLUMN = 8


@dataclass(frozen=True)
class RimLevels:
    """What densities mean: `low`, `high` per µm², `repeats` (variance of a count over its mean), lengths in µm."""

    low: float
    high: float
    repeats: float
    precision_um: float
    interface_um: float
    radius_um: float


@dataclass(frozen=True, eq=False)
class Rim:
    """Counts along the wall.

    Parameters
    ----------
    wall : its points, `_POINTS_PER_COLUMN` in a column.
    counts, areas : (columns, depths), molecules and µm².
    depths : middle of each, µm; the first are outside.
    """

    wall: Wall
    counts: np.ndarray
    areas: np.ndarray
    depths: np.ndarray


def rim_of(wall: Wall, y_um: np.ndarray, x_um: np.ndarray, *, radius_um: float, precision_um: float) -> Rim:
    """Count molecules in columns along the wall.

    Parameters
    ----------
    radius_um : of a domain; it sets the size of columns.
    precision_um : of a position: molecules that it moved out of the nucleus are counted, too.
    """
    dense = _even(wall, columns=max(8, round(wall.steps_um.sum() / (COLUMN * radius_um))))
    step = DEPTH_STEP * radius_um
    before = math.ceil(3.0 * precision_um / step)
    depths = step * (np.arange(-before, round(SEEN * radius_um / step)) + 0.5)
    nearest, depth = dense.place(y_um, x_um, within_um=SEEN * radius_um)
    columns = dense.points.size // _POINTS_PER_COLUMN
    layer = np.floor(np.where(np.isfinite(depth), depth, -1e9) / step) + before
    here = (layer >= 0) & (layer < depths.size)
    index = (nearest[here] // _POINTS_PER_COLUMN) * depths.size + layer[here].astype(np.int64)
    counts = np.bincount(index, minlength=columns * depths.size).reshape(columns, depths.size)
    return Rim(dense, counts.astype(np.float64), _areas(dense, depths, step), depths)


def layer_thickness(rim: Rim, levels: RimLevels) -> np.ndarray:
    """Return the thickness of each column in µm, 0 where nothing lies at the wall."""
    step = DEPTH_STEP * levels.radius_um
    states = np.concatenate([[0.0], np.arange(THINNEST * levels.radius_um, DEEPEST * levels.radius_um, step)])
    likely = _log_likelihood(rim, levels, states)
    posterior = _posterior(likely, states, width_um=COLUMN * levels.radius_um)
    some = 1.0 - posterior[:, 0]
    mean = posterior[:, 1:] @ states[1:] / np.maximum(some, 1e-12)
    return np.where(some > 0.5, mean, 0.0)


def rewrite(
    dense: Mask, mask: Mask, grid: Grid, rim: Rim, thickness: np.ndarray, *, radius_um: float
) -> tuple[Mask, Mask]:
    """Return domain material with the layers of the rim put in, and these layers alone.

    Parameters
    ----------
    dense : domain material of a smoothed density.
    mask : the nucleus.
    """
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] * grid.spacing_um[0]
    rows, columns = np.nonzero(mask & (depth < SEEN * radius_um))
    nearest, deep = rim.wall.place(grid.origin_um[0] + grid.spacing_um[0] * rows,
                                   grid.origin_um[1] + grid.spacing_um[1] * columns,
                                   within_um=SEEN * radius_um)  # fmt: skip
    here = thickness[nearest // _POINTS_PER_COLUMN]
    layers, cleared = np.zeros_like(mask), np.zeros_like(mask)
    layers[rows, columns] = deep < here
    # Behind the deepest layer that columns know, the density has the word.
    known = here < (DEEPEST - 2.0 * DEPTH_STEP) * radius_um
    cleared[rows, columns] = known & (deep >= here) & (deep < here + GAP * radius_um)
    return (dense & ~cleared) | layers, layers


def _even(wall: Wall, *, columns: int) -> Wall:
    """The wall with `_POINTS_PER_COLUMN` evenly spaced points in each column."""
    length = np.concatenate([[0.0], np.cumsum(wall.steps_um)])
    even = (np.arange(columns * _POINTS_PER_COLUMN) + 0.5) / (columns * _POINTS_PER_COLUMN) * length[-1]
    closed, normals = np.append(wall.points, wall.points[0]), np.append(wall.inward, wall.inward[0])
    points, inward = (np.interp(even, length, v.real) + 1j * np.interp(even, length, v.imag)
                      for v in (closed, normals))  # fmt: skip
    return Wall(points, inward / np.abs(inward))


def _areas(wall: Wall, depths: np.ndarray, step: float) -> np.ndarray:
    """Area of each cell: its width shrinks with the depth where the wall is curved."""
    columns = wall.points.size // _POINTS_PER_COLUMN
    areas = np.empty((columns, depths.size))
    for layer, depth in enumerate(depths):
        inner = wall.points + depth * wall.inward
        width = np.abs(np.roll(inner, -1) - inner)
        areas[:, layer] = step * width.reshape(columns, _POINTS_PER_COLUMN).sum(axis=1)
    return areas


def _log_likelihood(rim: Rim, levels: RimLevels, states: np.ndarray) -> np.ndarray:
    """Log-likelihood (columns, states), of the whole depth of each column."""
    edge = ndtr(rim.depths / max(levels.precision_um, 1e-3 * levels.radius_um))
    stray = 1e-3 * levels.low
    soft = max(math.hypot(levels.interface_um, levels.precision_um), 1e-3 * levels.radius_um)

    def poisson(density: np.ndarray, first: int, last: int) -> np.ndarray:
        seen = density * edge[first:last] + stray
        return (rim.counts[:, first:last] * np.log(seen) - rim.areas[:, first:last] * seen) / levels.repeats

    low, high = (poisson(np.full(rim.depths.size, level), 0, rim.depths.size)
                 for level in (levels.low, levels.high))  # fmt: skip
    deeper = _alternating(low, high)
    found = np.empty((len(rim.counts), states.size))
    for number, thickness in enumerate(states):
        reach = thickness + 2.0 * soft if thickness > 0.0 else THINNEST * levels.radius_um
        last = int(np.searchsorted(rim.depths, reach))
        if thickness > 0.0:
            density = levels.low + (levels.high - levels.low) * ndtr((thickness - rim.depths[:last]) / soft)
        else:
            density = np.full(last, levels.low)
        found[:, number] = poisson(density, 0, last).sum(axis=1) + deeper[:, last]
    return found


def _alternating(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Log-likelihood of all cells from each depth on, between domains at first, summed over where domains lie."""
    leave_high, leave_low = (DEPTH_STEP / chord for chord in CHORDS)
    from_low = np.zeros((len(low), low.shape[1] + 1))
    from_high = np.zeros_like(from_low)
    for depth in range(low.shape[1] - 1, -1, -1):
        a, b = from_low[:, depth + 1], from_high[:, depth + 1]
        from_low[:, depth] = low[:, depth] + np.logaddexp(math.log1p(-leave_low) + a, math.log(leave_low) + b)
        from_high[:, depth] = high[:, depth] + np.logaddexp(
            math.log1p(-leave_high) + b, math.log(leave_high) + a
        )
    return from_low


def _posterior(likely: np.ndarray, states: np.ndarray, *, width_um: float) -> np.ndarray:
    """Posterior (columns, states) of a closed chain, with the frequencies of the states fitted."""
    weight = np.exp(likely - likely.max(axis=1, keepdims=True))
    near = np.exp(-np.abs(states[:, None] - states) / (SLOPE * width_um)) + JUMP
    common = np.full(states.size, 0.5 / (states.size - 1))
    common[0] = 0.5
    for _ in range(_ROUNDS):
        move = near * common
        move /= move.sum(axis=1, keepdims=True)
        forward = _sweep(weight, move, common, backward=False)
        backward = _sweep(weight, move, np.ones_like(common), backward=True)
        posterior = forward * backward
        posterior /= posterior.sum(axis=1, keepdims=True)
        common = posterior.mean(axis=0) + _FLOOR / states.size
        common /= common.sum()
    return posterior


def _sweep(weight: np.ndarray, move: np.ndarray, start: np.ndarray, *, backward: bool) -> np.ndarray:
    """Messages along the chain; it is closed, so the second turn starts where the first one ended."""
    messages = np.empty_like(weight)
    carried = start
    order = range(len(weight) - 1, -1, -1) if backward else range(len(weight))
    for _ in range(2):
        for column in order:
            if backward:
                messages[column] = carried
                carried = move @ (weight[column] * carried)
            else:
                carried = (carried @ move) * weight[column]
            carried = carried / carried.sum()
            if not backward:
                messages[column] = carried
    return messages
