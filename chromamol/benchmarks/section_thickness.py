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

import numpy as np

from chromamol.inverse.infer import infer_rates
from chromamol.io import write_text
from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic import SimulatedChromatin, SolverSettings, simulate_chromatin

PARAMETERS = ChromatinParameters(interface_length_um=0.03)  # L0 = 1 um for an acetylation of 1 um^-2
CASES = ((64, 5.0, 0.8, 101),)
"""Pixels and side (um) of the cube, Γ_me / D at Γ_ac / D = 1 um⁻², seed."""
THICKNESSES = (0.0, 0.15, 0.3, 0.6, 0.9, 1.2, 1.5)
PLANES = 16
NOISE = 0.01  # of phi_max, said to the regression: planes of a simulation have none


def simulate(pixels: int, side_um: float, methylation: float, seed: int) -> SimulatedChromatin:
    """Return a 3D pattern, steady to 1e-3."""
    return simulate_chromatin(
        methylation, 1.0, pixel_size_um=side_um / pixels, shape=(pixels,) * 3, seed=seed, parameters=PARAMETERS,
        settings=SolverSettings(steadiness=1e-3),
    )  # fmt: skip


def log_errors(
    phi_h: np.ndarray, phi_e: np.ndarray, pixel_um: float, thickness_um: float, *, planes: int = PLANES
) -> np.ndarray:
    """Return ln √(Γ'_me Γ'_ac) of sections of one thickness around planes of all three axes, (3, planes).

    Images in which a rate can't be identified are NaN.
    """
    errors = np.full((3, planes), np.nan)
    layers = max(1, round(thickness_um / pixel_um))
    for axis in range(3):
        h, e = (np.moveaxis(phi, axis, 0) for phi in (phi_h, phi_e))
        for i in range(planes):
            seen = (i * len(h) // planes + np.arange(layers)) % len(h)  # the box is periodic
            rates = infer_rates(
                h[seen].mean(0), e[seen].mean(0), pixel_size_um=pixel_um, parameters=PARAMETERS,
                noise_sd=NOISE * PARAMETERS.phi_max, device="cpu",
            )  # fmt: skip
            product = rates.methylation.mean * rates.acetylation.mean
            errors[axis, i] = 0.5 * math.log(product) if product > 0.0 else math.nan
    return errors


def summarise(
    samples: Sequence[np.ndarray], sides_um: Sequence[float], true: Sequence[float]
) -> dict[str, float]:
    """Return c, its relative error and the spread between images of area L0², from `log_errors` of each case.

    Neighbouring planes see the same domains: the error of c counts each axis of each case as one sample.
    """
    off = [sample - 0.5 * math.log(rate) for sample, rate in zip(samples, true, strict=True)]
    axes = np.concatenate([np.nanmean(sample, axis=1) for sample in off])
    spread = [
        side * np.nanstd(sample - np.nanmean(sample)) for sample, side in zip(off, sides_um, strict=True)
    ]
    return {
        "factor": float(np.exp(axes.mean())),
        "factor_se": float(axes.std(ddof=1) / math.sqrt(len(axes))),
        "spread": float(np.sqrt(np.mean(np.square(spread)))),
    }


def measure(patterns: Sequence[tuple[np.ndarray, np.ndarray, float, float]]) -> dict[str, list[float]]:
    """Return the curve from (φ_h, φ_e, side in um, Γ_me / D) of each pattern."""
    rows = []
    for thickness in THICKNESSES:
        samples = [log_errors(h, e, side / len(h), thickness) for h, e, side, _ in patterns]
        rows.append(summarise(samples, [p[2] for p in patterns], [p[3] for p in patterns]))
    return {"thickness_over_l0": list(THICKNESSES)} | {
        name: [round(row[name], 4) for row in rows] for name in ("factor", "factor_se", "spread")
    }


def main(output: Path) -> None:
    """Simulate, measure, write."""
    patterns = []
    for pixels, side, methylation, seed in CASES:
        state = simulate(pixels, side, methylation, seed)
        patterns.append((state.heterochromatin, state.euchromatin, side, methylation))
    write_text(output, json.dumps(measure(patterns), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
