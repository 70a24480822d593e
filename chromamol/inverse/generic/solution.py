"""What `InverseProblem.solve` hands back: estimates with standard errors, and how the solve ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import numpy as np

from chromamol.inverse.generic.axes import Axes
from chromamol.shapes import FloatField, Mask


class Ending(enum.Enum):
    """How a solve ended. The value is the message, so a failure cannot look like an answer."""

    ALL_ESTIMATED = "Every unknown was estimated."
    SOME_NOT_IDENTIFIABLE = "The data do not determine some of the unknowns; those are NaN."
    NOT_CONVERGED = "The fit did not come to rest, as when a term says nothing; every unknown is NaN."
    NO_TEST_FUNCTION = "No test function fits into the mask; every unknown is NaN."


@dataclass(frozen=True, eq=False)
class Estimate:
    """One unknown.

    Parameters
    ----------
    values : on the axes `over`, in the unit that the equation implies; shape () for one number. NaN when the data
        do not determine it.
    standard_error : pointwise, in the same unit; the misfit of the equations is included, as if it were noise.
    valid : True where test functions of whole support reach and tell more than their noise; elsewhere in the box that
        holds the mask the map is continued smoothly, and beside it is NaN.
    mean, mean_se : average over `valid`, and its standard error.
    over : the axes, in the order of `values`.
    """

    values: FloatField
    standard_error: FloatField
    valid: Mask
    mean: float
    mean_se: float
    over: tuple[str, ...]

    @classmethod
    def unknown(cls, shape: tuple[int, ...], over: tuple[str, ...]) -> Estimate:
        """Return the estimate that says nothing."""
        nothing = np.full(shape, np.nan)
        return cls(nothing, nothing.copy(), np.zeros(shape, dtype=bool), np.nan, np.nan, over)

    def embedded(self, axes: Axes) -> Estimate:
        """Return the estimate on the user's arrays, of which `axes` are a box: NaN and not valid beside it."""
        if axes.shape == axes.whole:
            return self
        where = [axes.index(name) for name in self.over]
        shape, window = tuple(axes.whole[i] for i in where), tuple(axes.window[i] for i in where)
        values, error, valid = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        values[window], error[window], valid[window] = self.values, self.standard_error, self.valid
        return replace(self, values=values, standard_error=error, valid=valid)


@dataclass(frozen=True, eq=False)
class Solution:
    """The result of one inverse problem; `solution["D"]` is the estimate of the unknown D.

    Parameters
    ----------
    estimates : by name.
    ending : how the solve ended.
    flags : `NAME_not_identifiable`; `equation_not_met` (the equation leaves more than twice the noise, and more than a
        twentieth of the signal, unexplained); `grid_or_model_limits` (more than twice the noise, but little of the
        signal: not the noise but the grid or the model limits the result, and errors may be several times too small);
        `noise_floor` (the data have less noise than the grid can use); `NAME_at_shortest_length` (the data ask for the
        shortest lengths that the map's cosines, or the test functions, carry: finer structure is smoothed away, and
        errors are too small there).
    fields : the measured fields, changed as little as the equations demand; not smoothed otherwise.
    noise_sd : standard deviation of the noise per sample, by field.
    half_width : of the test functions, by axis, in the unit of the spacing.
    misfit : χ² per degree of freedom of the equations; near 1 when they hold within the noise.
    unexplained : share of the terms without unknowns that the equations leave.
    test_functions, steps : their number.
    """

    estimates: dict[str, Estimate]
    ending: Ending
    flags: tuple[str, ...]
    fields: dict[str, FloatField]
    noise_sd: dict[str, float]
    half_width: dict[str, float]
    misfit: float
    unexplained: float
    test_functions: int
    steps: int

    def embedded(self, axes: Axes) -> Solution:
        """Return the solution on the user's arrays, of which `axes` are a box: fields are zero beside it."""
        if axes.shape == axes.whole:
            return self
        fields = {}
        for name, values in self.fields.items():
            fields[name] = np.zeros(axes.whole)
            fields[name][axes.window] = values
        estimates = {name: each.embedded(axes) for name, each in self.estimates.items()}
        return replace(self, estimates=estimates, fields=fields)

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]
