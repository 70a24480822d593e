"""A multilayer perceptron on random Fourier features of the coordinates.

    γ(x) = [cos 2π B x, sin 2π B x],   B ~ N(0, s²);     h_1 = tanh(W_1 γ + b_1), …, u = W_out h_D + b_out

References
----------
Tancik et al., NeurIPS 2020, arXiv:2006.10739 (the features); Wang, Wang & Perdikaris,
doi:10.1016/j.cma.2021.113938 (why networks of plain coordinates do not learn fine structure).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from chromamol.networks.interface import CoordinateNetwork, Values


class FourierFeatures(nn.Module):
    """γ(x) with B fixed at its random start.

    Parameters
    ----------
    axes, features : numbers of coordinates and of rows of B; twice as many outputs.
    frequency : s in cycles per unit of the coordinates; one number, or one per row of B.
    """

    def __init__(
        self, axes: int, features: int, *, frequency: float | Tensor, generator: torch.Generator,
        dtype: torch.dtype, device: torch.device | str,
    ) -> None:  # fmt: skip
        super().__init__()
        normal = torch.randn(features, axes, generator=generator, dtype=dtype)
        self.register_buffer("matrix", (2.0 * math.pi * frequency * normal).to(device))

    def forward(self, x: Values) -> Values:
        phase = nn.functional.linear(x, self.get_buffer("matrix"))
        return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)


def dense(
    inputs: int, outputs: int, *, generator: torch.Generator, dtype: torch.dtype, device: torch.device | str
) -> nn.Linear:
    """A linear layer of Glorot's normal start and no offset, from `generator` on the CPU, whatever the device."""
    layer = nn.Linear(inputs, outputs, dtype=dtype)
    with torch.no_grad():
        sd = math.sqrt(2.0 / (inputs + outputs))
        layer.weight.copy_(sd * torch.randn(outputs, inputs, generator=generator, dtype=dtype))
        layer.bias.zero_()
    return layer.to(device)


class FourierFeatureMLP(CoordinateNetwork):
    """`depth` hidden tanh layers of `width` units on `features` random Fourier features.

    Parameters
    ----------
    frequency : standard deviation of the features' frequencies, in cycles per unit of the spacing.
    """

    def __init__(
        self, shape: Sequence[int], spacing: Sequence[float], *, outputs: int, frequency: float,
        generator: torch.Generator, features: int = 64, width: int = 64, depth: int = 3,
        dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__(shape, spacing, outputs=outputs, dtype=dtype, device=torch.device(device))
        options: dict[str, Any] = {"generator": generator, "dtype": dtype, "device": device}
        per_unit = frequency * float(self.get_buffer("half_sides").max())
        layers: list[nn.Module] = [FourierFeatures(len(shape), features, frequency=per_unit, **options)]
        size = 2 * features
        for _ in range(depth):
            layers += [dense(size, width, **options), nn.Tanh()]
            size = width
        self.layers = nn.Sequential(*layers, dense(size, outputs, **options))

    def body(self, scaled: Values) -> Values:
        return self.layers(scaled)
