"""The network: a compact U-Net that works on 2 x 2 blocks of pixels and answers for every pixel.

For every pixel it says whether the pixel is nuclear, how deep inside the nucleus it lies, and where the centre
of the nucleus is. Pixels vote for centres, and votes fall into one heap per nucleus even where nuclei touch.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

DIAMETER = 22.0
"""Diameter in pixels of the median nucleus in what the network sees: images are rescaled to it."""

CHANNELS = (32, 64, 96, 128)
"""Features on each level, from half the resolution of the input to a sixteenth."""

DILATIONS = (0, 1, 1, 2)
"""How far apart the nine pixels of the added convolutions lie on each level; 0 for none."""

BLOCK = 2 ** len(CHANNELS)
"""The sides of the input are multiples of it."""

INPUTS, OUTPUTS = 2, 4
KNEE = 0.03  # of the bright level: about where background haze ends
LOW, HIGH = 1.0, 99.8  # percentiles taken as dark and bright level
CLIP = (-0.25, 2.0)


@dataclass(frozen=True, eq=False)
class Maps:
    """What the network says about every pixel.

    Parameters
    ----------
    nuclear : probability that the pixel is nuclear.
    depth : depth inside the nucleus, 0 at the outline, 1 at the deepest point.
    centre_y, centre_x : from the pixel to the centre of its nucleus, in pixels.
    """

    nuclear: Float32[np.ndarray, "y x"]
    depth: Float32[np.ndarray, "y x"]
    centre_y: Float32[np.ndarray, "y x"]
    centre_x: Float32[np.ndarray, "y x"]


class _Convolutions(nn.Module):
    """Two 3 x 3 convolutions, the second added to the first; `norm` is folded into them after training."""

    def __init__(self, inputs: int, outputs: int, *, norm: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=not norm)
        self.first_norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.second_norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return y + functional.relu(self.second_norm(self.second(y)))


class _Residual(nn.Module):
    """Two 3 x 3 convolutions added to what they are given; at first they add nothing, so that they can be put into
    a network that is trained already."""

    def __init__(self, width: int, dilation: int, *, norm: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=not norm)
        self.second = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=not norm)
        self.first_norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.second_norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        if isinstance(self.second_norm, nn.BatchNorm2d):
            nn.init.zeros_(self.second_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return x + self.second_norm(self.second(y))


class NucleusNet(nn.Module):
    """U-Net (Ronneberger et al. 2015, doi 10.1007/978-3-319-24574-4_28) on 2 x 2 blocks.

    Parameters
    ----------
    norm : with batch normalisation, for training. Without, its effect is part of the convolutions (`folded`).

    Call with (n, 2, y, x), sides multiples of `BLOCK`; returns (n, 4, y, x): logit of nuclear, logit of depth, and
    the vector to the centre in units of half of `DIAMETER`.
    """

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        widths = CHANNELS
        sources = (4 * INPUTS, *widths[:-1])
        self.down = nn.ModuleList(
            _Convolutions(i, o, norm=norm) for i, o in zip(sources, widths, strict=True)
        )
        self.up = nn.ModuleList(
            _Convolutions(low + high, high, norm=norm) for high, low in itertools.pairwise(widths)
        )
        self.head = nn.Conv2d(widths[0], 4 * OUTPUTS, 3, padding=1)
        self.deeper = nn.ModuleList(
            _Residual(width, dilation, norm=norm)
            for width, dilation in zip(widths, DILATIONS, strict=True)
            if dilation
        )

    def forward(self, x: Float[Tensor, "n 2 y x"]) -> Float[Tensor, "n 4 y x"]:
        x = functional.pixel_unshuffle(x, 2)
        levels: list[Tensor] = []
        for number, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if number else x)
            x = self.deeper[number - 1](x) if number else x
            levels.append(x)
        for block, level in zip(reversed(list(self.up)), reversed(levels[:-1]), strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0, mode="nearest"), level], dim=1))
        return functional.pixel_shuffle(self.head(x), 2)

    def folded(self) -> NucleusNet:
        """Return the same network without normalisation layers: faster, and half of the arrays to keep."""
        plain = NucleusNet(norm=False)
        state = plain.state_dict()
        for name, block in self.named_modules():
            if isinstance(block, _Convolutions | _Residual):
                for each in ("first", "second"):
                    convolution, norm = getattr(block, each), getattr(block, f"{each}_norm")
                    fused = nn.utils.fuse_conv_bn_eval(convolution.eval(), norm.eval())
                    state[f"{name}.{each}.weight"], state[f"{name}.{each}.bias"] = fused.weight, fused.bias
        state["head.weight"], state["head.bias"] = self.head.weight, self.head.bias
        plain.load_state_dict(state)
        return plain.eval()


def levels_of(image: Float32[np.ndarray, "y x"]) -> tuple[float, float]:
    """Return dark and bright level of an image, as the network knows them."""
    low, high = np.percentile(image, [LOW, HIGH])
    return float(low), float(max(high, low + 1e-6 * max(abs(high), 1.0)))


def inputs_of(relative: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "2 y x"]:
    """Return what the network sees of an image whose dark level is 0 and bright level 1: the light itself, and
    its inverse hyperbolic sine, in which nuclei a hundred times dimmer than the brightest still show."""
    x = np.clip(relative, *CLIP)
    return np.stack([x, np.arcsinh(x / KNEE) / np.arcsinh(1 / KNEE)]).astype(np.float32)


def maps_of(output: Float[Tensor, "4 y x"]) -> Maps:
    """Turn the network's output for one image into probabilities and pixels."""
    half = DIAMETER / 2
    out = output.float()
    return Maps(
        nuclear=torch.sigmoid(out[0]).numpy(),
        depth=torch.sigmoid(out[1]).numpy(),
        centre_y=(half * out[2]).numpy(),
        centre_x=(half * out[3]).numpy(),
    )
