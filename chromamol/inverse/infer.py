"""The front door of the inverse problem: density fields in, rate maps out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from chromamol.calculus import estimate_noise_sd
from chromamol.device import resolve_device
from chromamol.errors import FieldError, ParameterError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.problem import NoiseSource, RateProblem
from chromamol.inverse.rates import RateMap, Rates
from chromamol.inverse.regression import judge, regress
from chromamol.physics.parameters import ChromatinParameters
from chromamol.physics.split import SPLIT_CONSTANT_SD, ChromatinSplit, split_total
from chromamol.shapes import FloatField

METHODS = ("auto", "regression")
"""`auto` is the regression: the one estimator there is so far."""

NOISE_FLOOR = 1e-3
"""Least noise assumed, as a share of phi_max: below it the pixel grid itself limits the equations."""


def infer_rates(  # noqa: PLR0913 - the public face; all but the fields are keyword-only with defaults
    phi_h: Any = None,
    phi_e: Any = None,
    *,
    pixel_size_um: float | Sequence[float],
    total: Any = None,
    parameters: ChromatinParameters | None = None,
    mask: Any = None,
    known_acetylation_per_um2: Any = None,
    noise_sd: float | tuple[float, float] | None = None,
    psf_sigma_um: float = 0.0,
    split_constant: float | None = None,
    split_constant_sd: float = SPLIT_CONSTANT_SD,
    method: str = "auto",
    device: str = "auto",
    seed: int = 0,
) -> Rates:
    """Infer methylation and acetylation rates over diffusivity from a steady chromatin pattern.

    The steady balance   Δμ_h + Γ_me φ_e - Γ_ac φ_h = 0   is solved for smooth maps of both rates, or of
    Γ_me when Γ_ac is known.

    Parameters
    ----------
    phi_h, phi_e : volume fractions of hetero- and euchromatin, (y, x) or (z, y, x), numpy or torch.
    total : φ_h + φ_e. Alone, when only total chromatin was imaged, the steady water balance splits it
        (`chromamol.split_chromatin`); with `phi_h` it stands in for `phi_e`.
    pixel_size_um : um; one number, or one per axis.
    parameters : constants of the model; `ChromatinParameters()` when None.
    mask : True inside the nucleus; the whole array when None.
    known_acetylation_per_um2 : Γ_ac / D in um⁻², a number or a map, when it is known.
    noise_sd : standard deviation of the noise per pixel, as a volume fraction; one number, or one for each
        array given. Estimated from the fields when None.
    psf_sigma_um : standard deviation of the point spread function, um. The regression does not deconvolve:
        a PSF wider than the interface raises the flag `unresolved_domains`, and the rates are effective.
    split_constant, split_constant_sd : C of the split and how well it is known; only used with `total`.
    method : "auto" or "regression".
    device : "auto", "cpu", "cuda", "cuda:N"; for the dense linear algebra.
    seed : for estimators that draw random numbers; the regression draws none.

    Returns
    -------
    Rates : `.methylation` and `.acetylation` with `.values`, `.standard_error` (um⁻²) and `.valid`, `.ratio`,
        `.outcome` and `.flags`.

    Raises
    ------
    FieldError : arrays of different shapes, NaN inside the mask, values that are not volume fractions.
    ParameterError, DeviceError : a setting out of its range; a device that is not there.

    References
    ----------
    Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z (the model).
    """
    if method not in METHODS:
        raise ParameterError(f"method = '{method}'.", expected=f"one of {', '.join(METHODS)}.",
                             do="use 'auto'.")  # fmt: skip
    if not (np.isfinite(psf_sigma_um) and psf_sigma_um >= 0.0):
        raise ParameterError(f"psf_sigma_um = {psf_sigma_um}.", expected="a length >= 0 in um.",
                             do="use 0 for an image without blur.")  # fmt: skip
    where = resolve_device(device)
    parameters = parameters or ChromatinParameters()
    fields = _fields(phi_h, phi_e, total, pixel_size_um, mask)
    known = _known_map(known_acetylation_per_um2, fields[0].grid.shape)
    extra: tuple[str, ...] = (
        () if is_resolved(fields[0].grid, parameters, psf_sigma_um) else ("unresolved_domains",)
    )
    if phi_h is not None:
        problem = two_channel_problem(fields, parameters, known, noise_sd, with_total=total is not None)
        (rates,) = regress(problem, device=where)
        rates = judge(rates, acetylation_known=known is not None)
        return replace(rates, flags=extra + rates.flags)

    single = None if noise_sd is None else float(np.atleast_1d(noise_sd)[0])
    split = split_total(fields[0], parameters, noise_sd=single, constant=split_constant)
    moved = tuple(
        split_total(fields[0], parameters, noise_sd=split.noise_sd, constant=split.constant + shift)
        for shift in (-split_constant_sd, split_constant_sd)
    )
    rates, low, high = regress(
        one_channel_problem(split, parameters, known),
        device=where,
        variants=tuple(one_channel_problem(each, parameters, known) for each in moved),
    )
    if split_constant is None:
        extra += ("split_constant_assumed",)
    notes = {"split_constant": split.constant, "unsplit_fraction": split.unsplit_fraction}
    rates = judge(with_shift_error(rates, low, high), acetylation_known=known is not None)
    return replace(rates, flags=extra + rates.flags, diagnostics=rates.diagnostics | notes)


def is_resolved(grid: Grid, parameters: ChromatinParameters, psf_sigma_um: float) -> bool:
    """Whether pixel and PSF resolve the interface of the domains, which the rates are read from.

    The interface rises over 4 ℓ / φ_max and needs two pixels; a PSF of ℓ already costs about 15 % of Γ_me.
    """
    interface = 4.0 * parameters.interface_length_um / parameters.phi_max
    return 2.0 * max(grid.spacing_um) <= interface and psf_sigma_um <= parameters.interface_length_um


def two_channel_problem(
    fields: list[Field],
    parameters: ChromatinParameters,
    known: FloatField | None,
    noise_sd: float | tuple[float, float] | None,
    *,
    with_total: bool,
) -> RateProblem:
    """Return the problem for two measured fields, φ_h and φ_e, or φ_h and φ_h + φ_e when `with_total`."""
    first, second = fields
    if noise_sd is None:
        sds = tuple(estimate_noise_sd(f.values, mask=f.mask) for f in fields)
    else:
        sds = tuple(float(s) for s in np.broadcast_to(np.asarray(noise_sd, dtype=float), 2))
    if not all(np.isfinite(s) and s >= 0.0 for s in sds):
        raise ParameterError(f"noise_sd = {noise_sd}.", expected="a number >= 0, or two.",
                             do="leave it out to have the noise estimated.")  # fmt: skip
    floor = NOISE_FLOOR * parameters.phi_max
    # The noise of φ_h enters φ_e = total - φ_h with the other sign.
    noise = (NoiseSource(max(sds[0], floor), 1.0, -1.0 if with_total else 0.0),
             NoiseSource(max(sds[1], floor), 0.0, 1.0))  # fmt: skip
    phi_e = second.like(second.values - first.values) if with_total else second
    return RateProblem(first, phi_e, noise, parameters, known)


def one_channel_problem(
    split: ChromatinSplit, parameters: ChromatinParameters, known: FloatField | None
) -> RateProblem:
    """Return the problem for two fields that share the noise of the total they were split from."""
    sd = max(split.noise_sd, NOISE_FLOOR * parameters.phi_max)
    noise = (NoiseSource(sd, split.response_h, 1.0 - split.response_h, split.smoothing),)
    return RateProblem(split.phi_h, split.phi_e, noise, parameters, known)


def with_shift_error(rates: Rates, low: Rates, high: Rates) -> Rates:
    """Add half the difference of two results, of a parameter moved by ±1 sd, to every standard error."""

    def widened(rate: RateMap, a: RateMap, b: RateMap) -> RateMap:
        if not (np.isfinite(a.mean) and np.isfinite(b.mean)):
            return rate
        return replace(
            rate,
            standard_error=np.hypot(rate.standard_error, 0.5 * (b.values - a.values)),
            mean_se=float(np.hypot(rate.mean_se, 0.5 * (b.mean - a.mean))),
        )

    return replace(
        rates,
        methylation=widened(rates.methylation, low.methylation, high.methylation),
        acetylation=widened(rates.acetylation, low.acetylation, high.acetylation),
        ratio_se=float(np.hypot(rates.ratio_se, 0.5 * (high.ratio - low.ratio))),
    )


def _fields(
    phi_h: Any, phi_e: Any, total: Any, pixel_size_um: float | Sequence[float], mask: Any
) -> list[Field]:
    """Return what was given of (φ_h, φ_e, total) as fields on one grid, restricted to the mask."""
    given = {"phi_h": phi_h, "phi_e": phi_e, "total": total}
    named = {name: as_array(values, name) for name, values in given.items() if values is not None}
    if set(named) not in ({"phi_h", "phi_e"}, {"phi_h", "total"}, {"total"}):
        raise FieldError(
            f"infer_rates with {' and '.join(named) or 'no field'}.",
            expected="phi_h and phi_e, or phi_h and total, or total alone.",
            do="pass infer_rates(phi_h, phi_e, ...) or infer_rates(total=...).",
        )
    arrays = list(named.values())
    shape = arrays[0].shape
    inside = np.ones(shape, dtype=bool) if mask is None else as_array(mask, "mask").astype(bool)
    if len(shape) not in (2, 3) or any(a.shape != shape for a in (*arrays, inside)):
        raise FieldError(
            f"Arrays of shapes {[a.shape for a in arrays]} with a mask of shape {inside.shape}.",
            expected="one shape for all, (y, x) or (z, y, x).",
            do="pass arrays of one image; stack channels as separate arguments.",
        )
    spacing = np.broadcast_to(np.asarray(pixel_size_um, dtype=float), len(shape))
    grid = Grid(shape, tuple(float(h) for h in spacing))
    return [Field(a, grid, "1", inside) for a in arrays]


def as_array(values: Any, name: str) -> FloatField:
    """Return numpy float64 from numpy or torch; booleans become 0 and 1."""
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype.kind not in "fiub":
        raise FieldError(f"{name} of dtype {array.dtype}.", expected="real numbers.",
                         do="convert the array to float.")  # fmt: skip
    return array.astype(np.float64)


def _known_map(known: Any, shape: tuple[int, ...]) -> FloatField | None:
    if known is None:
        return None
    array = as_array(known, "known_acetylation_per_um2")
    if array.shape not in ((), shape) or not np.isfinite(array).all() or (array < 0.0).any():
        raise FieldError(
            f"known_acetylation_per_um2 of shape {array.shape}, from {array.min():.4g} to {array.max():.4g}.",
            expected=f"a number >= 0 or a map of shape {shape}, finite and >= 0, in um^-2.",
            do="pass the acetylation rate over diffusivity, Gamma_ac / D.",
        )
    return np.broadcast_to(array, shape).copy()
