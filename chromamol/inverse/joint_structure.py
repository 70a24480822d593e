"""Whether a joint fit found domains, from whose shape the size of both rates is read.

Fields without domains are steady at rates of any size, as long as these balance each other. A fit explains some of
their noise nevertheless, at rates for which that looks like a pattern, and the error that it states is that of this one
explanation. So what it found has to stand out: of the noise, and as phases that are apart.
"""

from __future__ import annotations

import math

import numpy as np

from chromamol.inverse.joint_fit import JointFit, cut
from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_setup import JointProblem, balanced_pixels, mean_inside
from chromamol.shapes import FloatField

INTERFACES = 2.0
"""Widths of an interface, 4 ℓ / φ_max, over which fields are averaged for what stands out of their surroundings."""

LEAST_POWER = 10.0
"""Squared contrast over noise, summed over the pixels of an image, for every number of the fit that acts everywhere.
Fits of noise reach 2 to 5, those of patterns (64 to 192 pixels across) 32 and more: blurred, of one channel and 64
pixels at 10 % noise, and at 30 %."""

LEAST_CONTRAST, SHARE = 0.15, 0.01
"""Contrast of φ_h over φ_max that this share of the pixels has to exceed: patterns have .48 to .64, projections over
four domain radii .38, fits of noise (3 to 10 %) and of waves as wide as domains, but without interfaces, .02 to .09."""

LEAST_EXCESS = 0.05
"""Of the noise's own power, by which an image has to stand out for a fit to be worth its time: patterns at 30 % noise
do by .4 (.2 with a PSF of 4 px), fields without any by 0 ± .03 if they are 120 pixels across (± .09 at 72), with the
noise as it is estimated. Without a pattern a fit of 70,000 pixels takes minutes."""


def varies_beyond_noise(problem: JointProblem) -> bool:
    """Whether any image shows more than its noise, over lengths on which domains would vary."""
    where = balanced_pixels(problem)
    if not where.any():
        return True  # there is no telling; that no balance can be written down is said where one would be
    widths = _surroundings_px(problem)
    # White noise of variance one, less its average with Gaussian weights g: 1 - 2 g(0) + Σ g².
    centre = math.prod(1.0 / (math.sqrt(2.0 * math.pi) * w) for w in widths)
    of_noise = 1.0 - 2.0 * centre + math.prod(1.0 / (2.0 * math.sqrt(math.pi) * w) for w in widths)
    power = (
        float(np.mean(_standing_out(problem, image.values / sd)[where] ** 2))
        for image, sd in zip(problem.images, problem.noise_sd, strict=True)
    )
    return max(power) > of_noise + LEAST_EXCESS


def shows_domains(fit: JointFit) -> bool:
    """Whether the fitted φ_h has phases, and an image shows more of them than noise would look like."""
    model, problem = fit.model, fit.problem
    where = balanced_pixels(problem)
    contrast = np.abs(_standing_out(problem, cut(problem, fit.point.phi_h[0])))[where]
    if np.quantile(contrast, 1.0 - SHARE) < LEAST_CONTRAST * problem.parameters.phi_max:
        return False
    at = Linearisation.at(model, fit.point, fit.tau)
    over_noise = (at.gain * at.seen * model.inverse_sd)[0]
    power = max(float(np.sum(_standing_out(problem, cut(problem, i))[where] ** 2)) for i in over_noise)
    freedom = model.outer_potentials.shape[1] + model.maps * int(np.count_nonzero(model.root[0, 0].cpu()))
    return power > LEAST_POWER * freedom


def _standing_out(problem: JointProblem, values: FloatField) -> FloatField:
    """Return values less their average over the surroundings, within the nucleus."""
    return values - mean_inside(values, problem.mask, _surroundings_px(problem))


def _surroundings_px(problem: JointProblem) -> list[float]:
    width = INTERFACES * problem.parameters.interface_width_um
    return [width / h for h in problem.grid.spacing_um]
