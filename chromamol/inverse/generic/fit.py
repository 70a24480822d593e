"""One fit on one lattice: coefficients and fields that meet the equations together.

Total least squares: the least change of the fields, in units of their noise, for which the tested equations hold,

    min Σ_f |û_f - u_f|² / σ_f² + prior(θ)   with   e(û, a(θ)) = 0.

One step linearises e about (û, θ), which leaves weighted linear equations for θ with the covariance C = R Σ Rᵀ and
the fields   û = u - Σ Rᵀ C⁻¹ e.   Evaluating the columns at û and not at u is what takes the bias of noisy columns
away (errors in variables).

References
----------
Britt & Luecke, Technometrics 15, 233 (1973), doi:10.1080/00401706.1973.10489038 (the step);
Bortz, Messenger & Dukic, Bull. Math. Biol. 85, 110 (2023), doi:10.1007/s11538-023-01208-6 (weak form, weights).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from chromamol.errors import ParameterError
from chromamol.inverse.generic.equations import Data, System, TestedTile
from chromamol.inverse.generic.evidence import (
    Posterior,
    Prior,
    finite_scale,
    most_evident,
    solve,
    start_priors,
)
from chromamol.inverse.generic.expression import Expression
from chromamol.inverse.generic.maps import CoefficientMap, check_positive_start
from chromamol.inverse.lattice import TestLattice
from chromamol.shapes import FloatField

MAX_STEPS = 20
"""Linear problems need three, positive maps of large contrast about eight."""

PRIOR_STEPS = 6
"""Smoothness and strength are chosen anew in these steps; a choice between two of like evidence would not rest."""

NOISE_DRAWS = 2
"""Each is a sum over all equations, so two give what is subtracted to a few per cent."""

_RESTING = 0.05
"""Converged when no map moves by more than this many standard errors, root mean square."""

_LARGEST_STEP = 1.0
"""A positive map changes by at most a factor e in one step."""

_RELAXED = 0.5
"""Share of a step taken from then on: columns full of noise make whole steps swing about the solution."""

_LEFT_OVER = 1.5
"""Misfit above which a fit is tried from another start: noise leaves 1, within a few per cent."""

_RIDGE = 1e-10

_COVARIANCE_FLOOR = 1e-4
"""Relative addition to the diagonal of C: overlapping functions are nearly dependent."""

_CALM_PX = 1.0
"""Fields are averaged over this before a nonlinear slope is taken for the weights, which must not follow the noise."""


@dataclass(frozen=True, eq=False)
class LatticeFit:
    """A fit, before it is judged.

    Parameters
    ----------
    lattice, maps : equations and unknowns.
    parameters, covariance : θ of all maps side by side.
    fields : û by name.
    misfit : χ² per degree of freedom of the equations.
    unexplained : χ² left, as a share of the χ² of the terms without unknowns.
    count : number of equations.
    steps, converged : how the iteration ended.
    priors : smoothness and strength of each unknown that the evidence chose.
    scales : natural size of each unknown, at which its term would balance the others.
    gram, noise : JᵀC⁻¹J at the end, and the part of it that is noise.
    """

    lattice: TestLattice
    maps: tuple[CoefficientMap, ...]
    parameters: np.ndarray
    covariance: np.ndarray
    fields: dict[str, FloatField]
    misfit: float
    unexplained: float
    count: int
    steps: int
    converged: bool
    priors: tuple[Prior, ...]
    scales: tuple[float, ...]
    gram: np.ndarray
    noise: np.ndarray

    def part(self, which: int) -> slice:
        """Where the parameters of one map stand."""
        first = sum(each.size for each in self.maps[:which])
        return slice(first, first + self.maps[which].size)


@dataclass(frozen=True, eq=False)
class _Weighted:
    """Whitened equations J θ = y of all tiles, y measured from the prior mean, and what the fields need.

    `gram` and `cross` are what they tell; `full` is JᵀC⁻¹J, of which `noise` is noise. `left` is the share of the
    variance of each field's noise that stays in the fields when they are corrected.
    """

    gram: np.ndarray
    cross: np.ndarray
    full: np.ndarray
    noise: np.ndarray
    known_power: float
    left: dict[str, float]
    tiles: tuple[tuple[TestedTile, torch.Tensor, np.ndarray, np.ndarray], ...]


class LatticeFitter:
    """One problem on one lattice; `run` solves it.

    `seed` is of the draws that say how much of the columns is noise, the same in every step.
    """

    def __init__(
        self, data: Data, equations: Sequence[Expression], maps: Sequence[CoefficientMap], lattice: TestLattice,
        *, device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        self.seed = seed
        self.data, self.maps, self.device = data, tuple(maps), device
        self.system = System(data, equations, maps, lattice)
        offsets = np.cumsum([0, *(each.size for each in self.maps)])
        self.own = tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(offsets))
        self.nonlinear = not all(term.source.linear for e in equations for term in e.terms)

    def run(self) -> LatticeFit:
        """Return the converged fit, or the last step when it does not converge.

        It begins at constants, with fields that meet the equations with them. At the measured fields the columns hold
        more noise than is drawn: where they are noise only, the first step would end at zero, where C is least and
        noise passes for most information. But fields bent to constants that are far off can end far off as well;
        what is left then shows it, and the fit begins at the measured fields and the prior's mean.
        """
        start = self._start()
        fit = self._iterated(*start, from_constants=True)
        if fit.misfit > _LEFT_OVER:
            again = self._iterated(*start, from_constants=False)
            return again if again.misfit < fit.misfit else fit
        return fit

    def _iterated(
        self, centre: np.ndarray, scales: tuple[float, ...], uniform: np.ndarray, *, from_constants: bool
    ) -> LatticeFit:
        """Return the fit from the `uniform` constants and fields that meet them, or from the prior's `centre`."""
        fields: dict[str, FloatField] = dict(self.data.fields)
        left = dict.fromkeys(fields, 1.0)
        parameters, priors, misfit = centre.copy(), start_priors(self.maps, scales), 1.0
        converged = False
        if from_constants:
            parameters = self._first(centre, uniform)
            first = self._weighted(fields, left, parameters, centre, uniform)
            fields, _ = self._updated(first, np.zeros(len(parameters)))
            left = first.left
        for step in range(1, MAX_STEPS + 1):
            weighted = self._weighted(fields, left, parameters, centre, uniform)
            left = weighted.left
            gram, cross = weighted.gram / misfit, weighted.cross / misfit
            if step <= PRIOR_STEPS:
                priors = most_evident(gram, cross, self.maps, priors)
            posterior = solve(gram, cross, self.maps, priors)
            wanted = centre + posterior.mean - parameters
            change = self._limited(wanted) * (1.0 if step <= PRIOR_STEPS else _RELAXED)
            parameters = parameters + change
            fields, chi2 = self._updated(weighted, change)
            count = sum(len(known) for _, _, known, _ in weighted.tiles)
            previous, misfit = misfit, max(1.0, chi2 / max(count - posterior.determined, 1.0))
            resting = self._moved(wanted, posterior) < _RESTING and abs(misfit - previous) < _RESTING * misfit
            if resting and step > 1:
                converged = True
                break
        return LatticeFit(
            self.system.lattice, self.maps, parameters, posterior.covariance, fields,
            chi2 / max(count - posterior.determined, 1.0), chi2 / max(weighted.known_power, 1e-300), count, step,
            converged, priors, scales, weighted.full, weighted.noise,
        )  # fmt: skip

    def _start(self) -> tuple[np.ndarray, tuple[float, ...], np.ndarray]:
        """Return prior means, natural sizes, and constants by unweighted least squares."""
        zeros = np.zeros(self.system.parts[-1].stop)
        known, uniform = [], []
        whole = dict.fromkeys(self.data.fields, 1.0)
        for tile in self.system.tested(self.data.fields, self.data.fields, zeros, left=whole):
            known.append(tile.known)
            uniform.append(tile.columns[:, [part.start for part in self.system.parts]])
        right, columns = -np.concatenate(known), np.concatenate(uniform)
        if not np.any(right):
            check_positive_start(0.0, self.maps[0].unknown.name)
        size = np.linalg.norm(columns, axis=0)
        scales = tuple(finite_scale(float(right @ right), float(n) ** 2) for n in size)
        for each, scale in zip(self.maps, scales, strict=True):
            check_positive_start(scale, each.unknown.name)
        found = np.linalg.lstsq(columns / size, right, rcond=1e-6)[0] / size
        means = []
        for each, value, scale in zip(self.maps, found, scales, strict=True):
            start = np.zeros(each.size)
            if each.unknown.positive:
                start[0] = math.log(max(value, 0.1 * scale))
            means.append(start)
        return np.concatenate(means), scales, np.asarray(found)

    def _first(self, centre: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return the parameters to begin with: the constants, also of signed unknowns, whose prior mean is zero."""
        parameters = centre.copy()
        for each, own, value in zip(self.maps, self.own, uniform, strict=True):
            if not each.unknown.positive:
                parameters[own.start] = value
        return parameters

    def _linear(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the linear coefficients of all maps and their derivative, block by block."""
        values = np.zeros(self.system.parts[-1].stop)
        slopes = np.zeros((len(values), len(parameters)))
        for each, part, own in zip(self.maps, self.system.parts, self.own, strict=True):
            values[part], slopes[part, own] = each.linearise(parameters[own])
        return values, slopes

    def _weighted(
        self,
        fields: Mapping[str, FloatField],
        left: Mapping[str, float],
        parameters: np.ndarray,
        centre: np.ndarray,
        uniform: np.ndarray,
    ) -> _Weighted:
        """Return the equations at a state; `uniform` constants shape the weights while all unknowns are zero."""
        linear, slopes = self._linear(parameters)
        weighing = linear.copy()
        if not np.any(weighing):
            weighing[[part.start for part in self.system.parts]] = uniform
        shift = {
            name: (self.data.fields[name] - fields[name]) / sd for name, sd in self.data.noise_sd.items()
        }
        size = len(parameters)
        gram, noise, cross = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
        known_power, tiles = 0.0, []
        taken = {name: np.zeros(self.data.axes.shape) for name in fields}
        for tile in self.system.tested(fields, self._calm(fields), weighing, left=left):
            root = self._root(tile)
            jacobian = tile.columns @ slopes
            offset = tile.known + tile.effect_of(shift)
            miss = tile.columns @ linear + offset
            stacked = np.concatenate([jacobian, miss[:, None], offset[:, None]], axis=1)
            whitened = torch.linalg.solve_triangular(
                root, torch.as_tensor(stacked, device=self.device), upper=False
            )
            products = (whitened.T @ whitened).cpu().numpy()
            gram += products[:size, :size]
            cross -= products[:size, size]
            noise += self._noise_gram(tile, root, fields, left, slopes, taken)
            known_power += float(products[-1, -1])
            tiles.append((tile, root, miss, jacobian))
        told, score = _without_noise(gram, noise, cross)
        right = score + told @ (parameters - centre)
        return _Weighted(told, right, gram, noise, known_power, _left_of(taken), tuple(tiles))

    def _root(self, tile: TestedTile) -> torch.Tensor:
        covariance = tile.covariance().astype(float)
        diagonal = np.median(np.diag(covariance))
        if not diagonal > 0.0:
            raise ParameterError(
                "An equation that no measured field enters.",
                expected="at least one measured field with noise.",
                do="pass fields through `measured`, and check the equation.",
            )
        covariance[np.diag_indices_from(covariance)] += _COVARIANCE_FLOOR * diagonal
        try:
            return torch.linalg.cholesky(torch.as_tensor(covariance, device=self.device))
        except torch.linalg.LinAlgError as error:
            raise _beyond_numbers(self.system.equations) from error

    def _noise_gram(
        self,
        tile: TestedTile,
        root: torch.Tensor,
        fields: Mapping[str, FloatField],
        left: Mapping[str, float],
        slopes: np.ndarray,
        taken: dict[str, FloatField],
    ) -> np.ndarray:
        """Return the part of JᵀC⁻¹J that is noise: E δJᵀ C⁻¹ δJ for the noise that is left in the fields.

        Adds to `taken` the product of noise and of what the equations take of it, whose mean is the share taken.
        """
        rng = np.random.default_rng(self.seed)
        total = np.zeros((slopes.shape[1],) * 2)
        for _ in range(NOISE_DRAWS):
            noise = {name: rng.standard_normal(self.data.axes.shape) for name in fields}
            seen = torch.as_tensor(tile.effect_of(noise)[:, None], device=self.device)
            removed = tile.noise_of(torch.cholesky_solve(seen, root)[:, 0].cpu().numpy())
            for name in fields:
                taken[name] += noise[name] * removed[name] / NOISE_DRAWS
            sd = self.data.noise_sd
            noisy = {name: fields[name] + sd[name] * (noise[name] - removed[name]) for name in fields}
            change = (self.system.columns(noisy, tile.tile, left=left) - tile.columns) @ slopes
            whitened = torch.linalg.solve_triangular(
                root, torch.as_tensor(change, device=self.device), upper=False
            )
            total += (whitened.T @ whitened).cpu().numpy()
        return total / NOISE_DRAWS

    def _updated(self, weighted: _Weighted, change: np.ndarray) -> tuple[dict[str, FloatField], float]:
        """Return û after the step, and χ² of the equations."""
        fields = {name: values.copy() for name, values in self.data.fields.items()}
        chi2 = 0.0
        for tile, root, miss, jacobian in weighted.tiles:
            residual = miss + jacobian @ change
            weights = torch.cholesky_solve(torch.as_tensor(residual[:, None], device=self.device), root)
            multipliers = weights[:, 0].cpu().numpy()
            chi2 += float(residual @ multipliers)
            for name, noise in tile.noise_of(multipliers).items():
                fields[name] -= self.data.noise_sd[name] * noise
        return fields, chi2

    def _limited(self, change: np.ndarray) -> np.ndarray:
        """Return a step that changes no positive map by more than the largest factor."""
        largest = 0.0
        for each, own in zip(self.maps, self.own, strict=True):
            if each.unknown.positive:
                largest = max(largest, float(np.abs(each.smooth(change[own])).max()))
        return change * min(1.0, _LARGEST_STEP / max(largest, 1e-300))

    def _moved(self, change: np.ndarray, posterior: Posterior) -> float:
        """Return the largest root mean square change of a map in units of its standard errors."""
        largest = 0.0
        for own in self.own:
            # Cosines are orthonormal, so sums over coefficients are means over the box.
            moved = math.sqrt(float(change[own] @ change[own]))
            largest = max(largest, moved / math.sqrt(float(np.trace(posterior.covariance[own, own]))))
        return largest

    def _calm(self, fields: Mapping[str, FloatField]) -> dict[str, FloatField]:
        if not self.nonlinear:
            return dict(fields)
        weight = ndimage.gaussian_filter(self.data.mask.astype(float), _CALM_PX)
        return {
            name: ndimage.gaussian_filter(np.where(self.data.mask, values, 0.0), _CALM_PX)
            / np.maximum(weight, 1e-12)
            for name, values in fields.items()
        }


def _left_of(taken: Mapping[str, FloatField]) -> dict[str, float]:
    """Return 1 less the mean share of the noise that the equations take, where they reach: û has so much less of it."""
    shares = {
        name: float(field.sum()) / max(int(np.count_nonzero(field)), 1) for name, field in taken.items()
    }
    return {name: min(max(1.0 - share, 0.0), 1.0) for name, share in shares.items()}


def _beyond_numbers(equations: Sequence[Expression]) -> ParameterError:
    sources = (term.source for equation in equations for term in equation.terms)
    named = ", ".join(sorted({source.name for source in sources if not source.linear}))
    return ParameterError(
        f"Equations whose noise differs beyond all numbers from sample to sample ({named or 'no function in them'}).",
        expected="functions that stay smooth within the noise of the fields.",
        do="take samples where a function is singular, such as u**-1 where u crosses 0, out of the mask.",
    )


def _without_noise(gram: np.ndarray, noise: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `gram` and `score` = JᵀC⁻¹e tell once the noise in J is counted, direction by direction.

    Where a share ν of `gram` is noise, the score answers to a change of θ by 1 - ν only, while its variance is that of
    all of `gram`: it enters with the weight 1 - ν, and the information is (1 - ν)². Directions that are noise only
    tell nothing and move nothing.
    """
    unit = np.sqrt(np.maximum(np.diag(gram), np.finfo(float).tiny))
    scaled = gram / np.outer(unit, unit)
    scaled[np.diag_indices_from(scaled)] += _RIDGE
    root = np.linalg.cholesky(scaled)
    inverse = np.linalg.inv(root) / unit[None, :]
    shares, directions = np.linalg.eigh(inverse @ noise @ inverse.T)
    mixed = unit[:, None] * (root @ directions)
    signal = np.maximum(1.0 - shares, 0.0)
    return (mixed * signal**2) @ mixed.T, mixed @ (signal * (directions.T @ (inverse @ score)))
