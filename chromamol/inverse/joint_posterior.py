"""Samples of the linearised posterior of the joint fit, whose mean rates have the exact covariance.

References
----------
Bardsley et al., SIAM J. Sci. Comput. 36, A1895 (2014), doi:10.1137/140964023 (samples by perturbed right sides);
Schmidt, Adv. Control Syst. 3, 293 (1966) (considered parameters).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_model import JointModel
from chromamol.inverse.joint_normal import unit
from chromamol.inverse.joint_together import Fit, Solution
from chromamol.inverse.joint_unknowns import Unknowns, concatenated
from chromamol.shapes import Mask

SAMPLES, SAMPLE_TOLERANCE = 8, 1e-3
"""Posterior samples; with 1e-3 they differ from those of 1e-5 by 8 % (rms), with 1e-2 by 41 %."""

MEAN_TOLERANCE, CALIBRATED_MEAN_TOLERANCE = 3e-2, 1e-3
"""Of what tells the errors of means, to .2 % of them; and where gains or ℓ are fitted, too: .1 % (5 % with 3e-2)."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Deviations of what is estimated, (samples, ...).

    Parameters
    ----------
    own : samples of the errors that noise makes. Their mean log-rates have the exact covariance, where few samples of a
        single number leave its deviation open by a quarter.
    common : what the considered numbers of the calibration do, drawn from their priors.
    """

    own: Unknowns
    common: Unknowns


def posterior_of(
    model: JointModel, x: Unknowns, tau: float, *, valid: Mask, generator: torch.Generator,
    inner: torch.dtype = torch.float64, balance_error: float | None = None, count: int = SAMPLES,
) -> Fit[Posterior]:  # fmt: skip
    """Return the posterior at a point.

    H⁻¹ Jᵀ n with white n has the covariance H⁻¹ JᵀJ H⁻¹ = H⁻¹. Where the balance is known to err by less than the `tau`
    that weighs it, its part of n is that smaller `balance_error`: the samples are then of what the estimate errs by.
    Independent of them is what the considered numbers of the calibration do: each is drawn from its prior, and
    everything that is estimated responds as the fit would.

    Mean log-rates are numbers with gradients g, whose variances and responses need a solve each. Of
    gᵀ H⁻¹ b, the solutions v of H v = g and u of H u = b tell vᵀb + gᵀu - vᵀHu, which errs by the product of their
    errors.

    Parameters
    ----------
    valid : pixels of the nucleus's box, over which rates are averaged, with weights that follow them.
    """
    at = Linearisation.at(model.to(inner), x.map(lambda a: a.to(inner)), tau)
    share = 1.0 if balance_error is None else min(1.0, balance_error / tau)
    shapes = at.forward(x.map(lambda a: torch.zeros_like(a, dtype=inner)))
    white = {
        name: torch.randn((count, *value.shape[1:]), generator=generator, dtype=inner).to(value.device)
        for name, value in shapes.items()
    }
    white["balance"] *= share
    slopes, moved = _gradients(at.model, x, valid), [unit(at, j) for j in model.considered]
    pulls = [at.normal(one) for one in moved]
    calibrated = CALIBRATED_MEAN_TOLERANCE if model.estimated or moved else MEAN_TOLERANCE
    own, solved = yield Solution(model, x, tau, (at.adjoint(white), concatenated([slopes, *pulls])),
                                 (SAMPLE_TOLERANCE, calibrated), inner, calibrate=True)  # fmt: skip
    means, *responses = solved.map(lambda a: a.to(inner)).parts_of([model.maps, *(1 for _ in moved)])
    covariance = _form(at, means, slopes, means, slopes)
    balance = at.forward(means)["balance"].flatten(1).double()
    covariance = covariance - (1.0 - share**2) * balance @ balance.T
    drawn = _orthogonal(count, len(moved), generator).to(x.phi_h)
    common = own.map(torch.zeros_like)
    for one, pull, response, factors in zip(moved, pulls, responses, drawn.T, strict=True):
        better = _form(at, means, slopes, response, pull)[:, 0]
        known = _shifted(response.map(lambda a: a.to(x.phi_h.dtype)), slopes, better[None])
        common = common.plus(factors, one.map(lambda a, b: a - b, known))
    return Posterior(_with_covariance(own, slopes, covariance), common)


def _form(at: Linearisation, v: Unknowns, g: Unknowns, u: Unknowns, b: Unknowns) -> torch.Tensor:
    """gᵀ H⁻¹ b for all of each, (n, m), from approximate solutions v and u of H v = g and H u = b; in float64."""
    left, slopes, solutions, sides, images = (_flat(part) for part in (v, g, u, b, at.normal(u)))
    return left @ sides.T + slopes @ solutions.T - left @ images.T


def _with_covariance(samples: Unknowns, slopes: Unknowns, covariance: torch.Tensor) -> Unknowns:
    """Shift the mean log-rates of samples, so that those have a given covariance, (maps, maps)."""
    means = _flat(samples) @ _flat(slopes).T
    sampled = means.T @ means / len(means)
    turn = torch.linalg.cholesky(covariance) @ torch.linalg.inv(torch.linalg.cholesky(sampled))
    return _shifted(samples, slopes, means @ turn.T)


def _shifted(samples: Unknowns, slopes: Unknowns, means: torch.Tensor) -> Unknowns:
    """Shift log-rates everywhere, so that their means are as given, (samples, maps)."""
    shift = means - _flat(samples) @ _flat(slopes).T
    scalars = samples.scalars.clone()
    scalars[:, : shift.shape[1]] += shift.to(scalars)
    return replace(samples, scalars=scalars)


def _flat(x: Unknowns) -> torch.Tensor:
    """(n, all unknowns), in float64."""
    return torch.cat([part.flatten(1).double() for part in x.parts()], 1)


def _gradients(model: JointModel, x: Unknowns, valid: Mask) -> Unknowns:
    """Of the mean log-rates over `valid`, weighted by the rates, (maps, ...): the logarithms of the mean rates."""
    where = torch.zeros(model.box, dtype=model.inside.dtype, device=model.inside.device)
    where[tuple(slice(0, n) for n in valid.shape)] = torch.as_tensor(valid, device=where.device).to(where)
    rates = model.rates(x.map(lambda a: a.to(where.dtype)))[: model.maps]
    nothing, found = model.nothing(1), []
    for which, rate in enumerate(rates):
        weight = torch.zeros((1, model.maps, *model.box), dtype=where.dtype, device=where.device)
        weight[:, which] = where * rate / (where * rate).sum()
        scalars = nothing.scalars.clone()
        scalars[:, which] = 1.0
        found.append(replace(nothing, modes=model.analyse(weight) * model.root, scalars=scalars))
    return concatenated(found)


def _orthogonal(count: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    """(count, columns) of mean square one and without correlation: few samples that have the variance of many."""
    drawn = torch.randn((count, columns), generator=generator, dtype=torch.float64)
    return math.sqrt(count) * torch.linalg.qr(drawn)[0]
