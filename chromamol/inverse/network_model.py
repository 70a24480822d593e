"""The loss of the `network` estimator: minus the logarithm of a posterior, so that no term needs a weight by hand.

Fields u come from a network through a mollifier layer (or automatic differentiation), log-rates from smooth Gaussian
fields beside it. With S = Γ_me u_e - Γ_ac u_h the loss of one nucleus is

    data      -log p(image | PSF * mixing · u)         Gaussian or Poisson, over the pixels that were seen
    balance   ½ Σ (ψ * R)² / (κ σ_R)² · q              R_h = Δf(u_h) - ℓ² ΔΔu_h + S,   R_e = Δu_e - ℓ² ΔΔu_e - S
    prior     ½ Σ c²                                   coefficients of the log-rates

where Δf(u) = f' Δu + f'' |∇u|². ψ is a wider mollifier: the residual is tested, never believed at a pixel. σ_R is the
noise that the pixels' own noise causes in ψ * R and q the number of independent values per pixel of it, both computed;
κ falls from 1 to `LAST_KAPPA` while training, as τ / σ does in the joint fit. As κ → 0 the minimum is that of
generalised least squares on the weak form, with the fields themselves corrected.

Lengths are in units of L0 = √(D / Γ_ac) of the first guess.

References
----------
Mollifier layers: arXiv:2505.11682.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from chromamol.calculus.apply import LinearFilter, apply_filter
from chromamol.calculus.kernels import Kernel, get_kernel
from chromamol.calculus.layer import MollifierLayer, bilaplacian, laplacian
from chromamol.calculus.separable import separable_filter
from chromamol.inverse.network_derivatives import Derivatives, DerivativeSource
from chromamol.networks.log_rates import MEAN_UNIT, FieldsAndRates
from chromamol.physics.free_energy import bulk_curvature, bulk_stiffness
from chromamol.shapes import FloatField

LAST_KAPPA = 0.1
"""Final κ. On one pattern, relative L2 of Γ_me (Γ_ac known, 5 % noise): .044 at .3, .031 at .15, ψ of 8 px; .030 at .15
and at .07 .029, ψ of 12 px."""

TEST_WIDTHS = 2.0
"""Half-width of ψ over that of η: 10 pixels where η has 5. At κ = .3, ψ of 6, 8 and 12 px erred by .078, .044, .034."""

FIELD_UNIT = 0.3
"""One unit of a network's output, over φ_max: the fields' own standard deviation, so that outputs are of order one."""

MEAN_SD = 2.0
"""Prior of the mean log-rate around the first guess: a factor of seven, no information."""

COUNT_FLOOR = 0.5
"""Expected photons below which the Poisson term goes on linearly, because a fit may pass through negative fractions."""


@dataclass(frozen=True, eq=False)
class LossTerms:
    """Of each nucleus, (batch,). Their sum is minus the log-posterior, up to a constant."""

    data: Tensor
    balance: Tensor
    prior: Tensor

    @property
    def total(self) -> Tensor:
        return self.data + self.balance + self.prior


@dataclass(frozen=True, eq=False)
class Observations:
    """What was measured, batch first; lengths in units of the model.

    Parameters
    ----------
    images : (B, C, *grid); any number where nothing was seen.
    inverse_sd : (B, C, *grid), 1 / σ, 0 where nothing was seen.
    mixing : (C, 2), how much of φ_h and φ_e each image shows.
    balanced : (B, *grid) of 0 and 1: the supports of η and ψ lie inside the nucleus.
    known : (B, *grid) Γ_ac where it is given.
    base : (B, 2) mean fields, about which a network's outputs vary.
    spacing, psf : of the pixels, standard deviation.
    phi_max, interface : of the free energy.
    photons : (C, 1, ...), per unit of volume fraction, for Poisson counts.
    """

    images: Tensor
    inverse_sd: Tensor
    mixing: Tensor
    balanced: Tensor
    known: Tensor | None
    base: Tensor
    spacing: tuple[float, ...]
    psf: float
    phi_max: float
    interface: float
    photons: Tensor | None = None


class NetworkModel(nn.Module):
    """Network, log-rates and observations; `forward(kappa)` is the loss.

    Parameters
    ----------
    stiffness_sd : root mean square of f'(φ_h) over the nucleus, for σ_R.
    noise_sd : root mean square noise of the images, as a volume fraction.
    """

    def __init__(
        self, trained: FieldsAndRates, seen: Observations, source: DerivativeSource, test: TestAverage,
        *, stiffness_sd: float, noise_sd: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.trained, self.seen, self.source, self.test = trained, seen, source, test
        self.unit = FIELD_UNIT * seen.phi_max
        self.blur = gaussian_blur(seen.psf, seen.spacing)
        gain_h, gain_e = test.noise_gain(stiffness_sd, seen.interface)
        self.residual_sd = (gain_h * noise_sd, gain_e * noise_sd)

    def rates(self, log_rates: Tensor) -> tuple[Tensor, Tensor]:
        """Γ_me and Γ_ac, (B, *grid)."""
        rate = torch.exp(log_rates)
        return rate[:, 0], rate[:, 1] if self.seen.known is None else self.seen.known

    def fields(self, network_derivatives: Derivatives) -> Derivatives:
        """Volume fractions from a network's outputs, with their derivatives."""
        d, base = network_derivatives, self.seen.base
        value = base.reshape(*base.shape, *(1,) * (d.value.ndim - 2)) + self.unit * d.value
        return Derivatives(value, self.unit * d.gradient, self.unit * d.laplacian, self.unit * d.bilaplacian)

    def residuals(self, u: Derivatives, log_rates: Tensor) -> Tensor:
        """ψ * R of both balances, (B, 2, *grid), in units of the model's rates."""
        phi_max, square = self.seen.phi_max, self.seen.interface**2
        me, ac = self.rates(log_rates)
        phi_h, phi_e = u.value[:, 0], u.value[:, 1]
        exchange = me * phi_e - ac * phi_h
        slope = u.gradient[:, 0].square().sum(1)
        bulk = bulk_stiffness(phi_h, phi_max) * u.laplacian[:, 0] + bulk_curvature(phi_h, phi_max) * slope
        balance_h = bulk - square * u.bilaplacian[:, 0] + exchange
        balance_e = u.laplacian[:, 1] - square * u.bilaplacian[:, 1] - exchange
        return self.test(torch.stack([balance_h, balance_e], 1))

    def predicted(self, values: Tensor) -> Tensor:
        """The images that the fields would give, (B, C, *grid)."""
        mixed = torch.einsum("cf,bf...->bc...", self.seen.mixing, values)
        return mixed if self.blur is None else apply_filter(self.blur, mixed)[:, :, 0]

    def weighted(self, residuals: Tensor, kappa: float) -> Tensor:
        """The balance's residuals over their standard deviation, as many as are independent."""
        scale = [self.test.independent**0.5 / (kappa * sd) for sd in self.residual_sd]
        like = torch.tensor(scale, dtype=residuals.dtype, device=residuals.device)
        return residuals * self.seen.balanced[:, None] * like.reshape(1, 2, *(1,) * (residuals.ndim - 2))

    def forward(self, kappa: float) -> LossTerms:
        log_rates = self.trained.log_rates()
        u = self.fields(self.source(self.trained.network))
        balance = self.weighted(self.residuals(u, log_rates), kappa).square().flatten(1).sum(1)
        shift = (MEAN_UNIT / MEAN_SD) * self.trained.log_rates.mean_shift
        prior = self.trained.log_rates.penalty() + 0.5 * shift.square().sum(1)
        return LossTerms(self._data(self.predicted(u.value)), 0.5 * balance, prior)

    def _data(self, predicted: Tensor) -> Tensor:
        seen = self.seen
        if seen.photons is None:
            return 0.5 * ((predicted - seen.images) * seen.inverse_sd).square().flatten(1).sum(1)
        # Counts plus the read noise's variance are nearly Poisson again: Snyder et al., doi:10.1364/JOSAA.12.000272.
        where = seen.inverse_sd > 0.0
        read = torch.where(where, seen.photons / torch.where(where, seen.inverse_sd, 1.0), 0.0).square()
        counts = (seen.photons * seen.images + read).clamp_min(0.0)
        mean = seen.photons * predicted + read
        safe = mean.clamp_min(COUNT_FLOOR)
        loss = mean - counts * (torch.log(safe) + (mean - safe) / safe)
        least = counts - torch.xlogy(counts, counts.clamp_min(COUNT_FLOOR))
        return torch.where(where, loss - least, 0.0).flatten(1).sum(1)

    def data_weight(self, predicted: Tensor) -> Tensor:
        """√ of the data term's curvature in the images, (B, C, *grid)."""
        seen = self.seen
        if seen.photons is None:
            return seen.inverse_sd
        shot = (predicted / seen.photons).clamp_min(COUNT_FLOOR / seen.photons**2)
        variance = shot + 1.0 / seen.inverse_sd.square().clamp_min(1e-30)
        return torch.where(seen.inverse_sd > 0.0, variance.rsqrt(), 0.0)


class TestAverage:
    """ψ *, with what the noise of pixels becomes behind it.

    Parameters
    ----------
    spacing, width : per axis, one unit of length.
    """

    __test__ = False  # pytest takes classes called Test... for tests

    def __init__(
        self, spacing: Sequence[float], width: Sequence[float], kernel: str | Kernel = "polynomial"
    ) -> None:
        axes = len(spacing)
        self.width, self.spacing = tuple(width), tuple(spacing)
        options: dict = {
            "spacing": spacing,
            "width": width,
            "kernel": get_kernel(kernel),
            "check_finite": False,
        }
        self.average = MollifierLayer(orders=[(0,) * axes], **options)
        full = MollifierLayer(
            orders=[(0,) * axes, laplacian(axes), bilaplacian(axes)], border="zero", **options
        )
        impulse = torch.zeros([2 * r + 1 for r in full.radii], dtype=torch.float64)
        impulse[tuple(full.radii)] = 1.0
        self._taps = full(impulse)
        power = torch.fft.fftn(self._taps[1], s=[4 * r + 4 for r in full.radii]).abs().square()
        # Effective number of independent values per pixel of Δψ * noise: (Σ P)² / (N Σ P²), of its spectrum P.
        self.independent = float(power.mean() ** 2 / power.square().mean())
        power = torch.fft.fftn(self._taps[0], s=[4 * r + 4 for r in full.radii]).abs().square()
        # The same of ψ * noise, and its standard deviation for white noise of one.
        self.averages = float(power.mean() ** 2 / power.square().mean())
        self.gain = float(self._taps[0].norm())

    def __call__(self, values: Tensor) -> Tensor:
        return self.average(values).squeeze(-len(self.spacing) - 1)

    def noise_gain(self, stiffness: float, interface: float) -> tuple[float, float]:
        """Standard deviations of ψ * R_h and ψ * R_e for white noise of one per pixel of each field."""
        value, lap, bilap = self._taps
        parts = [s * lap - interface**2 * bilap - value for s in (stiffness, 1.0)]
        return float(parts[0].norm()), float(parts[1].norm())


def gaussian_blur(sd: float, spacing: Sequence[float]) -> LinearFilter | None:
    """Return the filter of a Gaussian point spread function, None for none; sd in the unit of the spacing."""
    if sd == 0.0:
        return None
    taps = []
    for h in spacing:
        radius = int(np.ceil(4.0 * sd / h))
        line: FloatField = np.exp(-0.5 * (np.arange(-radius, radius + 1) * h / sd) ** 2)
        taps.append({0: torch.from_numpy(line / line.sum())})
    return separable_filter([{(0,) * len(taps): 1.0}], taps, border="reflect")


def mean_stiffness(phi_h: FloatField, phi_max: float) -> float:
    """Root mean square of f'(φ_h)."""
    return float(np.sqrt(np.mean(bulk_stiffness(phi_h, phi_max) ** 2)))
