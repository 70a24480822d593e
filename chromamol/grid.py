"""`Grid`: where the pixels are; and how large a disc or ball is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chromamol.errors import FieldError

MAX_DIMENSIONS = 3


def equivalent_radius(size: float, ndim: int) -> float:
    """Return the radius of the disc of this area (2D), or of the ball of this volume (3D)."""
    return math.sqrt(size / math.pi) if ndim == 2 else (3.0 * size / (4.0 * math.pi)) ** (1.0 / 3.0)


@dataclass(frozen=True)
class Grid:
    """A regular grid of pixel centres, axes ordered (y, x) or (z, y, x).

    Parameters
    ----------
    shape : pixels along each axis.
    spacing_um : distance between pixel centres along each axis, in µm.
    origin_um : position of the first pixel centre, in µm; zeros unless the grid is a crop.
    """

    shape: tuple[int, ...]
    spacing_um: tuple[float, ...]
    origin_um: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.origin_um:
            object.__setattr__(self, "origin_um", (0.0,) * len(self.shape))
        lengths = {len(self.shape), len(self.spacing_um), len(self.origin_um)}
        if len(lengths) != 1 or not 1 <= len(self.shape) <= MAX_DIMENSIONS:
            raise FieldError(
                f"Grid of shape {self.shape} with spacing {self.spacing_um} and origin {self.origin_um}.",
                expected="one to three axes, with one spacing and one origin for each.",
                do="give one number per axis.",
            )
        if any(n < 1 for n in self.shape):
            raise FieldError(f"Grid of shape {self.shape}.", expected="at least one pixel along each axis.",
                             do="check the crop or the array.")  # fmt: skip
        if not all(math.isfinite(h) and h > 0 for h in self.spacing_um):
            raise FieldError(
                f"Grid spacing {self.spacing_um} um.",
                expected="positive, finite numbers in um.",
                do="pass the pixel size of the image in um.",
            )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def pixel_volume_um(self) -> float:
        """Area (2D, µm²) or volume (3D, µm³) of one pixel."""
        return math.prod(self.spacing_um)

    def crop(self, slices: tuple[slice, ...]) -> Grid:
        """Return the grid of `values[slices]`; steps other than one are refused."""
        bounds = [s.indices(n) for s, n in zip(slices, self.shape, strict=True)]
        if any(step != 1 for _, _, step in bounds):
            raise FieldError(f"Crop {slices}.", expected="slices with step 1.", do="resample instead.")
        return Grid(
            tuple(stop - start for start, stop, _ in bounds),
            self.spacing_um,
            tuple(
                o + start * h
                for o, (start, _, _), h in zip(self.origin_um, bounds, self.spacing_um, strict=True)
            ),
        )
