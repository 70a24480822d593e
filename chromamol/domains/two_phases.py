"""The ratio of the rates from counted molecules: how much of the nucleus is dense, and how dense both phases are.

Γ_me / Γ_ac = <φ_h> / <φ_e> needs three numbers only: the density between domains, that inside them, and the mean. With
the two former in units of the latter, a and b, and the mean of chromatin as a mixture of both phases,

    f = (1 - a) / (b - a),        <φ_h> = φ_thin + f Δφ_h,        <φ_h> + <φ_e> = Δc / (b - a),

where the volume fractions of coexisting phases are the model's. Neither gain nor water fraction enters, and no pixel
is split. Levels are the density of localisations in the cores of the phases. Which pixels are cores is read from the
same molecules, so noise and blur move the levels: by how much is what it does to tables that are drawn from the levels
and domains found, and it is taken off (parametric bootstrap). Two widths of the kernel have to agree.

References
----------
Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 6 and 10 (parametric bootstrap, bias).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from chromamol.domains.counting import count_on, grid_around, on_grid
from chromamol.grid import Grid
from chromamol.shapes import FloatField, Mask

THIN_HETEROCHROMATIN = 0.051
"""φ_h in the core of the thin phase of the reference model: 0.044 to 0.058 in eight simulated patterns."""

CORE_STEP, CORE_STEP_HETEROCHROMATIN = 0.645, 0.62
"""Total chromatin, and φ_h, in the core of domains less that of the thin phase: 0.631 to 0.655 and 0.607 to 0.630."""

CORE_RADII, CORE_KERNELS = 0.4, 2.0
"""Cores are so deep in their phase, in domain radii and in kernels: interfaces and blur end there."""

LEAST_CORE = 0.15
"""Share of a phase that its core holds at least, where domains are hardly wider than the kernel."""

LEAST_PIECE_KERNELS, LEAST_PIECE_DISCS = 3.0 * math.pi, 0.25
"""Pieces of a phase that are smaller, in s² and in areas of a domain, are noise."""

KERNELS_PER_RADIUS = 7.0
"""Where molecules are many the kernel is no narrower than that part of a domain radius: cores need no more. Levels of a
simulated nucleus with 20,000 molecules per µm² were the same from R / 12 to R / 4.5, and .1 off at R / 3.6."""

COARSENING = 1.6
"""Of the pixels that domains are measured on, a quarter of a kernel: areas and cores need less than lengths."""

WIDENINGS = (1.0, 1.4)
"""Kernels that have to agree, in units of the one that domains were measured with."""

TABLES, TABLES_OF_LARGE, LARGE_PIXELS = 8, 4, 500_000
"""Drawn for each kernel and round: the mean bias to a third of the scatter, the scatter to a quarter of itself. A large
nucleus has a small scatter, and takes long."""

LEAST_TABLES = 3
"""That show two levels; with fewer there is no answer."""

_ROUNDS = 2
_SETTLING = 2


@dataclass(frozen=True, eq=False)
class Counted:
    """Points that are counted.

    Parameters
    ----------
    y_um, x_um : positions.
    repeats : variance of a count over its mean.
    """

    y_um: np.ndarray
    x_um: np.ndarray
    repeats: float


@dataclass(frozen=True)
class PhaseRatio:
    """<φ_h> / <φ_e> of a nucleus.

    Parameters
    ----------
    ratio : NaN where the molecules do not tell two phases.
    log_se : standard error of its logarithm from counting and from domains that the kernel blurs; not of the model.
    low, high : density between and inside domains over the mean.
    """

    ratio: float
    log_se: float
    low: float
    high: float

    def above(self, share: float) -> PhaseRatio:
        """Return it where `share` of the mean density is no chromatin: a dark level."""
        if share == 0.0 or not share < 1.0:
            return self
        low, high = ((level - share) / (1.0 - share) for level in (self.low, self.high))
        changed = _ratio(low, high) / _ratio(self.low, self.high)
        return replace(self, ratio=self.ratio * changed, low=low, high=high)


@dataclass(frozen=True, eq=False)
class _Nucleus:
    """Counts of one nucleus on the pixels of one kernel."""

    molecules: np.ndarray
    sightings: np.ndarray
    mask: Mask
    pixels: float
    pixel_um: float
    radius_um: float


def phase_ratio(
    molecules: Counted, sightings: Counted, mask: Mask, grid: Grid, *, radius_um: float, kernel_um: float,
    blur_um: float, seed: int = 0,
) -> PhaseRatio:  # fmt: skip
    """Return the ratio of the mean rates from the densities of both phases.

    Parameters
    ----------
    molecules : in which domains are seen: returns of a label joined, for less noise.
    sightings : whose density is chromatin's: joining returns over long times joins neighbours, too, most where they
        are dense.
    mask : the nucleus on `grid`, its edge set by the molecules.
    radius_um : of the domains; NaN where there are none.
    kernel_um : that they were measured with.
    blur_um : standard deviation of the Gaussian that blurs a step as much as precision and the interface do.
    """
    rng = np.random.default_rng(seed)
    found = []
    if math.isfinite(radius_um):
        narrow = max(kernel_um, radius_um / KERNELS_PER_RADIUS)
        for widening in WIDENINGS:
            seen = _counted(molecules, sightings, mask, grid, widening * narrow, radius_um)
            found.append(_without_bias(seen, molecules.repeats, sightings.repeats, blur_um, rng))
    told = [each for each in found if each is not None]
    if len(told) < len(WIDENINGS):
        return PhaseRatio(math.nan, math.nan, math.nan, math.nan)
    low, high = np.exp(np.mean([levels for levels, _ in told], axis=0))
    logs = np.array([math.log(_ratio(*np.exp(levels))) for levels, _ in told])
    scatter = math.sqrt(float(np.mean([sd**2 for _, sd in told])))
    return PhaseRatio(
        math.exp(float(logs.mean())),
        math.hypot(scatter, 0.5 * float(np.ptp(logs))),
        float(low),
        float(high),
    )


def _ratio(low: float, high: float) -> float:
    """<φ_h> / <φ_e> of two levels over the mean; NaN where they leave no euchromatin or no domains."""
    if not 0.0 < low < 1.0 < high:
        return math.nan
    phi_h = THIN_HETEROCHROMATIN + CORE_STEP_HETEROCHROMATIN * (1.0 - low) / (high - low)
    phi_e = CORE_STEP / (high - low) - phi_h
    return phi_h / phi_e if phi_e > 0.0 else math.nan


def _counted(
    molecules: Counted, sightings: Counted, mask: Mask, grid: Grid, kernel_um: float, radius_um: float
) -> _Nucleus:
    fine = grid_around(mask, grid, kernel_um=COARSENING * kernel_um, margin_um=kernel_um)
    counts = [count_on(fine, points.y_um, points.x_um) for points in (molecules, sightings)]
    pixel = fine.spacing_um[0]
    return _Nucleus(counts[0], counts[1], on_grid(mask, grid, fine), kernel_um / pixel, pixel, radius_um)


def _without_bias(
    seen: _Nucleus, of_molecules: float, of_sightings: float, blur_um: float, rng: np.random.Generator
) -> tuple[np.ndarray, float] | None:
    """Return log levels, less their bias, and the standard error of the log-ratio; None where there are no levels."""
    measured = _levels(seen)
    if measured is None:
        return None
    raw, dense = measured
    mean = float(seen.sightings[seen.mask].mean())
    shape = ndimage.gaussian_filter(dense.astype(np.float64), blur_um / seen.pixel_um)
    levels = raw
    for _ in range(_ROUNDS):
        low, high = np.exp(levels)
        rate = np.where(seen.mask, low + (high - low) * shape, 0.0)
        share = rate[seen.mask].mean()
        tables = _tables(mean * rate / share, of_molecules, of_sightings, rng)
        drawn = [_levels(replace(seen, molecules=fewer, sightings=more)) for fewer, more in tables]
        found = [each[0] for each in drawn if each is not None]
        if len(found) < LEAST_TABLES:
            return None
        off = np.array(found) - levels + math.log(share)
        levels = raw - off.mean(axis=0)
    logs = np.array([math.log(_ratio(*np.exp(levels + each))) for each in off - off.mean(axis=0)])
    known = np.isfinite(logs) & np.isfinite(_ratio(*np.exp(levels)))
    return (levels, float(np.std(logs[known], ddof=1))) if np.count_nonzero(known) >= LEAST_TABLES else None


def _tables(
    rate: FloatField, of_molecules: float, of_sightings: float, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield counts of molecules and of sightings per pixel; a label is seen a geometric number of times.

    Its mean m makes Var N / ⟨N⟩ = 2 m - 1. Of the further sightings so many count as molecules that theirs is right.
    """
    times = 0.5 * (of_sightings + 1.0)
    kept = min(1.0, (of_molecules - 1.0) / (of_sightings - 1.0)) if times > 1.0 else 0.0
    for _ in range(TABLES if rate.size < LARGE_PIXELS else TABLES_OF_LARGE):
        labels = rng.poisson(rate / times)
        further = np.zeros_like(labels)
        if times > 1.0:
            further[labels > 0] = rng.negative_binomial(labels[labels > 0], 1.0 / times)
        yield labels + rng.binomial(further, kept), labels + further


def _levels(seen: _Nucleus) -> tuple[np.ndarray, Mask] | None:
    """Return the logarithms of both levels over the mean, and the dense phase; None where a phase is missing."""
    weight = ndimage.gaussian_filter(seen.mask.astype(np.float32), seen.pixels)
    inside = np.where(seen.mask, seen.molecules, np.float32(0.0)).astype(np.float32)
    smooth = ndimage.gaussian_filter(inside, seen.pixels) / np.maximum(weight, np.float32(1e-6))
    # As in `localized`: at the true border of a disc the smoothed step has fallen by so much.
    kernel_um = seen.pixels * seen.pixel_um
    share = max(0.25, 0.5 - kernel_um / (2.0 * math.sqrt(2.0 * math.pi) * seen.radius_um))
    low, high = np.percentile(smooth[seen.mask], (30.0, 90.0))
    dense = np.zeros_like(seen.mask)
    for _ in range(_SETTLING):
        dense = _without_specks(seen.mask & (smooth > low + share * (high - low)), seen)
        if not dense.any() or not (seen.mask & ~dense).any():
            return None
        cores = [_core(phase, seen) for phase in (seen.mask & ~dense, dense)]
        low, high = (float(smooth[core].mean()) for core in cores)
    mean = float(seen.sightings[seen.mask].mean())
    levels = np.array([float(seen.sightings[core].mean()) / mean for core in cores])
    return (np.log(levels), dense) if 0.0 < levels[0] < levels[1] else None


def _without_specks(dense: Mask, seen: _Nucleus) -> Mask:
    """Turn pieces of either phase that are no larger than noise makes them."""
    disc = math.pi * (seen.radius_um / seen.pixel_um) ** 2
    least = min(LEAST_PIECE_KERNELS * seen.pixels**2, LEAST_PIECE_DISCS * disc)
    for phase in (True, False):
        parts, _ = ndimage.label((dense == phase) & seen.mask)
        small = np.bincount(parts.ravel()) < least
        small[0] = False
        dense = dense ^ small[parts]
    return dense


def _core(phase: Mask, seen: _Nucleus) -> Mask:
    """Return where a phase is away from the other; the wall of the nucleus is no border of it."""
    deep = max(CORE_RADII * seen.radius_um / seen.pixel_um, CORE_KERNELS * seen.pixels)
    depth = ndimage.distance_transform_edt(phase | ~seen.mask)
    return np.asarray(phase & (depth >= min(deep, float(np.quantile(depth[phase], 1.0 - LEAST_CORE)))))
