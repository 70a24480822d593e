"""`evolve_chromatin`: chromatin on its way, at the times that are asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch

from chromamol.device import resolve_device
from chromamol.errors import ParameterError
from chromamol.physics.conversion import Conversion
from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.physics.model import ChromatinModel
from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic.additive_runge_kutta import TimeSettings, evolve
from chromamol.synthetic.inputs import (
    common_domain,
    fraction_map,
    rate_map,
    require_resolved_interface,
    spacing_of,
    unit_length,
)
from chromamol.synthetic.spaces import PeriodicBox, WalledNucleus


class EvolutionOutcome(Enum):
    """How a run in time ended; the value is the sentence that a user reads."""

    COMPLETE = "the state was computed at every time that was asked for"
    STEP_LIMIT = "the largest number of steps was reached; later times are missing"


@dataclass(frozen=True)
class EvolutionSettings:
    """How accurately and where a movie is computed.

    Parameters
    ----------
    tolerance : largest error of a volume fraction per time step.
    max_steps : between two frames.
    device : "cpu", "cuda", "cuda:1", ...
    """

    tolerance: float = 1e-5
    max_steps: int = 100_000
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class ChromatinMovie:
    """Chromatin at several times.

    Parameters
    ----------
    heterochromatin, euchromatin : φ_h and φ_e, (t, y, x) or (t, z, y, x), zero outside the mask; numpy
        arrays, or torch tensors if an input was one.
    times : of the frames, (t,), in seconds if `diffusivity_um2_per_s` was given, else time × D in um².
    methylation, acetylation : Γ_me / D and Γ_ac / D in um^-2.
    mask : True inside the nucleus; everywhere in a periodic box.
    outcome : whether every frame is there.
    conversions : of the model, beside methylation and acetylation.
    """

    heterochromatin: Any
    euchromatin: Any
    times: np.ndarray
    methylation: Any
    acetylation: Any
    mask: Any
    pixel_size_um: tuple[float, ...]
    parameters: ChromatinParameters
    diffusivity_um2_per_s: float | None
    outcome: EvolutionOutcome
    conversions: tuple[Conversion, ...] = ()

    @property
    def model(self) -> ChromatinModel:
        """Parameters and conversions, as a further simulation takes them."""
        return ChromatinModel(self.parameters, self.conversions)

    @property
    def total(self) -> Any:
        """φ_h + φ_e, what a DNA stain shows."""
        return self.heterochromatin + self.euchromatin


def evolve_chromatin(
    heterochromatin: Any,
    euchromatin: Any,
    methylation_per_um2: Any,
    acetylation_per_um2: Any,
    *,
    times: Sequence[float] | np.ndarray,
    pixel_size_um: float | Sequence[float],
    parameters: ChromatinParameters | ChromatinModel | None = None,
    mask: Any = None,
    diffusivity_um2_per_s: float | None = None,
    settings: EvolutionSettings | None = None,
) -> ChromatinMovie:
    """Follow chromatin in time from a given state.

        ∂t φ_h = D Δμ_h + Γ_me φ_e - Γ_ac φ_h,    ∂t φ_e = D Δμ_e - Γ_me φ_e + Γ_ac φ_h

    Parameters
    ----------
    heterochromatin, euchromatin : φ_h and φ_e at the first time, (y, x) or (z, y, x).
    methylation_per_um2, acetylation_per_um2 : Γ / D in um^-2, numbers or maps.
    times : increasing; the first is that of the given state. In seconds with a diffusivity, else time × D in um².
    pixel_size_um : one number, or one per axis.
    parameters : the model's constants, or a `ChromatinModel`, which adds conversions such as a transcription term.
    mask : the nucleus, with no flux through its wall. Without one the box is periodic.
    diffusivity_um2_per_s : D.

    Raises
    ------
    FieldError : shapes that differ, negative or non-finite rates, fields that are no volume fractions, a mask that
        touches the box.
    ParameterError : times that do not increase, or a pixel too coarse for the interface.
    SimulationError : a state from which no step succeeds.

    References
    ----------
    Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z; arXiv:2505.11682.
    """
    model = ChromatinModel.of(parameters)
    parameters = model.parameters
    settings = settings or EvolutionSettings()
    given = (heterochromatin, euchromatin, methylation_per_um2, acetylation_per_um2)
    as_torch = any(isinstance(v, torch.Tensor) for v in given)
    inside, shape = common_domain(mask, None, (heterochromatin, euchromatin), *given[2:])
    spacing = spacing_of(pixel_size_um, len(shape))
    require_resolved_interface(parameters, spacing)
    instants = _instants(times)
    methylation = rate_map(methylation_per_um2, shape, "methylation_per_um2")
    acetylation = rate_map(acetylation_per_um2, shape, "acetylation_per_um2")
    fields = {"heterochromatin": heterochromatin, "euchromatin": euchromatin}
    start = np.stack([fraction_map(v, inside, name) for name, v in fields.items()])

    device = resolve_device(settings.device)
    length = unit_length(float(acetylation[inside].mean()), parameters)
    scaled_spacing = [h / length for h in spacing]
    space: PeriodicBox | WalledNucleus
    if mask is None:
        space = PeriodicBox.build(shape, scaled_spacing, device=device)
    else:
        space = WalledNucleus.build(inside, scaled_spacing, device=device)
    dynamics = ChromatinDynamics(
        space,
        torch.as_tensor(methylation * length**2 * inside, device=device)[None],
        torch.as_tensor(acetylation * length**2 * inside, device=device)[None],
        parameters.phi_max,
        parameters.interface_length_um / length,
        parameters.adhesion,
        model.conversions,
        length,
    )
    first = torch.as_tensor(start, device=device)[None]
    scaled_times = (instants - instants[0]) * _diffusivity(diffusivity_um2_per_s) / length**2
    frames = [first, *evolve(
        dynamics, first, scaled_times.tolist(),
        TimeSettings(tolerance=settings.tolerance, max_steps=settings.max_steps),
    )]  # fmt: skip
    outcome = EvolutionOutcome.COMPLETE if len(frames) == len(instants) else EvolutionOutcome.STEP_LIMIT
    movie = torch.cat(frames).cpu()
    arrays: list[Any] = [movie[:, 0], movie[:, 1], *map(torch.as_tensor, (methylation, acetylation, inside))]
    if not as_torch:
        arrays = [a.numpy() for a in arrays]
    phi_h, phi_e, gamma_me, gamma_ac, inner = arrays
    return ChromatinMovie(
        phi_h, phi_e, instants[: len(frames)], gamma_me, gamma_ac, inner, spacing, parameters,
        diffusivity_um2_per_s, outcome, model.conversions,
    )  # fmt: skip


def _instants(times: Sequence[float] | np.ndarray) -> np.ndarray:
    instants = np.asarray(times, dtype=np.float64)
    increasing = instants.ndim == 1 and instants.size >= 2 and bool((np.diff(instants) > 0.0).all())
    if not (increasing and np.isfinite(instants).all()):
        raise ParameterError(f"times = {times}.", expected="at least two finite times that increase.",
                             do="start with the time of the given state.")  # fmt: skip
    return instants


def _diffusivity(diffusivity_um2_per_s: float | None) -> float:
    if diffusivity_um2_per_s is None:
        return 1.0
    if not (math.isfinite(diffusivity_um2_per_s) and diffusivity_um2_per_s > 0.0):
        raise ParameterError(f"diffusivity_um2_per_s = {diffusivity_um2_per_s}.", expected="a positive number.",
                             do="leave it out to give times as time × D in um².")  # fmt: skip
    return diffusivity_um2_per_s
