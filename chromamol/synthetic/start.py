"""Where a simulation starts: droplets of about the size that the model keeps, at random places.

For Γ_me = 0.5 Γ_ac the uniform mixture is linearly stable and for Γ_me = Γ_ac too little noise dies out:
a start from noise may end without a single domain. Starting from droplets finds the patterned state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chromamol.shapes import FloatField, Mask

# Plateaus of the reference model and the softness of the first interfaces, in standard deviations of the
# smooth noise. They only set where the flow starts from.
DENSE, DILUTE, SOFTNESS = 0.68, 0.04, 0.25
WAVELENGTH = 1.3  # over L0: droplets of about 0.3 L0, which the model keeps; others ripen away slowly
BANDWIDTH = 0.4  # of the noise's wave numbers, relative: how unlike the droplets are


def droplets(
    mask: Mask, spacing: Sequence[float], *, heterochromatin: FloatField, total: float,
    rng: np.random.Generator,
) -> FloatField:  # fmt: skip
    """Return (2, *grid): φ_h in droplets and an even φ_e, zero outside the mask.

    Parameters
    ----------
    mask : cells that count.
    spacing : cell size over L0.
    heterochromatin : local mean of φ_h that the rates ask for, (*grid).
    total : mean of φ_h + φ_e, kept exactly.
    """
    noise = _grains(mask.shape, spacing, rng)
    noise = (noise - noise[mask].mean()) / noise[mask].std()
    ranks = np.empty(mask.shape)
    ranks[mask] = np.argsort(np.argsort(noise[mask])) / mask.sum()
    ranks[~mask] = 0.0
    area = np.clip((heterochromatin - DILUTE) / (DENSE - DILUTE), 0.05, 0.95)
    # The rank of smooth noise is uniform, so the local threshold 1 - area covers the local area.
    dense = 0.5 * (1.0 + np.tanh((ranks - (1.0 - area)) / (SOFTNESS * 0.3)))
    phi_h = np.where(mask, DILUTE + (DENSE - DILUTE) * dense, 0.0)
    euchromatin = total - phi_h[mask].mean()
    return np.stack([phi_h, np.where(mask, euchromatin, 0.0)])


def local_heterochromatin(methylation: FloatField, acetylation: FloatField, total: float) -> FloatField:
    """Mean φ_h where both rates act undisturbed, total Γ_me / (Γ_me + Γ_ac); half of it without reactions."""
    both = methylation + acetylation
    share = np.divide(methylation, both, out=np.full_like(both, 0.5), where=both > 0.0)
    return total * share


def _grains(shape: Sequence[int], spacing: Sequence[float], rng: np.random.Generator) -> FloatField:
    """Noise of one dominant wavelength, periodic in the box."""
    axes = [2.0 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(shape, spacing, strict=True)]
    wave = np.sqrt(sum(k**2 for k in np.meshgrid(*axes, indexing="ij", sparse=True)))
    relative = wave * WAVELENGTH / (2.0 * np.pi) - 1.0
    return np.fft.ifftn(
        np.fft.fftn(rng.standard_normal(tuple(shape))) * np.exp(-0.5 * (relative / BANDWIDTH) ** 2)
    ).real
