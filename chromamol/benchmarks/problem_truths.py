"""How the truths of the published problems are made: solutions that share nothing with any estimator."""

from __future__ import annotations

import numpy as np

from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField
from chromamol.synthetic import SolverSettings, simulate_chromatin
from chromamol.synthetic.rates import log_normal_rate

Solved = tuple[FloatField, dict[str, FloatField], tuple[float, ...]]
WAVES = 4
BOX_PER_PIXEL = 7.5 / 192  # L0 per pixel of the fourth-order problem, as in the project's other truths


def langevin_truth(pixels: int, seed: int) -> Solved:
    """u_t = u + λ(t) on [0, 1], u(0) = 1, in closed form: λ is a sum of sines, each of which integrates exactly.

    For λ = a sin(ω t + p) the particular solution is -a (sin(ω t + p) + ω cos(ω t + p)) / (1 + ω²).
    """
    rng = np.random.default_rng(seed)
    t = np.linspace(0.0, 1.0, pixels)
    rate, particular, at_start = np.ones(pixels), -np.ones(pixels), -1.0
    for wave in range(1, WAVES + 1):
        omega, phase = 2.0 * np.pi * wave, rng.uniform(0.0, 2.0 * np.pi)
        height = rng.normal() / wave
        scale = -height / (1.0 + omega**2)
        rate += height * np.sin(omega * t + phase)
        particular += scale * (np.sin(omega * t + phase) + omega * np.cos(omega * t + phase))
        at_start += scale * (np.sin(phase) + omega * np.cos(phase))
    return rate, {"u": particular + (1.0 - at_start) * np.exp(t)}, (t[1] - t[0],)


def heat_truth(pixels: int, seed: int) -> Solved:
    """0 = λ Δu + m on the unit square, manufactured: u and λ are given, m = -λ Δu follows by hand.

    Δu < 0 everywhere, or λ would not be determined where it vanishes.
    """
    rng = np.random.default_rng(seed)
    axis = (np.arange(pixels) + 0.5) / pixels
    y, x = np.meshgrid(axis, axis, indexing="ij")
    u = 1.0 - (x - 0.5) ** 2 - (y - 0.5) ** 2 + 0.02 * np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y)
    laplacian = -4.0 - 0.16 * np.pi**2 * np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y)
    diffusivity = log_normal_rate(
        (pixels, pixels), (1 / pixels,) * 2, mean=1.0, log_sd=0.3, correlation_um=0.2, rng=rng
    )
    return diffusivity, {"u": u, "m": -diffusivity * laplacian}, (1 / pixels,) * 2


def fourth_order_truth(pixels: int, seed: int) -> Solved:
    """A steady chromatin pattern with log-normal Γ_me and Γ_ac = 1, ℓ = 0.03, lengths in L0 (minutes at 192 pixels)."""
    spacing = (BOX_PER_PIXEL,) * 2
    rate = log_normal_rate(
        (pixels, pixels), spacing, mean=0.8, log_sd=0.3, correlation_um=1.6, rng=np.random.default_rng(seed)
    )
    state = simulate_chromatin(
        rate, 1.0, pixel_size_um=BOX_PER_PIXEL, parameters=ChromatinParameters(interface_length_um=0.03), seed=seed,
        settings=SolverSettings(steadiness=1e-4),
    )  # fmt: skip
    return rate, {"phi_h": state.heterochromatin, "phi_e": state.euchromatin}, spacing
