"""From coarse to fine: let the pattern ripen on a coarse grid, then sharpen it on finer ones.

Ripening takes hundreds of steps and needs little resolution; the interfaces need resolution and settle in
a few steps. A fine simulation therefore starts from a coarse one, and costs several times less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField, Mask
from chromamol.synthetic.forward import SimulatedChromatin, SolverSettings, simulate_chromatin
from chromamol.synthetic.microscope import bin_pixels

COARSE_STEADINESS = 3e-2  # the finer grid moves the pattern by more than that anyway


def simulate_in_levels(
    methylation_per_um2: FloatField, acetylation_per_um2: FloatField, *, pixel_size_um: float, mask: Mask,
    factors: Sequence[int], parameters: ChromatinParameters | None = None, water_fraction: float = 0.5,
    seed: int = 0, settings: SolverSettings | None = None,
) -> SimulatedChromatin:  # fmt: skip
    """Simulate as `simulate_chromatin` does, by way of coarser grids.

    Parameters
    ----------
    methylation_per_um2, acetylation_per_um2, mask : on the finest grid.
    factors : pixel sizes of the coarser grids over the finest, falling: (4, 2).

    Raises
    ------
    FieldError, ParameterError : as `simulate_chromatin`, also when the coarsest grid is too coarse.
    """
    final = settings or SolverSettings()
    rough = SolverSettings(max(final.steadiness, COARSE_STEADINESS), final.max_steps, final.device)
    # A border as wide as the coarsest pixel keeps the nucleus off the box on every grid.
    widest = max(factors)
    border = [(widest, widest + -n % widest) for n in mask.shape]
    maps = [np.pad(m, border, mode="edge") for m in (methylation_per_um2, acetylation_per_um2)]
    inside = np.pad(mask, border)
    common: dict[str, Any] = {"parameters": parameters, "water_fraction": water_fraction, "seed": seed}
    state = None
    for index, factor in enumerate([*factors, 1]):
        level_mask = bin_pixels(inside.astype(float), factor) >= 0.5
        start = None if state is None else _refine(state, level_mask, 1.0 - water_fraction)
        state = simulate_chromatin(
            *(bin_pixels(m, factor) for m in maps), pixel_size_um=factor * pixel_size_um, mask=level_mask,
            initial=start, settings=final if index == len(factors) else rough, **common,
        )  # fmt: skip
    assert state is not None
    return _crop(state, border)


def _refine(coarse: SimulatedChromatin, mask: Mask, total: float) -> tuple[FloatField, FloatField]:
    """Spread each coarse cell over the finer ones, fill what the finer mask adds, and restore the mean."""
    nearest = distance_transform_edt(~coarse.mask, return_distances=False, return_indices=True)
    block = np.ones([f // c for f, c in zip(mask.shape, coarse.mask.shape, strict=True)])
    phi_h, phi_e = (
        np.kron(v[tuple(nearest)], block) * mask for v in (coarse.heterochromatin, coarse.euchromatin)
    )
    surplus = (phi_h + phi_e)[mask].mean() - total
    return phi_h, phi_e - surplus * mask


def _crop(state: SimulatedChromatin, border: list[tuple[int, int]]) -> SimulatedChromatin:
    inner = tuple(slice(low, n - high) for n, (low, high) in zip(state.mask.shape, border, strict=True))
    arrays = ("heterochromatin", "euchromatin", "methylation", "acetylation", "mask")
    return replace(state, **{name: getattr(state, name)[inner] for name in arrays})
