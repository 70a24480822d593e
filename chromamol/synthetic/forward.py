"""`simulate_chromatin`: from rates to the steady pattern of heterochromatin.

The simulation shares the equation with the inversion and nothing else: spectral or finite-volume
derivatives here, mollified ones there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from chromamol.device import resolve_device
from chromamol.errors import FieldError
from chromamol.physics.conversion import Conversion
from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.physics.model import ChromatinModel
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField, Mask
from chromamol.synthetic.inputs import (
    common_domain,
    fraction_map,
    largest_pixel,
    rate_map,
    require_fraction,
    require_resolved_interface,
    spacing_of,
    unit_length,
)
from chromamol.synthetic.ripen import ripen
from chromamol.synthetic.spaces import PeriodicBox, WalledNucleus
from chromamol.synthetic.start import droplets, local_heterochromatin
from chromamol.synthetic.steady import Outcome, SteadySettings, relax


@dataclass(frozen=True)
class SolverSettings:
    """How far and where a simulation runs.

    Parameters
    ----------
    steadiness : stop when max |∂t φ| / (D ⟨Γ_ac⟩) falls below it: the change of a volume fraction in the
        time in which acetylation turns chromatin over once.
    max_steps : and at the latest after so many implicit steps.
    device : "cpu", "cuda", "cuda:1", ...
    """

    steadiness: float = 1e-6
    max_steps: int = 1000
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class SimulatedChromatin:
    """A simulated nucleus with the rates that made it.

    Parameters
    ----------
    heterochromatin, euchromatin : φ_h and φ_e, (y, x) or (z, y, x), zero outside the mask; numpy arrays, or
        torch tensors if a rate was one.
    methylation, acetylation : Γ_me / D and Γ_ac / D in um^-2 on the same grid.
    mask : True inside the nucleus; everywhere in a periodic box.
    pixel_size_um : one number per axis.
    steadiness : max |∂t φ| / (D ⟨Γ_ac⟩) of the state. Without reactions the unit of time is (ℓ / 0.03)² / D.
    outcome : how the run ended.
    conversions : of the model, beside methylation and acetylation.
    """

    heterochromatin: Any
    euchromatin: Any
    methylation: Any
    acetylation: Any
    mask: Any
    pixel_size_um: tuple[float, ...]
    parameters: ChromatinParameters
    steadiness: float
    outcome: Outcome = field(default=Outcome.STEADY)
    conversions: tuple[Conversion, ...] = ()

    @property
    def model(self) -> ChromatinModel:
        """Parameters and conversions, as a further simulation takes them."""
        return ChromatinModel(self.parameters, self.conversions)

    @property
    def total(self) -> Any:
        """φ_h + φ_e, what a DNA stain shows."""
        return self.heterochromatin + self.euchromatin


def simulate_chromatin(
    methylation_per_um2: Any,
    acetylation_per_um2: Any,
    *,
    pixel_size_um: float | Sequence[float],
    parameters: ChromatinParameters | ChromatinModel | None = None,
    mask: Any = None,
    water_fraction: float = 0.5,
    shape: Sequence[int] | None = None,
    seed: int = 0,
    initial: tuple[Any, Any] | None = None,
    settings: SolverSettings | None = None,
) -> SimulatedChromatin:
    """Simulate the chromatin of a nucleus until its pattern is steady.

        0 = Δμ_h + (Γ_me / D) φ_e - (Γ_ac / D) φ_h,    0 = Δμ_e - (Γ_me / D) φ_e + (Γ_ac / D) φ_h

    Parameters
    ----------
    methylation_per_um2, acetylation_per_um2 : Γ / D in um^-2, numbers or maps (y, x) or (z, y, x).
    pixel_size_um : one number, or one per axis.
    parameters : phi_max, interface length and lamina adhesion; the defaults when omitted. A `ChromatinModel`
        instead of them adds conversions, such as a transcription term.
    mask : the nucleus, with no flux through its wall. Without one the box is periodic.
    water_fraction : mean volume fraction of nucleoplasm; conserved.
    shape : of the grid, when neither a map nor a mask tells it.
    seed : of the droplets from which the simulation starts.
    initial : (φ_h, φ_e) to start from instead; their mean replaces 1 - water_fraction.
    settings : steadiness to reach, step limit and device.

    Raises
    ------
    FieldError : shapes that differ, negative or non-finite rates, initial fields that are no volume fractions, a mask
        that touches the box.
    ParameterError : a water fraction outside (0, 1), or a pixel too coarse for the interface.

    References
    ----------
    Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z; arXiv:2505.11682.
    """
    model = ChromatinModel.of(parameters)
    parameters = model.parameters
    settings = settings or SolverSettings()
    as_torch = any(isinstance(v, torch.Tensor) for v in (methylation_per_um2, acetylation_per_um2))
    inside, grid_shape = common_domain(mask, shape, initial, methylation_per_um2, acetylation_per_um2)
    spacing = spacing_of(pixel_size_um, len(grid_shape))
    methylation = rate_map(methylation_per_um2, grid_shape, "methylation_per_um2")
    acetylation = rate_map(acetylation_per_um2, grid_shape, "acetylation_per_um2")
    require_resolved_interface(parameters, spacing)
    require_fraction(water_fraction)

    length = unit_length(float(acetylation[inside].mean()), parameters)
    if initial is None:
        start = _droplets(inside, spacing, length, methylation, acetylation, 1.0 - water_fraction, seed)
    else:
        names = ("initial heterochromatin", "initial euchromatin")
        start = np.stack([fraction_map(v, inside, name) for name, v in zip(names, initial, strict=True)])
    case = _Case(model, inside if mask is not None else None, grid_shape, spacing, length, settings)
    states, unsteady, outcomes = case.relax(
        methylation[None], acetylation[None], start[None], ripen_first=initial is None
    )
    return case.result(states[0], methylation, acetylation, unsteady[0], outcomes[0], as_torch=as_torch)


def simulate_chromatin_batch(
    methylation_per_um2: Sequence[Any],
    acetylation_per_um2: Sequence[Any],
    *,
    pixel_size_um: float | Sequence[float],
    parameters: ChromatinParameters | ChromatinModel | None = None,
    mask: Any = None,
    water_fraction: float = 0.5,
    shape: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    settings: SolverSettings | None = None,
) -> list[SimulatedChromatin]:
    """Simulate several nuclei of one grid and one mask at once, as a GPU likes it.

    Parameters
    ----------
    methylation_per_um2, acetylation_per_um2 : Γ / D in um^-2, one number or map per nucleus.
    seeds : one per nucleus; 0, 1, 2, ... when omitted.

    The others are those of `simulate_chromatin`. Each nucleus has its own steps and rests once it is steady. The
    unit of `steadiness` is D times the mean acetylation of the whole batch.

    Raises
    ------
    FieldError : as `simulate_chromatin`, and lists of different lengths.
    """
    count = len(methylation_per_um2)
    seeds = range(count) if seeds is None else seeds
    if count == 0 or not count == len(acetylation_per_um2) == len(seeds):
        raise FieldError(f"{count} methylation and {len(acetylation_per_um2)} acetylation rates, {len(seeds)} seeds.",
                         expected="as many of each, at least one.", do="repeat a rate that is shared.")  # fmt: skip
    model = ChromatinModel.of(parameters)
    settings = settings or SolverSettings()
    given = [*methylation_per_um2, *acetylation_per_um2]
    as_torch = any(isinstance(v, torch.Tensor) for v in given)
    inside, grid_shape = common_domain(mask, shape, None, *given)
    spacing = spacing_of(pixel_size_um, len(grid_shape))
    require_resolved_interface(model.parameters, spacing)
    require_fraction(water_fraction)
    methylation = np.stack([rate_map(v, grid_shape, "methylation_per_um2") for v in methylation_per_um2])
    acetylation = np.stack([rate_map(v, grid_shape, "acetylation_per_um2") for v in acetylation_per_um2])
    length = unit_length(float(acetylation[:, inside].mean()), model.parameters)
    total = 1.0 - water_fraction
    starts = [
        _droplets(inside, spacing, length, m, a, total, s)
        for m, a, s in zip(methylation, acetylation, seeds, strict=True)
    ]
    case = _Case(model, inside if mask is not None else None, grid_shape, spacing, length, settings)
    states, unsteady, outcomes = case.relax(methylation, acetylation, np.stack(starts), ripen_first=True)
    parts = zip(states, methylation, acetylation, unsteady, outcomes, strict=True)
    return [case.result(*part, as_torch=as_torch) for part in parts]


@dataclass(frozen=True, eq=False)
class _Case:
    """What the nuclei of one run share."""

    model: ChromatinModel
    mask: Mask | None
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    length: float
    settings: SolverSettings

    def relax(
        self, methylation: FloatField, acetylation: FloatField, start: FloatField, *, ripen_first: bool
    ) -> tuple[torch.Tensor, list[float], list[Outcome]]:
        """Run (batch, ...) arrays to their steady states: states, steadiness and outcome of each."""
        device = resolve_device(self.settings.device)
        spacing = [h / self.length for h in self.spacing]
        space: PeriodicBox | WalledNucleus
        if self.mask is None:
            space = PeriodicBox.build(self.shape, spacing, device=device)
        else:
            space = WalledNucleus.build(self.mask, spacing, device=device)
        parameters = self.model.parameters
        dynamics = ChromatinDynamics(
            space,
            torch.as_tensor(methylation * self.length**2, device=device) * space.inside,
            torch.as_tensor(acetylation * self.length**2, device=device) * space.inside,
            parameters.phi_max,
            parameters.interface_length_um / self.length,
            parameters.adhesion,
            self.model.conversions,
            self.length,
        )
        settings = SteadySettings(steadiness=self.settings.steadiness, max_steps=self.settings.max_steps)
        state = torch.as_tensor(start, device=device)
        if ripen_first:
            state = ripen(dynamics, state, settings, largest_spacing=largest_pixel(parameters) / self.length)
        state, unsteady, outcome = relax(dynamics, state, settings)
        reached = (unsteady <= settings.steadiness).tolist()
        return state.cpu(), unsteady.tolist(), [Outcome.STEADY if r else outcome for r in reached]

    def result(
        self, state: torch.Tensor, methylation: FloatField, acetylation: FloatField, unsteady: float,
        outcome: Outcome, *, as_torch: bool,
    ) -> SimulatedChromatin:  # fmt: skip
        inside = np.ones(self.shape, dtype=bool) if self.mask is None else self.mask
        arrays: list[Any] = [state[0], state[1], *map(torch.as_tensor, (methylation, acetylation, inside))]
        if not as_torch:
            arrays = [a.numpy() for a in arrays]
        phi_h, phi_e, gamma_me, gamma_ac, inner = arrays
        return SimulatedChromatin(
            phi_h, phi_e, gamma_me, gamma_ac, inner, self.spacing, self.model.parameters, unsteady, outcome,
            self.model.conversions,
        )  # fmt: skip


def _droplets(
    inside: Mask, spacing: Sequence[float], length: float, methylation: FloatField, acetylation: FloatField,
    total: float, seed: int,
) -> FloatField:  # fmt: skip
    return droplets(
        inside, [h / length for h in spacing], total=total, rng=np.random.default_rng(seed),
        heterochromatin=local_heterochromatin(methylation, acetylation, total),
    )  # fmt: skip
