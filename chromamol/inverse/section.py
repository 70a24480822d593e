"""2D images of a 3D nucleus: what leaving out ∂zz does to the rates, and how to undo it on average.

A section shows domains cut at random heights, a projection shows several on top of each other; both are inverted as
if they were patterns in 2D. Then both rates come out a common factor c off, which depends on the thickness t and on
the half-width w of the test functions: wide ones see less of the contrast that is missing. It also varies with the
plane, with a relative standard deviation s √(L0² / A) for an area A of valid pixels. The ratio of the rates needs no
derivative and keeps its value on average; but chromatin also turns over through the two faces of a cut, so that the
ratio of one image has the relative standard deviation s_r √(L0² / A). With L0 = √(D / Γ_ac), c(t / L0, w / L0), s and
s_r(t / L0) are tables from 3D simulation (`python -m chromamol.benchmarks.section_thickness`,
data/section_thickness.json).

L0 is told by the length of the pattern (`unit_length_um`), which blur leaves, and not by the rates: those of a blurred
image come out too large, whose L0 would be too short. A domain radius is about 0.3 L0 in the reference model.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from chromamol.errors import ParameterError
from chromamol.inverse.pattern_length import UNIT_SD, unit_length_um
from chromamol.inverse.rates import RateMap, Rates

_BEYOND = 1.3
"""How far beyond the widths of the table c is continued along its straight line in log w."""


@dataclass(frozen=True, eq=False)
class SectionTable:
    """What 3D simulation says.

    Parameters
    ----------
    thickness, half_width : t / L0 and w / L0 of rows and columns, rising; t / L0 from 0.
    factor : c, inferred rate over true rate: the geometric mean over planes.
    factor_se : standard error of c, relative.
    spread : s, relative standard deviation between images with valid pixels of area L0².
    ratio_spread : s_r, that of the ratio of the rates, by thickness.
    ratios : the least and the largest Γ_me / Γ_ac that c holds for.
    """

    thickness: np.ndarray
    half_width: np.ndarray
    factor: np.ndarray
    factor_se: np.ndarray
    spread: np.ndarray
    ratio_spread: np.ndarray
    ratios: np.ndarray

    @classmethod
    @lru_cache(maxsize=1)
    def measured(cls) -> SectionTable:
        """Return the table of the package."""
        stored = json.loads((files("chromamol") / "data" / "section_thickness.json").read_text("utf-8"))
        names = (
            *("thickness_over_l0", "half_width_over_l0", "factor", "factor_se", "spread"),
            *("ratio_spread", "ratios"),
        )
        return cls(*(np.array(stored[name], dtype=float) for name in names))

    def at(self, thickness: float, half_width: float, area: float) -> tuple[float, float]:
        """Return c and its relative standard deviation for an `area` of valid pixels; all in units of L0.

        NaN where the table does not reach. L0 is known to within `UNIT_SD`, which is part of the error.
        """
        factor, error, spread = (
            float(self._at(values, np.array([thickness]), np.array([half_width]))[0])
            for values in (self.factor, self.factor_se, self.spread)
        )
        if math.isnan(factor):
            return math.nan, math.nan
        moved = np.exp(np.array([-UNIT_SD, 0.0, UNIT_SD]))
        low, high = self._reach()
        sides = np.minimum(thickness * moved, self.thickness[-1]), np.clip(half_width * moved, low, high)
        around = np.log(self._at(self.factor, *sides))
        of_unit = float(np.abs(around - around[1]).max())
        return factor, math.hypot(error, spread / math.sqrt(area), of_unit)

    def ratio_error(self, thickness: float, area: float) -> float:
        """Return the relative standard deviation of the ratio in an image of `area`, all in units of L0.

        It falls with the thickness: beyond the table its last entry is an upper bound.
        """
        return float(np.interp(thickness, self.thickness, self.ratio_spread)) / math.sqrt(area)

    def _at(self, values: np.ndarray, thickness: np.ndarray, half_width: np.ndarray) -> np.ndarray:
        axes = (self.thickness, np.log(self.half_width))
        table = RegularGridInterpolator(axes, values, bounds_error=False, fill_value=None)
        found = np.asarray(table(np.stack([thickness, np.log(half_width)], axis=-1)))
        low, high = self._reach()
        reached = (thickness <= self.thickness[-1]) & (half_width >= low) & (half_width <= high)
        return np.where(reached, found, np.nan)

    def _reach(self) -> tuple[float, float]:
        """Return the least and the largest w / L0."""
        return self.half_width[0] / _BEYOND, self.half_width[-1] * _BEYOND


def require_thickness(section_thickness_um: float | None, *, ndim: int, method: str) -> None:
    """Raise `ParameterError` for a thickness that is no length, or where it has no meaning."""
    if section_thickness_um is None:
        return
    if not (math.isfinite(section_thickness_um) and section_thickness_um >= 0.0):
        raise ParameterError(f"section_thickness_um = {section_thickness_um}.", expected="a length >= 0 in um.",
                             do="use 0 for a section thinner than the domains.")  # fmt: skip
    if ndim != 2 or method != "regression":
        raise ParameterError(f"section_thickness_um for a {ndim}D image and method '{method}'.",
                             expected="a 2D image and the regression, for which the correction was computed.",
                             do="leave the thickness out, or use method 'regression'.")  # fmt: skip


def correct_section(rates: Rates, thickness_um: float, *, table: SectionTable | None = None) -> Rates:
    """Divide both rates by c and widen their errors by the spread between planes; the ratio stays, its error widens.

    Where the table does not reach, or the data ask for a rate that is not positive, rates are NaN with the flag
    `section_not_corrected`: only the ratio holds.
    """
    table = table or SectionTable.measured()
    unit_um = unit_length_um(rates.phi_h)
    rates = widen_ratio(rates, thickness_um, unit_um, table=table)
    area = np.count_nonzero(rates.acetylation.valid) * rates.phi_h.grid.pixel_volume_um / unit_um**2
    factor = relative = math.nan
    low, high = table.ratios
    positive = rates.methylation.free_mean > 0.0 and rates.acetylation.free_mean > 0.0
    if positive and low <= rates.ratio <= high:
        factor, relative = table.at(thickness_um / unit_um, rates.mollifier_width_um / unit_um, area)
        # The table's spread is that of both rates together; between them stands the ratio of what is valid.
        relative = math.hypot(relative, 0.5 * table.ratio_error(thickness_um / unit_um, area))
    if math.isnan(factor):
        nothing = RateMap.unknown(rates.methylation.values.shape)
        flags = (*rates.flags, "section_not_corrected")
        return replace(rates, methylation=nothing, acetylation=nothing, flags=flags)

    def corrected(rate: RateMap) -> RateMap:
        free = rate.free
        if free is not None:
            free = free[0] / factor, math.hypot(free[1], free[0] * relative) / factor
        return replace(
            rate,
            values=rate.values / factor,
            standard_error=np.hypot(rate.standard_error, rate.values * relative) / factor,
            mean=rate.mean / factor,
            mean_se=math.hypot(rate.mean_se, rate.mean * relative) / factor,
            calibration_se=rate.calibration_se / factor,
            free=free,
        )

    notes = {
        "section_factor": factor,
        "section_relative_se": relative,
        "section_thickness_over_l0": thickness_um / unit_um,
    }
    return replace(
        rates, methylation=corrected(rates.methylation), acetylation=corrected(rates.acetylation),
        diagnostics=rates.diagnostics | notes,
    )  # fmt: skip


def widen_ratio(
    rates: Rates, thickness_um: float, unit_um: float, *, table: SectionTable | None = None
) -> Rates:
    """Return `rates` with the scatter of a section's ratio in its error; NaN where L0, `unit_um`, is."""
    table = table or SectionTable.measured()
    area = np.count_nonzero(rates.phi_h.mask) * rates.phi_h.grid.pixel_volume_um / unit_um**2
    error = table.ratio_error(thickness_um / unit_um, area)
    return replace(rates, ratio_se=math.hypot(rates.ratio_se, rates.ratio * error))
