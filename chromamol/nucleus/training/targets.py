"""What the network should say about labelled pixels, and how wrong it is."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from chromamol.nucleus.network.model import DIAMETER

HEAVIEST = 2.5
"""A pixel of a small nucleus counts up to this many times as much as one of the background."""

TARGETS = 5  # nuclear, depth, centre y, centre x, weight


def targets_of(
    labels: Int32[np.ndarray, "y x"], inside: Bool[np.ndarray, "y x"], *, heaviest: float = HEAVIEST
) -> Float32[np.ndarray, "5 y x"]:
    """Return nuclear (0 or 1), depth (0..1), the vector to the centre in units of `DIAMETER` / 2, and the weight
    of each pixel: 0 outside the field, up to `heaviest` in small nuclei, so that they count."""
    result = np.zeros((TARGETS, *labels.shape), dtype=np.float32)
    nuclear = labels > 0
    result[0] = nuclear
    result[4] = inside
    count = int(labels.max())
    if count:
        names = np.arange(count + 1)
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        depth = _depth(labels)
        deepest = np.ones(count + 1)
        deepest[1:] = np.maximum(ndimage.maximum(depth, labels, names[1:]), 1.0)
        result[1] = depth / deepest[labels]
        for axis, pixel in enumerate(np.indices(labels.shape)):
            sums = np.bincount(labels.ravel(), weights=pixel.ravel(), minlength=count + 1)
            centre = sums / np.maximum(areas, 1)
            result[2 + axis] = nuclear * (centre[labels] - pixel) / (DIAMETER / 2)
        typical = np.pi / 4 * DIAMETER**2
        weight = np.clip(np.sqrt(typical / np.maximum(areas, 1)), 0.7, heaviest)
        weight[0] = 1.0
        result[4] *= weight[labels]
    return result


def _depth(labels: Int32[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    """Distance to the nearest pixel of something else, in pixels."""
    highest = ndimage.maximum_filter(labels, size=3)
    lowest = ndimage.minimum_filter(labels, size=3)
    interior = (labels > 0) & (highest == labels) & (lowest == labels)
    return (ndimage.distance_transform_edt(interior) + 1.0) * (labels > 0)


def loss_of(output: Float[Tensor, "n 4 y x"], target: Float[Tensor, "n 5 y x"]) -> Tensor:
    """Cross-entropy and overlap of nuclear pixels, cross-entropy of depth, distance of centres."""
    nuclear, weight = target[:, 0], target[:, 4]
    total = weight.sum().clamp_min(1.0)
    entropy = functional.binary_cross_entropy_with_logits
    first = (entropy(output[:, 0], nuclear, reduction="none") * weight).sum() / total
    probability = torch.sigmoid(output[:, 0])
    shared = (probability * nuclear * weight).sum((1, 2))
    either = ((probability + nuclear) * weight).sum((1, 2))
    overlap = 1 - ((2 * shared + 50) / (either + 50)).mean()
    second = (entropy(output[:, 1], target[:, 1], reduction="none") * weight).sum() / total
    own = weight * nuclear
    misses = functional.smooth_l1_loss(output[:, 2:4], target[:, 2:4], reduction="none", beta=0.1).sum(1)
    third = (misses * own).sum() / own.sum().clamp_min(1.0)
    return first + 0.5 * overlap + 0.5 * second + 1.5 * third
