"""Truths of the recovery benchmark: steady patterns of `chromamol.synthetic`, whose derivatives are another
discretisation than the inversion's, kept in a folder because each takes minutes to make.

Kinds: `known` (Γ_me varies, Γ_ac = 1), `both` (both vary), `short` (the same with a correlation length of 1.0 in place
of 1.6 L0), `uniform_R` (Γ_me = R, Γ_ac = 1), `walled` (as `both`, in an ellipse with a no-flux wall to which
heterochromatin sticks). Rates are log-normal with log sd 0.3 and medians .8 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chromamol.errors import OutputError, ParameterError, ReadError
from chromamol.io import atomic_write
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField, Mask
from chromamol.synthetic import SolverSettings, simulate_chromatin
from chromamol.synthetic.rates import log_normal_rate

PIXEL = 7.5 / 192
"""L0 per pixel, at every size."""

PARAMETERS = ChromatinParameters(interface_length_um=0.03)
STEADINESS = 1e-4
LOG_SD, CORRELATION, SHORT_CORRELATION = 0.3, 1.6, 1.0
MEDIANS = (0.8, 1.0)
ADHESION = 0.05
"""Of the walled nucleus's lamina, dimensionless: three fifths of what wets the wall entirely."""

_SEEDS = {"known": 1000, "both": 1100, "short": 1200, "walled": 1300}


@dataclass(frozen=True, eq=False)
class Truth:
    """A steady pattern and the rates that made it, on (y, x); lengths in L0.

    Parameters
    ----------
    phi_h, phi_e : volume fractions.
    methylation, acetylation : Γ / D.
    mask : True in the nucleus; everywhere in a periodic box.
    correlation : length of the rates' variation, L0; NaN for uniform ones.
    """

    phi_h: FloatField
    phi_e: FloatField
    methylation: FloatField
    acetylation: FloatField
    mask: Mask
    correlation: float

    def repeated(self, side_px: int) -> Truth:
        """Return a square of another size, cut from the periodic pattern."""
        times = math.ceil(side_px / len(self.phi_h))

        def cut(values: np.ndarray) -> np.ndarray:
            return np.tile(values, (times, times))[:side_px, :side_px]

        return Truth(cut(self.phi_h), cut(self.phi_e), cut(self.methylation), cut(self.acetylation), cut(self.mask),
                     self.correlation)  # fmt: skip


def load_truth(kind: str, seed: int, *, folder: Path, size: int, progress: Callable[[str], None]) -> Truth:
    """Return a truth from the folder, or make it and keep it there.

    Parameters
    ----------
    kind, seed : which one.
    size : pixels along a side.
    progress : told what takes long.

    Raises
    ------
    ParameterError : a kind that is not among those of this module.
    ReadError : a file of the folder that is no truth.
    OutputError : a folder that cannot be written to.
    """
    correlation = _correlation(kind)
    suffix = "" if size == 192 else f"_{size}px"
    path = folder / f"{kind}_{seed}{suffix}.npz"
    if not path.exists():
        progress(f"making {path.name}, which takes minutes at 192 pixels")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: {error.strerror}.", expected="a folder for the truths.",
                              do="choose another --truths.") from error  # fmt: skip
        arrays = _simulate(kind, seed, size)
        with atomic_write(path) as temporary:
            # numpy's stub takes any array of `**arrays` for `allow_pickle`.
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    try:
        with np.load(path) as file:
            phi_h = file["phi_h"].astype(np.float64)
            me, ac = (
                np.broadcast_to(file[k].astype(np.float64), phi_h.shape) for k in ("gamma_me", "gamma_ac")
            )
            mask = file["mask"].astype(bool) if "mask" in file else np.ones(phi_h.shape, dtype=bool)
            return Truth(phi_h, file["phi_e"].astype(np.float64), me, ac, mask, correlation)
    except (OSError, KeyError, ValueError) as error:
        raise ReadError(f"{path}: {error}.", expected="a truth with phi_h, phi_e, gamma_me and gamma_ac.",
                        do="remove the file; it will be made again.") from error  # fmt: skip


def _correlation(kind: str) -> float:
    if kind.startswith("uniform_"):
        return float("nan")
    if kind not in _SEEDS:
        raise ParameterError(f"A truth of the kind '{kind}'.", expected=f"one of {', '.join(_SEEDS)}, uniform_R.",
                             do="correct the name.")  # fmt: skip
    return SHORT_CORRELATION if kind == "short" else CORRELATION


def _simulate(kind: str, seed: int, size: int) -> dict[str, FloatField | float | Mask]:
    shape, correlation = (size, size), _correlation(kind)
    methylation, acetylation = (np.full(shape, v) for v in (1.0, 1.0))
    if kind.startswith("uniform_"):
        methylation *= float(kind.removeprefix("uniform_"))
    else:
        rng = np.random.default_rng(_SEEDS[kind] + seed)
        methylation = _varied(MEDIANS[0], shape, correlation, rng)
        if kind != "known":
            acetylation = _varied(MEDIANS[1], shape, correlation, rng)
    parameters, mask = PARAMETERS, None
    if kind == "walled":
        parameters = ChromatinParameters(
            interface_length_um=PARAMETERS.interface_length_um, adhesion=ADHESION
        )
        y, x = np.meshgrid(*(np.linspace(-1.0, 1.0, size),) * 2, indexing="ij")
        mask = (y / 0.78) ** 2 + (x / 0.94) ** 2 < 1.0
    state = simulate_chromatin(
        methylation, acetylation, pixel_size_um=PIXEL, mask=mask, seed=seed, parameters=parameters,
        settings=SolverSettings(steadiness=STEADINESS),
    )  # fmt: skip
    arrays = {
        "phi_h": state.heterochromatin, "phi_e": state.euchromatin, "gamma_me": methylation, "gamma_ac": acetylation,
        "box": size * PIXEL, "steadiness": state.steadiness,
    }  # fmt: skip
    return arrays if mask is None else arrays | {"mask": mask}


def _varied(
    median: float, shape: tuple[int, ...], correlation: float, rng: np.random.Generator
) -> FloatField:
    return log_normal_rate(
        shape, (PIXEL,) * len(shape), mean=median, log_sd=LOG_SD, correlation_um=correlation, rng=rng
    )
