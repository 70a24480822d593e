"""How 2D regressions of sections and projections of a 3D pattern are off: makes `data/section_thickness.json`.

`python -m chromamol.benchmarks.section_thickness OUTPUT.json` simulates 3D patterns (half an hour on one core) and
inverts planes and projections of them along each axis, as a microscope would show them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.from_images import two_channel_problem
from chromamol.inverse.lattice import TestLattice
from chromamol.inverse.single_fit import fit_on_lattice
from chromamol.io import write_text
from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic import SimulatedChromatin, SolverSettings, simulate_chromatin

PARAMETERS = ChromatinParameters(interface_length_um=0.03)  # L0 = 1 um for an acetylation of 1 um^-2
CASES = ((64, 5.0, 0.8, 101),)
"""Pixels and side (um) of the cube, Γ_me / D at Γ_ac / D = 1 um⁻², seed."""
THICKNESSES = (0.0, 0.3, 0.6, 1.2, 1.6)
HALF_WIDTHS_PX = (8, 11, 15, 21)
PLANES_OF_SECTION, PLANES_OF_PROJECTION = (
    8,
    3,
)  # per axis; a thin section sees fewer domains than a projection
NOISE = 0.01  # of phi_max, said to the regression: planes of a simulation have none
TILES = 2  # the box is periodic, so an image of it may be repeated: wide kernels then fit in


def simulate(pixels: int, side_um: float, methylation: float, seed: int) -> SimulatedChromatin:
    """Return a 3D pattern, steady to 1e-3."""
    return simulate_chromatin(
        methylation, 1.0, pixel_size_um=side_um / pixels, shape=(pixels,) * 3, seed=seed, parameters=PARAMETERS,
        settings=SolverSettings(steadiness=1e-3),
    )  # fmt: skip


def section(phi: np.ndarray, *, axis: int, first: int, layers: int) -> np.ndarray:
    """Return the mean of `layers` planes of a periodic box, (y, x)."""
    planes = np.moveaxis(phi, axis, 0)
    return planes[(first + np.arange(layers)) % len(planes)].mean(axis=0)


def log_rates(phi_h: np.ndarray, phi_e: np.ndarray, pixel_um: float, half_width_px: int) -> float:
    """Return ln √(Γ'_me Γ'_ac) of one image at one width of the test functions; NaN where a rate is not positive."""
    images = [np.tile(phi, (TILES, TILES)) for phi in (phi_h, phi_e)]
    grid = Grid(images[0].shape, (pixel_um,) * 2)
    fields = [Field(phi, grid, "1") for phi in images]
    problem = two_channel_problem(fields, PARAMETERS, None, NOISE * PARAMETERS.phi_max, with_total=False)
    width = (half_width_px * pixel_um,) * 2
    lattice = TestLattice.inside_mask(grid, problem.mask, width)
    guess, mean = (0.0, 0.0), np.zeros(2)
    for _ in range(2):
        (fit,) = fit_on_lattice(problem, lattice, width, guess=guess, device=torch.device("cpu"))
        mean, _ = fit.mean_over(lattice.valid)
        guess = (max(0.0, float(mean[0])), max(0.0, float(mean[1])))
    return 0.5 * math.log(mean[0] * mean[1]) if (mean > 0.0).all() else math.nan


def measure(patterns: Sequence[tuple[np.ndarray, np.ndarray, float, float]]) -> dict[str, Any]:
    """Return the tables from (φ_h, φ_e, side in um, Γ_me / D) of each pattern: rows are thicknesses, columns widths.

    Neighbouring planes see the same domains: the error of c counts each axis of each pattern as one sample.
    """
    shape = (len(THICKNESSES), len(HALF_WIDTHS_PX))
    tables = {name: np.empty(shape) for name in ("factor", "factor_se", "spread")}
    pixel = patterns[0][2] / len(patterns[0][0])
    for row, column in np.ndindex(shape):
        axes, spreads = [], []
        for phi_h, phi_e, side, methylation in patterns:
            layers = max(1, round(THICKNESSES[row] / pixel))
            planes = PLANES_OF_PROJECTION if THICKNESSES[row] else PLANES_OF_SECTION
            logs = np.full((3, planes), np.nan)
            for axis, plane in np.ndindex(logs.shape):
                first = plane * len(phi_h) // planes
                h, e = (section(phi, axis=axis, first=first, layers=layers) for phi in (phi_h, phi_e))
                logs[axis, plane] = log_rates(h, e, pixel, HALF_WIDTHS_PX[column])
            logs -= 0.5 * math.log(methylation)
            axes += list(np.nanmean(logs, axis=1))
            spreads.append(side * np.nanstd(logs))
        tables["factor"][row, column] = math.exp(np.mean(axes))
        tables["factor_se"][row, column] = np.std(axes, ddof=1) / math.sqrt(len(axes))
        tables["spread"][row, column] = math.sqrt(np.mean(np.square(spreads)))
    axes_of_table = {"thickness_over_l0": list(THICKNESSES),
                     "half_width_over_l0": [round(w * pixel, 4) for w in HALF_WIDTHS_PX]}  # fmt: skip
    return axes_of_table | {name: table.round(4).tolist() for name, table in tables.items()}


def main(output: Path) -> None:
    """Simulate, measure, write."""
    patterns = []
    for pixels, side, methylation, seed in CASES:
        state = simulate(pixels, side, methylation, seed)
        patterns.append((state.heterochromatin, state.euchromatin, side, methylation))
    write_text(output, json.dumps(measure(patterns), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
