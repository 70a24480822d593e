"""Smooth random rate maps: the truths that an inversion is tested on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chromamol.shapes import FloatField


def log_normal_rate(
    shape: Sequence[int], spacing_um: Sequence[float], *, mean: float, log_sd: float,
    correlation_um: float, rng: np.random.Generator,
) -> FloatField:  # fmt: skip
    """Return `mean` × exp(`log_sd` z), z a smooth periodic Gaussian field of zero mean and unit variance.

    Parameters
    ----------
    correlation_um : ξ; the covariance of z falls as exp(-r² / (2 ξ²)).

    The median of the map is `mean` (its average is a little higher), so that the logarithm is centred.
    """
    axes = [2.0 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(shape, spacing_um, strict=True)]
    square = sum(k**2 for k in np.meshgrid(*axes, indexing="ij", sparse=True))
    white = np.fft.fftn(rng.standard_normal(tuple(shape)))
    smooth = np.fft.ifftn(white * np.exp(-0.25 * correlation_um**2 * square)).real
    smooth = (smooth - smooth.mean()) / smooth.std()
    return mean * np.exp(log_sd * smooth)
