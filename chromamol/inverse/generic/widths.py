"""The width of the test functions along every axis: as narrow as the grid resolves.

The weak form has no smoothing bias, so noise costs about the same at every width; narrow functions see more detail
and leave less of a border. Too narrow ones are aliased: what they multiply varies within their few samples, and the
equations miss by more than the noise. So begin with the narrowest, and widen while that mends the misfit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from chromamol.errors import KernelError
from chromamol.inverse.generic.equations import JOINT_FUNCTIONS, Data, build_lattice
from chromamol.inverse.generic.expression import Expression, Unknown
from chromamol.inverse.generic.fit import LatticeFit, LatticeFitter
from chromamol.inverse.generic.maps import MOST_MODES, CoefficientMap
from chromamol.inverse.lattice import TestLattice
from chromamol.shapes import Mask

SHARES = tuple(float(s) for s in 0.3 * 2.0 ** (-np.arange(12) / 3))
"""Half-widths to try, as shares of each axis, widest first, in steps of 2^(1/3)."""

MIN_HALF_WIDTH_PX = 5.0
"""Narrower functions differentiate fewer than cubic polynomials exactly."""

MAX_FUNCTIONS = 6000
"""Finer lattices cost more than they tell."""

WIDE_PX = 12.0
"""Functions wider than this are narrowed even when there are too many then to be weighted all together."""

ALIASED = 2.0
"""A misfit above this may come from functions that the grid does not resolve: wider ones are tried."""

WORTH_WIDENING = 2.0
"""They are taken if they lower it by this factor; a misfit that stays is the equation's."""

FINER_BELOW = 1.05
"""A map gets more cosines where its length is less than this many times the shortest of them carry: that very one."""

FINEST = 0.8
"""Shortest correlation length that is looked for, in half-widths of the test functions. With 1, maps of a length of
1.07, which came out well, were said to be cut short."""

MIN_FUNCTIONS = 8
"""Fewer can't carry an error estimate."""

BUMP = 0.5
"""Whether a map is determined at a point is asked of a bump there; its standard deviation in half-widths."""

MOST_NOISE = 0.5
"""A point of a map is determined where at most this share of what the columns of its bump hold is noise."""

MOSTLY_NOISE = 0.9
"""The same of one number: that share is a sum over all equations, and known better than at a point."""


def fit_best_width(
    data: Data,
    equations: Sequence[Expression],
    unknowns: Sequence[Unknown],
    *,
    device: torch.device,
    seed: int,
) -> tuple[tuple[float, ...], LatticeFit] | None:
    """Return the chosen half-widths and their fit; None when no test function fits into the mask."""
    maps = [CoefficientMap.of(unknown, data.axes) for unknown in unknowns]
    best: tuple[tuple[float, ...], LatticeFit] | None = None
    for half_width, lattice in reversed(list(candidates(data, equations))):
        fit = _fit_as_fine_as_asked(data, equations, maps, lattice, half_width, device=device, seed=seed)
        if best is not None and best[1].converged and not fit.misfit < best[1].misfit / WORTH_WIDENING:
            break
        best = (half_width, fit)
        if fit.converged and fit.misfit < ALIASED:
            break
    return best


def _fit_as_fine_as_asked(
    data: Data, equations: Sequence[Expression], maps: Sequence[CoefficientMap], lattice: TestLattice,
    half_width: tuple[float, ...], *, device: torch.device, seed: int,
) -> LatticeFit:  # fmt: skip
    """Return the fit, with more cosines for the maps of which the evidence takes the shortest length on offer."""
    fit = LatticeFitter(data, equations, maps, lattice, device=device, seed=seed).run()
    on_axes = sum(each.basis is not None for each in maps)
    while fit.converged:
        finer = tuple(
            each.refined(data.axes, shortest=_finest(each, data, half_width), at_most=MOST_MODES // on_axes)
            if is_cut_short(fit, i) else each
            for i, each in enumerate(fit.maps)
        )  # fmt: skip
        if all(a is b for a, b in zip(finer, fit.maps, strict=True)):
            break
        again = LatticeFitter(data, equations, finer, lattice, device=device, seed=seed).run()
        if not again.converged:
            break
        fit = again
    return fit


def is_cut_short(fit: LatticeFit, which: int) -> bool:
    """Return whether the evidence takes the shortest correlation length that the cosines of a map carry."""
    each = fit.maps[which]
    return each.basis is not None and fit.priors[which].length < FINER_BELOW * each.shortest_length


def _finest(each: CoefficientMap, data: Data, half_width: tuple[float, ...]) -> float:
    """Return the shortest correlation length that these test functions can tell."""
    return FINEST * min(half_width[data.axes.index(name)] for name in each.unknown.over)


def candidates(
    data: Data, equations: Sequence[Expression]
) -> Iterator[tuple[tuple[float, ...], TestLattice]]:
    """Yield half-widths and lattices, widest first."""
    axes = data.axes
    last: tuple[float, ...] = ()
    for share in SHARES:
        pixels = [max(share * n, min(MIN_HALF_WIDTH_PX, 0.45 * n)) for n in axes.shape]
        half_width = tuple(w * h for w, h in zip(pixels, axes.spacing_um, strict=True))
        if half_width == last:
            return
        last = half_width
        try:
            lattice = build_lattice(data, equations, half_width)
        except KernelError:
            return
        if lattice.count > (MAX_FUNCTIONS if max(pixels) > WIDE_PX else JOINT_FUNCTIONS):
            return
        if lattice.count >= MIN_FUNCTIONS:
            yield half_width, lattice


def map_of(fit: LatticeFit, which: int) -> tuple[np.ndarray, np.ndarray]:
    """Return values and standard errors of one unknown."""
    each, part = fit.maps[which], fit.part(which)
    return each.values(fit.parameters[part]), each.standard_error(
        fit.parameters[part], fit.covariance[part, part]
    )


def valid_of(fit: LatticeFit, which: int) -> Mask:
    """Return where, on the unknown's own axes, a test function of whole support can sit, and tells more than noise."""
    each, part, lattice = fit.maps[which], fit.part(which), fit.lattice
    names: tuple[str, ...] = lattice.grid.names  # type: ignore[attr-defined]  # that of a problem lies on its Axes
    own = [names.index(name) for name in each.unknown.over]
    away = tuple(i for i in range(len(names)) if i not in own)
    reached = np.asarray(lattice.valid.any(axis=away))
    widths = [BUMP * (len(lattice.taps[i][0]) // 2) * lattice.grid.spacing_um[i] for i in own]
    held, noise = each.local_power((fit.gram[part, part], fit.noise[part, part]), widths)
    most = MOST_NOISE if own else MOSTLY_NOISE
    return np.asarray(reached & (held > 0.0) & (noise < most * held))
