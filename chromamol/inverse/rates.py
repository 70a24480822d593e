"""What an estimate hands back: rate maps with standard errors, and how the solve ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

import numpy as np

from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.bounding_box import Window, embedded
from chromamol.shapes import FloatField, Mask


class Outcome(enum.Enum):
    """How a solve ended. The value is the message, so a failure cannot look like an answer."""

    NOT_JUDGED = "The estimate was not checked for what the data determine."
    BOTH_RATES = "Both rates were estimated."
    METHYLATION_GIVEN_ACETYLATION = "Methylation was estimated; acetylation was given."
    ACETYLATION_NOT_IDENTIFIABLE = (
        "The data do not determine the acetylation rate; only methylation is given."
    )
    METHYLATION_NOT_IDENTIFIABLE = (
        "The data do not determine the methylation rate; only acetylation is given."
    )
    NOT_IDENTIFIABLE = "The data determine neither rate; the ratio of the two still holds."
    MOTION_NOT_RESOLVED = (
        "The pattern moves, but the frames do not tell how fast: neither the rates nor their ratio hold."
    )
    NOT_CONVERGED = "The fit did not converge; only the ratio from the integral balance is given."
    DIVERGED = "The training of the network diverged; only the ratio from the integral balance is given."
    NO_VALID_PIXEL = (
        "No pixel lies farther from the border than the mollifier's support; only the ratio holds."
    )


@dataclass(frozen=True, eq=False, repr=False)
class RateMap:
    """One rate over diffusivity, Γ / D, on the pixels of the nucleus.

    Parameters
    ----------
    values : um⁻², the grid's shape; NaN where nothing could be estimated.
    standard_error : um⁻², pointwise; NaN where nothing could be estimated.
    valid : True where the mollifier's whole support lies inside the nucleus and the value can be used.
    mean, mean_se : average over the valid pixels and its standard error, um⁻²; NaN when there are none.
    calibration_se : the part of `mean_se` that comes from the calibration, and of a regression from blur, um⁻². It is
        common to all pixels, and to nuclei that share one gain and one microscope. 0 where the calibration is exact, or
        before its part is added (`from_images.rates_from_images`); NaN where it was not looked at.
    free : the mean as if rates could be negative, and its standard error without the calibration's part, um⁻²; None
        where it is `mean` and `own_se`. What the data determine is asked of it: a positive map has a positive mean,
        whatever the data say.
    """

    values: FloatField
    standard_error: FloatField
    valid: Mask
    mean: float
    mean_se: float
    calibration_se: float = 0.0
    free: tuple[float, float] | None = None

    def __repr__(self) -> str:
        valid = int(np.count_nonzero(self.valid))
        return f"RateMap({_measured(self.mean, self.mean_se)}, {valid} of {self.values.shape} pixels valid)"

    @property
    def own_se(self) -> float:
        """Standard error of the mean without the calibration's part, um⁻²; NaN where that has no bound."""
        if not np.isfinite(self.calibration_se):
            return float("nan")
        return float(np.sqrt(np.maximum(np.square(self.mean_se) - np.square(self.calibration_se), 0.0)))

    @property
    def free_mean(self) -> float:
        """Mean as if rates could be negative, um⁻²."""
        return self.mean if self.free is None else self.free[0]

    def exceeds_noise(self, errors: float) -> bool:
        """Whether the mean, free to be negative, is more than so many standard errors above zero."""
        error = self.own_se if self.free is None else self.free[1]
        return bool(self.free_mean > errors * error)

    @classmethod
    def unknown(cls, shape: tuple[int, ...]) -> RateMap:
        """Return the map that says nothing: NaN everywhere, valid nowhere."""
        nothing = np.full(shape, np.nan)
        return cls(nothing, nothing.copy(), np.zeros(shape, dtype=bool), np.nan, np.nan, np.nan)

    def inside(self, mask: Mask) -> RateMap:
        """Return the map with NaN outside `mask`."""
        return replace(
            self,
            values=np.where(mask, self.values, np.nan),
            standard_error=np.where(mask, self.standard_error, np.nan),
        )

    def embedded(self, shape: tuple[int, ...], window: Window) -> RateMap:
        """Return the map on an array of `shape`, of which it is the `window`: NaN and not valid beside it."""
        values, error = np.full(shape, np.nan), np.full(shape, np.nan)
        values[window], error[window] = self.values, self.standard_error
        valid = np.zeros(shape, dtype=bool)
        valid[window] = self.valid
        return replace(self, values=values, standard_error=error, valid=valid)

    @classmethod
    def given(cls, values: FloatField, valid: Mask) -> RateMap:
        """Return a map that the user supplied; its standard error is zero by definition."""
        mean = float(values[valid].mean()) if valid.any() else np.nan
        return cls(values, np.zeros_like(values), valid, mean, 0.0 if valid.any() else np.nan)


@dataclass(frozen=True, eq=False, repr=False)
class Rates:
    """The result of one inversion.

    Parameters
    ----------
    methylation, acetylation : the two rate maps, Γ_me / D and Γ_ac / D in um⁻².
    ratio, ratio_se : Γ_me weighted by euchromatin over Γ_ac weighted by heterochromatin, which is <φ_h> / <φ_e> by the
        integral balance of a whole nucleus, and its standard error; dimensionless. It needs no derivative, and blur
        keeps it where both fields were given: the robust number. It is not that of the two plain means. A joint fit
        takes its own fields, and its own rates where the image cuts the nucleus (`joint_ratio`). That of one blurred
        channel is corrected (`blurred_split`), or NaN.
    ratio_calibration_se : the part of `ratio_se` that comes from the calibration, as `RateMap.calibration_se` has it.
    outcome : how the solve ended.
    flags : names of quality flags that this estimate raises.
    method, reason : the estimator that was used, and why that one.
    phi_h, phi_e : the volume fractions that were inverted, on the nucleus's grid.
    noise_sd : standard deviation of the noise per pixel in φ_h and φ_e, as assumed: at least .7 % of phi_max.
    mollifier_width_um : half-width of the test functions' support, um; NaN where none fits, or the estimator has none.
    diagnostics : further numbers of the solve, by name.
    """

    methylation: RateMap
    acetylation: RateMap
    ratio: float
    ratio_se: float
    outcome: Outcome
    flags: tuple[str, ...]
    method: str
    phi_h: Field
    phi_e: Field
    noise_sd: tuple[float, float]
    mollifier_width_um: float
    diagnostics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    ratio_calibration_se: float = 0.0

    def embedded(self, grid: Grid, window: Window) -> Rates:
        """Return the result on `grid`, of which its own is the `window`; fields are 0 beside it."""
        if self.phi_h.grid == grid:
            return self

        return replace(
            self, phi_h=embedded(self.phi_h, grid, window), phi_e=embedded(self.phi_e, grid, window),
            methylation=self.methylation.embedded(grid.shape, window),
            acetylation=self.acetylation.embedded(grid.shape, window),
        )  # fmt: skip

    def __repr__(self) -> str:
        """Return what a person asks first; the maps are in `methylation` and `acetylation`."""
        return (
            f"Rates({self.outcome.name}, ratio {_measured(self.ratio, self.ratio_se)}, "
            f"methylation {_measured(self.methylation.mean, self.methylation.mean_se)} um^-2, "
            f"acetylation {_measured(self.acetylation.mean, self.acetylation.mean_se)} um^-2, "
            f"{self.method}, flags: {', '.join(self.flags) or 'none'})"
        )


def _measured(value: float, standard_error: float) -> str:
    return f"{value:.3g} ± {standard_error:.2g}"
