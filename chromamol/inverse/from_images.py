"""Rates by an estimator that is linear in them, from images as they were given, with the errors of what was assumed.

The split constant and the numbers of the calibration are moved to either side (`moved`): the images are read anew, the
equations keep their weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
import torch

from chromamol.errors import ChromamolError
from chromamol.field import Field
from chromamol.inverse.arrays import noise_of
from chromamol.inverse.calibration import CalibrationPrior
from chromamol.inverse.joint_setup import JointProblem, Noise
from chromamol.inverse.moved import Sides, moved_scales, spread, wider, wider_by
from chromamol.inverse.problem import NoiseSource, RateProblem
from chromamol.inverse.rates import Rates
from chromamol.physics.parameters import ChromatinParameters
from chromamol.physics.split import ChromatinSplit, split_total
from chromamol.shapes import FloatField

NOISE_FLOOR = 7e-3
"""Least noise assumed, as a share of phi_max: below it the pixel grid limits the equations, and a pattern that still
moves by 1e-4. With 1e-3 widths disagree that should agree: of ten simulated patterns with at most .3 % of noise half
were left with the widest functions, and intervals covered .38 to .97 of the pixels; with 7e-3 .92 to 1.00, at smaller
errors."""

Solve = Callable[..., tuple[Rates, ...]]
"""`regress` or `scale_by_domains`: rates of a problem, then those of its variants."""


@dataclass(frozen=True)
class SplitConstant:
    """C of the one-channel split.

    Parameters
    ----------
    value : by convention when None.
    sd : standard deviation.
    """

    value: float | None
    sd: float


@dataclass(frozen=True, eq=False)
class _Read:
    """The problem as images tell it, and the split if there is one image only."""

    problem: RateProblem
    split: ChromatinSplit | None


def rates_from_images(
    solve: Solve, problem: JointProblem, constant: SplitConstant, device: torch.device
) -> tuple[Rates, dict[str, float], tuple[str, ...]]:
    """Solve from two images as they are, or from one after its split; also return notes and flags of the split.

    Standard errors hold the split constant, and the calibration by its prior (`RateMap.calibration_se`).
    """
    read = _read(problem, constant.value)
    splits: list[tuple[RateProblem | None, RateProblem | None]] = []
    if read.split is not None:
        c, sd = read.split.constant, float(np.hypot(constant.sd, read.split.constant_sd))
        splits = [(problem_or_none(problem, c - sd), problem_or_none(problem, c + sd))]
    scales = [
        (problem_or_none(low, constant.value), problem_or_none(high, constant.value))
        for low, high in moved_scales(problem)
    ]
    pairs = splits + scales
    variants = tuple(each for pair in pairs for each in pair if each is not None)
    rates, *found = solve(read.problem, device=device, variants=variants)
    results = iter(found)
    sides: list[Sides[Rates]] = [
        (None if low is None else next(results), None if high is None else next(results))
        for low, high in pairs
    ]
    rates = widened(rates, sides[: len(splits)], of_calibration=False)
    rates = widened(rates, sides[len(splits) :], of_calibration=True)
    if read.split is None:
        return rates, {}, ()
    notes = {"split_constant": read.split.constant, "unsplit_fraction": read.split.unsplit_fraction,
             "split_constant_noise_sd": read.split.constant_sd, "total_noise_sd": read.split.noise_sd}  # fmt: skip
    flags = ("split_constant_assumed",) if constant.value is None else ()
    return rates, notes, flags


def with_calibration_errors_of(rates: Rates, other: Rates, calibration: CalibrationPrior) -> Rates:
    """Add the relative calibration errors of another estimate, by a linear estimator, of the same images.

    Infinite for a rate that the other could not tell, unless the calibration is exact: nothing bounds the error.
    """
    if calibration.is_exact:
        return rates
    names = ("methylation", "acetylation")
    mine, others = ([getattr(r, name) for name in names] for r in (rates, other))
    shares = [_share(o.calibration_se, o.mean) for o in others]
    maps = [
        wider(rate, share * rate.values, share * rate.mean, of_calibration=True)
        for rate, share in zip(mine, shares, strict=True)
    ]
    of_ratio = _share(other.ratio_calibration_se, other.ratio) * rates.ratio
    return replace(
        rates, methylation=maps[0], acetylation=maps[1],
        ratio_se=float(np.hypot(rates.ratio_se, of_ratio)), ratio_calibration_se=of_ratio,
    )  # fmt: skip


def _share(error: float, value: float) -> float:
    """|error / value|; infinite where either is unknown."""
    share = abs(error / value) if value != 0.0 else np.inf
    return float(share) if np.isfinite(share) else np.inf


def widened(rates: Rates, sides: list[Sides[Rates]], *, of_calibration: bool) -> Rates:
    """Add what independent numbers do to every standard error."""
    if not sides:
        return rates
    methylation, acetylation = (
        wider_by(name, rates, sides, of_calibration=of_calibration) for name in ("methylation", "acetylation")
    )
    ratio = float(spread(attrgetter("ratio"), rates, sides))
    return replace(
        rates, methylation=methylation, acetylation=acetylation,
        ratio_se=float(np.hypot(rates.ratio_se, ratio)),
        ratio_calibration_se=float(np.hypot(rates.ratio_calibration_se, ratio * of_calibration)),
    )  # fmt: skip


def problem_of_images(problem: JointProblem) -> RateProblem:
    """The problem as the images tell it; with one image, by the split of convention."""
    return _read(problem, None).problem


def problem_or_none(problem: JointProblem | None, constant: float | None) -> RateProblem | None:
    """The problem of moved numbers; None where they are impossible, say fractions that exceed 1."""
    if problem is None:
        return None
    try:
        return _read(problem, constant).problem
    except ChromamolError:
        return None


def _read(problem: JointProblem, constant: float | None) -> _Read:
    fields, parameters, known = list(problem.images), problem.parameters, problem.known_acetylation
    if len(fields) == 1:
        of_pixels = np.broadcast_to(problem.noise_sd[0], problem.grid.shape)[problem.mask]
        single = float(np.sqrt(np.mean(np.square(of_pixels))))
        split = split_total(fields[0], parameters, noise_sd=single, constant=constant)
        return _Read(one_channel_problem(split, parameters, known), split)
    with_total = problem.mixing[1] == (1.0, 1.0)
    return _Read(
        two_channel_problem(fields, parameters, known, problem.noise_sd, with_total=with_total), None
    )


def two_channel_problem(
    fields: list[Field],
    parameters: ChromatinParameters,
    known: FloatField | None,
    noise_sd: Noise,
    *,
    with_total: bool,
) -> RateProblem:
    """Return the problem for two measured fields, φ_h and φ_e, or φ_h and φ_h + φ_e when `with_total`."""
    first, second = fields
    sds = noise_of(fields, noise_sd)
    floor = NOISE_FLOOR * parameters.phi_max
    # The noise of φ_h enters φ_e = total - φ_h with the other sign.
    noise = (NoiseSource(np.maximum(sds[0], floor), 1.0, -1.0 if with_total else 0.0),
             NoiseSource(np.maximum(sds[1], floor), 0.0, 1.0))  # fmt: skip
    phi_e = second.like(second.values - first.values) if with_total else second
    return RateProblem(first, phi_e, noise, parameters, known)


def one_channel_problem(
    split: ChromatinSplit, parameters: ChromatinParameters, known: FloatField | None
) -> RateProblem:
    """Return the problem for two fields that share the noise of the total they were split from."""
    sd = max(split.noise_sd, NOISE_FLOOR * parameters.phi_max)
    noise = (NoiseSource(sd, split.response_h, 1.0 - split.response_h, split.smoothing),)
    return RateProblem(split.phi_h, split.phi_e, noise, parameters, known)
