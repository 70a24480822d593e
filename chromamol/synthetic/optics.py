"""Point spread functions: what a microscope makes of a point of light.

Two kinds share one interface, `spread(density, spacing_um)`: a Gaussian, and the diffraction pattern of an
objective. Each keeps the amount of light; what leaves the array is lost, and nothing comes in.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from chromamol.errors import FieldError, ParameterError
from chromamol.shapes import FloatField

GAUSSIAN_REACH = 6.0  # standard deviations: beyond it lies 2e-9 of the light
AIRY_ZERO = 0.61  # first dark ring of an in-focus Airy pattern, in λ / NA
RINGS = 6.0  # radii of the first dark ring that a kernel reaches; 3 % of a wide-field pattern lie beyond


@runtime_checkable
class PointSpread(Protocol):
    """Anything that blurs a density on a grid and keeps its sum."""

    def spread(self, density: FloatField, spacing_um: Sequence[float]) -> FloatField:
        """Return the blurred density, same shape, (y, x) or (z, y, x)."""
        ...


@dataclass(frozen=True)
class GaussianSpread:
    """A Gaussian, and a share of the light in a much wider one: what is out of focus.

    Parameters
    ----------
    sigma_um : standard deviation, one number or one per axis. A confocal of numerical aperture 1.4 at
        500 nm has about 0.1 um in the plane and 0.3 um along z.
    haze : share of the light that comes from out of focus, 0..1; some 0.3 in a wide-field image of a
        nucleus, some 0.05 in a confocal one.
    haze_sigma_um : how far that light spreads in the plane (and along z).
    """

    sigma_um: float | tuple[float, ...] = 0.1
    haze: float = 0.0
    haze_sigma_um: float = 1.5

    def __post_init__(self) -> None:
        widths = [*np.atleast_1d(self.sigma_um), self.haze_sigma_um]
        if not (all(math.isfinite(w) and w >= 0.0 for w in widths) and 0.0 <= self.haze < 1.0):
            raise ParameterError(f"{self}.", expected="widths >= 0 in um, a haze in [0, 1).",
                                 do="see the docstring of GaussianSpread.")  # fmt: skip

    def spread(self, density: FloatField, spacing_um: Sequence[float]) -> FloatField:
        """Convolve with (1 - haze) N(0, σ²) + haze N(0, σ² + σ_haze²)."""
        require_axes(density, spacing_um)
        if np.size(self.sigma_um) not in (1, density.ndim):
            raise ParameterError(f"sigma_um = {self.sigma_um} for a density of {density.ndim} axes.",
                                 expected=f"one number, or {density.ndim}.",
                                 do="give one width per axis of the density.")  # fmt: skip
        sharp = _gaussian(density, spacing_um, np.broadcast_to(self.sigma_um, density.ndim))
        if self.haze == 0.0:
            return sharp
        wide = _gaussian(sharp, spacing_um, np.full(density.ndim, self.haze_sigma_um))
        return (1.0 - self.haze) * sharp + self.haze * wide


class Instrument(Enum):
    """Which microscope forms the image."""

    WIDEFIELD = "widefield"
    CONFOCAL = "confocal"


@dataclass(frozen=True)
class DiffractionSpread:
    """The diffraction pattern of an objective after Richards and Wolf, without aberrations.

    The scalar, paraxial limit of it is Born and Wolf's: (2 J1(v) / v)² in focus, sinc² along the axis.
    Computed by the library `psf` (BSD 3-Clause), an optional dependency: `pip install "chromamol[optics]"`.

    Parameters
    ----------
    instrument : WIDEFIELD, or CONFOCAL with a round pinhole.
    numerical_aperture, refractive_index : of the objective and of the medium; NA < n.
    excitation_um, emission_um : wavelengths in um; the first counts in a confocal only.
    pinhole_airy : radius of the pinhole over that of the first dark ring of the emission.

    Raises
    ------
    ParameterError : numbers out of range, or the library is not installed.

    References
    ----------
    Richards & Wolf, Proc. R. Soc. Lond. A 253, 358 (1959), doi:10.1098/rspa.1959.0200.
    Born & Wolf, Principles of Optics, 7th ed., section 8.8.
    """

    instrument: Instrument = Instrument.CONFOCAL
    numerical_aperture: float = 1.4
    refractive_index: float = 1.515
    excitation_um: float = 0.405
    emission_um: float = 0.46
    pinhole_airy: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.numerical_aperture, self.excitation_um, self.emission_um, self.pinhole_airy)
        waves = all(0.2 <= wave <= 2.0 for wave in (self.excitation_um, self.emission_um))
        if not (min(numbers) > 0.0 and self.numerical_aperture < self.refractive_index and waves):
            raise ParameterError(
                f"{self}.",
                expected="0 < NA < refractive index, wavelengths of 0.2 to 2 um, a pinhole > 0.",
                do="give wavelengths in um, not in nm.",
            )

    def kernel(self, spacing_um: Sequence[float]) -> FloatField:
        """Return the pattern on a grid of odd size, centred, with sum 1.

        In 2D it is the pattern in the focal plane: that of a thin section in focus, without the light from
        above and below it.

        Parameters
        ----------
        spacing_um : (y, x) or (z, y, x); y and x alike.
        """
        if len(spacing_um) not in (2, 3) or not math.isclose(spacing_um[-1], spacing_um[-2]):
            raise ParameterError(f"A grid of spacing {tuple(spacing_um)} um.",
                                 expected="two or three axes, with square pixels.",
                                 do="resample the density.")  # fmt: skip
        across = AIRY_ZERO * self.emission_um / self.numerical_aperture
        along = 2.0 * self.refractive_index * self.emission_um / self.numerical_aperture**2
        step_z = spacing_um[0] if len(spacing_um) == 3 else along
        planes = math.ceil(0.5 * RINGS * along / step_z) + 1
        rings = math.ceil(RINGS * across / spacing_um[-1]) + 1
        library = _library()
        confocal = self.instrument is Instrument.CONFOCAL
        pattern = library.PSF(
            library.ISOTROPIC | (library.CONFOCAL if confocal else library.EMISSION),
            shape=(planes, rings),
            dims=((planes - 1) * step_z, (rings - 1) * spacing_um[-1]),
            ex_wavelen=1e3 * self.excitation_um, em_wavelen=1e3 * self.emission_um,
            num_aperture=self.numerical_aperture, refr_index=self.refractive_index,
            pinhole_radius=self.pinhole_airy * across if confocal else None,
        )  # fmt: skip
        # The library's slice is one quadrant; its volume is whole.
        whole = pattern.volume() if len(spacing_um) == 3 else library.mirror_symmetry(pattern.slice(0))
        values = np.asarray(whole, dtype=np.float64)
        return values / values.sum()

    def spread(self, density: FloatField, spacing_um: Sequence[float]) -> FloatField:
        """Convolve with the pattern."""
        require_axes(density, spacing_um)
        blurred = fftconvolve(density, self.kernel(spacing_um), mode="same")
        # A density is never negative; what the Fourier transform leaves below zero is its rounding.
        return np.where(blurred > 0.0, blurred, 0.0)


def _gaussian(density: FloatField, spacing_um: Sequence[float], sigma_um: FloatField) -> FloatField:
    sigmas = sigma_um / np.asarray(spacing_um)
    return gaussian_filter(density.astype(np.float64), sigmas, mode="constant", truncate=GAUSSIAN_REACH)


def require_density(density: FloatField, spacing_um: Sequence[float]) -> None:
    """Raise `FieldError` for a density that is negative or not finite, and as `require_axes` does."""
    require_axes(density, spacing_um)
    if not np.isfinite(density).all():
        raise FieldError("A density with NaN or infinite values.", expected="finite volume fractions.",
                         do="put 0 where there is nothing, outside nuclei for instance.")  # fmt: skip
    if (density < 0.0).any():
        raise FieldError(f"The density goes down to {density.min():.3g}.", expected="volume fractions >= 0.",
                         do="pass simulated fields themselves; where they are below zero, the model has no such "
                         "state: change the rates by less.")  # fmt: skip


def require_axes(density: FloatField, spacing_um: Sequence[float]) -> None:
    """Raise `ParameterError` unless a density is 2D or 3D and each of its axes has a cell size."""
    sizes = np.asarray(spacing_um, dtype=float)
    good = density.ndim in (2, 3) and sizes.shape == (density.ndim,) and density.size > 0
    if not (good and np.isfinite(sizes).all() and (sizes > 0.0).all()):
        raise ParameterError(f"A density of shape {density.shape} with cells of {spacing_um} um.",
                             expected="(y, x) or (z, y, x), and one cell size per axis, positive.",
                             do="check both.")  # fmt: skip


def _library() -> ModuleType:
    try:
        return importlib.import_module("psf")
    except ImportError as error:
        raise ParameterError(
            "A diffraction pattern without the library `psf`.",
            expected="the optional dependency that computes it.",
            do='pip install "chromamol[optics]", or use a Gaussian.',
        ) from error
