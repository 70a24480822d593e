"""2D images of a 3D nucleus: what leaving out ∂zz does to the rates, and how to undo it on average.

A section shows domains cut at random heights, a projection shows several on top of each other; both are inverted as
if they were patterns in 2D. Then both rates come out a common factor c(t / L0) off, L0 = √(D / Γ_ac), that depends
on the plane as well: with a relative standard deviation s(t / L0) √(L0² / A) for an image of area A. The ratio of the
rates needs no derivative and keeps its value. c and s are from 3D simulation
(`python -m chromamol.benchmarks.section_thickness`, data/section_thickness.json).

L0 is that of the corrected rates: t √Γ' = (t / L0) √c, with Γ' the rate as inferred, gives t / L0 since the right
side rises. A domain radius is about 0.3 L0 in the reference model.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

import numpy as np

from chromamol.errors import ParameterError
from chromamol.inverse.rates import RateMap, Rates


@dataclass(frozen=True, eq=False)
class SectionCurve:
    """What 3D simulation says.

    Parameters
    ----------
    thickness : t / L0, rising from 0.
    factor : c, inferred rate over true rate: the geometric mean over planes.
    factor_se : standard error of c / c.
    spread : s, relative standard deviation between images of area L0².
    """

    thickness: np.ndarray
    factor: np.ndarray
    factor_se: np.ndarray
    spread: np.ndarray

    @classmethod
    @lru_cache(maxsize=1)
    def measured(cls) -> SectionCurve:
        """Return the curve of the package."""
        stored = json.loads((files("chromamol") / "data" / "section_thickness.json").read_text("utf-8"))
        names = ("thickness_over_l0", "factor", "factor_se", "spread")
        return cls(*(np.array(stored[name], dtype=float) for name in names))

    def solve(self, scaled: float) -> float:
        """Return t / L0 from t √Γ'; NaN beyond the curve."""
        return float(np.interp(scaled, self.thickness * np.sqrt(self.factor), self.thickness, right=np.nan))

    def at(self, thickness: float, area: float) -> tuple[float, float]:
        """Return c and its relative standard deviation for an image of `area` in units of L0²."""
        factor, error, spread = (
            float(np.interp(thickness, self.thickness, values))
            for values in (self.factor, self.factor_se, self.spread)
        )
        return factor, math.hypot(error, spread / math.sqrt(area))


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


def correct_section(rates: Rates, thickness_um: float, *, curve: SectionCurve | None = None) -> Rates:
    """Divide both rates by c and widen their errors by the spread between planes; the ratio stays.

    A section thicker than the curve gets NaN and the flag `section_too_thick`: only the ratio holds.
    """
    curve = curve or SectionCurve.measured()
    if not (rates.methylation.mean > 0.0 and rates.acetylation.mean > 0.0):
        return rates
    # Both tell Γ_ac: directly, and through the ratio, which the section leaves alone.
    apparent = math.sqrt(rates.acetylation.mean * rates.methylation.mean / rates.ratio)
    thickness = curve.solve(thickness_um * math.sqrt(apparent))
    if math.isnan(thickness):
        nothing = RateMap.unknown(rates.methylation.values.shape)
        return replace(
            rates, methylation=nothing, acetylation=nothing, flags=(*rates.flags, "section_too_thick")
        )
    grid = rates.phi_h.grid
    per_l0 = apparent / float(np.interp(thickness, curve.thickness, curve.factor))
    area = np.count_nonzero(rates.phi_h.mask) * grid.pixel_volume_um * per_l0
    factor, spread = curve.at(thickness, area)

    def corrected(rate: RateMap) -> RateMap:
        return replace(
            rate,
            values=rate.values / factor,
            standard_error=np.hypot(rate.standard_error, rate.values * spread) / factor,
            mean=rate.mean / factor,
            mean_se=math.hypot(rate.mean_se, rate.mean * spread) / factor,
        )

    notes = {"section_factor": factor, "section_relative_se": spread, "section_thickness_over_l0": thickness}
    return replace(
        rates, methylation=corrected(rates.methylation), acetylation=corrected(rates.acetylation),
        diagnostics=rates.diagnostics | notes,
    )  # fmt: skip
