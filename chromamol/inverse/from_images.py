"""Rates by an estimator that is linear in them, from images as they were given, with the errors of what was assumed.

Every number that is not exact, the split constant and those of the calibration, is moved to either side by its
standard deviation. The images are read anew, the equations keep their weights, and half of the difference between
both results is the number's part of each standard error.

An uncertain gain is that of gain times φ_max, which the phases of an image show: where it is not exact, an error of
φ_max moves the fields along. The joint fit finds the same by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from chromamol.errors import ChromamolError
from chromamol.field import Field
from chromamol.inverse.arrays import noise_of
from chromamol.inverse.calibration import CalibrationPrior
from chromamol.inverse.joint_setup import JointProblem, Noise, rescaled
from chromamol.inverse.problem import NoiseSource, RateProblem
from chromamol.inverse.rates import RateMap, Rates
from chromamol.physics.parameters import ChromatinParameters
from chromamol.physics.split import ChromatinSplit, split_total
from chromamol.shapes import FloatField

NOISE_FLOOR = 1e-3
"""Least noise assumed, as a share of phi_max: below it the pixel grid itself limits the equations."""

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
        c = read.split.constant
        splits = [(_problem(problem, c - constant.sd), _problem(problem, c + constant.sd))]
    scales = [
        (_problem(low, constant.value), _problem(high, constant.value)) for low, high in moved_scales(problem)
    ]
    pairs = splits + scales
    variants = tuple(each for pair in pairs for each in pair if each is not None)
    rates, *found = solve(read.problem, device=device, variants=variants)
    results = iter(found)
    sides = [tuple(None if each is None else next(results) for each in pair) for pair in pairs]
    changes = [_half_difference(rates, low, high) for low, high in sides]
    rates = _widened(rates, changes[: len(splits)], of_calibration=False)
    rates = _widened(rates, changes[len(splits) :], of_calibration=True)
    if read.split is None:
        return rates, {}, ()
    notes = {"split_constant": read.split.constant, "unsplit_fraction": read.split.unsplit_fraction,
             "total_noise_sd": read.split.noise_sd}  # fmt: skip
    flags = ("split_constant_assumed",) if constant.value is None else ()
    return rates, notes, flags


def moved_scales(problem: JointProblem) -> list[tuple[JointProblem, JointProblem]]:
    """Return the problem with each uncertain number of its calibration one standard deviation lower and higher."""
    prior, channels = problem.calibration, len(problem.images)
    gains = prior.gains(channels)

    def brighter(factor: float, channel: int) -> JointProblem:
        return rescaled(problem, tuple(factor if c == channel else 1.0 for c in range(channels)))

    def lifted(offset: float, channel: int) -> JointProblem:
        images = tuple(f.like(f.values - offset * (c == channel)) for c, f in enumerate(problem.images))
        return replace(problem, images=images)

    def denser(factor: float) -> JointProblem:
        along = rescaled(problem, tuple(1.0 / factor if sd > 0.0 else 1.0 for sd in gains))
        return replace(along, parameters=replace(along.parameters, phi_max=along.parameters.phi_max * factor))

    def wider(factor: float) -> JointProblem:
        length = problem.parameters.interface_length_um * factor
        return replace(problem, parameters=replace(problem.parameters, interface_length_um=length))

    def both(change: Callable[[float], JointProblem], sd: float) -> tuple[JointProblem, JointProblem]:
        return change(float(np.exp(-sd))), change(float(np.exp(sd)))

    pairs = [both(partial(brighter, channel=c), sd) for c, sd in enumerate(gains) if sd > 0.0]
    if prior.offset_sd > 0.0:
        pairs += [(lifted(-prior.offset_sd, c), lifted(prior.offset_sd, c)) for c in range(channels)]
    if prior.phi_max_sd > 0.0:
        pairs.append(both(denser, prior.phi_max_sd))
    if prior.interface_sd > 0.0:
        pairs.append(both(wider, prior.interface_sd))
    return pairs


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
        _wider(rate, share * rate.values, share * rate.mean, of_calibration=True)
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


@dataclass(frozen=True, eq=False)
class _Change:
    """What one standard deviation of a number does to both maps, their means, and the ratio."""

    values: tuple[FloatField, FloatField]
    means: tuple[float, float]
    ratio: float


def _half_difference(rates: Rates, low: Rates | None, high: Rates | None) -> _Change:
    """Half of the difference of both sides; where a side is impossible, all of it between the other and `rates`.

    Infinite where neither side is possible: nothing bounds the error.
    """
    if low is None and high is None:
        nowhere = np.full(rates.methylation.values.shape, np.inf)
        return _Change((nowhere, nowhere), (np.inf, np.inf), np.inf)
    factor = 1.0 if low is None or high is None else 0.5
    a, b = low or rates, high or rates
    pairs = ((a.methylation, b.methylation), (a.acetylation, b.acetylation))
    values, means = (
        [factor * (y - x) for x, y in ((getattr(x, n), getattr(y, n)) for x, y in pairs)]
        for n in ("values", "mean")
    )
    return _Change((values[0], values[1]), (means[0], means[1]), factor * (b.ratio - a.ratio))


def _widened(rates: Rates, changes: list[_Change], *, of_calibration: bool) -> Rates:
    """Add independent changes to every standard error."""
    if not changes:
        return rates

    def total(parts: list[Any]) -> Any:
        return np.sqrt(np.sum(np.square(parts), axis=0))

    maps = [
        _wider(rate, total([c.values[i] for c in changes]), float(total([c.means[i] for c in changes])),
               of_calibration=of_calibration)
        for i, rate in enumerate((rates.methylation, rates.acetylation))
    ]  # fmt: skip
    ratio = float(total([c.ratio for c in changes]))
    return replace(
        rates, methylation=maps[0], acetylation=maps[1], ratio_se=float(np.hypot(rates.ratio_se, ratio)),
        ratio_calibration_se=float(np.hypot(rates.ratio_calibration_se, ratio * of_calibration)),
    )  # fmt: skip


def _wider(rate: RateMap, values: FloatField, mean: float, *, of_calibration: bool) -> RateMap:
    """Add one error, of every pixel and of the mean; a given or unknown rate has none."""
    if not np.isfinite(rate.mean) or rate.mean_se == 0.0:
        return rate
    return replace(
        rate,
        standard_error=np.hypot(rate.standard_error, values),
        mean_se=float(np.hypot(rate.mean_se, mean)),
        calibration_se=abs(mean) if of_calibration else rate.calibration_se,
    )


def _problem(problem: JointProblem, constant: float | None) -> RateProblem | None:
    """The problem of moved numbers; None where they are impossible, say fractions that exceed 1."""
    try:
        return _read(problem, constant).problem
    except ChromamolError:
        return None


def _read(problem: JointProblem, constant: float | None) -> _Read:
    fields, parameters, known = list(problem.images), problem.parameters, problem.known_acetylation
    if len(fields) == 1:
        single = float(np.sqrt(np.mean(np.square(problem.noise_sd[0]))))
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
