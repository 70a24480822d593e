"""Rates from the size and spacing of heterochromatin domains: `method="domains"`, a baseline that users know.

Each domain of radius R, with mean distance d to its 5 nearest neighbours, stands for

    Γ_ac / D = 1 / d²,        Γ_me / Γ_ac = 1 / ((d / R)² - 1)

These are scalings, not calibrated: on simulations with known rates they err by factors. They compare nuclei; they
do not measure rates. `rate_ratio` is still the integral balance's, which needs no calibration.

References
----------
Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z; the laboratory's STORM_Analysis code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from scipy.spatial import cKDTree

from chromamol.field import Field
from chromamol.grid import equivalent_radius
from chromamol.inverse.problem import RateProblem
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.inverse.regression import integral_ratio
from chromamol.physics.closed_form import closed_form_rates
from chromamol.shapes import Labels

NEIGHBOURS = 5
MIN_PIXELS = 4
"""In 2D; a component of less than 2 x 2 pixels (2 x 2 x 2 in 3D) can't be told from noise."""

FEWEST_DOMAINS = NEIGHBOURS + 1

SMOOTHING_PX = 1.0
"""Standard deviation of the Gaussian that keeps noise from tearing and joining domains at the threshold."""


@dataclass(frozen=True, eq=False)
class DomainGeometry:
    """The domains inside one nucleus, those at its border left out: they are cut, or belong to the lamina.

    Parameters
    ----------
    labels : 1..n on the grid, 0 elsewhere.
    radius_um : of the disc or ball of the same size, per domain.
    spacing_um : mean distance to the 5 nearest other domains, per domain; NaN when there are fewer than 6.
    """

    labels: Labels
    radius_um: Float[np.ndarray, " domains"]
    spacing_um: Float[np.ndarray, " domains"]

    @classmethod
    def of(cls, phi_h: Field, phi_max: float) -> DomainGeometry:
        """Find connected domains above φ_max / 2, where an interface crosses at its place, blurred or not."""
        grid, mask = phi_h.grid, phi_h.mask
        weight = ndimage.gaussian_filter(mask.astype(float), SMOOTHING_PX)
        smooth = ndimage.gaussian_filter(np.where(mask, phi_h.values, 0.0), SMOOTHING_PX)
        dense = mask & (smooth > 0.5 * phi_max * weight)
        parts, n = ndimage.label(dense, structure=np.ones((3,) * grid.ndim))
        rim = mask & ~ndimage.binary_erosion(mask)
        pixels = np.bincount(parts.ravel(), minlength=n + 1)
        at_border = np.isin(np.arange(n + 1), parts[rim])
        kept = np.flatnonzero((pixels >= MIN_PIXELS ** (grid.ndim / 2)) & ~at_border & (np.arange(n + 1) > 0))
        names = np.zeros(n + 1, dtype=np.int32)
        names[kept] = np.arange(1, len(kept) + 1)
        centres = np.array(ndimage.center_of_mass(dense, parts, kept)).reshape(len(kept), grid.ndim)
        sizes = pixels[kept] * grid.pixel_volume_um
        radius = np.array([equivalent_radius(float(size), grid.ndim) for size in sizes])
        return cls(names[parts], radius, _spacing(centres * np.array(grid.spacing_um)))


def _spacing(centres_um: Float[np.ndarray, "domains axes"]) -> Float[np.ndarray, " domains"]:
    if len(centres_um) < FEWEST_DOMAINS:
        return np.full(len(centres_um), np.nan)
    distances, _ = cKDTree(centres_um).query(centres_um, k=NEIGHBOURS + 1)
    return np.asarray(distances[:, 1:].mean(axis=1))


def scale_by_domains(
    problem: RateProblem, *, device: torch.device, variants: tuple[RateProblem, ...] = ()
) -> tuple[Rates, ...]:
    """Return the closed forms of every domain as maps, and their mean with the error of its scatter over domains.

    Where Γ_ac is known, Γ_me follows from it and the ratio of R and d. It is called as `regress` is: `device` has
    nothing to do here, and `variants`, the same nucleus split otherwise, differ in the ratio of the integral
    balance only, because the domains' borders hardly move.
    """
    del device
    rates = _scaled(problem)
    each = [rates]
    for variant in variants:
        ratio, ratio_se = integral_ratio(variant)
        each.append(replace(rates, ratio=ratio, ratio_se=ratio_se))
    return tuple(each)


def _scaled(problem: RateProblem) -> Rates:
    known = problem.known_acetylation
    geometry = DomainGeometry.of(problem.phi_h, problem.parameters.phi_max)
    each = np.array([closed_form_rates(r, d) for r, d in
                     zip(geometry.radius_um, geometry.spacing_um, strict=True)]).reshape(-1, 2)  # fmt: skip
    each = np.where(np.isfinite(each).all(axis=1, keepdims=True), each, np.nan)
    useful = np.isfinite(each[:, 0])
    count = int(useful.sum())
    nothing = RateMap.unknown(problem.grid.shape)
    ratio, ratio_se = integral_ratio(problem)
    result = Rates(
        nothing, nothing, ratio, ratio_se, Outcome.NOT_IDENTIFIABLE, ("uncalibrated_scaling",), "domains",
        problem.phi_h, problem.phi_e, problem.mean_noise_sd(), math.nan, _description(geometry, count),
    )  # fmt: skip
    if count < FEWEST_DOMAINS:
        absent = ("no_domains", "methylation_not_identifiable", "acetylation_not_identifiable")
        return replace(result, flags=result.flags + absent)
    if known is None:
        maps = [_map(geometry.labels, each[:, i]) for i in range(2)]
        return replace(result, methylation=maps[0], acetylation=maps[1], outcome=Outcome.BOTH_RATES)
    inside = geometry.labels > 0
    given = ndimage.mean(known, geometry.labels, np.arange(1, len(each) + 1))
    methylation = _map(geometry.labels, given * each[:, 0] / each[:, 1])
    acetylation = RateMap.given(known, inside).inside(problem.mask)
    return replace(result, methylation=methylation, acetylation=acetylation,
                   outcome=Outcome.METHYLATION_GIVEN_ACETYLATION)  # fmt: skip


def _map(labels: Labels, of_domain: Float[np.ndarray, " domains"]) -> RateMap:
    """Each domain's value on its pixels; its error is the scatter over domains, for want of another.

    What a wrong calibration does to it is not known.
    """
    useful = of_domain[np.isfinite(of_domain)]
    scatter = float(useful.std(ddof=1))
    values = np.concatenate([[np.nan], of_domain])[labels]
    valid = np.isfinite(values)
    return RateMap(values, np.where(valid, scatter, np.nan), valid, float(useful.mean()),
                   scatter / math.sqrt(len(useful)), calibration_se=math.nan)  # fmt: skip


def _description(geometry: DomainGeometry, count: int) -> dict[str, float]:
    if not len(geometry.radius_um):
        return {"domains": 0.0}
    return {"domains": float(count), "domain_radius_um": float(np.median(geometry.radius_um)),
            "domain_spacing_um": float(np.mean(geometry.spacing_um))}  # fmt: skip
