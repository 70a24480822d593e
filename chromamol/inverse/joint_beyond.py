"""What is expected beyond the border of a nucleus: mirror images of the exchange within it.

No chromatin passes the envelope of the nucleus, so that the potential has no slope across it. Sources behind the wall
that mirror those before it have that effect (the method of images), exactly behind a flat wall.

At the edge of an image the nucleus goes on, and so does a domain that the edge cuts: what lies d beyond it resembles
its mirror image as much as the pattern resembles itself over a distance of 2 d.

Both are expectations. What differs from them is left to the outer potentials (`joint_outer`).

References
----------
Jackson, Classical Electrodynamics (1999), section 2.1 (images).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from chromamol.inverse.per_nucleus import of_nuclei
from chromamol.shapes import FloatField, Mask

RESEMBLANCE = 0.47
"""L0: the autocorrelation of the exchange falls over this distance from 1 to 0, about linearly (.88, .70, .50, .29, .09
at .12, .20, .27, .35, .43; four patterns, even and uneven rates)."""


class MirrorImages(NamedTuple):
    """Images of sources, on a periodic box; batch first.

    Parameters
    ----------
    at, of : (B, n), flat indices of pixels outside the nucleus and of the pixels in it that they mirror.
    charge : (B, n), of an image per source.
    """

    at: torch.Tensor
    of: torch.Tensor
    charge: torch.Tensor

    def add_to_(self, source: torch.Tensor, axes: int) -> torch.Tensor:
        """Add its images to a contiguous source over the last `axes` axes, in place."""
        self._carry_(source.flatten(-axes), self.of, self.at)
        return source

    def gather_(self, potential: torch.Tensor, axes: int) -> torch.Tensor:
        """The adjoint of `add_to_`, in place."""
        self._carry_(potential.flatten(-axes), self.at, self.of)
        return potential

    def _carry_(self, flat: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> None:
        if len(source) == 1:
            flat.index_add_(-1, target[0], flat[..., source[0]] * self.charge[0])
            return
        each = of_nuclei(flat, source)
        source, target, charge = (
            part.reshape(len(part), *(1,) * (each.ndim - 2), -1).expand(*each.shape[:-1], -1)
            for part in (source, target, self.charge)
        )
        each.scatter_add_(-1, target, each.gather(-1, source) * charge)


def mirror_images(
    mask: Mask, behind: Mask, spacing: Sequence[float], *, device: torch.device
) -> MirrorImages:
    """Return the images of a nucleus, a batch of one.

    Parameters
    ----------
    mask : the nucleus, in the first corner of the box.
    behind : on the box, True behind a wall; elsewhere outside the mask the nucleus goes on.
    spacing : of the pixels, in L0.
    """
    box = behind.shape
    # Half of the margin lies before the first pixel.
    shift = [(n - m) // 2 for n, m in zip(box, mask.shape, strict=True)]
    order = np.roll(np.arange(behind.size).reshape(box), shift, range(len(box)))
    inside = np.roll(_padded(mask, box), shift, range(len(box)))
    goes_on = ~behind.ravel()[order]
    behind_wall, wall_of, _ = _mirrored(goes_on, inside, spacing)
    beyond_edge, edge_of, depth = _mirrored(inside, inside, spacing)
    resembles = np.where(
        goes_on.ravel()[beyond_edge], np.clip(1.0 - 2.0 * depth / RESEMBLANCE, 0.0, None), 0.0
    )
    at, of = np.append(behind_wall, beyond_edge), np.append(wall_of, edge_of)
    charge = np.append(np.ones(len(wall_of)), resembles)
    at, of, charge = order.ravel()[at[charge > 0.0]], order.ravel()[of[charge > 0.0]], charge[charge > 0.0]
    return MirrorImages(*(torch.as_tensor(part, device=device)[None] for part in (at, of, charge)))


def _mirrored(
    body: Mask, inside: Mask, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, FloatField]:
    """Flat indices of pixels outside a body, those of their mirror images where these are `inside`, and depths."""
    nearest = ndimage.distance_transform_edt(
        ~body, sampling=spacing, return_distances=False, return_indices=True
    )
    outside = np.flatnonzero(~body)
    nearest = nearest.reshape(body.ndim, -1)[:, outside]
    away = np.array(np.unravel_index(outside, body.shape)) - nearest
    # The surface lies half a pixel beyond the centre of the nearest one.
    steps = np.sqrt(np.sum(away**2, axis=0))
    mirror = np.rint(nearest + away / steps - away).astype(int)
    size = np.array(body.shape)[:, None]
    within = np.all((mirror >= 0) & (mirror < size), axis=0)
    of = np.ravel_multi_index(tuple(np.clip(mirror, 0, size - 1)), body.shape)
    use = within & inside.ravel()[of]
    depth = np.sqrt(np.sum((away * np.array(spacing)[:, None]) ** 2, axis=0)) * (1.0 - 0.5 / steps)
    return outside[use], of[use], depth[use]


def _padded(mask: Mask, box: tuple[int, ...]) -> Mask:
    return np.pad(mask, [(0, n - m) for n, m in zip(box, mask.shape, strict=True)])
