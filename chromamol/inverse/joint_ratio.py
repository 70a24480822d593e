"""The ratio of the rates that a joint fit tells: each rate weighted by the chromatin that it acts on.

    W = (<Γ_me φ_e> / <φ_e>) / (<Γ_ac φ_h> / <φ_h>)

It is the ratio of the integral balance, which every estimator states: in a nucleus that nothing crosses both
reactions convert as much, and W is <φ_h> / <φ_e> of the fitted fields, up to the wall, beside which no rates are
known. A nucleus that the image cuts has no such balance; there the rates themselves tell W, up to the cut, where they
are as uncertain as the samples say. The ratio of the plain means is another number (.84 for .94 in one nucleus), and
depends on where rates are known (.88 over those pixels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chromamol.inverse.cut_faces import is_cut
from chromamol.inverse.joint_fit import JointFit, cut
from chromamol.inverse.joint_posterior import Posterior
from chromamol.inverse.single_fit import outline_flux_error
from chromamol.shapes import FloatField, Mask

STEP = 1e-3
"""Share of a deviation at which its effect is looked up: the errors are those of the linearised posterior."""


@dataclass(frozen=True)
class BalanceRatio:
    """W, its standard error, and the part of that which is the calibration's."""

    value: float
    error: float
    of_calibration: float


def balance_ratio(
    fit: JointFit, posterior: Posterior, rates: Sequence[FloatField], logs: Sequence[FloatField], both: Mask
) -> BalanceRatio | None:
    """Return W; None where the nucleus is cut and no pixel has both rates.

    Parameters
    ----------
    rates : Γ_me and Γ_ac, um⁻².
    logs : deviations of the unknown log-rates, (samples, maps, ...), by noise and by calibration.
    both : pixels where both rates are known.
    """
    problem, where, closed = fit.problem, fit.problem.mask, not is_cut(fit.problem.mask)
    if not (closed or both.any()):
        return None
    fields = [cut(problem, phi[0]) for phi in (fit.point.phi_h, fit.point.phi_e)]
    ratio = weighted_ratio(fields, None if closed else rates, where)
    errors = []
    for samples, of_logs in zip((posterior.own, posterior.common), logs, strict=True):
        changes = []
        for phi_h, phi_e, log in zip(samples.phi_h, samples.phi_e, of_logs, strict=True):
            moved = [phi + STEP * cut(problem, d) for phi, d in zip(fields, (phi_h, phi_e), strict=True)]
            at = [rate * np.exp(STEP * d) for rate, d in zip(rates, (*log, 0.0), strict=False)]
            changes.append((weighted_ratio(moved, None if closed else at, where) - ratio) / STEP)
        errors.append(float(np.sqrt(np.mean(np.square(changes)))))
    if closed:
        errors.append(ratio * outline_flux_error(problem.mask, problem.grid))
    return BalanceRatio(ratio, math.hypot(*errors), errors[1])


def weighted_ratio(fields: Sequence[FloatField], rates: Sequence[FloatField] | None, where: Mask) -> float:
    """Return W over some pixels from (φ_h, φ_e) and (Γ_me, Γ_ac); by the balance of the whole where rates are None."""
    phi_h, phi_e = (phi[where] for phi in fields)
    if rates is None:
        return float(phi_h.mean() / phi_e.mean())
    methylation, acetylation = (rate[where] for rate in rates)
    return float(np.average(methylation, weights=phi_e) / np.average(acetylation, weights=phi_h))
