"""From what the network says about pixels to nuclei: every nuclear pixel votes for a centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32
from scipy import ndimage

from chromamol.nucleus.network.model import Maps
from chromamol.nucleus.split import split_touching


@dataclass(frozen=True)
class DecodeSettings:
    """Settings of `decode`, chosen on the training half. Lengths are pixels of what the network sees."""

    probability: float = 0.45
    """A pixel is nuclear from here on."""
    vote_sigma: float = 2.0
    """Gaussian on the votes: how well a pixel knows its centre."""
    min_votes: float = 1.0
    """Votes per pixel, smoothed, below which there is no centre."""
    min_fall: float = 1.0
    """Two heaps are two nuclei if the log of votes between them falls by at least this."""
    min_area: float = 10.0
    """Smaller is debris: a fortieth of a typical nucleus."""
    min_depth: float = 0.6
    """Deepest pixel of a nucleus, according to the network, at least."""


def decode(maps: Maps, settings: DecodeSettings) -> Int32[np.ndarray, "y x"]:
    """Return labels, 0 = background, 1..n; nuclei are connected and without holes."""
    nuclear = maps.nuclear > settings.probability
    if not nuclear.any():
        return np.zeros(nuclear.shape, dtype=np.int32)
    places = _voted(maps, nuclear)
    flat = np.ravel_multi_index(tuple(places), nuclear.shape)
    votes = np.bincount(flat, weights=maps.nuclear[nuclear], minlength=nuclear.size)
    votes = votes.reshape(nuclear.shape).astype(np.float32)
    votes = ndimage.gaussian_filter(votes, settings.vote_sigma, mode="constant")
    heaps = votes > settings.min_votes
    if not heaps.any():
        return np.zeros(nuclear.shape, dtype=np.int32)
    relief = np.log(np.maximum(votes, 1e-6))
    centres = split_touching(heaps, relief, min_fall=settings.min_fall)
    labels = np.zeros(nuclear.shape, dtype=np.int32)
    labels[nuclear] = centres[tuple(places)]
    return _tidy(labels, maps.depth, settings)


def _voted(maps: Maps, nuclear: np.ndarray) -> Int32[np.ndarray, "2 pixels"]:
    """Where the centre is that each nuclear pixel points to. What it says is asked again there: near the centre
    the way is short, and known better."""
    here = np.stack(np.nonzero(nuclear)).astype(np.float32)
    limits = np.array(nuclear.shape)[:, None] - 1
    first = here + np.stack([maps.centre_y[nuclear], maps.centre_x[nuclear]])
    stop = np.clip(np.rint(first), 0, limits).astype(np.int32)
    second = first + np.stack([maps.centre_y[tuple(stop)], maps.centre_x[tuple(stop)]])
    arrived = maps.nuclear[tuple(stop)] > 0.5
    return np.clip(np.rint(np.where(arrived, second, first)), 0, limits).astype(np.int32)


def _tidy(
    labels: Int32[np.ndarray, "y x"], depth: Float32[np.ndarray, "y x"], settings: DecodeSettings
) -> Int32[np.ndarray, "y x"]:
    """Keep the largest part of each nucleus, fill it, drop debris, and number the rest in order."""
    result = np.zeros_like(labels)
    number = 0
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        own = labels[box] == label
        parts, count = ndimage.label(own)
        if count > 1:
            own = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
        if np.count_nonzero(own) < settings.min_area or depth[box][own].max() < settings.min_depth:
            continue
        own = ndimage.binary_fill_holes(own) & ((labels[box] == label) | (labels[box] == 0))
        number += 1
        result[box][own & (result[box] == 0)] = number
    return result
