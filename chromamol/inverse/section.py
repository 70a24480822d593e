"""2D images of a 3D nucleus: what leaving out ∂zz does to the rates, and how to undo it on average.

A section shows domains cut at random heights, a projection shows several on top of each other; both are inverted as
if they were patterns in 2D. Then both rates come out a common factor c off, which depends on the thickness t and on
the half-width w of the test functions: wide ones see less of the contrast that is missing. It also varies with the
plane, with a relative standard deviation s √(L0² / A) for an area A of valid pixels. The ratio of the rates needs no
derivative and keeps its value on average; but chromatin also turns over through the two faces of a cut, so that the
ratio of one image has the relative standard deviation s_r √(L0² / A). With L0 = √(D / Γ_ac), c(t / L0, w / L0), s and
s_r(t / L0) are tables from 3D simulation (`python -m chromamol.benchmarks.section_thickness`,
data/section_thickness.json).

L0 is that of the true rate Γ, so Γ solves   Γ c(t √Γ, w √Γ) = Γ'   with Γ' the rate as inferred. A domain radius is
about 0.3 L0 in the reference model.
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
from chromamol.inverse.rates import RateMap, Rates

_TRIALS = np.geomspace(0.05, 20.0, 2001)
"""Γ / Γ' between which the solution is sought: c is between 0.3 and 4."""

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

    def solve(
        self, apparent: float, thickness_um: float, half_width_um: float, *, roughly: bool = False
    ) -> float:
        """Return Γ in um⁻² from Γ'; NaN where the table does not reach, or `roughly` by its nearest entry."""
        trials = apparent * _TRIALS
        length = np.sqrt(trials)
        thickness, half_width = thickness_um * length, half_width_um * length
        if roughly:
            thickness = np.minimum(thickness, self.thickness[-1])
            half_width = np.clip(half_width, self.half_width[0], self.half_width[-1])
        factor = self._at(self.factor, thickness, half_width)
        known = np.isfinite(factor)
        predicted = trials[known] * factor[known]
        if not known.any() or not predicted.min() <= apparent <= predicted.max():
            return math.nan
        # Γ c rises with Γ wherever thicker sections have larger c; the first crossing is the one for a thin section.
        first = int(np.argmax(predicted >= apparent))
        near = slice(max(0, first - 1), first + 1)
        return float(np.interp(apparent, predicted[near], trials[known][near]))

    def slope(self, apparent: float, thickness_um: float, half_width_um: float) -> float:
        """Return d ln Γ / d ln Γ' over a tenth of Γ', on one side where the table ends; NaN on neither."""
        around = np.array([0.95, 1.0, 1.05]) * apparent
        found = np.array([self.solve(float(each), thickness_um, half_width_um) for each in around])
        known = np.isfinite(found)
        if np.count_nonzero(known) < 2:
            return math.nan
        return float(np.ptp(np.log(found[known])) / np.ptp(np.log(around[known])))

    def at(self, thickness: float, half_width: float, area: float) -> tuple[float, float]:
        """Return c and its relative standard deviation for an `area` of valid pixels; all in units of L0."""
        factor, error, spread = (
            float(self._at(values, np.array([thickness]), np.array([half_width]))[0])
            for values in (self.factor, self.factor_se, self.spread)
        )
        return factor, math.hypot(error, spread / math.sqrt(area))

    def ratio_error(self, thickness: float, area: float) -> float:
        """Return the relative standard deviation of the ratio in an image of `area`, all in units of L0.

        It falls with the thickness: beyond the table its last entry is an upper bound.
        """
        return float(np.interp(thickness, self.thickness, self.ratio_spread)) / math.sqrt(area)

    def _at(self, values: np.ndarray, thickness: np.ndarray, half_width: np.ndarray) -> np.ndarray:
        axes = (self.thickness, np.log(self.half_width))
        table = RegularGridInterpolator(axes, values, bounds_error=False, fill_value=None)
        found = np.asarray(table(np.stack([thickness, np.log(half_width)], axis=-1)))
        low, high = self.half_width[0] / _BEYOND, self.half_width[-1] * _BEYOND
        reached = (thickness <= self.thickness[-1]) & (half_width >= low) & (half_width <= high)
        return np.where(reached, found, np.nan)


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

    c depends on L0, which is that of the corrected rates: Γ' = Γ c(Γ), and the relative error of Γ is d ln Γ / d ln Γ'
    times that of Γ'. At Γ' = 1 um⁻² and half-widths of .8 and 1.26 um that is 1.26 and 1.34 for a thin section, 1.14
    and 1.15 for .3 um.
    Where the table does not reach, or the data ask for a rate that is not positive, rates are NaN with the flag
    `section_not_corrected`: only the ratio holds. Without positive rates L0 is unknown, and with it the ratio's error
    (NaN).
    """
    table = table or SectionTable.measured()
    true = apparent = math.nan
    low, high = table.ratios
    if rates.methylation.free_mean > 0.0 and rates.acetylation.free_mean > 0.0:
        # Both tell Γ_ac: directly, and through the ratio, which the section leaves alone.
        apparent = math.sqrt(rates.acetylation.mean * rates.methylation.mean / rates.ratio)
        if low <= rates.ratio <= high:
            true = table.solve(apparent, thickness_um, rates.mollifier_width_um)
    if math.isnan(true):
        nothing = RateMap.unknown(rates.methylation.values.shape)
        flags = (*rates.flags, "section_not_corrected")
        rates = replace(rates, methylation=nothing, acetylation=nothing, flags=flags)
        if math.isnan(apparent):
            return replace(rates, ratio_se=math.nan)
        rough = table.solve(apparent, thickness_um, rates.mollifier_width_um, roughly=True)
        return widen_ratio(rates, thickness_um, rough, table=table)
    rates = widen_ratio(rates, thickness_um, true, table=table)
    area = np.count_nonzero(rates.acetylation.valid) * rates.phi_h.grid.pixel_volume_um * true
    length = math.sqrt(true)
    factor, spread = table.at(thickness_um * length, rates.mollifier_width_um * length, area)
    slope = table.slope(apparent, thickness_um, rates.mollifier_width_um)
    wider = slope / factor
    # Noise of single pixels does not move c, what is common to all of them does.
    beyond = math.sqrt(max(slope**2 - 1.0, 0.0))

    def common(rate: RateMap) -> float:
        return math.hypot(slope * spread, beyond * rate.mean_se / rate.mean)

    def corrected(rate: RateMap) -> RateMap:
        free = rate.free
        if free is not None:
            free = free[0] / factor, math.hypot(free[1], free[0] * spread) * wider
        return replace(
            rate,
            values=rate.values / factor,
            standard_error=np.hypot(rate.standard_error, rate.values * common(rate)) / factor,
            mean=rate.mean / factor,
            mean_se=math.hypot(rate.mean_se, rate.mean * spread) * wider,
            calibration_se=rate.calibration_se * wider,
            free=free,
        )

    notes = {
        "section_factor": factor,
        "section_relative_se": spread * slope,
        "section_thickness_over_l0": thickness_um * length,
    }
    return replace(
        rates, methylation=corrected(rates.methylation), acetylation=corrected(rates.acetylation),
        diagnostics=rates.diagnostics | notes,
    )  # fmt: skip


def widen_ratio(
    rates: Rates, thickness_um: float, acetylation: float, *, table: SectionTable | None = None
) -> Rates:
    """Return `rates` with the scatter of a section's ratio in its error; Γ_ac in um⁻² sets L0."""
    table = table or SectionTable.measured()
    area = np.count_nonzero(rates.phi_h.mask) * rates.phi_h.grid.pixel_volume_um * acetylation
    error = table.ratio_error(thickness_um * math.sqrt(acetylation), area) if area > 0.0 else math.nan
    return replace(rates, ratio_se=math.hypot(rates.ratio_se, rates.ratio * error))
