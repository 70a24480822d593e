"""From images and their calibration to the joint fit's model and starting point.

Lengths are in um. What is expected beyond the border is said in terms of L0 = √(D / Γ_ac) of the first guess, so that
the constants of that prior mean the same for every nucleus.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from scipy.fft import next_fast_len

from chromamol.errors import FieldError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.bounding_box import Window, bounding_window, cropped
from chromamol.inverse.calibration import EXACT, CalibrationPrior
from chromamol.inverse.joint_beyond import mirror_images
from chromamol.inverse.joint_model import LOG_RATE_SD as RATE_SD
from chromamol.inverse.joint_model import (
    MARGIN_PX,
    OUTSIDE_MEAN,
    JointModel,
    Unknowns,
)
from chromamol.inverse.joint_outer import EDGE_SOURCE_SD, WALL_SOURCE_SD, outer_potentials
from chromamol.inverse.log_rate_basis import LogRateBasis
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField, Mask

Noise = FloatField | float | tuple[FloatField | float, ...] | None
"""Noise of images as users give it: a number or a map for all, or a tuple of one for each; None has it estimated."""

SMOOTHING_PX = 1.0
"""Standard deviation of the Gaussian that denoises the start of φ_h; that of φ_e is six times wider."""

FLUX_ERROR = 0.03
"""Prior deviation of the mean exchange over Γ_ac, about a seventh of the flow each way (.21 in a simulated pattern):
loose, because a region cut out of a larger pattern exchanges chromatin with the rest."""


@dataclass(frozen=True, eq=False)
class JointProblem:
    """Images of one nucleus, what they show, and what is known beforehand.

    Parameters
    ----------
    images : volume fractions as measured; one grid, whose mask is the nucleus.
    mixing : per image, how much of φ_h and of φ_e it shows: (1, 0), (0, 1), or (1, 1) for total chromatin.
    noise_sd : per image, a number or one per pixel.
    psf_sigma_um : standard deviation of the Gaussian point spread function.
    known_acetylation : Γ_ac / D in um⁻² at every pixel, or None.
    calibration : priors of gain, offset, φ_max and ℓ.
    """

    images: tuple[Field, ...]
    mixing: tuple[tuple[float, float], ...]
    noise_sd: tuple[FloatField | float, ...]
    psf_sigma_um: float
    parameters: ChromatinParameters
    known_acetylation: FloatField | None = None
    calibration: CalibrationPrior = EXACT

    @property
    def grid(self) -> Grid:
        return self.images[0].grid

    @property
    def mask(self) -> Mask:
        return self.images[0].mask

    @property
    def common(self) -> tuple[Hashable, ...]:
        """What nuclei need to have in common to be fitted together."""
        return (self.grid.spacing_um, self.mixing, self.psf_sigma_um, self.parameters, self.calibration,
                self.known_acetylation is None)  # fmt: skip

    def own_window(self) -> Window:
        """Return where the nucleus is, and one pixel more on each side that the image has: it tells a wall from the
        edge of the image."""
        return bounding_window(ndimage.binary_dilation(self.mask))

    def crop(self, window: Window) -> JointProblem:
        """Return the problem on `grid.crop(window)`."""
        images = tuple(cropped(image, window) for image in self.images)
        noise = tuple(sd[window] if isinstance(sd, np.ndarray) and sd.ndim else sd for sd in self.noise_sd)
        known = None if self.known_acetylation is None else self.known_acetylation[window]
        return replace(self, images=images, noise_sd=noise, known_acetylation=known)


@dataclass(frozen=True)
class Guess:
    """Where the fit starts: mean rates in um⁻², smoothness and strength of their variation, and whether the border of
    the nucleus is taken for a wall that lets nothing through."""

    methylation: float
    acetylation: float
    correlation_um: float
    log_sd: float
    closed: bool = True


WALL_PX, WALL_PX_OF_ONE = 3, 1
"""Steps from the border of the nucleus within which the balance is not used, with two images and with one: there the
fields end, what sticks to the wall has an energy of its own, and a mask may be a pixel or two off. But one image tells
φ_e from φ_h by the balance alone, and what it loses on a rim of 3 costs more (five walled nuclei of exact calibration
and four of an uncertain one, masks that fit or are a pixel off)."""


def balanced_pixels(problem: JointProblem) -> Mask:
    """Where the balance can be written down: not at the wall, and with all neighbours in the image.

    A nucleus that is cut by the edge of its image goes on there, so that one pixel is lost, not `WALL_PX`.
    """
    next_ones, around = (ndimage.generate_binary_structure(problem.grid.ndim, reach) for reach in (1, 2))
    off_wall = ndimage.binary_erosion(problem.mask, next_ones, iterations=_rim_px(problem), border_value=1)
    return np.asarray(off_wall & ndimage.binary_erosion(problem.mask, around))


def _rim_px(problem: JointProblem) -> int:
    """Width of the rim at the wall where the balance is not used."""
    return WALL_PX_OF_ONE if len(problem.images) == 1 else WALL_PX


TAU_PER_NOISE = 0.04
"""Deviation τ of the balance, at the end of the fit, over σ. The errors of both maps (steady pattern, 5 %, rel. L2)
fall with it: .046 / .035 at .1, .040 / .030 at .05, .037 / .027 at .03, .034 / .022 at .01. Patterns that still move
obey the balance less well, and below .05 their errors and coverage get worse."""


SEEN_SIGMAS = 3.0
"""How far outside the nucleus, in σ of the PSF, fields are unknown: light from farther out hardly reaches the nucleus,
and to solve for fields that nothing but a prior holds took a third to a half of the iterations."""

LEAST_TAU = 3e-4
"""What the balance itself may err by. The stencil errs by 5e-5 (rms) with pixels of 1.3 ℓ; a pattern that moves at
1.5e-2 per unit of time leaves about 3e-4, which is that over the square of its wave number (domains: 7 / L0)."""

LEAST_NOISE = 1e-3
"""Least noise assumed of an image, as a share of φ_max."""

PLATEAU_PERCENTILES = (15.0, 96.0)
PLATEAU_DIFFERENCE = 0.66
"""Of φ_h or of total chromatin between these percentiles of a denoised pattern, when the gain is right."""


def last_tau(problem: JointProblem) -> float:
    """Return τ of the last steps, in units of the potentials, by the noise of the pixels that were seen."""
    shape, mask = problem.grid.shape, problem.mask
    of_pixels = [np.broadcast_to(sd, shape)[mask] for sd in problem.noise_sd]
    noise = np.mean([np.sqrt(np.mean(np.square(sd[np.isfinite(sd)]))) for sd in of_pixels])
    return max(LEAST_TAU, TAU_PER_NOISE * float(noise))


def first_gains(problem: JointProblem) -> tuple[float, ...]:
    """Return where the gain of each image starts: from two-phase coexistence when it is not known, else 1.

    The levels of the two phases are set by the free energy, so their difference in an image tells its scale; at most
    two standard deviations of the prior. An image of euchromatin has no plateaus and starts at 1.
    """
    gains = []
    uncertain = problem.calibration.gains(len(problem.images))
    for field, (dense, _), sd in zip(problem.images, problem.mixing, uncertain, strict=True):
        if sd == 0.0 or dense == 0.0:
            gains.append(1.0)
            continue
        smooth = mean_inside(field.values, field.mask, SMOOTHING_PX)
        low, high = np.percentile(smooth[field.mask], PLATEAU_PERCENTILES)
        expected = PLATEAU_DIFFERENCE * problem.parameters.phi_max / 0.7
        gains.append(
            math.exp(float(np.clip(math.log(max(high - low, 1e-3) / expected), -2.0 * sd, 2.0 * sd)))
        )
    return tuple(gains)


def rescaled(problem: JointProblem, gains: tuple[float, ...]) -> JointProblem:
    """Return the problem with every image divided by its gain."""
    images = tuple(f.like(f.values / g) for f, g in zip(problem.images, gains, strict=True))
    return replace(problem, images=images)


def own_box(problem: JointProblem) -> tuple[int, ...]:
    """Return the smallest periodic box for a nucleus."""
    return tuple(next_fast_len(n + MARGIN_PX, real=True) for n in problem.grid.shape)


def build_model(
    problem: JointProblem, guess: Guess, *, box: tuple[int, ...] | None = None, device: torch.device
) -> JointModel:
    """Return the model, a batch of one, on `own_box` or a larger box.

    Raises
    ------
    FieldError : a nucleus without a pixel where the balance can be written down.
    """
    balanced = balanced_pixels(problem)
    if not balanced.any():
        rim = _rim_px(problem)
        raise FieldError(
            f"A nucleus of {np.count_nonzero(problem.mask)} pixels within {problem.grid.shape}.",
            expected=f"somewhere {2 * rim + 1} pixels across: a rim of {rim} tells nothing.",
            do="use a finer pixel size, or leave the nucleus out.",
        )
    spacing, unit = problem.grid.spacing_um, 1.0 / math.sqrt(guess.acetylation)
    shape = problem.grid.shape
    box = own_box(problem) if box is None else box

    def tensor(values: object) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.float64), device=device)

    def embed(values: FloatField | float, fill: float = 0.0) -> torch.Tensor:
        padded = np.full(box, fill)
        padded[tuple(slice(0, n) for n in shape)] = np.where(problem.mask, values, fill)
        return tensor(padded)

    laplacian, averaging, square = _symbols(box, spacing)
    inverse = np.divide(averaging**2, laplacian, out=np.zeros_like(laplacian), where=laplacian != 0.0)
    basis = log_rate_basis(problem, guess)
    root = basis.root(guess.log_sd)
    inside = embed(1.0)
    where_balanced = embed(balanced.astype(float))
    unbalanced, bent = (tensor(where) for where in _unbalanced(problem, box, balanced))
    sides = _sides(problem, box)
    holding = where_balanced.flatten().nonzero()[:, 0]
    behind = (sides < 0.0) & guess.closed
    walls, edges = (
        outer_potentials(tensor(inverse / unit**2), tensor(square * unit**2), tensor(strength) * (1.0 - inside),
                         holding, smallest_norm=0.3 * last_tau(problem))
        for strength in (WALL_SOURCE_SD * behind, EDGE_SOURCE_SD * ~behind)
    )  # fmt: skip
    maps = 1 if problem.known_acetylation is not None else 2
    calibration, channels = problem.calibration, len(problem.images)
    sd = [RATE_SD] * maps + [math.inf] * 2 + [*calibration.gains(channels)]
    sd += [calibration.offset_sd] * channels + [calibration.phi_max_sd, calibration.interface_sd]
    means = np.zeros(len(sd))
    means[:maps] = np.log([guess.methylation, guess.acetylation][:maps])
    known = problem.known_acetylation
    return JointModel(
        images=torch.stack([embed(np.where(f.mask, f.values, 0.0)) for f in problem.images])[None],
        inverse_sd=torch.stack([embed(1.0 / np.asarray(s, dtype=float)) for s in problem.noise_sd])[None],
        mixing=tensor(problem.mixing),
        inside=inside[None],
        outside=1.0 - inside[None],
        balanced=where_balanced[None],
        unbalanced=unbalanced[None, None],
        bent=bent[None, None],
        sides=tensor(sides)[None, None],
        expected=_shown(problem, embed)[None],
        laplacian=tensor(laplacian),
        averaging=tensor(averaging),
        inverse_laplacian=tensor(inverse),
        transfer=tensor(np.exp(-0.5 * square * problem.psf_sigma_um**2)),
        # Often one of them has none, and a copy of the other takes a quarter of a gigabyte at 400² pixels.
        outer_potentials=(
            torch.cat([walls, edges]) if len(walls) and len(edges) else max(walls, edges, key=len)
        )[None],
        wall_potentials=len(walls),
        holding=holding[None],
        cosines=tuple(tensor(table)[None] for table in basis.tables(box)),
        root=tensor(root).repeat(1, maps, *(1,) * root.ndim),
        known=None if known is None else embed(known, float(known[problem.mask].mean()))[None],
        scalar_sd=tensor(sd),
        scalar_mean=tensor(means)[None],
        phi_max=problem.parameters.phi_max,
        interface=problem.parameters.interface_length_um,
        roughness_scale=tuple((problem.parameters.interface_length_um / h) ** 2 for h in spacing),
        flux_sd=tensor([FLUX_ERROR * guess.acetylation]),
        box=box,
        mirror=mirror_images(problem.mask, behind, [h / unit for h in spacing], device=device),
        blurs=problem.psf_sigma_um > 0.0,
        walled=bool((sides < 0.0).any()),
    )


def log_rate_basis(problem: JointProblem, guess: Guess) -> LogRateBasis:
    """Return the cosines for the correlation length of a guess."""
    return LogRateBasis(problem.grid.shape, problem.grid.spacing_um, guess.correlation_um)


def _unbalanced(problem: JointProblem, box: tuple[int, ...], balanced: Mask) -> tuple[Mask, Mask]:
    """Where fields are unknown without a balance, and where their curvature has a prior there; on the periodic box."""
    padding = [(0, n - m) for n, m in zip(box, problem.grid.shape, strict=True)]
    mask, holds = (np.pad(where, padding) for where in (problem.mask, balanced))
    reach = [math.ceil(SEEN_SIGMAS * problem.psf_sigma_um / h) for h in problem.grid.spacing_um]
    unknown = ndimage.maximum_filter(mask, [2 * r + 1 for r in reach], mode="wrap")
    cross = ndimage.generate_binary_structure(mask.ndim, 1)
    whole = ndimage.minimum_filter(unknown, footprint=cross, mode="wrap")
    return unknown & ~holds, whole & ~holds


def _sides(problem: JointProblem, box: tuple[int, ...]) -> FloatField:
    """1 in the nucleus and -1 outside, on the periodic box; what lies beyond the image is as its edge is."""
    margins = [n - m for n, m in zip(box, problem.grid.shape, strict=True)]
    beyond = np.pad(problem.mask, [(m // 2, m - m // 2) for m in margins], mode="edge")
    return np.where(np.roll(beyond, [-(m // 2) for m in margins], range(len(box))), 1.0, -1.0)


def _symbols(box: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[FloatField, FloatField, FloatField]:
    """Of A and B of the compact scheme and of |k|², on the half spectrum of the box."""
    laplacian, averaging, square = np.zeros(()), np.ones(()), np.zeros(())
    before: list[tuple[float, FloatField]] = []
    for axis, (n, h) in enumerate(zip(box, spacing, strict=True)):
        last = axis == len(box) - 1
        k = 2.0 * np.pi * (np.fft.rfftfreq(n, h) if last else np.fft.fftfreq(n, h))
        wide = [1] * len(box)
        wide[axis] = -1
        difference = (2.0 * np.cos(k * h) - 2.0).reshape(wide)
        laplacian = laplacian + difference / h**2
        for other, crossed in before:
            laplacian = laplacian + (other**-2 + h**-2) / 12.0 * crossed * difference
        before.append((h, difference))
        averaging = averaging + difference / 12.0
        square = square + (k**2).reshape(wide)
    return laplacian, averaging, square


def _shown(problem: JointProblem, embed: Callable[[FloatField, float], torch.Tensor]) -> torch.Tensor:
    """(2, *box): the denoised fields as the image shows them, gain and all; `OUTSIDE_MEAN` outside the nucleus."""
    gains = first_gains(problem)
    fields = first_fields(rescaled(problem, gains))
    return torch.stack(
        [embed(g * phi, OUTSIDE_MEAN) for g, phi in zip((gains[0], gains[-1]), fields, strict=True)]
    )


def start(problem: JointProblem, model: JointModel) -> Unknowns:
    """Denoised fields, uniform rates, and the gains of `first_gains`."""
    gains = first_gains(problem)
    inside = model.inside > 0.0
    phi_h, phi_e = (
        torch.where(inside, shown / gain, shown)
        for shown, gain in zip(model.expected.unbind(1), (gains[0], gains[-1]), strict=True)
    )
    scalars = model.scalar_mean.clone()
    scalars[:, model.maps] = 0.01
    scalars[:, model.maps + 1] = phi_e[inside].median() + 0.01
    first = model.globals
    for channel, (gain, sd) in enumerate(zip(gains, problem.calibration.gains(len(gains)), strict=True)):
        if sd > 0.0:
            scalars[:, first + channel] = math.log(gain) / sd
    outer = model.outer_potentials.new_zeros(model.outer_potentials.shape[:2])
    return Unknowns(phi_h, phi_e, outer, torch.zeros_like(model.root), scalars)


def first_fields(problem: JointProblem) -> tuple[FloatField, FloatField]:
    """φ_h and φ_e to start from: each mark denoised, or total chromatin above its dark level."""
    mask = problem.mask
    total_only = len(problem.images) == 1
    smooth = [mean_inside(f.values, mask, SMOOTHING_PX) for f in problem.images]
    phi_max = problem.parameters.phi_max
    if total_only:
        dark = float(np.percentile(smooth[0][mask], 10.0)) - 0.04
        return np.clip(smooth[0] - dark, 0.01, phi_max - 0.01), np.full(mask.shape, dark)
    wide = mean_inside(problem.images[1].values, mask, 6.0 * SMOOTHING_PX)
    if problem.mixing[1] == (1.0, 1.0):
        wide = mean_inside(problem.images[1].values - problem.images[0].values, mask, 6.0 * SMOOTHING_PX)
    return smooth[0], wide


def mean_inside(values: FloatField, mask: Mask, sd_px: float | Sequence[float]) -> FloatField:
    """Gaussian mean over the pixels of `mask` alone; 0 far from all of them."""
    weight = ndimage.gaussian_filter(mask.astype(float), sd_px, mode="nearest")
    summed = ndimage.gaussian_filter(np.where(mask, values, 0.0), sd_px, mode="nearest")
    return np.divide(summed, weight, out=np.zeros_like(summed), where=weight > 1e-6)
