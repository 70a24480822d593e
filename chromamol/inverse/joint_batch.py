"""Several nuclei as one batch: models and unknowns side by side, padded to the same sizes with what has no effect.

Nuclei can share a batch when their models have the box, the pixels, the optics and the constants in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import pad

from chromamol.inverse.joint_beyond import MirrorImages
from chromamol.inverse.joint_model import OF_EACH_NUCLEUS, JointModel
from chromamol.inverse.joint_unknowns import Unknowns


def stacked_models(models: Sequence[JointModel]) -> JointModel:
    """Return one model of all nuclei.

    Potentials that are missing in one nucleus are zero there, cosines have no strength, images no charge.
    """
    if len(models) == 1:
        return models[0]
    # The last pixel of the box lies in its margin, where no balance holds.
    nowhere = models[0].inside[0].numel() - 1
    own: dict[str, Any] = {
        name: side_by_side([getattr(m, name) for m in models], nowhere if name == "holding" else 0)
        for name in OF_EACH_NUCLEUS
        if getattr(models[0], name) is not None
    }
    cosines = tuple(side_by_side(tables) for tables in zip(*(m.cosines for m in models), strict=True))
    at, of, charge = zip(*(m.mirror for m in models), strict=True)
    mirror = MirrorImages(side_by_side(at, nowhere), side_by_side(of, nowhere), side_by_side(charge))
    walled = any(m.walled for m in models)
    return replace(models[0], **own, cosines=cosines, mirror=mirror, walled=walled, wall_potentials=0)


def stacked_unknowns(each: Sequence[Unknowns]) -> Unknowns:
    """Return the unknowns of all nuclei, with zeros for those that one of them lacks."""
    return each[0].map(lambda *parts: side_by_side(parts), *each[1:])


def own_unknowns(found: Unknowns, model: JointModel) -> Unknowns:
    """Return what belongs to a nucleus, without the zeros that it was filled up with."""
    modes = found.modes
    for axis, n in enumerate(model.root.shape[2:], start=2):
        modes = modes.narrow(axis, 0, n)
    return replace(found, outer=found.outer[:, : model.outer_potentials.shape[1]], modes=modes)


def side_by_side(parts: Sequence[torch.Tensor], fill: int = 0) -> torch.Tensor:
    """Concatenate along the first axis, and fill the other axes up to the longest of each."""
    longest = [max(sizes) for sizes in zip(*(p.shape[1:] for p in parts), strict=True)]
    wide = []
    for part in parts:
        missing = [n - m for n, m in zip(longest, part.shape[1:], strict=True)]
        sides = [side for lack in reversed(missing) for side in (0, lack)]
        wide.append(pad(part, sides, value=fill) if any(missing) else part)
    return torch.cat(wide)
