"""How rates are inferred from density fields: which estimator, on what, and with which flags."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from chromamol.device import resolve_device
from chromamol.errors import FieldError, ParameterError
from chromamol.field import Field
from chromamol.given import as_array, as_mask
from chromamol.grid import Grid
from chromamol.inverse.arrays import as_fields, noise_of
from chromamol.inverse.blurred_rates import with_error_of_blur
from chromamol.inverse.blurred_split import with_ratio_before_blur
from chromamol.inverse.calibration import EXACT, CalibrationPrior
from chromamol.inverse.domain_scaling import scale_by_domains
from chromamol.inverse.faded_edge import blurs_um, without_fading
from chromamol.inverse.from_images import (
    Solve,
    SplitConstant,
    problem_or_none,
    rates_from_images,
    with_calibration_errors_of,
)
from chromamol.inverse.gaps import close_gaps, with_gaps
from chromamol.inverse.joint import joint_rates
from chromamol.inverse.joint_setup import LEAST_NOISE, JointProblem, Noise, first_gains, rescaled
from chromamol.inverse.joint_together import Fit
from chromamol.inverse.marks import flags_of_marks
from chromamol.inverse.network import network_rates
from chromamol.inverse.network_settings import NetworkSettings, Reporter
from chromamol.inverse.rates import Outcome, Rates
from chromamol.inverse.regression import balance_alone, judge, regress
from chromamol.inverse.section import correct_section, require_thickness, widen_ratio
from chromamol.inverse.section_fit import fit_section
from chromamol.inverse.trimmed_mask import without_dark_rim
from chromamol.physics.parameters import ChromatinParameters
from chromamol.physics.split import SPLIT_CONSTANT_SD
from chromamol.shapes import FloatField, Mask

METHODS = ("auto", "regression", "joint", "network", "domains")

WITH_BLUR = ("joint", "network")
"""Estimators with a data term: it holds the point spread function, and pixels that were not seen are left out of it."""

TAKE_GAPS = ("auto", *WITH_BLUR)
"""Methods to which pixels that were not seen may be given."""

MOST_PIXELS_FOR_JOINT = 400 * 400
"""Above it the joint fit takes minutes, and has to be asked for."""


def inference(  # noqa: PLR0913 - the parameters of the public face
    phi_h: Any = None,
    phi_e: Any = None,
    *,
    pixel_size_um: float | Sequence[float],
    total: Any = None,
    parameters: ChromatinParameters | None = None,
    mask: Any = None,
    seen: Any = None,
    known_acetylation_per_um2: Any = None,
    noise_sd: Noise = None,
    psf_sigma_um: float = 0.0,
    apparent_blur_um: float = 0.0,
    section_thickness_um: float | None = None,
    split_constant: float | None = None,
    split_constant_sd: float = SPLIT_CONSTANT_SD,
    calibration: CalibrationPrior | None = None,
    method: str = "auto",
    network: NetworkSettings | None = None,
    progress: Reporter | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Fit[Rates]:
    """Infer the rates of one nucleus, as a fit that can run beside others; all else is in `infer_rates`."""
    _require_possible(method, (psf_sigma_um, apparent_blur_um), seen)
    parameters = parameters or ChromatinParameters()
    where, given, gaps = resolve_device(device), noise_sd, None
    if method in WITH_BLUR or seen is not None:
        (phi_h, phi_e, total), noise_sd, gaps = _without_gaps(phi_h, phi_e, total, mask, seen, noise_sd)
    fields = as_fields(phi_h, phi_e, total, pixel_size_um, mask)
    drawn = _joint_problem(fields, parameters, _known_map(known_acetylation_per_um2, fields[0].mask), noise_sd,
                           psf_sigma_um, calibration or EXACT, mixing=_mixing(phi_h, total))  # fmt: skip
    # On the nucleus's own box: nothing may depend on how much of the image around it comes along.
    window = drawn.own_window()
    raw, gaps = drawn.crop(window), None if gaps is None else gaps[window]
    known = raw.known_acetylation
    chosen, reason = choose_method(method, raw.grid, parameters, section=section_thickness_um is not None,
                                   gaps=gaps is not None)  # fmt: skip
    require_thickness(section_thickness_um, ndim=raw.grid.ndim, method=chosen)
    first, pixels = raw, np.count_nonzero(raw.mask)
    if chosen == "joint":
        raw = replace(raw, images=without_dark_rim(raw.images, raw.mixing))
        # An unknown gain is guessed before the regression, which takes fractions as they are; the fit does the rest.
        first = replace(rescaled(raw, first_gains(raw)), calibration=EXACT)
    first, blurs, constant = _without_fading(first, psf_sigma_um or apparent_blur_um, chosen,
                                             SplitConstant(split_constant, split_constant_sd))  # fmt: skip
    solve = _solver(chosen, section_thickness_um, known, psf_sigma_um or apparent_blur_um)
    rates, notes, extra = rates_from_images(solve, first, constant, where)
    if chosen == "joint":
        rates, of_images = yield from _by_joint_fit(
            raw, rates, constant, blurs, gaps=gaps, device=where, seed=seed
        )
        notes |= of_images | {"trimmed_pixels": float(pixels - np.count_nonzero(raw.mask))}
    elif chosen == "network":
        training = network or NetworkSettings()
        # Of counted photons without noise that was given, there is no read noise.
        as_seen = _as_seen(raw, gaps, noiseless=training.photons_per_fraction is not None and given is None)
        trained = network_rates(as_seen, rates, settings=training, device=where, seed=seed, progress=progress)
        rates = with_calibration_errors_of(trained, rates, raw.calibration)
    blur_um = max(psf_sigma_um, apparent_blur_um)
    if chosen in WITH_BLUR:
        # The PSF is inside these fits; pixels too coarse for the interfaces are not, nor blur that nobody told.
        blur_um, extra = math.sqrt(max(apparent_blur_um**2 - psf_sigma_um**2, 0.0)), ()
    if not is_resolved(raw.grid, parameters, blur_um) and "unresolved_domains" not in rates.flags:
        extra = ("unresolved_domains", *extra)
    rates = _with_blur(rates, first, chosen, blurs, split_constant, notes)
    if section_thickness_um is not None:
        rates = _of_section(rates, section_thickness_um, known)
        extra += tuple(flag for flag in rates.flags if flag == "section_not_corrected")
    rates = judge(rates, acetylation_known=known is not None)
    rates = replace(rates, flags=tuple(dict.fromkeys((*extra, *flags_of_marks(drawn), *rates.flags))),
                    diagnostics=rates.diagnostics | notes, reason=reason)  # fmt: skip
    return rates.embedded(drawn.grid, window)


def _by_joint_fit(
    problem: JointProblem, first: Rates, constant: SplitConstant, blurs_um: Sequence[float],
    *, gaps: Mask | None, device: torch.device, seed: int,
) -> Fit[tuple[Rates, dict[str, float]]]:  # fmt: skip
    """Return what a joint fit tells, with the ratio of the images where it tells none, and notes of their split.

    The error of that ratio holds the calibration. Gains that are guessed serve the start of a fit; without one the
    images are taken as they are calibrated. Where they are no volume fractions then, the ratio stays NaN.
    """
    rates = yield from joint_rates(problem, first, gaps=gaps, device=device, seed=seed)
    if math.isfinite(rates.ratio) or problem_or_none(problem, constant.value) is None:
        return rates, {}
    balance, notes, _ = rates_from_images(balance_alone, problem, constant, device)
    rates = replace(rates, ratio=balance.ratio, ratio_se=balance.ratio_se,
                    ratio_calibration_se=balance.ratio_calibration_se)  # fmt: skip
    if len(problem.images) == 1:
        rates = with_ratio_before_blur(rates, problem.images[0], problem.parameters, noise_sd=notes["total_noise_sd"],
                                       blurs_um=blurs_um, constant=constant.value)  # fmt: skip
    return rates, notes


def _without_fading(
    problem: JointProblem, blur_um: float, method: str, constant: SplitConstant
) -> tuple[JointProblem, tuple[float, ...], SplitConstant]:
    """Return the problem, its blur along each axis, and how well C is known; a stack of one channel without fading."""
    if len(problem.images) > 1 and not blur_um:  # of no use alone, and the blur along z takes a search
        return problem, (0.0,) * problem.grid.ndim, constant
    blurs = blurs_um(problem.images[0], blur_um)
    if len(problem.images) > 1 or problem.grid.ndim == 2 or method in WITH_BLUR or not any(blurs):
        return problem, blurs, constant
    problem, level_sd = without_fading(problem, blurs)
    if constant.value is None:
        constant = replace(constant, sd=math.hypot(constant.sd, level_sd))
    return problem, blurs, constant


def _with_blur(
    rates: Rates, problem: JointProblem, method: str, blurs_um: tuple[float, ...], constant: float | None,
    notes: dict[str, float],
) -> Rates:  # fmt: skip
    """Return the rates of an estimator that knows no blur with what blur does in their errors, or taken back."""
    if method == "regression":
        rates = with_error_of_blur(
            rates, blurs_um=blurs_um, interface_length_um=problem.parameters.interface_length_um,
            known_acetylation=problem.known_acetylation is not None,
        )  # fmt: skip
    of_network = method == "network" and rates.outcome is Outcome.NOT_JUDGED
    if len(problem.images) > 1 or method == "joint" or of_network:
        return rates
    return with_ratio_before_blur(rates, problem.images[0], problem.parameters, noise_sd=notes["total_noise_sd"],
                                  blurs_um=blurs_um, constant=constant)  # fmt: skip


def _solver(
    method: str, section_thickness_um: float | None, known: FloatField | None, blur_um: float
) -> Solve:
    """Return the scaling, or the regression, with its width chosen for a section where one is corrected."""
    if method == "domains":
        return scale_by_domains
    if section_thickness_um is None or known is not None:
        return regress
    return partial(regress, fit=partial(fit_section, blur_um=blur_um))


def _of_section(rates: Rates, thickness_um: float, known: FloatField | None) -> Rates:
    """Correct rates that were both inferred; known acetylation sets L0, for the ratio's error."""
    if known is None:
        return correct_section(rates, thickness_um)
    return widen_ratio(rates, thickness_um, float(known[rates.phi_h.mask].mean()) ** -0.5)


def _require_possible(method: str, blurs_um: tuple[float, float], seen: Any) -> None:
    if method not in METHODS:
        raise ParameterError(f"method = '{method}'.", expected=f"one of {', '.join(METHODS)}.",
                             do="use 'auto'.")  # fmt: skip
    for name, blur in zip(("psf_sigma_um", "apparent_blur_um"), blurs_um, strict=True):
        if not (np.isfinite(blur) and blur >= 0.0):
            raise ParameterError(f"{name} = {blur}.", expected="a length >= 0 in um.",
                                 do="use 0 for an image without blur.")  # fmt: skip
    if seen is not None and method not in TAKE_GAPS:
        raise ParameterError(f"seen with method = '{method}'.", do="leave out `seen`, or the method.",
                             expected=f"one of {', '.join(TAKE_GAPS)}, which take gaps.")  # fmt: skip


def _without_gaps(
    phi_h: Any, phi_e: Any, total: Any, mask: Any, seen: Any, noise_sd: Noise
) -> tuple[list[FloatField | None], Any, Mask | None]:
    """Return the arrays with gaps filled, the noise of what was seen, and where that is (None: everywhere)."""
    arrays = [
        None if v is None else as_array(v, n)
        for v, n in ((phi_h, "phi_h"), (phi_e, "phi_e"), (total, "total"))
    ]
    return close_gaps(arrays, None if mask is None else as_mask(mask), seen, noise_sd)


def _as_seen(problem: JointProblem, gaps: Mask | None, *, noiseless: bool) -> JointProblem:
    """Return the problem with the noise of what was seen alone, or with none but that of the photons."""
    if noiseless:
        floor = LEAST_NOISE * problem.parameters.phi_max
        problem = replace(problem, noise_sd=(floor,) * len(problem.images))
    return problem if gaps is None else with_gaps(problem, gaps)


def _mixing(phi_h: Any, total: Any) -> tuple[tuple[float, float], ...]:
    """Return how much of φ_h and φ_e each given field shows."""
    if phi_h is None:
        return ((1.0, 1.0),)
    return ((1.0, 0.0), (0.0, 1.0) if total is None else (1.0, 1.0))


def choose_method(
    method: str, grid: Grid, parameters: ChromatinParameters, *, section: bool = False, gaps: bool = False
) -> tuple[str, str]:
    """Return the estimator for a nucleus on `grid`, its bounding box, and the reason for it.

    `section` says that its rates are corrected for a section's thickness, `gaps` that pixels of it were not seen.
    """
    if method != "auto":
        return method, "asked for"
    if gaps:
        chosen, reason = choose_method(method, grid, parameters)
        if chosen == "joint":
            return chosen, f"{reason}; it takes pixels that were not seen"
        return (
            "network",
            f"pixels of the nucleus were not seen, and the network takes gaps; not the joint fit: {reason}",
        )
    if section:
        return "regression", "the correction for a section's thickness is the regression's"
    pixels = math.prod(grid.shape)
    if grid.ndim != 2:
        return "regression", "a stack: the joint fit is asked for by name there"
    if not is_resolved(grid, parameters, 0.0):
        return (
            "regression",
            "the pixels are too coarse for the interfaces of the domains, which a joint fit resolves",
        )
    if pixels > MOST_PIXELS_FOR_JOINT:
        return (
            "regression",
            f"{pixels} pixels: above {MOST_PIXELS_FOR_JOINT} the joint fit is asked for by name",
        )
    return "joint", "the pixels resolve the domains' interfaces, so fields and rates are fitted together"


def _joint_problem(
    fields: list[Field], parameters: ChromatinParameters, known: FloatField | None,
    noise_sd: Noise, psf_sigma_um: float, calibration: CalibrationPrior,
    *, mixing: tuple[tuple[float, float], ...],
) -> JointProblem:  # fmt: skip
    """Return the joint problem for the images as they were given."""
    floor = LEAST_NOISE * parameters.phi_max
    noise = tuple(np.maximum(sd, floor) for sd in noise_of(fields, noise_sd))
    return JointProblem(tuple(fields), mixing, noise, psf_sigma_um, parameters, known, calibration)


def is_resolved(grid: Grid, parameters: ChromatinParameters, blur_um: float) -> bool:
    """Whether pixel and blur resolve the interface of the domains, which the rates are read from.

    The interface rises over 4 ℓ / φ_max and needs two pixels; blur of ℓ already costs about 15 % of Γ_me.
    """
    resolved = 2.0 * max(grid.spacing_um) <= parameters.interface_width_um
    return resolved and blur_um <= parameters.interface_length_um


def _known_map(known: Any, mask: Mask) -> FloatField | None:
    """Return Γ_ac / D at every pixel; outside of the nucleus, where it means nothing, its mean."""
    if known is None:
        return None
    array = as_array(known, "known_acetylation_per_um2")
    fits = array.shape in ((), mask.shape)
    inside = np.broadcast_to(array, mask.shape)[mask] if fits else array.ravel()
    if not fits or not (np.isfinite(inside) & (inside >= 0.0)).all() or not inside.any():
        values = f", from {inside.min():.4g} to {inside.max():.4g}" if inside.size else ""
        raise FieldError(
            f"known_acetylation_per_um2 of shape {array.shape}{values}.",
            expected=f"a number > 0, or a map of shape {mask.shape} that is finite, >= 0 and not 0 everywhere in the "
            "nucleus, in um^-2.",
            do="pass the acetylation rate over diffusivity, Gamma_ac / D.",
        )
    return np.where(mask, array, inside.mean())
