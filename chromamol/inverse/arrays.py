"""What users hand over, checked: arrays of one nucleus as fields on one grid, and the noise of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chromamol.calculus import estimate_noise_sd
from chromamol.errors import FieldError, ParameterError
from chromamol.field import Field
from chromamol.given import as_array, as_mask
from chromamol.grid import Grid
from chromamol.inverse.joint_setup import Noise
from chromamol.shapes import FloatField

LARGEST_NOISE = 1.0
"""Noise per pixel that may be given: the whole range of a volume fraction."""


def as_fields(
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
    inside = np.ones(shape, dtype=bool) if mask is None else as_mask(mask)
    if len(shape) not in (2, 3) or any(a.shape != shape for a in (*arrays, inside)):
        raise FieldError(
            f"Arrays of shapes {[a.shape for a in arrays]} with a mask of shape {inside.shape}.",
            expected="one shape for all, (y, x) or (z, y, x).",
            do="pass arrays of one image; stack channels as separate arguments.",
        )
    if not inside.any():
        raise FieldError("A mask without a pixel.", expected="some pixels inside the nucleus.",
                         do="check which label the mask was made of, or leave it out.")  # fmt: skip
    grid = Grid(shape, spacing_of(pixel_size_um, len(shape)))
    fields = [Field(a, grid, "1", inside) for a in arrays]
    for name, field in zip(named, fields, strict=True):
        mean = float(field.values[inside].mean())
        if mean > 1.0:
            raise FieldError(f"{name} averages {mean:.3g} over the nucleus.",
                             expected="volume fractions, which are at most 1.",
                             do="calibrate intensities to volume fractions (`chromamol infer` does).")  # fmt: skip
    return fields


def spacing_of(pixel_size_um: float | Sequence[float], ndim: int) -> tuple[float, ...]:
    """Return the pixel size along each axis, um, from one number for all or one for each."""
    sizes = np.asarray(pixel_size_um, dtype=float)
    if sizes.shape not in ((), (ndim,)):
        raise ParameterError(f"pixel_size_um of {sizes.size} numbers for {ndim} axes.",
                             expected="one number, or one per axis: (y, x) or (z, y, x).",
                             do="give as many numbers as the array has axes.")  # fmt: skip
    return tuple(float(h) for h in np.broadcast_to(sizes, ndim))


def noise_of(fields: list[Field], noise_sd: Noise) -> tuple[FloatField | float, ...]:
    """Return the noise of each field: as given, a number or a map, else estimated.

    Raises
    ------
    FieldError : given noise beyond the range of a volume fraction, in which no balance can be seen.
    """
    if noise_sd is None:
        return tuple(estimate_noise_sd(f.values, mask=f.mask) for f in fields)
    each = noise_sd if isinstance(noise_sd, tuple) else (noise_sd,) * len(fields)
    given = [as_array(sd, "noise_sd") for sd in each]
    mask = fields[0].mask
    shapes = ((), mask.shape)
    inside = [np.broadcast_to(g, mask.shape)[mask] for g in given if g.shape in shapes]
    if len(inside) != len(fields) or not all((np.isfinite(g) & (g >= 0.0)).all() for g in inside):
        raise ParameterError(
            f"noise_sd of {len(given)} with shapes {[g.shape for g in given]}.",
            expected=f"a number >= 0 or a map of shape {shapes[1]}; a tuple for one each of {len(fields)} images.",
            do="leave it out to have the noise estimated.",
        )
    largest = max(float(g.max(initial=0.0)) for g in inside)
    if largest > LARGEST_NOISE:
        raise FieldError(f"Noise of {largest:.3g} per pixel, as a volume fraction.",
                         expected=f"at most {LARGEST_NOISE:g}, the whole range of a volume fraction.",
                         do="bin the pixels (for localisations: a larger density_pixel_um).")  # fmt: skip
    # Beside the nucleus, where a map means nothing, the noise is that of the nucleus.
    return tuple(
        float(g) if g.ndim == 0 else np.where(mask, g, np.sqrt(np.mean(np.square(own))))
        for g, own in zip(given, inside, strict=True)
    )
