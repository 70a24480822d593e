"""Truths of the recovery benchmark: patterns of `chromamol.synthetic`, whose derivatives are another discretisation
than the inversion's, kept in a folder because each takes minutes to make.

Kinds: `known` (Γ_me varies, Γ_ac = 1), `both` (both vary, in a box with walls without flux), `short` (both, periodic,
with a correlation length of 1.0 in place of 1.6 L0), `uniform_R` (Γ_me = R, Γ_ac = 1), `walled` (both, in an ellipse
with a no-flux wall to which heterochromatin sticks), `solid` (a cube, Γ_me = .8, Γ_ac = 1), `film` (the pattern of
`known` under the rates of `both`, frame by frame). Rates that vary are log-normal with log sd 0.3 and medians .8 and 1.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from chromamol.benchmarks.recovery import patterns
from chromamol.benchmarks.recovery.patterns import (
    CORRELATION,
    FRAME_INTERVAL_S,
    PIXEL,
    SEEDS,
    SHORT_CORRELATION,
    SOLID_PIXELS,
    SOLID_SIDE,
    SOLID_STEADINESS,
    STEADINESS,
    Experiment,
)
from chromamol.benchmarks.section_thickness import section
from chromamol.errors import OutputError, ParameterError, ReadError, SimulationError
from chromamol.io import atomic_write
from chromamol.shapes import FloatField, Mask

STANDARD_SIZE = 192
TRIES = 12
"""Seeds tried per seed wanted, before a kind of truth is given up."""


class NotSteadyError(SimulationError):
    """The pattern of this seed did not come to rest, so that it is no truth for an inversion that asks for rest."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A pattern and the rates that made it; lengths in L0.

    Parameters
    ----------
    phi_h, phi_e : volume fractions, (y, x), (z, y, x), or (t, y, x) for a film.
    methylation, acetylation : Γ / D, on the axes of space.
    mask : True in the nucleus; everywhere in a box.
    correlation : length of the rates' variation, L0; NaN for uniform ones.
    pixel : side of a pixel, L0.
    frame_interval_s : time between frames; NaN for a pattern at rest.
    walls : whether the pattern goes on beyond the box as in a mirror; else it is periodic.
    """

    phi_h: FloatField
    phi_e: FloatField
    methylation: FloatField
    acetylation: FloatField
    mask: Mask
    correlation: float
    pixel: float = PIXEL
    frame_interval_s: float = math.nan
    walls: bool = False

    def repeated(self, side_px: int) -> Truth:
        """Return a square of another size, cut from the periodic pattern."""

        def cut(values: np.ndarray) -> np.ndarray:
            more = [(0, max(0, side_px - n)) for n in values.shape]
            return np.pad(values, more, mode="wrap")[:side_px, :side_px]

        return Truth(cut(self.phi_h), cut(self.phi_e), cut(self.methylation), cut(self.acetylation), cut(self.mask),
                     self.correlation, self.pixel)  # fmt: skip

    def blurred(self, values: FloatField, sigma_px: float) -> FloatField:
        """Return an image of this truth through a Gaussian point spread function."""
        mode = "reflect" if self.walls else "wrap"
        return values if sigma_px == 0.0 else ndimage.gaussian_filter(values, sigma_px, mode=mode)

    def section(self, thickness: float) -> Truth:
        """Return what a microscope of this depth of field shows of a cube of uniform rates; 0 for a single plane."""
        layers = max(1, round(thickness / self.pixel))
        phi_h, phi_e = (section(phi, axis=0, first=0, layers=layers) for phi in (self.phi_h, self.phi_e))
        return replace(self, phi_h=phi_h, phi_e=phi_e, methylation=self.methylation[0],
                       acetylation=self.acetylation[0], mask=self.mask[0])  # fmt: skip


def steady_truths(
    kind: str, count: int, *, folder: Path, size: int, progress: Callable[[str], None]
) -> Iterator[tuple[int, Truth]]:
    """Yield (seed, truth) of the first `count` seeds whose pattern comes to rest; the others are named to `progress`.

    Steadiness alone selects, never how well an estimate does.

    Raises
    ------
    SimulationError : too few of the seeds tried settle.
    The others are those of `load_truth`.
    """
    found = 0
    for seed in range(TRIES * count):
        try:
            truth = load_truth(kind, seed, folder=folder, size=size, progress=progress)
        except NotSteadyError as error:
            progress(error.given)
            continue
        yield seed, truth
        found += 1
        if found == count:
            return
    raise SimulationError(f"{found} of {TRIES * count} patterns of the kind '{kind}' came to rest.",
                          expected=f"{count} of them.", do="ask for fewer seeds.")  # fmt: skip


def load_truth(kind: str, seed: int, *, folder: Path, size: int, progress: Callable[[str], None]) -> Truth:
    """Return a truth from the folder, or make it and keep it there.

    Parameters
    ----------
    kind, seed : which one.
    size : pixels along a side; a solid pattern has its own.
    progress : told what takes long.

    Raises
    ------
    ParameterError : a kind that is not among those of this module.
    NotSteadyError : a pattern that did not come to rest; the folder keeps this, too.
    ReadError : a file of the folder that is no truth.
    OutputError : a folder that cannot be written to.
    """
    correlation = _correlation(kind)
    suffix = "" if size == STANDARD_SIZE or kind == "solid" else f"_{size}px"
    path = folder / f"{kind}_{seed}{suffix}.npz"
    if not path.exists():
        progress(f"making {path.name}, which takes a minute or more")
        _make(path, kind, seed, size, progress)
    try:
        # Opened here: of a file that is cut short, numpy would leave its own open.
        with path.open("rb") as opened, np.load(opened) as file:
            stored = {name: file[name] for name in file.files}
        phi_h, phi_e = (stored[name].astype(np.float64) for name in ("phi_h", "phi_e"))
        space = phi_h.shape[1:] if kind == "film" else phi_h.shape
        me, ac = (np.broadcast_to(stored[k].astype(np.float64), space) for k in ("gamma_me", "gamma_ac"))
        mask = stored["mask"].astype(bool) if "mask" in stored else np.ones(space, dtype=bool)
        unsteady = float(stored["steadiness"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ReadError(
            f"{path}: {error}.", expected="a truth with phi_h, phi_e, gamma_me, gamma_ac and steadiness.",
            do="remove the file; it will be made again.",
        ) from error  # fmt: skip
    limit = SOLID_STEADINESS if kind == "solid" else STEADINESS
    if kind != "film" and unsteady > limit:
        raise NotSteadyError(f"{path.name} still moves: max |∂t φ| = {unsteady:.1e} at the step limit.",
                             expected=f"a pattern at rest, to {limit:g}.", do="take the next seed.")  # fmt: skip
    pixel = SOLID_SIDE / SOLID_PIXELS if kind == "solid" else PIXEL
    interval = FRAME_INTERVAL_S if kind == "film" else math.nan
    walls = bool(stored.get("walls", False))
    return Truth(phi_h, phi_e, me, ac, mask, correlation, pixel, interval, walls)


def _make(path: Path, kind: str, seed: int, size: int, progress: Callable[[str], None]) -> None:
    """Simulate a pattern, or let one follow other rates, and keep it; one that has no rest is kept as well."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: {error.strerror}.", expected="a folder for the truths.",
                          do="choose another --truths.") from error  # fmt: skip
    arrays: dict[str, Any]
    if kind == "film":
        start = load_truth("known", seed, folder=path.parent, size=size, progress=progress)
        rates = Experiment.of("both", seed, size)
        frames = patterns.film(start.phi_h, start.phi_e, rates.methylation, rates.acetylation)
        phi_h, phi_e = map(np.float32, frames)
        arrays = {"gamma_me": rates.methylation, "gamma_ac": rates.acetylation, "steadiness": math.inf}
    else:
        state = patterns.solid(seed) if kind == "solid" else patterns.simulate(kind, seed, size)
        phi_h, phi_e = state.heterochromatin, state.euchromatin
        arrays = {"gamma_me": state.methylation, "gamma_ac": state.acetylation, "mask": state.mask,
                  "steadiness": state.steadiness, "walls": kind == "both"}  # fmt: skip
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, phi_h=phi_h, phi_e=phi_e, **arrays)


def _correlation(kind: str) -> float:
    if kind.startswith("uniform_") or kind == "solid":
        return math.nan
    if kind not in (*SEEDS, "film"):
        raise ParameterError(
            f"A truth of the kind '{kind}'.", expected=f"one of {', '.join(SEEDS)}, film, uniform_R.",
            do="correct the name.",
        )  # fmt: skip
    return SHORT_CORRELATION if kind == "short" else CORRELATION
