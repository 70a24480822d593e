"""Architectures by name, with sizes that follow from the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from chromamol.errors import ParameterError
from chromamol.networks.ensemble import Ensemble
from chromamol.networks.fourier import FourierFeatureMLP
from chromamol.networks.grid import MultiResolutionGrid
from chromamol.networks.interface import CoordinateNetwork, FieldNetwork
from chromamol.networks.pinnsformer import PINNsFormer
from chromamol.networks.piratenet import PirateNet

ARCHITECTURES = ("grid", "mlp", "piratenet", "pinnsformer")


def make_network(
    name: str, shape: Sequence[int], spacing: Sequence[float], *, outputs: int, finest: float,
    seed: int = 0, batch: int = 1, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
) -> FieldNetwork:  # fmt: skip
    """Return a network by name.

    Parameters
    ----------
    name : one of `ARCHITECTURES`.
    finest : length of the finest structure in the fields, in the unit of the spacing; sets the frequencies of the
        coordinate networks. The grid needs none.
    seed : of the random start; the networks of a batch have seeds of their own.

    Raises
    ------
    ParameterError : an unknown name.
    """
    if name not in ARCHITECTURES:
        raise ParameterError(f"Network '{name}'.", expected=f"one of {', '.join(ARCHITECTURES)}.",
                             do="use 'grid'.")  # fmt: skip
    if name == "grid":
        return MultiResolutionGrid(shape, spacing, outputs=outputs, batch=batch, dtype=dtype, device=device)
    members: list[CoordinateNetwork] = []
    for member in range(batch):
        generator = torch.Generator().manual_seed(seed + member)
        options: dict[str, Any] = {
            "outputs": outputs,
            "generator": generator,
            "dtype": dtype,
            "device": device,
        }
        if name == "pinnsformer":
            half = 0.5 * max(n * h for n, h in zip(shape, spacing, strict=True))
            members.append(PINNsFormer(shape, spacing, scale=half / finest, **options))
        else:
            kind = FourierFeatureMLP if name == "mlp" else PirateNet
            members.append(kind(shape, spacing, frequency=FREQUENCY_PER_FINEST / finest, **options))
    return members[0] if batch == 1 else Ensemble(members)


FREQUENCY_PER_FINEST = 0.15
"""Standard deviation of the features' frequencies times the finest length: the interface of a domain, a tanh of rise
length L, holds nearly nothing above 1 / (2 L), three standard deviations."""
