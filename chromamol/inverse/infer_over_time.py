"""The front door for time-lapses: density fields over time in, D and rates per second out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from chromamol.calculus import estimate_noise_over_time
from chromamol.device import resolve_device
from chromamol.errors import FieldError, ParameterError
from chromamol.field import Field
from chromamol.inverse.arrays import as_array, as_fields
from chromamol.inverse.from_images import two_channel_problem
from chromamol.inverse.infer import is_resolved
from chromamol.inverse.moving_fit import MovingFit, fit_best_width
from chromamol.inverse.moving_form import MovingProblem
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.inverse.rates_over_time import RatesOverTime
from chromamol.inverse.regression import IDENTIFIED_AT, integral_ratio, judge
from chromamol.inverse.time_windows import FEWEST_FRAMES
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField


def infer_rates_over_time(
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
    device: str = "auto",
) -> RatesOverTime:
    """Infer the diffusivity and both rates from a chromatin pattern that changes.

        ∂t φ_h = D Δμ_h + Γ_me φ_e - Γ_ac φ_h

    is tested in space and time with functions that take every derivative, and solved for D and smooth maps of both
    rates. A pattern at rest gives Γ / D as a snapshot does, D = NaN and the flag `diffusivity_not_identifiable`.

    Parameters
    ----------
    phi_h, phi_e : volume fractions, (t, y, x) or (t, z, y, x), at least 3 frames; the nucleus stays in place.
    pixel_size_um : um; one number, or one per axis of space.
    frame_interval_s : time between frames.
    total : φ_h + φ_e, in place of `phi_e`. Alone it is refused: the water balance that splits it holds at rest only.
    mask : pixels inside the nucleus in every frame, (y, x) or (z, y, x).
    noise_sd : per pixel, as in `infer_rates`; estimated from the differences of the frames when None.
    psf_sigma_um : as in `infer_rates`: a PSF wider than the interface raises the flag `unresolved_domains`.

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
    frames = tuple(
        two_channel_problem(fields, parameters, None, noise, with_total=total is not None)
        for fields, noise in zip(series, _noise_of_frames(series, noise_sd), strict=True)
    )
    resolved = is_resolved(frames[0].grid, parameters, psf_sigma_um)
    flags = () if resolved else ("unresolved_domains",)
    return _infer(MovingProblem(frames, frame_interval_s), flags, where)


def _infer(problem: MovingProblem, flags: tuple[str, ...], device: torch.device) -> RatesOverTime:
    fit = fit_best_width(problem, device=device)
    shape = problem.grid.shape
    nothing = RateMap.unknown(shape)
    still = problem.average()
    known = fit is not None and fit.moves and fit.slowness > IDENTIFIED_AT * fit.slowness_se
    ratio, ratio_se = integral_ratio(still)
    if fit is not None and known:
        ratio, ratio_se = _moving_ratio(problem, fit, ratio, ratio_se)
    maps = (
        (nothing, nothing)
        if fit is None
        else tuple(fit.maps.rate_map(i).inside(problem.mask) for i in (0, 1))
    )
    rates = Rates(
        methylation=maps[0], acetylation=maps[1], ratio=ratio, ratio_se=ratio_se, outcome=Outcome.NOT_JUDGED,
        flags=(), method="time-lapse regression", phi_h=still.phi_h, phi_e=still.phi_e,
        noise_sd=problem.frames[0].mean_noise_sd(),
        mollifier_width_um=math.nan if fit is None else fit.maps.half_width_um[-1],
        diagnostics={} if fit is None else {
            "misfit": fit.maps.solution.misfit, "smoothness_um": fit.maps.solution.length_um,
            "relative_amplitude": fit.maps.solution.amplitude, "frames": float(len(problem.frames)),
        },
        reason="several frames with a known interval",
    )  # fmt: skip
    rates = judge(rates, acetylation_known=False)
    found = (*flags, *rates.flags) if known else (*flags, *rates.flags, "diffusivity_not_identifiable")
    rates = replace(rates, flags=found)
    if fit is None or not known:
        return RatesOverTime(rates, math.nan, math.nan, nothing, nothing, problem.interval_s)
    diffusivity = 1.0 / fit.slowness
    per_s = [
        fit.rate_map_per_s(i).inside(problem.mask) if np.isfinite(rate.mean) else nothing
        for i, rate in enumerate((rates.methylation, rates.acetylation))
    ]
    return RatesOverTime(
        rates, diffusivity, fit.slowness_se * diffusivity**2, per_s[0], per_s[1], problem.interval_s
    )


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


def _noise_of_frames(
    series: list[list[Field]], given: float | tuple[float, float] | None
) -> list[float | tuple[float, float]]:
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
