"""The front door for time-lapses: density fields over time in, D and rates per second out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
import torch

from chromamol.calculus import estimate_noise_over_time
from chromamol.device import resolve_device
from chromamol.errors import FieldError, ParameterError
from chromamol.field import Field
from chromamol.given import as_array
from chromamol.grid import Grid
from chromamol.inverse.arrays import as_fields, noise_of
from chromamol.inverse.bounding_box import Window, bounding_window, cropped
from chromamol.inverse.calibration import EXACT, CalibrationPrior
from chromamol.inverse.from_images import problem_of_images, problem_or_none, widened
from chromamol.inverse.inference import is_resolved
from chromamol.inverse.joint_setup import JointProblem
from chromamol.inverse.moved import Sides, each_side, moved_scales, spread, wider_by
from chromamol.inverse.moving_fit import ChosenWidth, MovingFit, choose_width, drifts
from chromamol.inverse.moving_form import MovingProblem
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.inverse.rates_over_time import RatesOverTime
from chromamol.inverse.regression import integral_ratio, judge
from chromamol.inverse.time_windows import FEWEST_FRAMES
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField


def infer_rates_over_time(  # noqa: PLR0913 - the public face; all but the fields are keyword-only
    phi_h: Any = None,
    phi_e: Any = None,
    *,
    pixel_size_um: float | Sequence[float],
    frame_interval_s: float,
    total: Any = None,
    parameters: ChromatinParameters | None = None,
    mask: Any = None,
    noise_sd: float | tuple[float, float] | None = None,
    psf_sigma_um: float = 0.0,
    calibration: CalibrationPrior | None = None,
    device: str = "auto",
) -> RatesOverTime:
    """Infer the diffusivity and both rates from a chromatin pattern that changes.

        ∂t φ_h = D Δμ_h + Γ_me φ_e - Γ_ac φ_h

    is tested in space and time with functions that take every derivative, and solved for D and smooth maps of both
    rates. A pattern at rest gives Γ / D as a snapshot does, D = NaN and the flag `diffusivity_not_identifiable`. Where
    the frames show motion and do not tell how fast it is, the rates, their ratio and D are NaN, and `unsteady` is
    flagged, too.

    Parameters
    ----------
    phi_h, phi_e : volume fractions, (t, y, x) or (t, z, y, x), at least 3 frames; the nucleus stays in place.
    pixel_size_um : um; one number, or one per axis of space.
    frame_interval_s : time between frames.
    total : φ_h + φ_e, in place of `phi_e`. Alone it is refused: the water balance that splits it holds at rest only.
    mask : pixels inside the nucleus in every frame, (y, x) or (z, y, x).
    noise_sd : per pixel, as in `infer_rates`; estimated from the differences of the frames when None.
    psf_sigma_um : as in `infer_rates`: a PSF wider than the interface raises the flag `unresolved_domains`.
    calibration : how well gain, offset, phi_max and l are known, the same for all frames; exact when None. Standard
        errors hold it.

    Raises
    ------
    FieldError : fewer than 3 frames, shapes that differ, NaN inside the mask, values that are not fractions.
    ParameterError, DeviceError : an interval that is not positive; a device that is not there.

    References
    ----------
    Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z (the model).
    """
    if not (math.isfinite(frame_interval_s) and frame_interval_s > 0.0):
        raise ParameterError(f"frame_interval_s = {frame_interval_s}.", expected="a positive number of seconds.",
                             do="look it up in the microscope's settings.")  # fmt: skip
    where = resolve_device(device)
    parameters = parameters or ChromatinParameters()
    series = _frames(phi_h, phi_e, total, pixel_size_um, mask)
    mixing = ((1.0, 0.0), (0.0, 1.0) if total is None else (1.0, 1.0))
    whole, window = series[0][0].grid, bounding_window(series[0][0].mask)
    given = None if noise_sd is None else noise_of(series[0], noise_sd)
    if given is not None:
        given = tuple(sd[window] if isinstance(sd, np.ndarray) else sd for sd in given)
    series = [[cropped(field, window) for field in fields] for fields in series]
    noise = _noise_of_frames(series, given)
    frames = [
        JointProblem(tuple(fields), mixing, noise_of(fields, sd), 0.0, parameters, None, calibration or EXACT)
        for fields, sd in zip(series, noise, strict=True)
    ]
    resolved = is_resolved(frames[0].grid, parameters, psf_sigma_um)
    flags = () if resolved else ("unresolved_domains",)
    return _embedded(_infer(frames, frame_interval_s, flags, where), whole, window)


@dataclass(frozen=True, eq=False)
class _Told:
    """What a fit says, not judged yet.

    Parameters
    ----------
    rates : over D.
    diffusivity, diffusivity_se : um²/s; NaN where nothing moves.
    methylation_per_s, acetylation_per_s : in 1/s; unknown where nothing moves.
    """

    rates: Rates
    diffusivity: float
    diffusivity_se: float
    methylation_per_s: RateMap
    acetylation_per_s: RateMap

    @property
    def moves(self) -> bool:
        return math.isfinite(self.diffusivity)

    @property
    def is_known(self) -> bool:
        """False where the pattern moves, and nothing tells how fast."""
        return self.rates.outcome is not Outcome.MOTION_NOT_RESOLVED


def _infer(
    frames: list[JointProblem], interval_s: float, flags: tuple[str, ...], device: torch.device
) -> RatesOverTime:
    problem = MovingProblem(tuple(problem_of_images(frame) for frame in frames), interval_s)
    chosen = choose_width(problem, device=device)
    told = _told(problem, chosen)

    def moved(side: tuple[JointProblem | None, ...]) -> _Told | None:
        each = [problem_or_none(frame, None) for frame in side]
        possible = tuple(frame for frame in each if frame is not None)
        if len(possible) < len(each):
            return None
        side_told = _told(MovingProblem(possible, interval_s), chosen)
        return side_told if side_told.is_known else None

    calibration_se = 0.0
    if told.is_known:
        # One number at a time: each has its own copy of all frames.
        numbers = zip(*(moved_scales(frame) for frame in frames), strict=True)
        sides = [(moved(low), moved(high)) for low, high in (zip(*number, strict=True) for number in numbers)]
        told, calibration_se = _with_calibration(told, sides)
    return _judged(told, flags, calibration_se, interval_s)


def _told(problem: MovingProblem, chosen: ChosenWidth | None) -> _Told:
    fit = None if chosen is None else chosen.fit(problem)
    nothing = RateMap.unknown(problem.grid.shape)
    still = problem.average()
    ratio, ratio_se = integral_ratio(still)
    diffusivity, diffusivity_se = math.nan, math.nan
    maps, per_s = (nothing, nothing), (nothing, nothing)
    outcome, flags = (Outcome.NOT_JUDGED, ()) if fit is None else (fit.maps.outcome, fit.maps.flags)
    settled = chosen is None or chosen.settled
    if not settled or not (fit.holds if fit is not None and fit.moves else not drifts(problem)):
        # The balance of rest does not hold, and how much the change adds to it is not known.
        ratio, ratio_se = math.nan, math.nan
        outcome, flags = Outcome.MOTION_NOT_RESOLVED, ("unsteady",)
    elif fit is not None and fit.maps.solution.converged:
        maps = (fit.maps.rate_map(0).inside(problem.mask), fit.maps.rate_map(1).inside(problem.mask))
        if fit.moves:
            ratio, ratio_se = _moving_ratio(problem, fit, ratio, ratio_se)
            diffusivity = 1.0 / fit.slowness
            diffusivity_se = fit.slowness_se * diffusivity**2
            per_s = (fit.rate_map_per_s(0).inside(problem.mask), fit.rate_map_per_s(1).inside(problem.mask))
    rates = Rates(
        methylation=maps[0], acetylation=maps[1], ratio=ratio, ratio_se=ratio_se,
        outcome=outcome, flags=flags,
        method="time-lapse regression", phi_h=still.phi_h, phi_e=still.phi_e,
        noise_sd=problem.frames[0].mean_noise_sd(),
        mollifier_width_um=math.nan if fit is None else fit.maps.half_width_um[-1],
        diagnostics={} if fit is None else {
            "misfit": fit.maps.solution.misfit, "smoothness_um": fit.maps.solution.linear.length_um,
            "relative_amplitude": fit.maps.solution.linear.amplitude, "frames": float(len(problem.frames)),
        },
        reason="several frames with a known interval",
        ratio_calibration_se=math.nan if math.isnan(ratio) else 0.0,
    )  # fmt: skip
    return _Told(rates, diffusivity, diffusivity_se, *per_s)


def _with_calibration(told: _Told, sides: list[Sides[_Told]]) -> tuple[_Told, float]:
    """Add what the moved numbers do to every standard error; also return that of D alone.

    A side on which nothing moves any more counts as impossible.
    """
    rates = widened(told.rates, each_side(sides, lambda side: side.rates), of_calibration=True)
    if not (told.moves and sides):
        return replace(told, rates=rates), 0.0
    moving = each_side(sides, lambda side: side if side.moves else None)
    methylation, acetylation = (
        wider_by(name, told, moving, of_calibration=True)
        for name in ("methylation_per_s", "acetylation_per_s")
    )
    of_d = float(spread(attrgetter("diffusivity"), told, moving))
    error = float(np.hypot(told.diffusivity_se, of_d))
    return _Told(rates, told.diffusivity, error, methylation, acetylation), of_d


def _judged(told: _Told, flags: tuple[str, ...], calibration_se: float, interval_s: float) -> RatesOverTime:
    rates = judge(told.rates, acetylation_known=False)
    unknown = () if told.moves else ("diffusivity_not_identifiable",)
    rates = replace(rates, flags=(*flags, *rates.flags, *unknown))
    pairs = ((told.methylation_per_s, rates.methylation), (told.acetylation_per_s, rates.acetylation))
    methylation, acetylation = (
        each if np.isfinite(rate.mean) else RateMap.unknown(each.values.shape) for each, rate in pairs
    )
    return RatesOverTime(rates, told.diffusivity, told.diffusivity_se, methylation, acetylation, interval_s,
                         calibration_se if told.moves else math.nan)  # fmt: skip


def _moving_ratio(
    problem: MovingProblem, fit: MovingFit, ratio: float, ratio_se: float
) -> tuple[float, float]:
    """Return mean Γ_me / Γ_ac with the change of <φ_h> in the balance: (<φ_h> + ∂t <φ_h> / Γ_ac) / <φ_e>."""
    first, last = (float(problem.frames[i].phi_h.values[problem.mask].mean()) for i in (0, -1))
    still = problem.average()
    mean_h, mean_e = (float(f.values[problem.mask].mean()) for f in (still.phi_h, still.phi_e))
    acetylation = fit.maps.rate_map(1)
    change = (last - first) / problem.duration_s * fit.slowness / acetylation.mean
    relative = math.hypot(fit.slowness_se / fit.slowness, acetylation.mean_se / acetylation.mean)
    return (mean_h + change) / mean_e, math.hypot(
        ratio_se * (1.0 + change / mean_h), relative * change / mean_e
    )


def _frames(
    phi_h: Any, phi_e: Any, total: Any, pixel_size_um: float | Sequence[float], mask: Any
) -> list[list[Field]]:
    """Return the fields of each frame."""
    given = {"phi_h": phi_h, "phi_e": phi_e, "total": total}
    if phi_h is None:
        raise FieldError("A time-lapse without phi_h.", expected="phi_h with phi_e or with total.",
                         do="image a second mark; infer_rates splits total chromatin, but only at rest.")  # fmt: skip
    arrays = {name: as_array(values, name) for name, values in given.items() if values is not None}
    shapes = {array.shape for array in arrays.values()}
    frames = min((shape[0] for shape in shapes if shape), default=0)
    if len(shapes) != 1 or len(next(iter(shapes))) not in (3, 4) or frames < FEWEST_FRAMES:
        raise FieldError(f"Time-lapse fields of shapes {sorted(shapes)}.",
                         expected=f"one shape, (t, y, x) or (t, z, y, x), with at least {FEWEST_FRAMES} frames.",
                         do="stack the frames along the first axis; a single one goes to infer_rates.")  # fmt: skip
    return [
        as_fields(arrays["phi_h"][t], _at(arrays, "phi_e", t), _at(arrays, "total", t), pixel_size_um, mask)
        for t in range(frames)
    ]


def _embedded(result: RatesOverTime, grid: Grid, window: Window) -> RatesOverTime:
    """Return the result on the whole grid of the arrays that were given."""

    def on_all(each: RateMap) -> RateMap:
        return each.embedded(grid.shape, window)

    return replace(result, over_diffusivity=result.over_diffusivity.embedded(grid, window),
                   methylation_per_s=on_all(result.methylation_per_s),
                   acetylation_per_s=on_all(result.acetylation_per_s))  # fmt: skip


def _noise_of_frames(
    series: list[list[Field]], given: tuple[FloatField | float, ...] | None
) -> list[tuple[FloatField | float, ...]]:
    """Return the noise of each frame: as given, or as estimated for both of its fields."""
    if given is not None:
        return [given] * len(series)
    first, second = (
        estimate_noise_over_time(np.stack([fields[i].values for fields in series]), mask=series[0][i].mask)
        for i in (0, 1)
    )
    return [(float(a), float(b)) for a, b in zip(first, second, strict=True)]


def _at(arrays: dict[str, FloatField], name: str, frame: int) -> FloatField | None:
    return arrays[name][frame] if name in arrays else None
