"""Smooth log-rates beside the fields: what a network hands to an inverse problem.

    log Γ_r(x) = m_r + Σ_k a √s_k c_rk B_k(x),     c ~ N(0, 1)

B_k are products of cosines, s_k the spectrum of the squared-exponential covariance exp(-r² / 2 ξ²) with Σ s_k = 1, so
that a Gaussian field of correlation length ξ and standard deviation a has independent coefficients of variance one.
The cosines' box is wider than the pixels, because the slope of a cosine vanishes at its wall and a rate map's does not.

References
----------
Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), chapter 4.
Solin & Särkkä, Stat. Comput. 30, 419 (2020), doi:10.1007/s11222-019-09886-w.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from chromamol.networks.interface import FieldNetwork

EXTENSION = 1.2
"""The cosines' box is this many correlation lengths wider on each side: their slope vanishes at its wall, and
a rate map's does not at the nuclear border (misfit of the joint fit's prior without it: fourfold, measured)."""

SPECTRUM_CUTOFF = 3.2
"""Cosines with k ξ above it carry exp(-k² ξ² / 2) < 0.6 % of the largest variance."""

MEAN_UNIT = 0.2
"""One unit of the mean's parameter in log Γ: as much as one optimiser step of the coefficients moves a map."""


@dataclass(frozen=True, eq=False)
class Output:
    """What every architecture returns.

    Parameters
    ----------
    fields : (batch, fields, *grid), as the network gives them: of order one.
    log_rates : (batch, rates, *grid).
    """

    fields: Tensor
    log_rates: Tensor


class SmoothLogRates(nn.Module):
    """Log-rates on a pixel grid as Gaussian fields in cosines.

    Parameters
    ----------
    shape, spacing : of the pixel grid.
    rates, batch : maps, and independent fits.
    correlation : ξ in the unit of the spacing.
    log_sd : a, the prior standard deviation of log Γ about its mean.
    means : (batch, rates) starting values of m.
    """

    def __init__(
        self, shape: Sequence[int], spacing: Sequence[float], *, means: Tensor, correlation: float,
        log_sd: float,
    ) -> None:  # fmt: skip
        super().__init__()
        like: dict[str, Any] = {"dtype": means.dtype, "device": means.device}
        square, self._axes = torch.zeros((), **like), len(shape)
        for axis, (n, h) in enumerate(zip(shape, spacing, strict=True)):
            side = n * h + 2.0 * EXTENSION * correlation
            count = max(2, math.ceil(SPECTRUM_CUTOFF * side / (math.pi * correlation)) + 1)
            half_waves = torch.arange(count, **like)
            k = math.pi * half_waves / side
            position = (torch.arange(n, **like) + 0.5) * h + EXTENSION * correlation
            height = torch.where(half_waves > 0, math.sqrt(2.0), 1.0)
            self.register_buffer(f"cosines_{axis}", height[:, None] * torch.cos(k[:, None] * position))
            wide = [1] * len(shape)
            wide[axis] = -1
            square = square + (k**2).reshape(wide)
        spectrum = torch.exp(-0.5 * square * correlation**2)
        spectrum.view(-1)[0] = 0.0  # the mean is a number of its own
        self.register_buffer("root", log_sd * torch.sqrt(spectrum / spectrum.sum()))
        self.register_buffer("start", means.clone())
        self.coefficients = nn.Parameter(torch.zeros(*means.shape, *square.shape, **like))
        self.mean_shift = nn.Parameter(torch.zeros_like(means))

    def forward(self) -> Tensor:
        """Return log Γ at every pixel, (batch, rates, *shape)."""
        return self.synthesise(self.coefficients, self.mean_shift)

    def synthesise(self, coefficients: Tensor, mean_shift: Tensor) -> Tensor:
        """Return the maps of given coefficients (batch, rates, *modes) and shifts of the means (batch, rates)."""
        start = self.get_buffer("start")
        return start.reshape(*start.shape, *(1,) * self._axes) + self.change(coefficients, mean_shift)

    def change(self, coefficients: Tensor, mean_shift: Tensor) -> Tensor:
        """Return what coefficients (..., *modes) and shifts of the means (...) add to the starting values."""
        values = coefficients * self.get_buffer("root")
        lead = coefficients.ndim - self._axes
        for axis in range(self._axes):
            values = torch.tensordot(values, self.get_buffer(f"cosines_{axis}"), dims=([lead], [0]))
        return values + (MEAN_UNIT * mean_shift).reshape(*mean_shift.shape, *(1,) * self._axes)

    def penalty(self) -> Tensor:
        """½ Σ c² of each fit, (batch,): minus the logarithm of the prior."""
        return 0.5 * self.coefficients.square().flatten(1).sum(1)


class FieldsAndRates(nn.Module):
    """A network for the fields and smooth log-rates beside it: the whole of what is trained.

    Parameters
    ----------
    network : any `FieldNetwork`.
    log_rates : on the same grid, with the same batch.
    """

    def __init__(self, network: FieldNetwork, log_rates: SmoothLogRates) -> None:
        super().__init__()
        self.network, self.log_rates = network, log_rates

    def forward(self) -> Output:
        return Output(self.network(), self.log_rates())
