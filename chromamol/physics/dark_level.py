"""A low percentile of an image's distribution, at a noise that does not depend on the image.

Noise that smoothing leaves widens the distribution of the pixels, and a low percentile of it falls. So the percentile
is taken at one agreed noise. A quieter image is given more, by convolution of its histogram; from a noisier one its own
is taken first, by the Richardson-Lucy iteration, which is expectation maximisation for a histogram that a Gaussian of
known width has blurred (Richardson, J. Opt. Soc. Am. 62, 55 (1972), doi:10.1364/JOSA.62.000055; Lucy, Astron. J. 79,
745 (1974), doi:10.1086/111605). No random numbers are drawn.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from chromamol.shapes import FloatField, Mask

ITERATIONS = 300
"""With 100, a tenth of the shift more is left at 10 % noise; 1000 change it as little as another noise does."""

_BINS_PER_SD = 3.0
_MOST_BINS = 600
_REACH_SDS = 4.0


def percentile_at_noise(values: np.ndarray, percent: float, *, noise_sd: float, wanted_sd: float) -> float:
    """Percentile that `values`, which hold Gaussian noise of `noise_sd`, would have with noise of `wanted_sd`.

    Parameters
    ----------
    percent : 0 to 100.
    wanted_sd : above 0.
    """
    # What lies far off, as a hot pixel does, counts at the end: bins wide enough to reach it would be too coarse.
    far = (0.5 * _MOST_BINS / _BINS_PER_SD - _REACH_SDS) * wanted_sd
    near = np.clip(values, *(float(np.median(values)) + np.array([-far, far])))
    low, high = float(near.min()) - _REACH_SDS * wanted_sd, float(near.max()) + _REACH_SDS * wanted_sd
    count = min(math.ceil((high - low) / wanted_sd * _BINS_PER_SD), _MOST_BINS)
    shares, edges = np.histogram(near, bins=count, range=(low, high))
    shares = shares / shares.sum()
    if noise_sd > wanted_sd:
        sent = _sent(edges, noise_sd)
        seen, shares = shares, np.maximum(shares, 1e-12)
        for _ in range(ITERATIONS):
            shares = shares * (sent.T @ (seen / np.maximum(sent @ shares, 1e-300)))
        noise_sd = 0.0
    added = math.sqrt(wanted_sd**2 - noise_sd**2)
    below = np.cumsum(_sent(edges, added) @ shares if added > 0.0 else shares)
    return float(np.interp(percent / 100.0, np.concatenate([[0.0], below / below[-1]]), edges))


def _sent(edges: np.ndarray, sd: float) -> np.ndarray:
    """What each bin, taken for its centre, sends into every bin; the outermost ones take what lies beyond."""
    below = ndtr((edges[:, None] - 0.5 * (edges[1:] + edges[:-1])) / sd)
    below[0], below[-1] = 0.0, 1.0
    return np.asarray(np.diff(below, axis=0))


def noise_in_the_dark(values: FloatField, smooth: FloatField, mask: Mask) -> float:
    """Noise of the darker half of the pixels over that of all, at most 1: counted light is less noisy there.

    Parameters
    ----------
    smooth : `values` without most of their noise.
    """
    rest, level = np.abs(values - smooth)[mask], smooth[mask]
    everywhere = float(np.median(rest))
    return (
        min(1.0, float(np.median(rest[level <= np.median(level)])) / everywhere) if everywhere > 0.0 else 1.0
    )
