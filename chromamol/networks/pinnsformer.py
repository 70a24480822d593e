"""PINNsFormer: a transformer on a short pseudo-sequence of each point.

    {x, x + Δ e, …, x + (k - 1) Δ e}  →  linear mixer  →  encoder  →  decoder, attending to the encoder  →  u(x)
    Wavelet(z) = ω_1 sin z + ω_2 cos z      in place of every activation and normalisation

As in the authors' published code: one encoder and one decoder layer, each `z += attention(Wavelet(z))`,
`z += feed-forward(Wavelet(z))`, two heads, k = 5, Δ = 1e-4 of the scaled coordinates. Two differences: the sequence
runs along the first axis, which is time in the source and need not be here, and u is that of the point itself, the
first of the sequence, whereas the source puts the loss on the whole of it. Widths are ours: 512 hidden units on
every point of an image would need 0.4 GB per activation.

References
----------
Zhao, Ding & Prakash, PINNsFormer, ICLR 2024, arXiv:2307.11833.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from chromamol.networks.fourier import dense
from chromamol.networks.interface import CoordinateNetwork, Values

STEPS, STEP, HEADS = 5, 1e-4, 2


class Wavelet(nn.Module):
    """ω_1 sin z + ω_2 cos z with learnable ω, both 1 at the start."""

    def __init__(self, dtype: torch.dtype, device: torch.device | str) -> None:
        super().__init__()
        self.sine, self.cosine = (nn.Parameter(torch.ones((), dtype=dtype, device=device)) for _ in range(2))

    def forward(self, z: Values) -> Values:
        return torch.sin(z) * self.sine + torch.cos(z) * self.cosine


class _Attention(nn.Module):
    """Multi-head attention over the sequence, the second axis from the end."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__()
        self.width = width
        self.query, self.key, self.value, self.out = (dense(width, width, **options) for _ in range(4))

    def _heads(self, z: Values) -> Values:
        points, steps, width = z.shape
        return z.reshape(points, steps, HEADS, width // HEADS).transpose(1, 2)

    def forward(self, z: Values, memory: Values) -> Values:
        query, key, value = (
            self._heads(self.query(z)),
            self._heads(self.key(memory)),
            self._heads(self.value(memory)),
        )
        score = query @ key.transpose(2, 3) / math.sqrt(self.width / HEADS)
        mixed = (torch.softmax(score, dim=-1) @ value).transpose(1, 2)
        return self.out(mixed.reshape(z.shape[0], STEPS, self.width))


class _Layer(nn.Module):
    """One encoder layer (memory is None) or decoder layer."""

    def __init__(self, width: int, hidden: int, **options: Any) -> None:
        super().__init__()
        act: dict[str, Any] = {"dtype": options["dtype"], "device": options["device"]}
        self.first, self.second = Wavelet(**act), Wavelet(**act)
        self.attention = _Attention(width, **options)
        self.feed = nn.Sequential(
            dense(width, hidden, **options), Wavelet(**act), dense(hidden, hidden, **options), Wavelet(**act),
            dense(hidden, width, **options),
        )  # fmt: skip

    def forward(self, z: Values, memory: Values | None) -> Values:
        inner = self.first(z)
        z = z + self.attention(inner, inner if memory is None else memory)
        return z + self.feed(self.second(z))


class PINNsFormer(CoordinateNetwork):
    """The published architecture at adjustable widths.

    Parameters
    ----------
    width : of the embedding, a multiple of two (the number of heads).
    hidden : units of the feed-forward layers and of the output layers.
    scale : the coordinates are multiplied by it before the mixer. 1 is the source's; a larger one lets the wavelets,
        whose frequency starts near that of the mixer's weights, reach structure that is finer than the box.
    """

    def __init__(
        self, shape: Sequence[int], spacing: Sequence[float], *, outputs: int, generator: torch.Generator,
        width: int = 32, hidden: int = 64, scale: float = 1.0,
        dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__(shape, spacing, outputs=outputs, dtype=dtype, device=torch.device(device))
        options: dict[str, Any] = {"generator": generator, "dtype": dtype, "device": device}
        act: dict[str, Any] = {"dtype": dtype, "device": device}
        axes = len(shape)
        offsets = torch.zeros(STEPS, axes, dtype=dtype, device=device)
        offsets[:, 0] = STEP * torch.arange(STEPS, dtype=dtype, device=device)
        self.register_buffer("offsets", offsets)
        self.scale = scale
        self.mixer = dense(axes, width, **options)
        self.encoder, self.decoder = _Layer(width, hidden, **options), _Layer(width, hidden, **options)
        self.after_encoder, self.after_decoder = Wavelet(**act), Wavelet(**act)
        self.out = nn.Sequential(
            dense(width, hidden, **options), Wavelet(**act), dense(hidden, hidden, **options), Wavelet(**act),
            dense(hidden, outputs, **options),
        )  # fmt: skip

    def body(self, scaled: Values) -> Values:
        offsets = self.get_buffer("offsets")
        sequence = torch.stack([scaled + row for row in offsets], 1) * self.scale
        z = self.mixer(sequence)
        memory = self.after_encoder(self.encoder(z, None))
        decoded = self.after_decoder(self.decoder(z, memory))
        return self.out(decoded[:, 0])
