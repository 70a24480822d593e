"""Many joint fits at once: each reads as if it were alone, and what they ask for at the same time is computed together.

A fit is a generator. It yields a request where there is much to compute, and is sent the answer; all that is decided
in between (steps, smoothness, borders, outcomes) stays its own. Requests of one kind are answered as one batch: on a
GPU, whose time goes to starting kernels when nuclei are small, many cost little more than one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from chromamol.errors import ChromamolError, SolverError
from chromamol.inverse.joint_batch import own_unknowns, stacked_models, stacked_unknowns
from chromamol.inverse.joint_model import JointModel
from chromamol.inverse.joint_solver import Step, gauss_newton_step, solve_normal
from chromamol.inverse.joint_unknowns import Unknowns

LARGEST_WASTE = 1.5
"""Pixels of the common box over those of the smallest one in it. Besides what they cost, a wider margin around a box
lets other sources beyond its border be: maps of whole nuclei moved by up to .3 of their errors, of small pieces of a
pattern by .4, neither nearer to the truth nor farther (margins of 24 to 56 pixels, 5 and 10 % noise)."""

BYTES_PER_PIXEL = 6000
"""Memory that a fit is taken to need on a GPU, per pixel of its box: 5,000 on a CPU, where three of 88 x 88 pixels with
their samples took 117 MB. A batch that needs more is halved."""

SHARE_OF_MEMORY = 0.5
"""Of what a GPU has free, that fits are packed into."""


@dataclass(frozen=True, eq=False)
class Place:
    """Asks for the box to fit in: at least `box`, shared with fits that have the same `alike`."""

    box: tuple[int, ...]
    alike: Hashable


@dataclass(frozen=True, eq=False)
class NextStep:
    """Asks for a Gauss-Newton step (`joint_solver.gauss_newton_step`)."""

    model: JointModel
    point: Unknowns
    tau: float
    tolerance: float
    inner: torch.dtype
    calibrate: bool
    near: torch.Tensor | None

    @property
    def alike(self) -> Hashable:
        return NextStep, self.inner, self.calibrate, self.near is None


@dataclass(frozen=True, eq=False)
class Solution:
    """Asks for H⁻¹ times groups of right sides, with a tolerance and passes for each (`joint_solver.solve_normal`)."""

    model: JointModel
    point: Unknowns
    tau: float
    rights: tuple[Unknowns, ...]
    tolerances: tuple[float, ...]
    passes: tuple[int, ...]
    inner: torch.dtype
    calibrate: bool

    @property
    def alike(self) -> Hashable:
        return (
            Solution,
            self.inner,
            self.calibrate,
            self.tolerances,
            self.passes,
            *(len(right.phi_h) for right in self.rights),
        )


Result = TypeVar("Result")
Fit = Generator[Any, Any, Result]
"""Yields at most one `Place`, then `NextStep` and `Solution`; is sent a box, a `Step`, solutions."""


def run_together(
    fits: Iterable[Fit[Result]], *, at_once: int | None, device: torch.device
) -> list[Result | ChromamolError]:
    """Run all fits to their ends; return their results, or the error of those that ended with one.

    Parameters
    ----------
    at_once : most fits in a batch; None for what the device is good for: one on a CPU, on a GPU what fits its memory.
    """
    runs = [_Run(fit) for fit in fits]
    if at_once is None and device.type == "cpu":
        at_once = 1
    if at_once == 1:
        for run in runs:
            _finish([run] if run.begins() else [])
    else:
        waiting = [run for run in runs if run.begins()]
        for batch in _packed(waiting, _budget(device) if at_once is None else math.inf, at_once or len(runs)):
            _finish(batch)
    return [run.end for run in runs]


def run_alone(fit: Fit[Result]) -> Result:
    """Run one fit to its end.

    Raises
    ------
    ChromamolError : of the fit.
    """
    run = _Run(fit)
    if run.begins():
        _finish([run])
    if isinstance(run.end, ChromamolError):
        raise run.end
    return run.end


class _Run:
    """A fit on its way: what it asks for, or how it ended."""

    def __init__(self, fit: Fit[Any]) -> None:
        self.fit = fit
        self.request: Any = None
        self.end: Any = None

    def begins(self) -> bool:
        """Run to the first request; whether there is one."""
        return self.goes_on(None)

    def goes_on(self, answer: Any) -> bool:
        """Run to the next request; whether there is one."""
        self.request = None  # its model need not outlive the answer
        try:
            self.request = self.fit.throw(answer) if isinstance(answer, Exception) else self.fit.send(answer)
        except StopIteration as stop:
            self.end = stop.value
        except ChromamolError as error:
            self.end = error
        except (np.linalg.LinAlgError, torch.linalg.LinAlgError, torch.OutOfMemoryError) as error:
            self.end = _explained(error)
        else:
            return True
        return False


def _explained(error: Exception) -> SolverError:
    """What ended a fit that no smaller batch could save."""
    if isinstance(error, torch.OutOfMemoryError):
        return SolverError(
            f"The fit of this nucleus does not fit the memory of the device ({error}).",
            expected=f"about {BYTES_PER_PIXEL} bytes free for each of its pixels, and of a margin around it.",
            do="take device 'cpu' or method 'regression', or larger pixels.",
        )
    return SolverError(
        f"A matrix of this nucleus is singular ({error}).",
        expected="fields that vary, with noise and domains in them.",
        do="look at its fields; where they are as they should be, report this as a fault of chromamol.",
    )


def _packed(runs: list[_Run], budget: float, most: int) -> list[list[_Run]]:
    """Batches of fits that are alike and of similar size, the largest first."""
    by_kind: dict[Hashable, list[_Run]] = defaultdict(list)
    for run in runs:
        by_kind[run.request.alike].append(run)
    batches: list[list[_Run]] = []
    for alike in by_kind.values():
        batch: list[_Run] = []
        for run in sorted(alike, key=lambda run: -math.prod(run.request.box)):
            box = _common_box([*batch, run])
            fits_in = (len(batch) + 1) * math.prod(box) * BYTES_PER_PIXEL <= budget and len(batch) < most
            if batch and not (fits_in and math.prod(box) <= LARGEST_WASTE * math.prod(run.request.box)):
                batches.append(batch)
                batch = []
            batch.append(run)
        batches.append(batch)
    return batches


def _common_box(runs: Sequence[_Run]) -> tuple[int, ...]:
    return tuple(max(sizes) for sizes in zip(*(run.request.box for run in runs), strict=True))


def _budget(device: torch.device) -> float:
    return SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf


def _finish(batch: list[_Run]) -> None:
    """Run a batch from its requests for a place, where there are any, to its end."""
    asking = [run for run in batch if isinstance(run.request, Place)]
    box = _common_box(asking) if asking else ()
    going = [run for run in batch if run not in asking or run.goes_on(box)]
    while going:
        by_kind: dict[Hashable, list[_Run]] = defaultdict(list)
        for run in going:
            by_kind[run.request.alike].append(run)
        going = []
        for alike in by_kind.values():
            for run, answer in zip(alike, _answers([run.request for run in alike]), strict=True):
                if run.goes_on(answer):
                    going.append(run)


def _answers(requests: Sequence[Any]) -> list[Any]:
    """Answer requests of one kind; a batch that fails, because memory ends or one matrix is singular, is halved."""
    try:
        return _computed(requests)
    except (torch.OutOfMemoryError, torch.linalg.LinAlgError) as error:
        if len(requests) == 1:
            return [error]
    if requests[0].model.images.is_cuda:
        torch.cuda.empty_cache()
    half = len(requests) // 2
    return _answers(requests[:half]) + _answers(requests[half:])


def _computed(requests: Sequence[Any]) -> list[Any]:
    first, models = requests[0], [request.model for request in requests]
    model, point = stacked_models(models), stacked_unknowns([request.point for request in requests])
    same = {"inner": first.inner, "calibrate": first.calibrate}

    def of_each(name: str, dtype: torch.dtype) -> torch.Tensor:
        values = [getattr(request, name) for request in requests]
        return torch.tensor(values, dtype=dtype, device=point.scalars.device)

    tau = of_each("tau", point.scalars.dtype)
    if isinstance(first, NextStep):
        near = None if first.near is None else torch.cat([request.near for request in requests])
        tolerance = of_each("tolerance", first.inner)
        step = gauss_newton_step(model, point, tau, tolerance=tolerance, near=near, **same)
        return [_own_step(step, i, own) for i, own in enumerate(models)]
    groups = zip(*(request.rights for request in requests), strict=True)
    wide = (stacked_unknowns(alike).split(len(alike[0].phi_h)) for alike in groups)
    rights = list(zip(*wide, strict=True))
    solved = solve_normal(model, point, tau, rights, tolerances=first.tolerances, passes=first.passes, **same)
    return [tuple(own_unknowns(each, own) for each in mine) for mine, own in zip(solved, models, strict=True)]


def _own_step(step: Step, index: int, model: JointModel) -> Step:
    one = slice(index, index + 1)
    point = own_unknowns(step.point.map(lambda part: part[one]), model)
    responses = None if step.responses is None else step.responses[one]
    return Step(point, step.cost[one], step.gained[one], step.decreased[one], step.length[one], responses)
