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

from chromamol.inverse.joint_calibrated import unit
from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_model import JointModel
from chromamol.inverse.joint_together import Fit, Solution
from chromamol.inverse.joint_unknowns import Unknowns, concatenated
from chromamol.shapes import Mask

SAMPLES, SAMPLE_TOLERANCE = 8, 1e-3
"""Posterior samples; with 1e-3 they differ from those of 1e-5 by 8 % (rms), with 1e-2 by 41 %."""

MEAN_TOLERANCE, CALIBRATED_PASSES = 3e-2, 2
"""Of what tells the errors of means, to .4 % of them and to 1.2 % of the ratio's. Where gains or ℓ are fitted or
considered, right sides are large and nearly cancel: of one pass in float32, to 1e-3, what considered numbers do to
means came out .4 to 2.7 times what float64 at 1e-5 has, of two passes within .5 % (two patterns, one channel)."""


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

    Mean log-rates are numbers with gradients g, and need a solve of H v = g each: n · J v is their error, and has the
    variance |J v|², each part times its deviation of n. What they respond to a considered number with is a gᵀ H⁻¹ b:
    v and the solution u of H u = b tell it as vᵀb + gᵀu - vᵀHu, which errs by the product of their errors.

    Parameters
    ----------
    valid : pixels of the nucleus's box, over which rates are averaged, with weights that follow them.
    """
    at = Linearisation.at(model, x, tau)
    share = 1.0 if balance_error is None else min(1.0, balance_error / tau)
    shapes = at.forward(x.map(torch.zeros_like))
    white = {
        name: torch.randn((count, *value.shape[1:]), generator=generator, dtype=value.dtype).to(value.device)
        for name, value in shapes.items()
    }
    white["balance"] *= share
    slopes, moved = _gradients(at.model, x, valid), [unit(at, j) for j in model.considered]
    pulls = [at.normal(one) for one in moved]
    passes = CALIBRATED_PASSES if model.estimated or moved else 1
    sides = concatenated([_mixed(slopes), *pulls])
    own, solved = yield Solution(model, x, tau, (at.adjoint(white), sides),
                                 (SAMPLE_TOLERANCE, MEAN_TOLERANCE), (1, passes), inner, calibrate=True)  # fmt: skip
    means, *responses = solved.split([model.maps, *(1 for _ in moved)])
    means = _mixed(means).map(lambda a: a / model.maps)
    caused = at.forward(means)
    caused["balance"] = share * caused["balance"]
    errors = torch.cat([part.flatten(1).double() for part in caused.values()], 1)
    drawn = _orthogonal(count, len(moved), generator).to(x.phi_h)
    common = own.map(torch.zeros_like)
    for one, pull, response, factors in zip(moved, pulls, responses, drawn.T, strict=True):
        better = _form(at, means, slopes, response, pull)[:, 0]
        known = _shifted(response.map(lambda a: a.to(x.phi_h.dtype)), slopes, better[None])
        common = common.plus(factors, one.map(lambda a, b: a - b, known))
    return Posterior(_with_covariance(own, slopes, errors @ errors.T), common)


def _mixed(each: Unknowns) -> Unknowns:
    """Sum and difference of two, whose half is its inverse: errors of the means of two rates are nearly the same, and
    what they differ by, which is that of the ratio, has to be solved for by itself. One is left as it is."""
    if len(each.phi_h) == 1:
        return each
    return each.map(lambda a: torch.stack([a[0] + a[1], a[0] - a[1]]))


def _form(at: Linearisation, v: Unknowns, g: Unknowns, u: Unknowns, b: Unknowns) -> torch.Tensor:
    """gᵀ H⁻¹ b for all of each, (n, m), from approximate solutions v and u of H v = g and H u = b; in float64."""
    left, slopes, solutions, sides, images = (_flat(part) for part in (v, g, u, b, at.normal(u)))
    return left @ sides.T + slopes @ solutions.T - left @ images.T


def _with_covariance(samples: Unknowns, slopes: Unknowns, covariance: torch.Tensor) -> Unknowns:
    """Shift the mean log-rates of samples, so that those have a given covariance, (maps, maps).

    A solve that broke down stays what it is: not a number, which no rate is identifiable with.
    """
    means = _flat(samples) @ _flat(slopes).T
    sampled = means.T @ means / len(means)
    if not bool(torch.isfinite(torch.stack([covariance, sampled])).all()):
        return samples
    return _shifted(samples, slopes, means @ _root(sampled, -0.5) @ _root(covariance, 0.5))


def _root(matrix: torch.Tensor, power: float) -> torch.Tensor:
    """A power of a covariance, whose directions without any keep their rounding."""
    sizes, axes = torch.linalg.eigh(matrix)
    return axes * sizes.clamp_min(float(sizes.max()) * torch.finfo(sizes.dtype).eps) ** power @ axes.T


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
