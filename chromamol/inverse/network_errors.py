"""Standard errors of a trained network's rates: the posterior, linearised at the optimum, by samples.

Unknown are the pixel field g before the mollifier layer and the coefficients of the log-rates. The network itself is
left out: what it can't represent would make the errors smaller than the data do. H⁻¹ Jᵀ n with white n has the
covariance H⁻¹; H = JᵀJ is applied without being formed, and inverted by conjugate gradients.

References
----------
Bardsley et al., SIAM J. Sci. Comput. 36, A1895 (2014), doi:10.1137/140964023 (samples from perturbed data).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chromamol.inverse.network_derivatives import Derivatives, Mollifier
from chromamol.inverse.network_model import LAST_KAPPA, MEAN_SD, NetworkModel
from chromamol.networks.log_rates import MEAN_UNIT
from chromamol.physics.free_energy import bulk_curvature, bulk_stiffness
from chromamol.shapes import FloatField, Mask

ITERATIONS, TOLERANCE = 150, 1e-3
"""Of the conjugate gradients."""

FIELD_SD = 0.3
"""Prior deviation of a field about the fit, as a volume fraction: where nothing was seen, anything may be."""

Parts = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Linearised:
    """J at one nucleus; its arguments and values have a leading axis of samples.

    Parameters
    ----------
    index : of the nucleus in the batch.
    u : its fields and their derivatives, (1, 2, ...).
    """

    model: NetworkModel
    index: int
    u: Derivatives
    layer: Mollifier
    data_weight: Tensor
    prior_sd: float

    @classmethod
    @torch.no_grad()
    def at(cls, model: NetworkModel, index: int) -> Linearised:
        layer = Mollifier(model.seen.spacing)
        pick = slice(index, index + 1)
        outputs = model.trained.network()[pick]
        u = layer.of(outputs)
        base = model.seen.base[pick]
        value = base.reshape(*base.shape, *(1,) * (u.value.ndim - 2)) + model.unit * u.value
        u = Derivatives(value, model.unit * u.gradient, model.unit * u.laplacian, model.unit * u.bilaplacian)
        weight = model.data_weight(model.predicted(_whole(model, value, index)))[pick]
        impulse = torch.zeros_like(outputs[:, :1])
        impulse[(0, 0, *(n // 2 for n in outputs.shape[2:]))] = 1.0
        norm = float(layer.of(impulse).value.norm())
        return cls(model, index, u, layer, weight, FIELD_SD / norm)

    def forward(self, g: Tensor, coefficients: Tensor, shift: Tensor) -> Parts:
        """Return the changes of all whitened residuals."""
        model, seen, u = self.model, self.model.seen, self.u
        pick = slice(self.index, self.index + 1)
        d = self.layer.of(g)
        logs = model.trained.log_rates.change(coefficients, shift)
        me, ac = (r[pick] for r in _rates(model))
        h, e = u.value[:, 0], u.value[:, 1]
        exchange = me * d.value[:, 1] - ac * d.value[:, 0] + me * e * logs[:, 0]
        if seen.known is None:
            exchange = exchange - ac * h * logs[:, 1]
        square = seen.interface**2
        stiff, curve = bulk_stiffness(h, seen.phi_max), bulk_curvature(h, seen.phi_max)
        slope = u.gradient[:, 0]
        # Δf = f' Δu + f'' |∇u|², and f''' = 12.
        at_value = curve * u.laplacian[:, 0] + 12.0 * slope.square().sum(1)
        bulk = (
            at_value * d.value[:, 0]
            + stiff * d.laplacian[:, 0]
            + 2.0 * curve * (slope * d.gradient[:, 0]).sum(1)
        )
        balance_h = bulk - square * d.bilaplacian[:, 0] + exchange
        balance_e = d.laplacian[:, 1] - square * d.bilaplacian[:, 1] - exchange
        tested = model.test(torch.stack([balance_h, balance_e], 1))
        scale = [model.test.independent**0.5 / (LAST_KAPPA * sd) for sd in model.residual_sd]
        weight = torch.tensor(scale).to(tested).reshape(1, 2, *(1,) * (tested.ndim - 2))
        predicted = model.predicted(d.value)
        return (
            predicted * self.data_weight, tested * weight * seen.balanced[pick, None], g / self.prior_sd,
            coefficients, shift * (MEAN_UNIT / MEAN_SD),
        )  # fmt: skip


def _rates(model: NetworkModel) -> tuple[Tensor, Tensor]:
    return model.rates(model.trained.log_rates())


def _whole(model: NetworkModel, value: Tensor, index: int) -> Tensor:
    """Put one nucleus's fields into a batch, whose other entries do not count."""
    batch = model.seen.images.shape[0]
    whole = value.new_zeros((batch, *value.shape[1:]))
    whole[index] = value[0]
    return whole


@torch.no_grad()
def log_rate_deviations(
    model: NetworkModel, index: int, *, samples: int, generator: torch.Generator
) -> Tensor:
    """Return deviations of the log-rates of one nucleus, (samples, rates, *grid), drawn from the posterior."""
    at = Linearised.at(model, index)
    values, adjoint = _transposed(at, samples)
    white = tuple(torch.randn(v.shape, generator=generator, dtype=v.dtype).to(v.device) for v in values)
    solved = _solve(lambda x: adjoint(at.forward(*x)), adjoint(white), _preconditioner(at))
    return model.trained.log_rates.change(solved[1], solved[2])


@torch.no_grad()
def errors_of_averages(model: NetworkModel, index: int, weights: Tensor) -> Tensor:
    """Return the posterior's standard deviations of weighted sums of one nucleus's log-rates, by a solve for each.

    The sum with the gradient a has the variance aᵀ H⁻¹ a, which few samples tell to a quarter at best.

    Parameters
    ----------
    weights : (sums, rates, *grid).
    """
    at = Linearised.at(model, index)
    point = _origin(model, len(weights))
    with torch.enable_grad():
        gradient = torch.func.vjp(lambda _, *x: model.trained.log_rates.change(*x), *point)[1]
    right = gradient(weights)
    _, adjoint = _transposed(at, len(weights))
    solved = _solve(lambda x: adjoint(at.forward(*x)), right, _preconditioner(at))
    return _dot(right, solved).clamp_min(0.0).sqrt()


def _origin(model: NetworkModel, count: int) -> Parts:
    """No change at all, of fields, coefficients and means, with a leading axis of `count`."""
    rates = model.trained.log_rates
    g = torch.zeros((count, 2, *model.seen.images.shape[2:])).to(model.seen.images)
    return (
        g,
        g.new_zeros((count, *rates.coefficients.shape[1:])),
        g.new_zeros((count, *rates.mean_shift.shape[1:])),
    )


def _transposed(at: Linearised, count: int) -> tuple[Parts, Callable[[Parts], Parts]]:
    """Jᵀ for `count` samples, and parts of the shapes that it takes."""
    with torch.enable_grad():
        linear = torch.func.vjp(at.forward, *_origin(at.model, count))
    return linear[0], linear[1]


def _preconditioner(at: Linearised) -> Callable[[Parts], Parts]:
    """The field's block with its coefficients averaged, inverted by Fourier transform; the priors for the rest."""
    model, seen = at.model, at.model.seen
    shape = seen.images.shape[2:]
    axes = tuple(range(-len(shape), 0))
    impulse = torch.zeros((1, 1, *shape)).to(seen.images)
    impulse[(0, 0, *(n // 2 for n in shape))] = 1.0
    taps = at.layer.of(impulse)
    spectra = [
        torch.fft.rfftn(part[0, 0], dim=axes).abs() for part in (taps.value, taps.laplacian, taps.bilaplacian)
    ]
    tested = torch.fft.rfftn(model.test(impulse)[0, 0], dim=axes).abs()
    blurred = torch.fft.rfftn(model.predicted(impulse.expand(1, 2, *shape))[0, 0], dim=axes).abs()
    mixing = seen.mixing.square().sum(0)
    blur = blurred / seen.mixing[0].sum().clamp_min(1e-6)
    data = float(at.data_weight.square().mean())
    stiffness = bulk_stiffness(at.u.value[:, 0], seen.phi_max).square().mean().sqrt()
    share = seen.balanced[at.index].mean()
    inverse = []
    for field, stiff in enumerate((stiffness, torch.ones_like(stiffness))):
        row = tested * (stiff * spectra[1] + seen.interface**2 * spectra[2] + spectra[0])
        weight = model.test.independent / (LAST_KAPPA * model.residual_sd[field]) ** 2
        inverse.append(
            1.0
            / (data * mixing[field] * (spectra[0] * blur) ** 2 + share * weight * row**2 + at.prior_sd**-2)
        )
    symbol = torch.stack(inverse)

    def apply(parts: Parts) -> Parts:
        g, coefficients, shift = parts
        smooth = torch.fft.irfftn(torch.fft.rfftn(g, dim=axes) * symbol, s=shape, dim=axes)
        return smooth, coefficients, shift

    return apply


def _dot(a: Parts, b: Parts) -> Tensor:
    return torch.stack([(x * y).flatten(1).sum(1) for x, y in zip(a, b, strict=True)]).sum(0)


def _plus(a: Parts, factor: Tensor, b: Parts) -> Parts:
    return tuple(x + factor.reshape(-1, *(1,) * (x.ndim - 1)) * y for x, y in zip(a, b, strict=True))


def _solve(operator: Callable[[Parts], Parts], right: Parts, precondition: Callable[[Parts], Parts]) -> Parts:
    """Conjugate gradients from zero, all samples in lockstep."""
    x = tuple(torch.zeros_like(part) for part in right)
    residual, direction = right, precondition(right)
    power = first = _dot(residual, direction)
    tiny = torch.finfo(power.dtype).tiny
    for _ in range(ITERATIONS):
        image = operator(direction)
        step = power / _dot(direction, image).clamp_min(tiny)
        x, residual = _plus(x, step, direction), _plus(residual, -step, image)
        better = precondition(residual)
        following = _dot(residual, better)
        if bool((following <= TOLERANCE**2 * first).all()):
            break
        direction, power = _plus(better, following / power.clamp_min(tiny), direction), following
    return x


def weights_of_averages(
    values: list[FloatField], acted_on: list[FloatField], valid: list[Mask], both: Mask
) -> FloatField:
    """What log-rates do to the logarithm of each mean and, in the last row, to that of the ratio; (sums, maps, ...)."""
    weights = np.zeros((len(valid) + 1, len(valid), *both.shape))
    for which, where in enumerate(valid):
        weights[which, which] = _shares(values[which], where)
        weights[-1, which] = (-1.0) ** which * _shares(values[which] * acted_on[which], both)
    return weights


def _shares(values: FloatField, where: Mask) -> FloatField:
    """What each pixel's relative deviation does to that of the mean over some pixels; 0 for none."""
    used = np.where(where, values, 0.0)
    return used / max(float(used.sum()), np.finfo(float).tiny)
