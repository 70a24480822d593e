"""What if: change a rate everywhere or in a region, and let the nucleus find its new steady state.

An inhibitor of histone deacetylases, for instance, is `Perturbation(acetylation_factor=1.5)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import label

from chromamol.errors import FieldError, ParameterError, SimulationError
from chromamol.given import as_array, as_mask
from chromamol.grid import equivalent_radius
from chromamol.synthetic.evolve import EvolutionOutcome, EvolutionSettings, evolve_chromatin
from chromamol.synthetic.forward import SimulatedChromatin, SolverSettings, simulate_chromatin
from chromamol.synthetic.steady import Outcome

TIME_TOLERANCE = (
    1e-4  # of a volume fraction per step: half the steps of 1e-5, and no picture shows the difference
)
DOMAIN_THRESHOLD = 0.5  # of phi_max: half way up the interface
SMALLEST_FACTOR, LARGEST_FACTOR = 1e-3, 1e3
"""Of a rate, 0 apart. L0 = √(D / Γ_ac) changes by √1000 = 32. Above, it is down at ℓ = 0.03 L0, where two phases can't
be told apart, and steps in time shrink without end; below, it is several nuclei long, and the rate as good as off."""


@dataclass(frozen=True)
class Perturbation:
    """New rate = factor × old rate + shift, in the region or everywhere.

    With acetylation off, or nearly so (a hundredth), the model's steady state has volume fractions below zero: follow
    such a change for a time.

    Parameters
    ----------
    methylation_factor, acetylation_factor : 0, or from a thousandth to a thousand.
    methylation_shift_per_um2, acetylation_shift_per_um2 : of Γ / D, in um^-2, of any sign.
    """

    methylation_factor: float = 1.0
    acetylation_factor: float = 1.0
    methylation_shift_per_um2: float = 0.0
    acetylation_shift_per_um2: float = 0.0

    def __post_init__(self) -> None:
        for factor in (self.methylation_factor, self.acetylation_factor):
            if not (factor == 0.0 or SMALLEST_FACTOR <= factor <= LARGEST_FACTOR):
                raise ParameterError(
                    f"A rate times {factor:g}.",
                    expected=f"a factor of 0, or from {SMALLEST_FACTOR:g} to {LARGEST_FACTOR:g}.",
                    do="use 0 to switch a rate off, and give the time for which it is off.",
                )
        if not all(map(math.isfinite, (self.methylation_shift_per_um2, self.acetylation_shift_per_um2))):
            raise ParameterError(f"{self}.", expected="finite shifts.", do="correct them.")

    def apply(self, methylation: Any, acetylation: Any, region: Any = None) -> tuple[Any, Any]:
        """Return the new maps, as torch tensors if one was, else as numpy arrays.

        Raise `FieldError` if a shift makes a rate negative, or over a thousand times the faster of the two:
        nothing is clipped.
        """
        old = (as_array(methylation, "methylation"), as_array(acetylation, "acetylation"))
        inside = np.ones(old[0].shape, dtype=bool) if region is None else as_mask(region, "region")
        changed = (
            self.methylation_factor * old[0] + self.methylation_shift_per_um2,
            self.acetylation_factor * old[1] + self.acetylation_shift_per_um2,
        )
        limit = LARGEST_FACTOR * max(rate.max() for rate in old)
        for name, values in zip(("methylation", "acetylation"), changed, strict=True):
            if (values[inside] < 0.0).any():
                raise FieldError(f"The {name} rate would fall to {values[inside].min():.4g} um^-2.",
                                 expected="rates >= 0.", do="use a smaller shift, or a factor.")  # fmt: skip
            if 0.0 < limit < (1.0 - 1e-9) * values[inside].max(initial=0.0):
                raise FieldError(f"The {name} rate would rise to {values[inside].max():.4g} um^-2.",
                                 expected=f"at most {limit:.4g}, {LARGEST_FACTOR:g} times the faster rate.",
                                 do="use a smaller shift, in um^-2.")  # fmt: skip
        new = [np.where(inside, c, o) for c, o in zip(changed, old, strict=True)]
        if any(isinstance(rate, torch.Tensor) for rate in (methylation, acetylation)):
            return torch.as_tensor(new[0]), torch.as_tensor(new[1])
        return new[0], new[1]


@dataclass(frozen=True)
class PatternSummary:
    """What an eye would measure of a pattern.

    Parameters
    ----------
    heterochromatin_fraction : share of all chromatin that is heterochromatin.
    domain_area_fraction : share of the nucleus where phi_h > phi_max / 2.
    domain_count : connected regions there.
    domain_radius_um : radius of a disc (ball in 3D) of their mean size; NaN without domains.
    """

    heterochromatin_fraction: float
    domain_area_fraction: float
    domain_count: int
    domain_radius_um: float


@dataclass(frozen=True, eq=False)
class Response:
    """A nucleus before and after; the unperturbed one is simulated on as well, so both are steady."""

    before: SimulatedChromatin
    after: SimulatedChromatin

    @property
    def summaries(self) -> tuple[PatternSummary, PatternSummary]:
        return summarise(self.before), summarise(self.after)


def perturb(
    nucleus: SimulatedChromatin, perturbation: Perturbation, *, region: Any = None,
    time_um2: float | None = None, settings: SolverSettings | None = None,
) -> Response:  # fmt: skip
    """Change the rates of a nucleus and run on from its pattern.

    Parameters
    ----------
    nucleus : simulated, or built from an inferred result: its fields need not be steady, because the run
        without the perturbation is made as well and is what the response is compared with.
    region : pixels where the rates change; everywhere when omitted.
    time_um2 : time × D to run on for, with and without the perturbation; to the steady state when omitted.
    settings : of the way to the steady state; of a run in time, the device only.

    Raises
    ------
    FieldError : a rate that becomes negative or a thousand times faster, or a region of another shape.
    ParameterError : a time that is not positive.
    """
    if time_um2 is not None:
        require_time(time_um2)
    if region is not None and np.shape(region) != tuple(nucleus.mask.shape):
        raise FieldError(f"A region of shape {np.shape(region)}.",
                         expected=f"{tuple(nucleus.mask.shape)}, that of the nucleus.",
                         do="draw the region on the nucleus's own grid.")  # fmt: skip
    methylation, acetylation = perturbation.apply(nucleus.methylation, nucleus.acetylation, region)
    changed = replace(nucleus, methylation=methylation, acetylation=acetylation)
    if time_um2 is None:
        return Response(_run_on(nucleus, settings), _run_on(changed, settings))
    return Response(_run_for(nucleus, time_um2, settings), _run_for(changed, time_um2, settings))


def require_time(time_um2: float) -> None:
    """Raise `ParameterError` for a time × D that nothing can be followed for."""
    if not (math.isfinite(time_um2) and time_um2 > 0.0):
        raise ParameterError(f"time_um2 = {time_um2}.", expected="a positive, finite time × D in um².",
                             do="multiply the time in seconds by D in um²/s.")  # fmt: skip


def _run_for(
    nucleus: SimulatedChromatin, time_um2: float, settings: SolverSettings | None
) -> SimulatedChromatin:
    movie = evolve_chromatin(
        nucleus.heterochromatin, nucleus.euchromatin, nucleus.methylation, nucleus.acetylation,
        times=(0.0, time_um2), pixel_size_um=nucleus.pixel_size_um, parameters=nucleus.model,
        mask=None if nucleus.mask.all() else nucleus.mask,
        settings=EvolutionSettings(tolerance=TIME_TOLERANCE, device=(settings or SolverSettings()).device),
    )  # fmt: skip
    if movie.outcome is not EvolutionOutcome.COMPLETE:
        raise SimulationError(f"The run of {time_um2:g} um²: {movie.outcome.value}.",
                              expected="a run that reaches the time asked for.",
                              do="ask for a shorter time.")  # fmt: skip
    # A run in time does not say how far it is from rest.
    return replace(nucleus, heterochromatin=movie.heterochromatin[-1], euchromatin=movie.euchromatin[-1],
                   steadiness=math.nan, outcome=Outcome.FOLLOWED)  # fmt: skip


def _run_on(nucleus: SimulatedChromatin, settings: SolverSettings | None) -> SimulatedChromatin:
    return simulate_chromatin(
        nucleus.methylation, nucleus.acetylation, pixel_size_um=nucleus.pixel_size_um,
        parameters=nucleus.model, mask=None if nucleus.mask.all() else nucleus.mask,
        initial=(nucleus.heterochromatin, nucleus.euchromatin), settings=settings,
    )  # fmt: skip


def summarise(nucleus: SimulatedChromatin) -> PatternSummary:
    """Measure a pattern. Domains that meet across the sides of a periodic box count twice."""
    inside, phi_h = as_mask(nucleus.mask), as_array(nucleus.heterochromatin, "heterochromatin")
    dense = inside & (phi_h > DOMAIN_THRESHOLD * nucleus.parameters.phi_max)
    _, count = label(dense)
    size = dense.sum() * float(np.prod(nucleus.pixel_size_um)) / count if count else np.nan
    return PatternSummary(
        float(phi_h[inside].sum() / as_array(nucleus.total, "total")[inside].sum()),
        float(dense.sum() / inside.sum()),
        int(count),
        equivalent_radius(float(size), dense.ndim),
    )
