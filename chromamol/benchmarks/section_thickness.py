"""How 2D regressions of sections and projections of a 3D pattern are off: makes `data/section_thickness.json`.

`python -m chromamol.benchmarks.section_thickness OUTPUT.json` simulates 3D patterns and inverts planes and
projections of them along each axis, as a microscope would show them (an hour on one core). Truths that a test holds
out must not be among `CASES`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from chromamol.shapes import FloatField
from chromamol.synthetic import SimulatedChromatin, SolverSettings, simulate_chromatin

PARAMETERS = ChromatinParameters(interface_length_um=0.03)  # L0 = 1 um for an acetylation of 1 um^-2
CASES = ((64, 5.0, 0.8, 101), (64, 5.0, 0.8, 102), (64, 5.0, 1.2, 103))
"""Pixels and side (um) of the cube, Γ_me / D at Γ_ac / D = 1 um⁻², seed."""
RATIOS = (0.63, 1.5)
"""Γ_me / Γ_ac for which the tables hold. At 0.5 (64 pixels, seed 104), with a third of the chromatin condensed, c is
0.4 to 0.9 as large, and images scatter three times as much; 0.63 is half-way to there."""
THICKNESSES = (0.0, 0.3, 0.6, 1.2, 1.6)
HALF_WIDTHS_PX = (11, 15, 21)
PLANES_OF_SECTION = 8  # along each axis; a thin section sees fewer domains than a projection
PLANES_OF_PROJECTION = 4
NOISE = 0.03  # of phi_max, on both fields: c is 4 % larger at 5 % noise than at 1 %, and at 10 % as at 5 %
SETTING_ERROR = 0.03
"""Half of what c changes by, relative, from 1 to 5 % noise or with pixels half as large."""
CROPS = 2
"""The ratio is measured on quarters of a plane, since a periodic box holds its own turnover."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """A steady 3D pattern: φ_h, φ_e, the side of its cube in um, Γ_me / D at Γ_ac / D = 1 um⁻²."""

    phi_h: FloatField
    phi_e: FloatField
    side_um: float
    methylation: float

    @property
    def pixel_um(self) -> float:
        return self.side_um / len(self.phi_h)

    def images(self, thickness_um: float, planes: int) -> Iterator[tuple[FloatField, FloatField]]:
        """Yield φ_h and φ_e of `planes` images along each axis."""
        layers = max(1, round(thickness_um / self.pixel_um))
        for axis, plane in np.ndindex(3, planes):
            first = plane * len(self.phi_h) // planes
            h, e = (section(phi, axis=axis, first=first, layers=layers) for phi in (self.phi_h, self.phi_e))
            yield h, e


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


def log_rates(
    phi_h: FloatField, phi_e: FloatField, pixel_um: float, half_width_px: int
) -> tuple[float, float]:
    """Return ln √(Γ'_me Γ'_ac) of one image at one width of the test functions, and the area of its valid pixels.

    NaN where a rate is not positive.
    """
    grid = Grid(phi_h.shape, (pixel_um,) * 2)
    fields = [Field(phi, grid, "1") for phi in (phi_h, phi_e)]
    problem = two_channel_problem(fields, PARAMETERS, None, NOISE * PARAMETERS.phi_max, with_total=False)
    width = (half_width_px * pixel_um,) * 2
    lattice = TestLattice.inside_mask(grid, problem.mask, width)
    guess, mean = (0.0, 0.0), np.zeros(2)
    for _ in range(2):
        (fit,) = fit_on_lattice(problem, lattice, width, guess=guess, device=torch.device("cpu"))
        mean, _ = fit.mean_over(lattice.valid)
        guess = (max(0.0, float(mean[0])), max(0.0, float(mean[1])))
    area = np.count_nonzero(lattice.valid) * grid.pixel_volume_um
    return (0.5 * math.log(mean[0] * mean[1]) if (mean > 0.0).all() else math.nan), area


def log_factors(pattern: Pattern, thickness_um: float, half_width_px: int) -> FloatField:
    """Return ln c of each image of one pattern and the area that it is from, (images, 2)."""
    planes = PLANES_OF_PROJECTION if thickness_um else PLANES_OF_SECTION
    rng, sd = np.random.default_rng(0), NOISE * PARAMETERS.phi_max
    found = []
    for images in pattern.images(thickness_um, planes):
        h, e = (phi + sd * rng.standard_normal(phi.shape) for phi in images)
        found.append(log_rates(h, e, pattern.pixel_um, half_width_px))
    return np.array(found) - np.array([0.5 * math.log(pattern.methylation), 0.0])


def ratio_spread(pattern: Pattern, thickness_um: float) -> float:
    """Return the relative deviation of <φ_h> / <φ_e> from the truth, root mean square, in images of area 1 um²."""
    logs = []
    for h, e in pattern.images(thickness_um, len(pattern.phi_h)):
        mean_h, mean_e = (
            image.reshape(CROPS, len(image) // CROPS, CROPS, -1).mean(axis=(1, 3)) for image in (h, e)
        )
        logs.append(np.log(mean_h / mean_e / pattern.methylation))
    return pattern.side_um / CROPS * float(np.sqrt(np.mean(np.square(logs))))


def measure(patterns: Sequence[Pattern]) -> dict[str, Any]:
    """Return the tables: rows are thicknesses, columns widths.

    Images of one pattern see the same domains: the error of c counts each pattern as one sample, and since few
    patterns tell little of their own spread, that of one thickness is from all widths. The spread between images
    is around the mean of all patterns, and falls with the area of the pixels that the rates are from.
    """
    shape = (len(THICKNESSES), len(HALF_WIDTHS_PX))
    factor, spread, variance = np.empty(shape), np.empty(shape), np.empty(shape)
    for row, column in np.ndindex(shape):
        found = [log_factors(each, THICKNESSES[row], HALF_WIDTHS_PX[column]) for each in patterns]
        means = [np.nanmean(logs[:, 0]) for logs in found]
        factor[row, column], variance[row, column] = math.exp(np.mean(means)), np.var(means, ddof=1)
        logs, areas = np.concatenate(found).T
        spread[row, column] = math.sqrt(np.nanmean(areas * (logs - np.mean(means)) ** 2))
    error = np.sqrt(variance.mean(axis=1, keepdims=True) / len(patterns) + SETTING_ERROR**2)
    ratios = [[ratio_spread(each, thickness) ** 2 for each in patterns] for thickness in THICKNESSES]
    return {
        "thickness_over_l0": list(THICKNESSES),
        "half_width_over_l0": [round(w * patterns[0].pixel_um, 4) for w in HALF_WIDTHS_PX],
        "factor": factor.round(4).tolist(),
        "factor_se": np.broadcast_to(error, shape).round(4).tolist(),
        "spread": spread.round(4).tolist(),
        "ratios": list(RATIOS),
        "ratio_spread": np.sqrt(np.mean(ratios, axis=1)).round(4).tolist(),
    }


def main(output: Path) -> None:
    """Simulate, measure, write."""
    patterns = []
    for pixels, side, methylation, seed in CASES:
        state = simulate(pixels, side, methylation, seed)
        patterns.append(Pattern(state.heterochromatin, state.euchromatin, side, methylation))
    write_text(output, json.dumps(measure(patterns), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
