"""From an image to nuclei with the network: rescale, ask, decode, and look again if the scale was wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int32
from scipy import ndimage

from chromamol.grid import equivalent_radius
from chromamol.nucleus.network.decode import DecodeSettings, decode
from chromamol.nucleus.network.model import BLOCK, DIAMETER, Maps, NucleusNet, inputs_of, levels_of, maps_of
from chromamol.nucleus.network.resize import resize, resize_labels, sample

TILE = 1280
"""Side of the largest piece that is looked at in one go: some 450 MB."""
OVERLAP = 208
"""How far a pixel's answer reaches, nine nuclei: tiles say what the whole image says. A multiple of `BLOCK`."""
MARGIN = 16
MAX_PIXELS = 2_500_000
"""An image is enlarged to this many pixels at most, so that small nuclei in large images don't take minutes."""
MAX_ENLARGEMENT = 4.0
RESCALE_RATIO = 1.3
LOOKS = 3
COARSER = (4.0, 7.0)
"""Dense domains look like small nuclei: the image is also looked at as if nuclei were this many times larger."""
MAX_MIRRORED_PIXELS = 400_000
"""Up to this size the network is also asked about the mirrored image, four times in all: few seconds at most."""
SURER = 1.1
"""How much surer the network has to be there. On the training half it is never surer by that much."""

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
    look = _settle(values, 2 * radius, network, settings)
    for factor in COARSER:
        coarse = _look(values, factor * look.diameter, network, settings)
        if coarse.certainty > SURER * look.certainty:
            look = _settle(values, coarse.diameter, network, settings)
            break
    labels, maps = look.labels, look.maps
    if labels.size <= MAX_MIRRORED_PIXELS and labels.any():
        maps = ask_mirrored(network, look.image, maps)
        labels = decode(maps, settings)
    return _on_pixels(labels, maps, values.shape, settings)


@dataclass(frozen=True, eq=False)
class _Look:
    """What the network found at one scale.

    Parameters
    ----------
    image : rescaled.
    labels, maps : on its pixels.
    asked : nuclear diameter that the scale was made for, in pixels of the image; that of the scale in effect.
    diameter : that of the median nucleus found; `asked` when there is none.
    certainty : of the median nucleus, 0..1: how deep its deepest pixel is to the network, times how nuclear it is.
    """

    image: Image
    labels: Int32[np.ndarray, "y x"]
    maps: Maps
    asked: float
    diameter: float
    certainty: float


def _look(values: Image, diameter: float, network: NucleusNet, settings: DecodeSettings) -> _Look:
    """Look for nuclei of about the given diameter."""
    most = max(1.0, math.sqrt(MAX_PIXELS / values.size))
    scale = min(DIAMETER / diameter, most, MAX_ENLARGEMENT)
    image = resize(values, scale)
    maps = ask(network, image)
    labels = decode(maps, settings)
    asked = DIAMETER / scale
    if not labels.any():
        return _Look(image, labels, maps, asked, asked, 0.0)
    names = np.arange(1, int(labels.max()) + 1)
    depth = ndimage.maximum(maps.depth, labels, names)
    nuclear = ndimage.mean(maps.nuclear, labels, names)
    certainty = float(np.median(depth) * np.median(nuclear))
    return _Look(image, labels, maps, asked, median_diameter(labels) / scale, certainty)


def _settle(values: Image, diameter: float, network: NucleusNet, settings: DecodeSettings) -> _Look:
    """Look again at the scale of the nuclei found, until it is that of the look itself."""
    look = _look(values, diameter, network, settings)
    for _ in range(LOOKS - 1):
        if 1 / RESCALE_RATIO < look.diameter / look.asked < RESCALE_RATIO:
            break
        again = _look(values, look.diameter, network, settings)
        if again.asked == look.asked:  # the image can't be enlarged further
            break
        look = again
    return look


def median_diameter(labels: Int32[np.ndarray, "y x"]) -> float:
    """Diameter of the disc of the median nucleus's area, in pixels."""
    areas = np.bincount(labels.ravel())[1:]
    return 2 * equivalent_radius(float(np.median(areas[areas > 0])), 2)


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


def ask_mirrored(network: NucleusNet, image: Image, said: Maps) -> Maps:
    """Return the mean of what the network `said` about an image and says about its three mirror images."""
    answers = [np.stack([said.nuclear, said.depth, said.centre_y, said.centre_x])]
    for flip in ((1, -1), (-1, 1), (-1, -1)):
        turn = (slice(None, None, flip[0]), slice(None, None, flip[1]))
        maps = ask(network, np.ascontiguousarray(image[turn]))
        parts = (maps.nuclear, maps.depth, flip[0] * maps.centre_y, flip[1] * maps.centre_x)
        answers.append(np.stack([part[turn] for part in parts]))
    return Maps(*np.mean(answers, axis=0))


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
