"""What every simulation checks and scales before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chromamol.errors import FieldError, ParameterError
from chromamol.given import as_array, as_mask
from chromamol.physics.parameters import REFERENCE_INTERFACE, ChromatinParameters
from chromamol.shapes import FloatField, Mask
from chromamol.synthetic.spaces import require_free_border

PIXELS_PER_INTERFACE = 2.0
LARGEST_FRACTION = 1.5  # of a pixel with noise


def common_domain(
    mask: Any, shape: Sequence[int] | None, initial: tuple[Any, Any] | None, *rates: Any
) -> tuple[Mask, tuple[int, ...]]:
    """The mask (all True without one) and the shape that all the given arrays agree on."""
    given = [np.shape(r) for r in (*rates, *(initial or ())) if np.ndim(r)]
    given += [np.shape(mask)] if mask is not None else []
    given += [as_shape(shape)] if shape is not None else []
    if not given:
        raise FieldError("Two numbers as rates, and no mask, shape or initial fields.",
                         expected="one of them, to know the grid.", do="pass shape=(256, 256).")  # fmt: skip
    if len(set(given)) != 1 or len(given[0]) not in (2, 3):
        raise FieldError(f"Grids of shapes {sorted(set(given))}.", expected="one 2D or 3D shape for all.",
                         do="put rates, mask and initial fields on one grid.")  # fmt: skip
    if mask is None:
        return np.ones(given[0], dtype=bool), given[0]
    inside = as_mask(mask)
    require_free_border(inside)
    return inside, given[0]


def as_shape(shape: Any) -> tuple[int, ...]:
    """Return the shape of a grid as given, a list or a tuple; one number is none."""
    if not isinstance(shape, Sequence | np.ndarray) or not all(
        isinstance(n, int | np.integer) and n >= 1 for n in shape
    ):
        raise FieldError(f"shape = {shape!r}.", expected="two or three whole numbers >= 1.",
                         do="pass shape=(256, 256).")  # fmt: skip
    return tuple(int(n) for n in shape)


def spacing_of(pixel_size_um: float | Sequence[float], ndim: int) -> tuple[float, ...]:
    sizes = np.atleast_1d(np.asarray(pixel_size_um, dtype=float))
    if sizes.size not in (1, ndim) or not (np.isfinite(sizes).all() and (sizes > 0.0).all()):
        raise FieldError(f"pixel_size_um = {pixel_size_um}.", expected=f"one positive number, or {ndim}.",
                         do="pass the pixel size in um.")  # fmt: skip
    return tuple(float(s) for s in np.broadcast_to(sizes, ndim))


def as_map(values: Any, shape: tuple[int, ...], name: str) -> FloatField:
    array = as_array(values, name)
    if not np.isfinite(array).all():
        raise FieldError(f"{name} holds NaN or infinite values.", expected="finite numbers.",
                         do="fill them before simulating.")  # fmt: skip
    return np.broadcast_to(array, shape).copy()


def fraction_map(values: Any, inside: Mask, name: str) -> FloatField:
    """Return a volume fraction to start from, 0 outside. Noise may take pixels of it below 0, but not its mean."""
    fraction = as_map(values, inside.shape, name)
    mean = fraction[inside].mean()
    if np.abs(fraction).max() > LARGEST_FRACTION or mean < 0.0:
        raise FieldError(f"{name} goes from {fraction.min():.3g} to {fraction.max():.3g}, {mean:.3g} on average.",
                         expected="volume fractions, 0 to 1.",
                         do="divide percentages by 100; calibrate intensities first.")  # fmt: skip
    return fraction * inside


def rate_map(values: Any, shape: tuple[int, ...], name: str) -> FloatField:
    array = as_map(values, shape, name)
    if (array < 0.0).any():
        raise FieldError(f"{name} goes down to {array.min():.4g} um^-2.", expected="rates >= 0.",
                         do="check the sign or the shift that was applied.")  # fmt: skip
    return array


def largest_pixel(parameters: ChromatinParameters) -> float:
    """The largest pixel that resolves the interface, in um."""
    return parameters.interface_width_um / PIXELS_PER_INTERFACE


def require_resolved_interface(parameters: ChromatinParameters, spacing: Sequence[float]) -> None:
    limit = largest_pixel(parameters)
    if max(spacing) > limit:
        width = PIXELS_PER_INTERFACE * limit
        raise ParameterError(
            f"A pixel of {max(spacing):.4g} um for an interface of {width:.4g} um (4 l / phi_max).",
            expected=f"at least {PIXELS_PER_INTERFACE:g} pixels over the interface: "
            f"pixels up to {limit:.4g} um.",
            do="simulate on a finer grid and bin the result, or use a longer interface.",
        )


def require_fraction(water_fraction: float) -> None:
    if not 0.0 < water_fraction < 1.0:
        raise ParameterError(f"water_fraction = {water_fraction}.", expected="a number between 0 and 1.",
                             do="use 0.5 unless you measured it.")  # fmt: skip


def unit_length(mean_acetylation: float, parameters: ChromatinParameters) -> float:
    """L0 = √(D / ⟨Γ_ac⟩) in um; without acetylation the length that makes ℓ the reference 0.03."""
    if mean_acetylation > 0.0:
        return 1.0 / math.sqrt(mean_acetylation)
    return parameters.interface_length_um / REFERENCE_INTERFACE
