"""What a microscope shows of a truth, and which of it an estimator is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from chromamol.benchmarks.recovery.cases import DOMAIN_RADIUS, PHI_MAX, Case
from chromamol.benchmarks.recovery.patterns import PARAMETERS, PIXEL
from chromamol.benchmarks.recovery.truths import Truth
from chromamol.inverse.calibration import CalibrationPrior
from chromamol.shapes import FloatField, Mask

RIM = 8 * PIXEL
"""L0: scored are pixels at least this far from the border of the field and of the nucleus."""

UNCALIBRATED = CalibrationPrior(gain_sd=0.1, offset_sd=0.01, phi_max_sd=0.1, interface_sd=0.1)


@dataclass(frozen=True, eq=False)
class Scene:
    """The images of one case and one seed.

    Parameters
    ----------
    case, truth : what is looked at.
    images : φ_h and φ_e, or their sum, blurred, scaled and noisy.
    """

    case: Case
    truth: Truth
    images: tuple[FloatField, ...]

    @classmethod
    def of(cls, case: Case, truth: Truth, seed: int) -> Scene:
        """Look at a truth; the same seed gives the same noise."""
        if case.side_px is not None:
            truth = truth.repeated(case.side_px)
        if case.domain_radii is not None:
            truth = truth.section(case.domain_radii * DOMAIN_RADIUS)
        rng = np.random.default_rng([seed, 77])
        fields = (truth.phi_h, truth.phi_e) if case.channels == 2 else (truth.phi_h + truth.phi_e,)
        gain = 1.0 if case.gain is None else case.gain
        return cls(case, truth, tuple(
            gain * truth.blurred(f, case.psf_px) + case.noise * PHI_MAX * rng.standard_normal(f.shape)
            for f in fields
        ))  # fmt: skip

    @property
    def scored(self) -> Mask:
        """The pixels that count."""
        mask = self.truth.mask
        inner = ndimage.binary_erosion(
            np.pad(mask, 1), np.ones((3,) * mask.ndim), iterations=round(RIM / self.truth.pixel)
        )
        return np.asarray(inner[(slice(1, -1),) * mask.ndim])

    @property
    def mask(self) -> Mask | None:
        """The nucleus; None where it fills the field."""
        return None if self.truth.mask.all() else self.truth.mask

    @property
    def psf_sigma(self) -> float:
        """Standard deviation of the point spread function in L0."""
        return self.case.psf_px * self.truth.pixel

    @property
    def thickness(self) -> float | None:
        """Depth of the image of a solid truth, in L0, as it is: whole pixels."""
        radii, pixel = self.case.domain_radii, self.truth.pixel
        return None if radii is None else pixel * round(radii * DOMAIN_RADIUS / pixel)

    @property
    def known_acetylation(self) -> FloatField | None:
        """Γ_ac where it is given."""
        return self.truth.acetylation if self.case.acetylation_known else None

    def fields(self) -> dict[str, FloatField]:
        """The images by the names that `infer_rates` has for them."""
        return dict(
            zip(("phi_h", "phi_e") if self.case.channels == 2 else ("total",), self.images, strict=True)
        )

    def arguments(self) -> dict[str, Any]:
        """What an estimator is told: images, pixel size, PSF, mask and known rate; never noise or smoothness."""
        told: dict[str, Any] = self.fields() | {
            "pixel_size_um": self.truth.pixel, "parameters": PARAMETERS, "mask": self.mask,
            "psf_sigma_um": self.psf_sigma,
        }  # fmt: skip
        if self.is_film:
            return told | {"frame_interval_s": self.truth.frame_interval_s}
        told |= {"known_acetylation_per_um2": self.known_acetylation, "section_thickness_um": self.thickness}
        return told if self.case.gain is None else told | {"calibration": UNCALIBRATED}

    @property
    def is_film(self) -> bool:
        """Whether the images are frames."""
        return math.isfinite(self.truth.frame_interval_s)
