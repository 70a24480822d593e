"""The simulations behind the truths of the recovery benchmark: which rates, and whether their pattern comes to rest.

With two uneven rates a pattern may move for ever, and an inversion that rests on ∂t φ = 0 says nothing of it. Between
walls it comes to rest where it would drift round and round a periodic box, so `both` has walls without flux. Each
pattern is first followed on every second pixel, which costs little, and only one that settles there is sharpened on all
pixels. Whether it settles is all that decides: no estimate has been made by then.

Boxes are exact in space. A walled nucleus is not: with its pixels of 1.3 ℓ the fourth-order differences of the solver
leave patterns at rest whose true balance misses 1 % of the reaction. So it is sharpened once more, on twice as many
pixels along a side, where that is sixteen times less, and read at the centres of the pixels of the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from chromamol.benchmarks.recovery.between_walls import relax_between_walls
from chromamol.benchmarks.section_thickness import simulate as simulate_solid
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField, Mask
from chromamol.synthetic import (
    EvolutionSettings,
    SimulatedChromatin,
    SolverSettings,
    evolve_chromatin,
    simulate_chromatin,
)
from chromamol.synthetic.rates import log_normal_rate

PIXEL = 7.5 / 192
"""L0 per pixel of a 2D pattern, at every size."""

PARAMETERS = ChromatinParameters(interface_length_um=0.03)
STEADINESS, SOLID_STEADINESS = 1e-4, 1e-3
LOG_SD, CORRELATION, SHORT_CORRELATION = 0.3, 1.6, 1.0
MEDIANS = (0.8, 1.0)
ADHESION = 0.05
"""Of the walled nucleus's lamina, dimensionless: three fifths of what wets the wall entirely."""

SOLID_PIXELS, SOLID_SIDE = 48, 3.75
"""Pixels along a side of the cube, and the side in L0."""

FRAMES, FRAME_INTERVAL_S, DIFFUSIVITY = 20, 0.05, 2.0
"""Of a film: frames, seconds between them, and D in L0²/s."""

MOST_STEPS, SHARPENING_STEPS = 1000, 400
"""Implicit steps on every second pixel, and on all of them from a pattern that rested there."""

SEEDS = {"known": 1000, "both": 1100, "short": 1200, "walled": 1300, "solid": 2000}
"""Where the seeds of a kind start; the table of section factors is from another seed than the solid patterns."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """Rates on a grid, and the nucleus that they act in; without one a box, periodic or with walls without flux."""

    methylation: FloatField
    acetylation: FloatField
    mask: Mask | None = None
    walls: bool = False

    @classmethod
    def of(cls, kind: str, seed: int, size: int) -> Experiment:
        """Draw the rates of one kind of 2D truth."""
        shape = (size, size)
        if kind.startswith("uniform_"):
            return cls(np.full(shape, float(kind.removeprefix("uniform_"))), np.ones(shape))
        rng = np.random.default_rng(SEEDS[kind] + seed)
        correlation = SHORT_CORRELATION if kind == "short" else CORRELATION
        methylation = _varied(MEDIANS[0], shape, correlation, rng)
        acetylation = np.ones(shape) if kind == "known" else _varied(MEDIANS[1], shape, correlation, rng)
        if kind != "walled":
            return cls(methylation, acetylation, walls=kind == "both")
        return cls(methylation, acetylation, _ellipse(size))

    def halved(self) -> Experiment:
        """Return the same experiment on a grid of half as many pixels along a side."""
        mask = None if self.mask is None else _block_means(self.mask.astype(float)) > 0.5
        return Experiment(_block_means(self.methylation), _block_means(self.acetylation), mask, self.walls)

    def doubled(self) -> Experiment:
        """Return the same experiment in a nucleus on a grid of twice as many pixels along a side."""
        methylation, acetylation = (
            ndimage.zoom(rate, 2, order=3, mode="grid-wrap", grid_mode=True)
            for rate in (self.methylation, self.acetylation)
        )
        return Experiment(methylation, acetylation, _ellipse(len(methylation)))

    def relaxed(
        self, pixel: float, seed: int, initial: tuple[FloatField, FloatField] | None = None
    ) -> SimulatedChromatin:
        """Follow the pattern to its rest, or to the step limit."""
        steps = MOST_STEPS if initial is None else SHARPENING_STEPS
        if self.walls:
            return relax_between_walls(self.methylation, self.acetylation, pixel=pixel, parameters=PARAMETERS,
                                       steadiness=STEADINESS, max_steps=steps, seed=seed, initial=initial)  # fmt: skip
        adhesion = 0.0 if self.mask is None else ADHESION
        parameters = replace(PARAMETERS, adhesion=adhesion)
        return simulate_chromatin(
            self.methylation, self.acetylation, pixel_size_um=pixel, mask=self.mask, seed=seed, initial=initial,
            parameters=parameters, settings=SolverSettings(steadiness=STEADINESS, max_steps=steps),
        )  # fmt: skip


def simulate(kind: str, seed: int, size: int) -> SimulatedChromatin:
    """Return a 2D pattern, on every second pixel only where it has no rest there.

    Look at its `steadiness` before its fields: above `STEADINESS` it still moves.
    """
    experiment = Experiment.of(kind, seed, size)
    levels = [(experiment.halved(), 2.0 * PIXEL), (experiment, PIXEL)]
    if experiment.mask is not None:
        levels.append((experiment.doubled(), 0.5 * PIXEL))
    start = None
    for level, pixel in levels:
        state = level.relaxed(pixel, seed, start)
        if state.steadiness > STEADINESS:
            return state
        phi_h, phi_e = (
            _doubled(phi, state.mask, level.walls) for phi in (state.heterochromatin, state.euchromatin)
        )
        start = phi_h, phi_e
    return state if experiment.mask is None else _read_at(experiment, state)


def _read_at(experiment: Experiment, fine: SimulatedChromatin) -> SimulatedChromatin:
    """Return a pattern on half the pixels along a side: those of the experiment that are inside as a whole."""
    mask = _block_means(fine.mask.astype(float)) == 1.0
    phi_h, phi_e = (
        np.where(mask, _at_corners(phi, fine.mask), 0.0) for phi in (fine.heterochromatin, fine.euchromatin)
    )
    return replace(
        fine, heterochromatin=phi_h, euchromatin=phi_e, methylation=experiment.methylation,
        acetylation=experiment.acetylation, mask=mask, pixel_size_um=(PIXEL,) * phi_h.ndim,
    )  # fmt: skip


def solid(seed: int) -> SimulatedChromatin:
    """Return a 3D pattern of uniform rates."""
    return simulate_solid(SOLID_PIXELS, SOLID_SIDE, MEDIANS[0], SEEDS["solid"] + seed)


def film(
    phi_h: FloatField, phi_e: FloatField, methylation: FloatField, acetylation: FloatField
) -> tuple[FloatField, FloatField]:
    """Return φ_h and φ_e, (t, y, x), from one interval after the rates changed to those given."""
    movie = evolve_chromatin(
        phi_h, phi_e, methylation, acetylation, times=FRAME_INTERVAL_S * np.arange(FRAMES + 1), pixel_size_um=PIXEL,
        parameters=PARAMETERS, diffusivity_um2_per_s=DIFFUSIVITY, settings=EvolutionSettings(tolerance=1e-4),
    )  # fmt: skip
    return movie.heterochromatin[1:], movie.euchromatin[1:]


def _block_means(values: FloatField) -> FloatField:
    """Means over 2 x 2 pixels: unlike every second pixel, they keep the mirror's symmetry."""
    for axis in range(values.ndim):
        values = values.reshape(*values.shape[:axis], -1, 2, *values.shape[axis + 1 :]).mean(axis + 1)
    return values


def _at_corners(values: FloatField, mask: Mask) -> FloatField:
    """Values where 2 x 2 pixels meet: cubic interpolation, or their mean where it would reach out of the nucleus."""
    cubic = np.array([-1.0, 9.0, 9.0, -1.0]) / 16.0

    def corners(array: FloatField, taps: FloatField) -> FloatField:
        for axis in range(array.ndim):
            array = ndimage.correlate1d(array, taps, axis=axis, origin=-1, mode="wrap")
        return array[(slice(None, None, 2),) * array.ndim]

    whole = corners(mask.astype(float), np.full(4, 0.25)) == 1.0
    return np.where(whole, corners(values, cubic), _block_means(values))


def _doubled(values: FloatField, mask: Mask, walls: bool) -> FloatField:
    """Linear interpolation between the centres of pixels; what lies outside the nucleus continues its rim."""
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    mode = "reflect" if walls else "grid-wrap"
    return np.asarray(ndimage.zoom(values[tuple(nearest)], 2, order=1, mode=mode, grid_mode=True))


def _ellipse(size: int) -> Mask:
    """The walled nucleus on a square of `size` pixels along a side."""
    y, x = np.meshgrid(*(np.linspace(-1.0, 1.0, size),) * 2, indexing="ij")
    return (y / 0.78) ** 2 + (x / 0.94) ** 2 < 1.0


def _varied(
    median: float, shape: tuple[int, ...], correlation: float, rng: np.random.Generator
) -> FloatField:
    return log_normal_rate(
        shape, (PIXEL,) * len(shape), mean=median, log_sd=LOG_SD, correlation_um=correlation, rng=rng
    )
