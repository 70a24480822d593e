"""Time-lapse: a nucleus that changes, seen frame by frame by a microscope that bleaches it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chromamol.errors import FieldError, ParameterError
from chromamol.shapes import FloatField
from chromamol.synthetic.microscope import Microscope


def film(
    density: FloatField, microscope: Microscope, *, pixel_size_um: Sequence[float], bleaching: float = 0.0,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Return one exposure per time, (t, *pixels), uint16.

    Parameters
    ----------
    density : volume fraction (t, y, x) or (t, z, y, x), as `evolve_chromatin` gives it.
    pixel_size_um : cell of the density's grid per axis of space.
    bleaching : share of the light that is lost from each frame to the next, 0..1.

    Raises
    ------
    FieldError : no time axis, or no frame.
    ParameterError : a bleaching out of range.
    """
    if density.ndim != len(pixel_size_um) + 1 or len(density) < 1:
        raise FieldError(f"A density of shape {density.shape} for a grid of {len(pixel_size_um)} axes.",
                         expected="(t, y, x) or (t, z, y, x).", do="put time first.")  # fmt: skip
    if not 0.0 <= bleaching < 1.0:
        raise ParameterError(f"bleaching = {bleaching}.", expected="a number in [0, 1).",
                             do="use 0.01 for one percent a frame.")  # fmt: skip
    frames = [
        microscope.exposed((1.0 - bleaching) ** t * microscope.expected(frame, pixel_size_um), rng=rng)
        for t, frame in enumerate(density)
    ]
    return np.stack(frames)
