"""The Cramér-Rao bound of a case: the least relative error of each map over the scored pixels."""

from __future__ import annotations

import math

import numpy as np

import chromamol as cm
from chromamol.benchmarks.recovery.patterns import LOG_SD, PARAMETERS, PIXEL
from chromamol.benchmarks.recovery.scenes import UNCALIBRATED, Scene
from chromamol.shapes import FloatField

LEAST_NOISE = 1e-3
"""Volume fraction: stands for the noise of noise-free images, of which the bound would be zero."""


def bound_of(scene: Scene) -> dict[str, float]:
    """Return the bound by rate, with the border unknown and the truth's own smoothness known.

    Uniform rates have none here: their smoothness would be known to be endless. Nor have films, and fields of another
    size: the bound of the truth's own size stands for them.
    """
    case, truth = scene.case, scene.truth
    if math.isnan(truth.correlation) or case.side_px is not None or scene.is_film:
        return {}
    bound = cm.cramer_rao_bound(
        truth.phi_h, truth.phi_e, methylation_per_um2=truth.methylation, acetylation_per_um2=truth.acetylation,
        pixel_size_um=PIXEL, noise_sd=max(case.noise * PARAMETERS.phi_max, LEAST_NOISE), parameters=PARAMETERS,
        correlation_um=truth.correlation, log_sd=LOG_SD, mask=scene.mask, psf_sigma_um=scene.psf_sigma,
        acetylation_known=case.acetylation_known, total_only=case.channels == 1,
        calibration=None if case.gain is None else UNCALIBRATED,
    )  # fmt: skip
    errors = {"methylation": _relative(bound.methylation, truth.methylation, scene)}
    if not case.acetylation_known:
        errors["acetylation"] = _relative(bound.acetylation, truth.acetylation, scene)
    return errors


def _relative(error: FloatField, truth: FloatField, scene: Scene) -> float:
    return float(np.linalg.norm(error[scene.scored]) / np.linalg.norm(truth[scene.scored]))
