"""A nucleus of an `infer` result as the start of a simulation: its maps, and what is done where they end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, zoom

from chromamol.errors import FieldError, ParameterError, ReadError
from chromamol.nucleus.flags import FLAGS, SEPARATOR
from chromamol.physics.parameters import ChromatinParameters
from chromamol.results import ImageResult, Results
from chromamol.settings import Settings
from chromamol.shapes import FloatField, Mask
from chromamol.simulate.nuclei import MAX_CELLS, cell_size_um
from chromamol.synthetic.forward import SimulatedChromatin
from chromamol.synthetic.steady import Outcome

MARGIN = 3
MAX_REFINEMENT = 8
SAME_RATIO = 1e-3  # relative: maps whose ratio is so close to that of the table are left as they are


@dataclass(frozen=True, eq=False)
class InferredNucleus:
    """A nucleus as it was inferred, on a grid that the simulation accepts.

    Parameters
    ----------
    number : of the nucleus in its image.
    state : fields and rates; not steady.
    pixel_size_um : of the image.
    refinement : cells of the grid per image pixel along each axis.
    slices : of the image that the grid covers, before refinement.
    image_shape : (y, x) of the image.
    notes : sentences on what had to be assumed.
    """

    number: int
    state: SimulatedChromatin
    pixel_size_um: float
    refinement: int
    slices: tuple[slice, ...]
    image_shape: tuple[int, ...]
    notes: tuple[str, ...]


def read_nucleus(
    folder: str | Path, *, nucleus: int | None = None, image: str | None = None
) -> InferredNucleus:
    """Read the maps of one nucleus of `chromamol infer`.

    Rate maps end before the nuclear border, and are NaN where the data says nothing: there, the nucleus's
    mean of `nuclei.csv` is used. A map may also dip below zero within its error: there, zero is used.
    Methylation is then scaled until the maps have the `rate_ratio` of the table, which is known better than either
    rate and sets how much heterochromatin there is. The notes say all that, and the nucleus's flags.

    Parameters
    ----------
    folder : of the results.
    nucleus, image : number and image name as in `nuclei.csv`; may be left out where there is one only.

    Raises
    ------
    ReadError : no such nucleus, or a z-stack.
    FieldError : a rate without any estimate, which nothing can be simulated from.
    ParameterError : a grid fine enough for the interface would be too large.
    """
    results = Results(folder)
    row = _choose(results, nucleus, image)
    found = results.open(str(row["image"]))
    if found.labels.ndim != 2:
        raise ReadError(f"{folder}: {row['image']} is a z-stack.", expected="a 2D result.",
                        do="simulate a z-stack through chromamol.synthetic.perturbation.")  # fmt: skip
    used = Settings.from_toml(Path(folder) / "settings.toml")
    parameters = ChromatinParameters(used.phi_max, used.interface_length_um)
    slices, mask = _crop(found, int(row["nucleus"]))
    notes = [f"flagged {name}: {FLAGS.get(name, 'see the report')}" for name in _flags(row)]
    maps = {
        name: _complete(found.maps[name][slices], mask, float(row[name]), name, notes)
        for name in ("gamma_me_per_um2", "gamma_ac_per_um2")
    }
    phi = {name: np.nan_to_num(found.maps[name][slices].astype(np.float64)) for name in ("phi_h", "phi_e")}
    maps["gamma_me_per_um2"] *= _factor(row, {k: v[mask] for k, v in (maps | phi).items()}, notes)
    pixel = found.pixel_size_um
    times = _refinement(pixel, mask, parameters)
    if times > 1:
        notes.append(
            f"simulated on cells of {pixel / times:.4g} um, {times} per pixel, to resolve the interface"
        )
    inside = _refined(mask, times) > 0
    state = SimulatedChromatin(
        _smooth(phi["phi_h"], mask, inside, times), _smooth(phi["phi_e"], mask, inside, times),
        _refined(maps["gamma_me_per_um2"], times), _refined(maps["gamma_ac_per_um2"], times), inside,
        (pixel / times,) * 2, parameters, np.nan, Outcome.GIVEN,
    )  # fmt: skip
    return InferredNucleus(int(row["nucleus"]), state, pixel, times, slices, found.labels.shape, tuple(notes))


def _choose(results: Results, nucleus: int | None, image: str | None):  # type: ignore[no-untyped-def]  # a pandas row
    table = results.nuclei
    if image is not None:
        table = table[table["image"] == image]
    if nucleus is not None:
        table = table[table["nucleus"] == nucleus]
    if len(table) != 1:
        listed = ", ".join(
            f"{i} {n}" for i, n in zip(results.nuclei["image"], results.nuclei["nucleus"], strict=True)
        )
        raise ReadError(f"{results.folder}: {len(table)} nuclei fit (image {image}, nucleus {nucleus}).",
                        expected=f"one of: {listed[:500]}.",
                        do="give --nucleus, and --image where there are several.")  # fmt: skip
    return table.iloc[0]


def _crop(found: ImageResult, nucleus: int) -> tuple[tuple[slice, ...], Mask]:
    """The box of a nucleus with a margin, and its mask there, kept off the sides of the box."""
    inside = found.labels == nucleus
    spans = [np.flatnonzero(inside.any(1 - a)) for a in range(2)]
    low = [max(int(s[0]) - MARGIN, 0) for s in spans]
    high = [min(int(s[-1]) + 1 + MARGIN, n) for s, n in zip(spans, inside.shape, strict=True)]
    slices = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    mask = inside[slices].copy()
    # A nucleus at the side of the image gets a wall there: the solver needs a free border.
    mask[[0, -1], :] = False
    mask[:, [0, -1]] = False
    return slices, mask


def _complete(values: np.ndarray, mask: Mask, mean: float, name: str, notes: list[str]) -> FloatField:
    """Fill what is not estimable with the mean and lift what is below zero; say how much of it there was."""
    rate = "methylation" if "me" in name.split("_") else "acetylation"
    values = values.astype(np.float64)
    known = np.isfinite(values) & mask
    if not np.isfinite(mean):
        mean = float(values[known].mean()) if known.any() else np.nan
    if not (np.isfinite(mean) and mean >= 0.0):
        raise FieldError(f"The {rate} of this nucleus has no estimate (mean {mean}).",
                         expected="a nucleus with both rates estimated.",
                         do="choose another nucleus; its flags in nuclei.csv say why.")  # fmt: skip
    missing = float((mask & ~known).sum() / mask.sum())
    below = float((values[known] < 0.0).sum() / mask.sum())
    if missing > 0.0:
        notes.append(
            f"{rate} is not estimable in {missing:.0%} of the nucleus: its mean {mean:.4g} um^-2 stands there"
        )
    if below > 0.0:
        notes.append(f"{rate} was estimated below zero in {below:.1%} of the nucleus: zero stands there")
    return np.where(known, np.maximum(values, 0.0), mean)


def _flags(row: Any) -> list[str]:
    return [name for name in str(row["flags"]).split(SEPARATOR) if name]


def _factor(row: Any, inside: dict[str, FloatField], notes: list[str]) -> float:
    """Return what methylation is multiplied with for the maps to have the `rate_ratio` of the table; say so.

    That ratio is <φ_h> / <φ_e>: methylation weighted by euchromatin over acetylation weighted by heterochromatin.

    Parameters
    ----------
    inside : values of both maps and both fields in the nucleus.
    """
    made = _weighted(inside["gamma_me_per_um2"], inside["phi_e"])
    lost = _weighted(inside["gamma_ac_per_um2"], inside["phi_h"])
    own = made / lost if lost > 0.0 else np.nan
    ratio = float(row["rate_ratio"])
    if not (np.isfinite(ratio) and ratio > 0.0):
        notes.append(
            f"nuclei.csv tells no rate_ratio: that of the maps stands, {own:.3g}, and it may be far off"
        )
    elif not (np.isfinite(own) and own > 0.0):
        notes.append(
            f"the maps can't be scaled to the rate_ratio {ratio:.3g} of nuclei.csv: theirs is {own:.3g}"
        )
    elif not np.isclose(ratio, own, rtol=SAME_RATIO):
        notes.append(
            f"methylation was multiplied by {ratio / own:.4g}: the rate_ratio of nuclei.csv is {ratio:.4g}, "
            f"that of the maps was {own:.4g}"
        )
        return ratio / own
    return 1.0


def _weighted(values: FloatField, weights: FloatField) -> float:
    return float((values * weights).sum() / weights.sum()) if weights.sum() > 0.0 else np.nan


def _refinement(pixel_um: float, mask: Mask, parameters: ChromatinParameters) -> int:
    times = int(np.ceil(pixel_um / cell_size_um(parameters)))
    if times > MAX_REFINEMENT or mask.sum() * times**2 > MAX_CELLS:
        raise ParameterError(
            f"{times} x {times} cells per pixel of {pixel_um:g} um, for an interface of "
            f"{parameters.interface_length_um} um.",
            expected=f"at most {MAX_REFINEMENT} x {MAX_REFINEMENT}, and {MAX_CELLS:,} cells in the nucleus.",
            do="infer with a longer interface_length_um, 0.03 sqrt(D / acetylation), then simulate.",
        )
    return times


def _refined(values: np.ndarray, times: int) -> np.ndarray:
    return np.kron(values, np.ones((times, times), dtype=values.dtype))


def _smooth(values: FloatField, mask: Mask, inside: Mask, times: int) -> FloatField:
    """Interpolate a field linearly between pixels; beyond the mask, the nearest pixel of it counts."""
    nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    filled = values[tuple(nearest)]
    return np.where(inside, zoom(filled, times, order=1, grid_mode=True, mode="nearest"), 0.0)
