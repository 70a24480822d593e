"""A comparator in the manner of ODIL: unknowns on the pixel grid, finite differences, one loss, no mollifier.

The method is that of Karnakov et al. (optimising a discrete loss, with a multigrid decomposition of the unknowns and
Adam); the few lines here are our own and stand for the idea, not for their package. Fields and log-rates are sums of
grids of ever coarser pixels; the loss is the data's misfit, through the point spread function, plus the residuals of
both balances with the five-point Laplacian taken twice. It is told the true noise, and the weight of the residual is
chosen by the truth.

References
----------
Karnakov, Litvinov & Koumoutsakos, PNAS Nexus 3, pgae005 (2024), doi:10.1093/pnasnexus/pgae005.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import interpolate

from chromamol.benchmarks.recovery.patterns import PARAMETERS, PIXEL
from chromamol.benchmarks.recovery.scenes import Scene
from chromamol.benchmarks.recovery.scores import RATES, Estimate, Guess
from chromamol.physics.model import ChromatinModel

STEPS = 1500
RATE_LEVELS_PX, FIELD_LEVELS_PX = (16, 32, 64), (1, 2, 4, 8)
"""Pixels per cell of the grids that are summed. The finest grid of a rate is about a domain."""

WEIGHTS = (3.0, 10.0, 30.0)
"""Residuals tried, in units of Γ φ, that weigh as much as one standard deviation of the noise."""

LEARNING_RATE = 0.01
LEAST_NOISE = 1e-3


def grid_fit(scene: Scene, *, steps: int = STEPS) -> Estimate:
    """Return the rates of the grid fit at the best of its weights; `steps` is of Adam, per weight."""
    unknown = RATES[: 1 if scene.case.acetylation_known else 2]
    best: tuple[float, dict[str, Guess]] = (math.inf, {})
    use = scene.scored
    for weight in WEIGHTS:
        found = _fit(scene, weight, steps)
        error = sum(
            np.linalg.norm((found[name] - getattr(scene.truth, name))[use])
            / np.linalg.norm(getattr(scene.truth, name)[use])
            for name in unknown
        )
        if error < best[0]:
            best = (float(error), {name: Guess(found[name]) for name in unknown})
    return Estimate(best[1], f"best of {len(WEIGHTS)} weights" if best[1] else "diverged")


class _Grids(torch.nn.Module):
    """A field as a sum of interpolated grids."""

    def __init__(self, shape: tuple[int, ...], levels: tuple[int, ...], start: torch.Tensor | float) -> None:
        super().__init__()
        self.shape, self.start = shape, start
        self.grids = torch.nn.ParameterList(
            torch.zeros((1, 1, *(max(2, math.ceil(n / level)) for n in shape)), dtype=torch.float64)
            for level in levels
        )

    def forward(self) -> torch.Tensor:
        parts = [
            interpolate(grid, self.shape, mode="bilinear", align_corners=True)[0, 0]
            if grid.shape[2:] != self.shape
            else grid[0, 0]
            for grid in self.grids
        ]
        return self.start + torch.stack(parts).sum(0)


def _fit(scene: Scene, weight: float, steps: int) -> dict[str, np.ndarray]:
    shape = scene.truth.phi_h.shape
    images = [torch.as_tensor(image) for image in scene.images]
    one_channel = len(images) == 1
    level = torch.quantile(images[0], 0.1) - 0.04 if one_channel else images[1].mean()
    phi_h = _Grids(shape, FIELD_LEVELS_PX, images[0] - level if one_channel else images[0])
    phi_e = _Grids(shape, FIELD_LEVELS_PX, level if one_channel else images[1])
    logs = [_Grids(shape, RATE_LEVELS_PX, math.log(value)) for value in (0.8, 1.0)]
    known = None if scene.known_acetylation is None else torch.as_tensor(scene.known_acetylation.copy())
    modules = torch.nn.ModuleList([phi_h, phi_e, logs[0]] + ([] if known is not None else [logs[1]]))
    noise = max(scene.case.noise * PARAMETERS.phi_max, LEAST_NOISE)
    mask = torch.as_tensor(scene.truth.mask.copy())
    inner = _away_from_border(mask)
    optimiser = torch.optim.Adam(modules.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        dense, light = phi_h(), phi_e()
        methylation = torch.exp(logs[0]())
        acetylation = known if known is not None else torch.exp(logs[1]())
        shown = [dense + light] if one_channel else [dense, light]
        misfits = [
            (((_blurred(f, scene.case.psf_px) - i) / noise)[mask] ** 2).mean()
            for f, i in zip(shown, images, strict=True)
        ]
        balance = _residuals(dense, light, methylation * light - acetylation * dense, inner)
        loss = torch.stack(misfits + [(r**2).mean() / weight**2 for r in balance]).sum()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return {name: torch.exp(log()).numpy() for name, log in zip(RATES, logs, strict=True)}


def _residuals(
    phi_h: torch.Tensor, phi_e: torch.Tensor, exchange: torch.Tensor, inner: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Δμ_h + exchange and Δ(μ_h + μ_e), where the stencils fit."""
    model = ChromatinModel(PARAMETERS)
    balance = model.heterochromatin.strong(phi_h, exchange, laplacian=_laplacian)
    return balance[inner], model.water.strong(phi_h, phi_e, laplacian=_laplacian)[inner]


def _laplacian(values: torch.Tensor) -> torch.Tensor:
    """Five points; the outermost pixels, where it does not fit, are never used."""
    total = -4.0 * values
    for axis in (0, 1):
        for shift in (-1, 1):
            total = total + torch.roll(values, shift, axis)
    return total / PIXEL**2


def _away_from_border(mask: torch.Tensor) -> torch.Tensor:
    inner = torch.nn.functional.pad(mask[2:-2, 2:-2], (2, 2, 2, 2))
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            inner = inner & torch.roll(mask, shift, axis)
    return inner


def _blurred(values: torch.Tensor, sigma_px: float) -> torch.Tensor:
    if sigma_px == 0.0:
        return values
    y, x = (
        torch.fft.fftfreq(values.shape[0], dtype=torch.float64),
        torch.fft.rfftfreq(values.shape[1], dtype=torch.float64),
    )
    transfer = torch.exp(-2.0 * (math.pi * sigma_px) ** 2 * (y[:, None] ** 2 + x**2))
    return torch.fft.irfft2(transfer * torch.fft.rfft2(values), s=values.shape)
