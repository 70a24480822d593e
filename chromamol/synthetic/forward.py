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

from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.physics.model import ChromatinModel
from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic.inputs import (
    as_map,
    common_domain,
    rate_map,
    require_fraction,
    require_resolved_interface,
    spacing_of,
    unit_length,
)
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
    FieldError : shapes that differ, negative or non-finite rates, a mask that touches the box.
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

    mean_acetylation = float(acetylation[inside].mean())
    length = unit_length(mean_acetylation, parameters)
    scaled_spacing = [h / length for h in spacing]
    if initial is None:
        total = 1.0 - water_fraction
        start = droplets(
            inside, scaled_spacing, total=total, rng=np.random.default_rng(seed),
            heterochromatin=local_heterochromatin(methylation, acetylation, total),
        )  # fmt: skip
    else:
        start = np.stack([as_map(v, grid_shape, "initial") * inside for v in initial])

    device = settings.device
    space: PeriodicBox | WalledNucleus
    if mask is None:
        space = PeriodicBox.build(grid_shape, scaled_spacing, device=device)
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
    state, unsteady, outcome = relax(
        dynamics,
        torch.as_tensor(start, device=device)[None],
        SteadySettings(steadiness=settings.steadiness, max_steps=settings.max_steps),
    )
    fields = (
        state[0, 0].cpu(),
        state[0, 1].cpu(),
        torch.as_tensor(methylation),
        torch.as_tensor(acetylation),
    )
    phi_h, phi_e, gamma_me, gamma_ac = (f if as_torch else f.numpy() for f in fields)
    return SimulatedChromatin(
        phi_h, phi_e, gamma_me, gamma_ac, torch.as_tensor(inside) if as_torch else inside,
        spacing, parameters, float(unsteady[0]), outcome,
    )  # fmt: skip
