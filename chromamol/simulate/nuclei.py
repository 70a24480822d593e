"""Nuclei of known rates: outlines, rates and patterns, one by one, and their rows of the truth table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chromamol.domains import measure_domains
from chromamol.errors import ParameterError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField, Mask
from chromamol.simulate.settings import SimulationSettings
from chromamol.synthetic.forward import SimulatedChromatin, SolverSettings, simulate_chromatin
from chromamol.synthetic.rates import log_normal_rate
from chromamol.synthetic.shapes import nucleus_mask

CELL_SHARE = 0.9  # of the coarsest cell that the solver accepts: the rule is a limit, not an aim
MAX_CELLS = 1_000_000


def simulate_nucleus(index: int, settings: SimulationSettings) -> SimulatedChromatin:
    """Simulate one nucleus; the same index and seed give the same one, whatever the other nuclei are."""
    mask, methylation, acetylation = draw_nucleus(index, settings)
    parameters = _parameters(settings)
    return simulate_chromatin(
        methylation, acetylation, pixel_size_um=cell_size_um(parameters), mask=mask, parameters=parameters,
        water_fraction=settings.water_fraction, seed=settings.seed + index,
        settings=SolverSettings(steadiness=settings.steadiness, device=settings.device),
    )  # fmt: skip


def draw_nucleus(index: int, settings: SimulationSettings) -> tuple[Mask, FloatField, FloatField]:
    """Return the mask of a nucleus, its methylation and its acetylation, which take no simulation."""
    rng = np.random.default_rng([settings.seed, index])
    cell = cell_size_um(_parameters(settings))
    diameter = settings.diameter_um * math.exp(settings.diameter_sd * rng.standard_normal())
    _require_feasible(diameter, cell)
    mask = nucleus_mask(diameter, (cell, cell), aspect=settings.aspect, nucleoli=settings.nucleoli, rng=rng)
    own = np.exp(settings.spread * rng.standard_normal(2))
    methylation = log_normal_rate(
        mask.shape, (cell, cell), mean=settings.methylation_per_um2 * own[0], log_sd=settings.variation,
        correlation_um=settings.correlation_um, rng=rng,
    )  # fmt: skip
    return mask, methylation, np.full(mask.shape, settings.acetylation_per_um2 * own[1])


def _parameters(settings: SimulationSettings) -> ChromatinParameters:
    return ChromatinParameters(settings.phi_max, settings.interface_um, settings.adhesion)


def cell_size_um(parameters: ChromatinParameters) -> float:
    """Return a cell that resolves the interface: 2.2 cells over its width 4 ℓ / φ_max."""
    return CELL_SHARE * 2.0 * parameters.interface_length_um / parameters.phi_max


def describe(nucleus: SimulatedChromatin) -> dict[str, Any]:
    """Return what `nuclei.csv` of an analysis would hold, as it truly is."""
    inside = nucleus.mask
    phi_h = Field(np.asarray(nucleus.heterochromatin), Grid(inside.shape, nucleus.pixel_size_um), "1")
    domains = measure_domains(phi_h, inside, phi_max=nucleus.parameters.phi_max)
    methylation, acetylation = nucleus.methylation[inside].mean(), nucleus.acetylation[inside].mean()
    return {
        "gamma_me_per_um2": float(methylation),
        "gamma_ac_per_um2": float(acetylation),
        "rate_ratio": float(methylation / acetylation) if acetylation > 0.0 else math.nan,
        "heterochromatin_fraction": float(
            nucleus.heterochromatin[inside].sum() / nucleus.total[inside].sum()
        ),
        "domain_area_fraction": domains.domain_fraction,
        "domain_count": domains.count,
        "domain_radius_um": domains.radius_um,
        "domain_spacing_um": domains.spacing_um,
        "lad_thickness_um": domains.lad_thickness_um,
        "steadiness": nucleus.steadiness,
        "outcome": nucleus.outcome.name.lower(),
    }


def _require_feasible(diameter_um: float, cell_um: float) -> None:
    cells = (diameter_um / cell_um) ** 2
    if cells > MAX_CELLS:
        raise ParameterError(
            f"A nucleus of {diameter_um:.3g} um with cells of {cell_um:.3g} um: {cells:,.0f} cells.",
            expected=f"at most {MAX_CELLS:,}: the interface length sets the cell, 1.8 l / phi_max.",
            do="simulate a smaller nucleus, slower rates, or a longer interface_length_um.",
        )
