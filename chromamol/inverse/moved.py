"""What a number that is not exact does to an estimate: it is moved to either side by its standard deviation.

Half of the difference between the results of both sides is the number's part of each standard error; those of
independent numbers add in squares.

An uncertain gain is that of gain times φ_max, which the phases of an image show: where it is not exact, an error of
φ_max moves the fields along. The joint fit finds the same by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np

from chromamol.errors import ParameterError
from chromamol.inverse.joint_setup import JointProblem, rescaled
from chromamol.inverse.rates import RateMap
from chromamol.shapes import FloatField

Result = TypeVar("Result")
Another = TypeVar("Another")
Sides = tuple[Result | None, Result | None]
"""Results with a number one standard deviation lower and higher; None where it is impossible there."""


def moved_scales(problem: JointProblem) -> Iterator[Sides[JointProblem]]:
    """Yield the problem with each uncertain number of its calibration one standard deviation lower and higher.

    None stands for a side on which the model refuses the number, such as a φ_max above 1.
    """
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

    def wider_interface(factor: float) -> JointProblem:
        length = problem.parameters.interface_length_um * factor
        return replace(problem, parameters=replace(problem.parameters, interface_length_um=length))

    def possible(change: Callable[[float], JointProblem], factor: float) -> JointProblem | None:
        try:
            return change(factor)
        except ParameterError:
            return None

    def both(change: Callable[[float], JointProblem], sd: float) -> Sides[JointProblem]:
        return possible(change, float(np.exp(-sd))), possible(change, float(np.exp(sd)))

    for channel, sd in enumerate(gains):
        if sd > 0.0:
            yield both(partial(brighter, channel=channel), sd)
    for channel in range(channels if prior.offset_sd > 0.0 else 0):
        yield lifted(-prior.offset_sd, channel), lifted(prior.offset_sd, channel)
    if prior.phi_max_sd > 0.0:
        yield both(denser, prior.phi_max_sd)
    if prior.interface_sd > 0.0:
        yield both(wider_interface, prior.interface_sd)


def each_side(
    sides: list[Sides[Result]], function: Callable[[Result], Another | None]
) -> list[Sides[Another]]:
    """Return what a function makes of every side that is possible."""
    return [
        (None if low is None else function(low), None if high is None else function(high))
        for low, high in sides
    ]


def spread(of: Callable[[Result], Any], told: Result, sides: list[Sides[Result]]) -> Any:
    """Return the standard deviation that moved numbers give to a quantity `of` a result, `told` as they are expected.

    Where one side is impossible, all of the difference to the other counts; infinite where neither is possible, since
    nothing bounds the error.
    """
    parts = []
    for low, high in sides:
        if low is None and high is None:
            return np.full(np.shape(of(told)), np.inf)
        factor = 1.0 if low is None or high is None else 0.5
        parts.append(factor * (of(high or told) - of(low or told)))
    return np.sqrt(np.sum(np.square(parts), axis=0))


def wider_by(name: str, told: Result, sides: list[Sides[Result]], *, of_calibration: bool) -> RateMap:
    """Return the rate map `name` of a result with what moved numbers do to it in its errors."""
    values, mean, free_mean = (
        spread(attrgetter(f"{name}.{part}"), told, sides) for part in ("values", "mean", "free_mean")
    )
    rate = wider(attrgetter(name)(told), values, float(mean), of_calibration=of_calibration)
    if of_calibration or rate.free is None:
        return rate
    return replace(rate, free=(rate.free[0], float(np.hypot(rate.free[1], free_mean))))


def wider(rate: RateMap, values: FloatField, mean: float, *, of_calibration: bool) -> RateMap:
    """Add one error, of every pixel and of the mean; a given or unknown rate has none."""
    if not np.isfinite(rate.mean) or rate.mean_se == 0.0:
        return rate
    return replace(
        rate,
        standard_error=np.hypot(rate.standard_error, values),
        mean_se=float(np.hypot(rate.mean_se, mean)),
        calibration_se=float(np.hypot(rate.calibration_se, mean)) if of_calibration else rate.calibration_se,
    )
