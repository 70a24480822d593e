"""What the Cramér-Rao bound is asked of, checked: numbers, the smoothness, and the maps of one nucleus."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chromamol.errors import FieldError, ParameterError
from chromamol.given import as_array, as_mask
from chromamol.grid import Grid
from chromamol.inverse.log_rate_basis import LogRateBasis
from chromamol.networks.log_rates import SPECTRUM_CUTOFF
from chromamol.shapes import FloatField, Mask

BORDERS = ("open", "wall", "periodic")

MOST_VALUES = 3e7
"""Cosines of a rate times pixels, at most: the sensitivities then take 4 GB."""


def require_border(border: str, mask: Any) -> None:
    """Raise `ParameterError` unless it is known, and periodic without a mask."""
    if border not in BORDERS or (border == "periodic" and mask is not None):
        raise ParameterError(f"border = '{border}' {'without' if mask is None else 'with'} a mask.",
                             expected=f"one of {', '.join(BORDERS)}, and no mask in a periodic box.",
                             do="use 'open' for a nucleus, or a part of one.")  # fmt: skip


def positive(name: str, value: Any, *, or_zero: bool = False) -> float:
    """Return one finite number above 0, or 0 where it may be."""
    number = _number(value)
    if not (math.isfinite(number) and (number > 0.0 or (or_zero and number == 0.0))):
        raise ParameterError(f"{name} = {value!r}.", expected=f"one finite number {'>=' if or_zero else '>'} 0.",
                             do="use 0 for none." if or_zero else "give that of the data.")  # fmt: skip
    return number


def noise_of_images(noise_sd: Any, images: int) -> FloatField:
    """Return the noise of each image."""
    each = noise_sd if isinstance(noise_sd, tuple | list) else (noise_sd,) * images
    numbers = [_number(sd) for sd in each]
    if len(numbers) != images or not all(math.isfinite(sd) and sd > 0.0 for sd in numbers):
        given = f"of shape {np.shape(noise_sd)}" if np.ndim(noise_sd) > 1 else f"= {noise_sd!r}"
        raise ParameterError(f"noise_sd {given} for {images} image{'s' if images > 1 else ''}.",
                             expected="one finite number > 0, or a tuple of one for each image.",
                             do="give the mean noise per pixel in place of a map.")  # fmt: skip
    return np.array(numbers)


def affordable_length(correlation_um: Any, grid: Grid) -> float:
    """Return the correlation length; its cosines grow with the inverse square or cube, and each is solved for."""
    length, pixel = positive("correlation_um", correlation_um), min(grid.spacing_um)
    if length < pixel:
        raise ParameterError(f"correlation_um = {length:g} on pixels of {pixel:g} um.",
                             expected="a pixel or more: shorter waves look like longer ones on these pixels.",
                             do="give the correlation length of the rates, in um.")  # fmt: skip
    square = LogRateBasis(grid.shape, grid.spacing_um, length).square_wavenumbers()
    cosines = int(np.count_nonzero(square <= (SPECTRUM_CUTOFF / length) ** 2))
    pixels = math.prod(grid.shape)
    if cosines * pixels > MOST_VALUES:
        raise ParameterError(f"correlation_um = {length:g}, which takes {cosines} cosines on {pixels} pixels.",
                             expected=f"cosines times pixels of at most {MOST_VALUES:.0e}.",
                             do="give a longer one, or take a part: the bound is local beyond it.")  # fmt: skip
    return length


def _number(value: Any) -> float:
    """Return one number, a scalar of numpy or torch too; NaN for anything else."""
    if isinstance(value, str | bytes | bool) or np.ndim(value) > 0:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def checked_maps(
    phi_h: Any, phi_e: Any, methylation: Any, acetylation: Any, mask: Any
) -> tuple[tuple[FloatField, FloatField], tuple[FloatField, FloatField], Mask]:
    """Return both fields, both rates as maps, and where they count."""
    first, second = as_array(phi_h, "phi_h"), as_array(phi_e, "phi_e")
    shape = first.shape
    inside = np.ones(shape, dtype=bool) if mask is None else as_mask(mask)
    me, ac = as_array(methylation, "methylation_per_um2"), as_array(acetylation, "acetylation_per_um2")
    shapes = [second.shape, inside.shape, *(r.shape for r in (me, ac) if r.shape)]
    if len(shape) not in (2, 3) or any(s != shape for s in shapes):
        raise FieldError(f"Arrays of shapes {[shape, *shapes]}.", expected="one shape for all, (y, x) or (z, y, x).",
                         do="pass fields, rates and mask of one nucleus.")  # fmt: skip
    me, ac = (np.array(np.broadcast_to(r, shape)) for r in (me, ac))
    finite = all(np.isfinite(v[inside]).all() for v in (first, second))
    if not (inside.any() and finite and (me[inside] > 0.0).all() and (ac[inside] > 0.0).all()):
        raise FieldError(
            "Fields that are not finite, or rates that are not positive, inside the nucleus.",
            expected="volume fractions, and rates above 0, at every pixel of the mask.",
            do="use a mask that leaves out pixels without an estimate.",
        )
    return (first, second), (me, ac), inside
