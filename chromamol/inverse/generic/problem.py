"""`InverseProblem`: the front door for a user's own equation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chromamol.calculus import estimate_noise_sd
from chromamol.device import resolve_device
from chromamol.errors import FieldError, ParameterError
from chromamol.given import as_array, as_mask
from chromamol.inverse.bounding_box import bounding_window
from chromamol.inverse.generic.axes import Axes
from chromamol.inverse.generic.equations import Data
from chromamol.inverse.generic.expression import (
    Expression,
    Unknown,
    as_expression,
    measured_expression,
    unknown_expression,
)
from chromamol.inverse.generic.fit import LatticeFit
from chromamol.inverse.generic.solution import Ending, Estimate, Solution
from chromamol.inverse.generic.widths import fit_best_width, is_cut_short, map_of, valid_of
from chromamol.inverse.threads import one_thread
from chromamol.shapes import FloatField, Mask

IDENTIFIED_AT = 2.0
"""A positive unknown counts as determined when its mean exceeds this many standard errors."""

NOISE_FLOOR = 5e-3
"""Least noise assumed, as a share of a field's standard deviation: below it the grid limits the equations."""

SMALLEST_SPACING = 1e-30
"""Powers of a spacing of this size, or of one over it, are numbers of a float64."""

_MISFIT_FLAGGED, _UNEXPLAINED_FLAGGED = 2.0, 0.05


class InverseProblem:
    """Find the unknown coefficients of a differential equation from noisy measurements of its solution.

    The equation is written with `d`, `grad`, `div` and `laplacian` (from `chromamol.inverse.generic`), linear in the
    unknowns, as an expression that vanishes. It is tested with mollifiers, so that no measured field is
    differentiated and neither initial nor boundary values are needed; widths, smoothness, strength and, when not
    given, the noise are chosen by the data.

    Diffusivity map of a heat equation,   ∂u/∂t = ∇·(D(y, x) ∇u):

    >>> import numpy as np
    >>> import chromamol as cm
    >>> from chromamol.inverse.generic import d, div, grad
    >>> t, y, x = np.ogrid[0:1:21j, 0:np.pi:41j, 0:np.pi:41j]
    >>> temperature = np.exp(-0.6 * t) * np.cos(y) * np.cos(x + 1) + np.exp(-1.2 * t) * np.cos(2 * x)  # D = 0.3
    >>> problem = cm.InverseProblem(spacing={"t": 0.05, "y": np.pi / 40, "x": np.pi / 40})
    >>> u = problem.measured("u", temperature)
    >>> D = problem.unknown("D", over="yx", positive=True)
    >>> found = problem.solve(d(u, "t") - div(D * grad(u)))
    >>> found.ending.name, found["D"].values.shape, round(found["D"].mean, 3)
    ('ALL_ESTIMATED', (41, 41), 0.3)

    Parameters
    ----------
    spacing : distance between samples by axis, in the order of the arrays and in any units: the result is in theirs.
        One to four axes with names of one letter; "t" is time, the others are space.
    mask : True where the data count; everywhere when None. The smallest box that holds it is what is fitted: what lies
        around it changes nothing.
    """

    def __init__(self, *, spacing: Any, mask: Any = None) -> None:
        self._spacing = _checked_spacing(spacing)
        self._given_mask = None if mask is None else as_mask(mask)
        self._axes: Axes | None = None
        self._fields: dict[str, FloatField] = {}
        self._noise: dict[str, float | None] = {}
        self._unknowns: dict[str, Unknown] = {}

    def measured(self, name: str, values: Any, *, noise_sd: Any = None) -> Expression:
        """Add a measured field, and return it for use in the equation.

        Parameters
        ----------
        name : what the field is called.
        values : numpy or torch, on the axes of the problem; not finite values are allowed outside the mask only.
        noise_sd : standard deviation of its noise, white between samples; estimated from the field when None.

        Raises
        ------
        FieldError : a shape that differs from the other fields', values that are not finite, a name twice.
        ParameterError : a noise that is not one finite number >= 0.
        """
        sd = None if noise_sd is None else _number(noise_sd)
        if noise_sd is not None and not (sd is not None and math.isfinite(sd) and sd >= 0.0):
            given = f"of shape {np.shape(noise_sd)}" if np.ndim(noise_sd) else f"= {noise_sd!r}"
            raise ParameterError(f"noise_sd {given}.", expected="one finite number >= 0.",
                                 do="give one standard deviation in the unit of the field, or None.")  # fmt: skip
        array = as_array(values, name)
        axes = self._axes_of(array.shape)
        array = array[axes.window]
        if name in self._fields or name in self._unknowns:
            raise FieldError(f"The name {name!r} twice.", expected="one name for each field and unknown.",
                             do="rename one of them.")  # fmt: skip
        bad = np.count_nonzero(~np.isfinite(array[self._mask]))
        if bad:
            raise FieldError(f"{name} with {bad} NaN or infinite values.", expected="finite values inside the mask.",
                             do="take those samples out of the mask.")  # fmt: skip
        self._fields[name] = np.where(self._mask, array, 0.0)
        self._noise[name] = sd
        return measured_expression(axes, name)

    def unknown(self, name: str, *, over: Any = "", positive: bool = False) -> Expression:
        """Add an unknown coefficient, and return it for use in the equation.

        Parameters
        ----------
        name : what the result is called.
        over : names of the axes on which it depends, such as "yx"; "" for one number.
        positive : True for a coefficient that cannot be negative, such as a diffusivity.

        Raises
        ------
        FieldError : before any field was measured, an axis that is not there, a name twice.
        """
        if self._axes is None:
            raise FieldError(f"The unknown {name!r} before any field.", expected="`measured` first.",
                             do="add the measured fields, then the unknowns.")  # fmt: skip
        if name in self._fields or name in self._unknowns:
            raise FieldError(f"The name {name!r} twice.", expected="one name for each field and unknown.",
                             do="rename one of them.")  # fmt: skip
        if not isinstance(over, Sequence):
            raise FieldError(f"An unknown over {over!r}.", expected="names of axes.",
                             do="write over='yx' for a map, over='' for one number.")  # fmt: skip
        where = sorted({self._axes.index(axis) for axis in over})
        self._unknowns[name] = Unknown(name, tuple(self._axes.names[i] for i in where), positive)
        return unknown_expression(self._axes, self._unknowns[name])

    def known(self, values: Any) -> Expression:
        """Return a number or an array without noise, which must broadcast to the axes, for use in the equation."""
        if self._axes is None:
            raise FieldError("Known values before any field.", expected="`measured` first.",
                             do="add the measured fields first.")  # fmt: skip
        return as_expression(values, self._axes)

    def solve(self, *equations: Expression, device: str = "auto", seed: Any = 0) -> Solution:
        """Estimate the unknowns from equations that vanish: `solve(d(u, "t") - div(D * grad(u)))`.

        Parameters
        ----------
        equations : one or more expressions of this problem.
        device : "auto", "cpu", "cuda", "cuda:N"; for the dense linear algebra.
        seed : of the draws that say how much noise the equations' own coefficients hold.

        Raises
        ------
        ParameterError : no equation, an unknown that is in none of them, equations that leave the size of the unknowns
            open (every term holds one), or a seed that is no whole number >= 0.
        DeviceError : a device that is not there.
        """
        if not equations or self._axes is None:
            raise ParameterError("No equation.", expected="at least one expression of measured fields.",
                                 do="write solve(d(u, 't') - D * laplacian(u)).")  # fmt: skip
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ParameterError(
                f"seed = {seed!r}.", expected="a whole number >= 0.", do="leave it out for 0."
            )
        written = [as_expression(equation, self._axes) for equation in equations]
        present = {term.unknown for equation in written for term in equation.terms}
        absent = [name for name, unknown in self._unknowns.items() if unknown not in present]
        if absent or not self._unknowns:
            raise ParameterError(f"Unknowns in no equation: {', '.join(absent) or 'there are none'}.",
                                 expected="every unknown in an equation, and at least one.",
                                 do="use it, or do not declare it.")  # fmt: skip
        data, floored = self._data()
        unknowns, where = tuple(self._unknowns.values()), resolve_device(device)
        with one_thread():
            best = fit_best_width(data, written, unknowns, device=where, seed=int(seed))
        return self._solution(data, best, floored).embedded(self._axes)

    def _data(self) -> tuple[Data, bool]:
        """Return the data with their noise, and whether any has less than the floor."""
        assert self._axes is not None
        noise, floored = {}, False
        for name, values in self._fields.items():
            given = self._noise[name]
            sd = estimate_noise_sd(values, mask=self._mask) if given is None else given
            least = NOISE_FLOOR * float(values[self._mask].std())
            if not least > 0.0:
                raise FieldError(f"{name} is constant.", expected="a field that varies.",
                                 do="pass it as a known number.")  # fmt: skip
            floored |= sd < least
            noise[name] = max(sd, least)
        return Data(self._axes, self._fields, self._mask, noise), floored

    def _solution(
        self, data: Data, best: tuple[tuple[float, ...], LatticeFit] | None, floored: bool
    ) -> Solution:
        if best is None or not best[1].converged:
            nothing = {
                name: Estimate.unknown(
                    tuple(data.axes.shape[data.axes.index(axis)] for axis in u.over), u.over
                )
                for name, u in self._unknowns.items()
            }
            ending = Ending.NO_TEST_FUNCTION if best is None else Ending.NOT_CONVERGED
            return Solution(nothing, ending, (), dict(data.fields), dict(data.noise_sd), {}, math.nan, math.nan, 0,
                            0 if best is None else best[1].steps)  # fmt: skip
        half_width, fit = best
        flags = ["noise_floor"] if floored else []
        if fit.misfit > _MISFIT_FLAGGED:
            met = fit.unexplained <= _UNEXPLAINED_FLAGGED
            flags.append("grid_or_model_limits" if met else "equation_not_met")
        estimates = {}
        for i, name in enumerate(self._unknowns):
            estimates[name] = _estimate(fit, i)
            if is_cut_short(fit, i):
                flags.append(f"{name}_at_shortest_length")
            if not _is_determined(estimates[name], fit, i):
                flags.append(f"{name}_not_identifiable")
                estimates[name] = Estimate.unknown(estimates[name].values.shape, estimates[name].over)
        lost = any(np.isnan(each.mean) for each in estimates.values())
        return Solution(
            estimates, Ending.SOME_NOT_IDENTIFIABLE if lost else Ending.ALL_ESTIMATED, tuple(flags), fit.fields,
            dict(data.noise_sd), dict(zip(data.axes.names, half_width, strict=True)), fit.misfit, fit.unexplained,
            fit.count, fit.steps,
        )  # fmt: skip

    def _axes_of(self, shape: tuple[int, ...]) -> Axes:
        if len(shape) != len(self._spacing):
            raise FieldError(f"A field of shape {shape}.",
                             expected=f"{len(self._spacing)} axes: {', '.join(self._spacing)}.",
                             do="give one spacing per axis, in the order of the array.")  # fmt: skip
        if self._axes is None:
            mask = np.ones(shape, dtype=bool) if self._given_mask is None else self._given_mask
            if mask.shape != shape or not mask.any():
                raise FieldError(f"A mask of shape {mask.shape}.", expected=f"shape {shape}, somewhere True.",
                                 do="give it on the grid of the fields.")  # fmt: skip
            box = bounding_window(mask)
            self._axes = Axes(
                mask[box].shape, tuple(self._spacing.values()), names=tuple(self._spacing),
                whole=shape, first=tuple(part.start for part in box), inside=mask[box],
            )  # fmt: skip
        if shape != self._axes.whole:
            raise FieldError(f"A field of shape {shape}.", expected=f"{self._axes.whole}, as the first field.",
                             do="sample all fields on one grid.")  # fmt: skip
        return self._axes

    @property
    def _mask(self) -> Mask:
        assert self._axes is not None
        if self._given_mask is None:
            return np.ones(self._axes.shape, dtype=bool)
        return self._given_mask[self._axes.window]


def _checked_spacing(given: Any) -> dict[str, float]:
    """Return the spacing by axis; `FieldError` when it is not numbers of a usable size by names of one letter."""
    if not isinstance(given, Mapping):
        raise FieldError(f"Spacing {given!r}.", expected="one number per name of an axis.",
                         do="write spacing={'t': 0.1, 'x': 0.2}, in the order of the arrays.")  # fmt: skip
    if any(not isinstance(name, str) or len(name) != 1 for name in given):
        raise FieldError(f"Axes {tuple(given)}.", expected="names of one letter.", do="use t, z, y and x.")
    spacing = {}
    for name, value in given.items():
        number = _number(value)
        if number is None or not SMALLEST_SPACING <= number <= 1.0 / SMALLEST_SPACING:
            raise FieldError(
                f"Spacing {value!r} along {name}.",
                expected=f"one positive number from {SMALLEST_SPACING:g} to {1.0 / SMALLEST_SPACING:g}.",
                do="give the distance between samples, in a unit of about its size.",
            )
        spacing[name] = number
    return spacing


def _number(value: Any) -> float | None:
    """Return one number, a scalar of numpy or torch too, as float; None for anything else."""
    if isinstance(value, str | bytes) or np.ndim(value) > 0:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _estimate(fit: LatticeFit, which: int) -> Estimate:
    each, part = fit.maps[which], fit.part(which)
    valid = valid_of(fit, which)
    if not valid.any():
        return Estimate.unknown(valid.shape, each.unknown.over)
    values, error = map_of(fit, which)
    row = each.mean_row(fit.parameters[part], np.asarray(valid / np.count_nonzero(valid)))
    mean_se = math.sqrt(max(float(row @ fit.covariance[part, part] @ row), 0.0))
    return Estimate(values, error, valid, float(values[valid].mean()), mean_se, each.unknown.over)


def _is_determined(estimate: Estimate, fit: LatticeFit, which: int) -> bool:
    """A positive mean must stand out of its error, the error of a signed one must be less than its natural size."""
    if fit.maps[which].unknown.positive:
        return estimate.mean > IDENTIFIED_AT * estimate.mean_se
    return estimate.mean_se < fit.scales[which]
