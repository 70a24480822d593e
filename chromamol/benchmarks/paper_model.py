"""One published problem, one network, one way to differentiate: the loss that every row of the benchmark trains.

    L = ½ Σ (u - data)² / σ²  +  ½ Σ q (ψ * R)² / (κ σ_R)²  +  ½ Σ c²

as in the `network` estimator: R is the equation's residual, ψ a test average, σ_R the noise that the data's noise σ
causes in ψ * R, κ falls from 1 to 0.1, and c are the coefficients of the unknown as a Gaussian field of given
smoothness. Nothing is set per network or per method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from chromamol.benchmarks.paper_prior import langevin_prior
from chromamol.benchmarks.problems import Problem, Truth
from chromamol.calculus import MollifierLayer, bilaplacian, estimate_noise_sd, laplacian
from chromamol.inverse.network_derivatives import WIDTH_PX, Derivatives, derivative_source
from chromamol.inverse.network_model import TEST_WIDTHS, TestAverage, mean_stiffness
from chromamol.networks import FieldsAndRates, SmoothLogRates, make_network
from chromamol.physics.free_energy import bulk_curvature, bulk_stiffness
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField

REFERENCE = ChromatinParameters(interface_length_um=0.03)

PRIOR = {"heat": (0.2, 0.5), "reaction_diffusion": (0.2, 0.5)}
"""Of the unknown: correlation length over the longest side, standard deviation of its logarithm, the same for every
network and every method. λ of the Langevin equation has both signs and any size: there the data choose."""

FINEST = {"langevin": 0.1, "heat": 0.2, "reaction_diffusion": 4.0 * 0.03 / 0.7}
"""Length of the finest structure in the solution, which sets the frequencies of the coordinate networks."""

NOISE_FLOOR = 1e-3
"""Least noise assumed, as a share of each field's standard deviation."""

Residual = Callable[[Derivatives, Tensor, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Equation:
    """What the loss needs of a problem beside its data.

    Parameters
    ----------
    residual : (derivatives of the observed fields, unknown, known fields) -> R, (1, *grid).
    linear : (fields, axes) -> {derivative: factor}, R's dependence on the first field, for σ_R.
    differentiated : how many of the observed fields, from the first, are differentiated.
    positive : whether the unknown is an exponential.
    """

    residual: Residual
    linear: Callable[[Mapping[str, FloatField], int], dict[tuple[int, ...], float]]
    differentiated: int = 1
    positive: bool = True


def _chromatin(u: Derivatives, rate: Tensor, known: Mapping[str, Tensor]) -> Tensor:
    """Δf(φ_h) - ℓ² ΔΔφ_h + Γ_me φ_e - φ_h."""
    phi = u.value[:, 0]
    slope = u.gradient[:, 0].square().sum(1)
    bulk = (
        bulk_stiffness(phi, REFERENCE.phi_max) * u.laplacian[:, 0]
        + bulk_curvature(phi, REFERENCE.phi_max) * slope
    )
    return bulk - REFERENCE.interface_length_um**2 * u.bilaplacian[:, 0] + rate * u.value[:, 1] - phi


def _chromatin_linear(fields: Mapping[str, FloatField], axes: int) -> dict[tuple[int, ...], float]:
    stiffness = mean_stiffness(fields["phi_h"], REFERENCE.phi_max)
    terms = {alpha: stiffness * factor for alpha, factor in laplacian(axes).items()}
    terms |= {
        alpha: -(REFERENCE.interface_length_um**2) * factor for alpha, factor in bilaplacian(axes).items()
    }
    return terms | {(0,) * axes: -1.0}


EQUATIONS = {
    "langevin": Equation(
        lambda u, rate, known: u.gradient[:, 0, 0] - u.value[:, 0] - rate,
        lambda fields, axes: {(1,): 1.0, (0,): -1.0},
        positive=False,
    ),
    "heat": Equation(
        lambda u, rate, known: rate * u.laplacian[:, 0] + known["m"], lambda fields, axes: laplacian(axes)
    ),
    "reaction_diffusion": Equation(_chromatin, _chromatin_linear),
}


class PaperModel(nn.Module):
    """The model of one row; `forward(kappa)` is the loss.

    Parameters
    ----------
    problem, truth, data : what is solved; the truth gives shape and spacing only.
    architecture, derivatives : see `chromamol.networks` and `chromamol.inverse.network_derivatives`.
    """

    def __init__(
        self, problem: Problem, truth: Truth, data: Mapping[str, FloatField], *, architecture: str,
        derivatives: str, seed: int = 0, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__()
        shape, spacing = truth.unknown.shape, truth.spacing
        self.equation = EQUATIONS[problem.name]
        self.shape = shape

        def tensor(values: FloatField) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        observed = [data[name] for name in problem.observed]
        sd = [max(estimate_noise_sd(f), NOISE_FLOOR * float(f.std())) for f in observed]
        wide = (1, -1, *(1,) * len(shape))
        self.images = tensor(np.stack(observed))[None]
        self.sd = tensor(np.array(sd)).reshape(wide)
        self.base = self.images.flatten(2).mean(2).reshape(wide)
        self.unit = self.images.flatten(2).std(2).reshape(wide)
        self.known = {n: tensor(f)[None] for n, f in data.items() if n not in problem.observed}
        side = max(n * h for n, h in zip(shape, spacing, strict=True))
        share, log_sd = (
            langevin_prior(observed[0], spacing[0], sd[0])
            if problem.name == "langevin"
            else PRIOR[problem.name]
        )
        rates = SmoothLogRates(
            shape, spacing, means=torch.zeros(1, 1, dtype=dtype, device=device),
            correlation=share * side, log_sd=log_sd,
        )  # fmt: skip
        network = make_network(architecture, shape, spacing, outputs=len(observed), finest=FINEST[problem.name],
                               seed=seed, dtype=dtype, device=device)  # fmt: skip
        self.trained = FieldsAndRates(network, rates)
        self.source = derivative_source(
            derivatives, spacing, order=problem.order, outputs=self.equation.differentiated
        )
        widths = [TEST_WIDTHS * WIDTH_PX * h for h in spacing]
        self.test = TestAverage(spacing, widths)
        gain, self.independent = _noise_gain(self.equation.linear(data, len(shape)), spacing, widths)
        self.residual_sd = gain * sd[0]
        margin = int((1.0 + TEST_WIDTHS) * WIDTH_PX)
        self.inner = (slice(None), *(slice(margin, n - margin) for n in shape))
        scaled = (self.images - self.base) / self.unit
        network.start_from(scaled, torch.ones_like(scaled, dtype=torch.bool))

    def fields(self) -> Derivatives:
        """The observed fields and their derivatives in the problem's units."""
        d = self.source(self.trained.network)
        n = self.equation.differentiated
        unit = self.unit[:, :n]
        return Derivatives(
            self.base + self.unit * d.value,
            unit[:, :, None] * d.gradient,
            unit * d.laplacian,
            unit * d.bilaplacian,
        )

    def unknown(self) -> Tensor:
        """The coefficient field, (1, *grid)."""
        values = self.trained.log_rates()[:, 0]
        return torch.exp(values) if self.equation.positive else values

    def forward(self, kappa: float) -> Tensor:
        u = self.fields()
        tested = self.test(self.equation.residual(u, self.unknown(), self.known)[:, None])[:, 0]
        misfit = 0.5 * ((u.value - self.images) / self.sd).square().sum()
        balance = 0.5 * self.independent * (tested[self.inner] / (kappa * self.residual_sd)).square().sum()
        return misfit + balance + self.trained.log_rates.penalty().sum()


def _noise_gain(
    terms: Mapping[tuple[int, ...], float], spacing: tuple[float, ...], widths: list[float]
) -> tuple[float, float]:
    """Standard deviation of ψ * R per unit of white noise, and independent values of it per pixel."""
    layer = MollifierLayer(orders=[dict(terms)], spacing=spacing, width=widths, border="zero")
    impulse = torch.zeros([2 * r + 1 for r in layer.radii], dtype=torch.float64)
    impulse[tuple(layer.radii)] = 1.0
    taps = layer(impulse)[0]
    power = torch.fft.fftn(taps, s=[4 * r + 4 for r in layer.radii]).abs().square()
    return float(taps.norm()), float(power.mean() ** 2 / power.square().mean())
