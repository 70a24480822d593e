"""What a time-lapse gives: rates per time, and the diffusivity that a snapshot cannot know."""

from __future__ import annotations

from dataclasses import dataclass

from chromamol.inverse.rates import Outcome, RateMap, Rates


@dataclass(frozen=True, eq=False)
class RatesOverTime:
    """The result of inverting the frames of one nucleus.

    Parameters
    ----------
    over_diffusivity : Γ_me / D and Γ_ac / D in um⁻², as a snapshot's result; with the outcome, the flags and the
        mean of the frames.
    diffusivity_um2_per_s, diffusivity_se : D and its standard error, um²/s; NaN for a pattern at rest, or where the
        frames do not tell how fast it moves.
    methylation_per_s, acetylation_per_s : the rates in 1/s; NaN where D is.
    frame_interval_s : time between frames.
    diffusivity_calibration_se : the part of `diffusivity_se` that comes from the calibration, um²/s.
    """

    over_diffusivity: Rates
    diffusivity_um2_per_s: float
    diffusivity_se: float
    methylation_per_s: RateMap
    acetylation_per_s: RateMap
    frame_interval_s: float
    diffusivity_calibration_se: float = 0.0

    @property
    def methylation(self) -> RateMap:
        """Γ_me / D, um⁻²."""
        return self.over_diffusivity.methylation

    @property
    def acetylation(self) -> RateMap:
        """Γ_ac / D, um⁻²."""
        return self.over_diffusivity.acetylation

    @property
    def ratio(self) -> float:
        """Mean Γ_me / Γ_ac from the balance of the whole nucleus, its change in time included."""
        return self.over_diffusivity.ratio

    @property
    def ratio_se(self) -> float:
        return self.over_diffusivity.ratio_se

    @property
    def outcome(self) -> Outcome:
        return self.over_diffusivity.outcome

    @property
    def flags(self) -> tuple[str, ...]:
        return self.over_diffusivity.flags
