"""From an image to nuclei with the network: rescale, ask, decode, and look again if the scale was wrong."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float32, Int32
from scipy import ndimage

from chromamol.nucleus.network.decode import DecodeSettings, decode
from chromamol.nucleus.network.model import BLOCK, DIAMETER, Maps, NucleusNet, inputs_of, levels_of, maps_of
from chromamol.nucleus.network.resize import resize, resize_labels, sample

TILE = 1024
"""Side of the largest piece that is looked at in one go: some 300 MB."""
OVERLAP = 112
"""How far a pixel's answer reaches, five nuclei: tiles say what the whole image says. A multiple of `BLOCK`."""
MARGIN = 16
MAX_PIXELS = 2_500_000
"""An image is enlarged to this many pixels at most, so that small nuclei in large images don't take minutes."""
MAX_ENLARGEMENT = 4.0
RESCALE_RATIO = 1.3
LOOKS = 3

Image = Float32[np.ndarray, "y x"]


def find_with_network(
    values: Image, radius: float, *, network: NucleusNet, settings: DecodeSettings | None = None
) -> Int32[np.ndarray, "y x"]:
    """Label the nuclei of an image.

    Parameters
    ----------
    values : intensities.
    radius : about the nuclear radius in pixels; what the network finds corrects it.
    network : the trained network.
    settings : how its answer is turned into nuclei.
    """
    settings = settings or DecodeSettings()
    diameter = 2 * radius
    for _ in range(LOOKS):
        scale = _scale(diameter, values.shape)
        maps = ask(network, resize(values, scale))
        labels = decode(maps, settings)
        if not labels.any():
            break
        seen = median_diameter(labels) / scale
        if 1 / RESCALE_RATIO < scale / _scale(seen, values.shape) < RESCALE_RATIO:
            break
        diameter = seen
    return _on_pixels(labels, maps, values.shape, settings)


def _scale(diameter: float, shape: tuple[int, ...]) -> float:
    most = max(1.0, math.sqrt(MAX_PIXELS / math.prod(shape)))
    return min(DIAMETER / diameter, most, MAX_ENLARGEMENT)


def median_diameter(labels: Int32[np.ndarray, "y x"]) -> float:
    """Diameter of the disc of the median nucleus's area, in pixels."""
    areas = np.bincount(labels.ravel())[1:]
    return float(np.sqrt(4 * np.median(areas[areas > 0]) / np.pi))


def _on_pixels(
    labels: Int32[np.ndarray, "y x"], maps: Maps, shape: tuple[int, ...], settings: DecodeSettings
) -> Int32[np.ndarray, "Y X"]:
    """Bring labels back to the pixels of the image, their outlines where the probability passes its threshold."""
    _, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    reach = labels[tuple(nearest)] * ndimage.binary_dilation(labels > 0, iterations=2)
    # Holes that were filled, and debris that was dropped, stay so.
    shown = np.where(labels > 0, np.maximum(maps.nuclear, settings.probability + 0.01), maps.nuclear)
    mask = sample(shown.astype(np.float32), shape, order=1) > settings.probability
    return resize_labels(reach, shape, mask=mask)


@torch.no_grad()
def ask(network: NucleusNet, image: Image) -> Maps:
    """Return what the network says about an image at its own scale; large images are looked at in tiles."""
    low, high = levels_of(image)
    seen = inputs_of((image - low) / (high - low))
    padded = [MARGIN + n + MARGIN + (-n) % BLOCK for n in image.shape]
    margins = [(MARGIN, total - MARGIN - n) for total, n in zip(padded, image.shape, strict=True)]
    whole = torch.from_numpy(np.pad(seen, [(0, 0), *margins], mode="symmetric"))
    answer = torch.empty(4, *whole.shape[1:])
    for y in _tiles(whole.shape[1]):
        for x in _tiles(whole.shape[2]):
            piece = whole[None, :, y[0], x[0]].contiguous(memory_format=torch.channels_last)
            answer[:, y[1], x[1]] = network(piece)[0][:, y[2], x[2]]
    inner = (slice(None), *(slice(MARGIN, MARGIN + n) for n in image.shape))
    return maps_of(answer[inner])


def _tiles(length: int) -> list[tuple[slice, slice, slice]]:
    """For each tile: what is looked at, what of the whole is filled in, and where that lies in the tile."""
    if length <= TILE:
        return [(slice(0, length),) * 3]
    step = TILE - 2 * OVERLAP
    tiles = []
    for start in range(0, length - 2 * OVERLAP, step):
        low, high = start, min(length, start + TILE)
        first = 0 if low == 0 else low + OVERLAP
        last = length if high == length else high - OVERLAP
        tiles.append((slice(low, high), slice(first, last), slice(first - low, last - low)))
    return tiles
