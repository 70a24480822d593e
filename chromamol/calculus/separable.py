"""Several separable filters of one field in one pass, and the exact adjoint.

Along one axis a filter is a banded Toeplitz matrix. Cut into blocks of 32 outputs it becomes a row of small
dense matrix products, which a CPU computes 3 to 6 times faster than a one-channel convolution; the adjoint is
the same products transposed. Axes are filtered from the last to the first; filters that share a factor share
the work, and sums of derivatives such as a Laplacian are summed inside the last product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from chromamol.calculus.borders import check_support, extend, fold, output_length
from chromamol.shapes import FloatField

_BLOCK = 32

MultiIndex = tuple[int, ...]
"""A derivative: its order along each axis."""


@dataclass(frozen=True, eq=False)
class _Band:
    """Filters of one input channel along one axis, as a block of the Toeplitz matrix."""

    channel: int
    outputs: tuple[int, ...]
    taps: FloatField  # (outputs, 2 radius + 1)
    _cache: dict[tuple[torch.dtype, torch.device], Tensor] = field(default_factory=dict)

    def matrix(self, like: Tensor) -> Tensor:
        """Rows (output, pixel in block), columns the block's window; shape (outputs · B, B + K - 1)."""
        key = (like.dtype, like.device)
        if key not in self._cache:
            count, size = self.taps.shape
            block = np.zeros((count, _BLOCK, _BLOCK + size - 1))
            for b in range(_BLOCK):
                block[:, b, b : b + size] = self.taps
            # Cast on the CPU first: not every device holds float64.
            rows = torch.from_numpy(block.reshape(count * _BLOCK, -1))
            self._cache[key] = rows.to(like.dtype).to(like.device)
        return self._cache[key]


@dataclass(frozen=True, eq=False)
class _Stage:
    """All filters along one axis."""

    radius: int
    bands: tuple[_Band, ...]
    channels_in: int
    channels_out: int

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels_in, pre, n + 2 radius, post) -> (batch, channels_out, pre, n, post)."""
        batch, _, pre, padded, post = x.shape
        n = padded - 2 * self.radius
        out = x.new_zeros(batch, self.channels_out, pre, n, post)
        for band in self.bands:
            matrix = band.matrix(x)
            source = x[:, band.channel]
            for start in range(0, n, _BLOCK):
                size = min(_BLOCK, n - start)
                window = source[:, :, start : start + size + 2 * self.radius]
                rows = matrix.view(len(band.outputs), _BLOCK, -1)[:, :size, : window.shape[2]]
                part = _left(rows.reshape(-1, window.shape[2]), window)
                part = part.view(batch, pre, len(band.outputs), size, post).transpose(1, 2)
                target = out[:, :, :, start : start + size]
                for i, o in enumerate(band.outputs):
                    target[:, o] += part[:, i]
        return out

    def adjoint(self, y: Tensor) -> Tensor:
        """(batch, channels_out, pre, n, post) -> (batch, channels_in, pre, n + 2 radius, post)."""
        batch, _, pre, n, post = y.shape
        x = y.new_zeros(batch, self.channels_in, pre, n + 2 * self.radius, post)
        for band in self.bands:
            matrix = band.matrix(y)
            for start in range(0, n, _BLOCK):
                size = min(_BLOCK, n - start)
                width = size + 2 * self.radius
                rows = matrix.view(len(band.outputs), _BLOCK, -1)[:, :size, :width].reshape(-1, width)
                part = y[:, list(band.outputs), :, start : start + size].transpose(1, 2)
                part = part.reshape(batch, pre, rows.shape[0], post)
                x[:, band.channel, :, start : start + width] += _left(rows.T, part)
        return x


def _left(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply axis -2 of x (batch, pre, n, post) by a matrix, with one large product where post is 1."""
    if x.shape[-1] == 1:
        return (x[..., 0] @ matrix.T)[..., None]
    batch, pre, n, post = x.shape
    flat = x.reshape(batch * pre, n, post)
    return torch.bmm(matrix.expand(batch * pre, *matrix.shape), flat).view(batch, pre, matrix.shape[0], post)


@dataclass(frozen=True, eq=False)
class SeparableFilter:
    """A linear map (..., *grid) -> (..., outputs, *grid) made of products of 1D filters.

    Parameters
    ----------
    stages : one per axis, first to last.
    border : see `chromamol.calculus.borders`.
    """

    stages: tuple[_Stage, ...]
    border: str

    @property
    def ndim(self) -> int:
        return len(self.stages)

    @property
    def radii(self) -> tuple[int, ...]:
        return tuple(stage.radius for stage in self.stages)

    @property
    def outputs(self) -> int:
        return self.stages[0].channels_out

    def forward(self, x: Tensor) -> Tensor:
        """(..., *grid) -> (..., outputs, *grid)."""
        lead, grid = x.shape[: x.ndim - self.ndim], list(x.shape[x.ndim - self.ndim :])
        for axis, (n, r) in enumerate(zip(grid, self.radii, strict=True)):
            check_support(n, r, self.border, axis)
        y = x.reshape(math.prod(lead), 1, *grid)  # a -1 would refuse an empty batch
        for axis in reversed(range(self.ndim)):
            stage = self.stages[axis]
            y = extend(y, axis + 2, stage.radius, self.border)
            shape = [y.shape[0], y.shape[1], *_around(list(y.shape[2:]), axis)]
            y = stage.forward(y.reshape(shape))
            grid[axis] = output_length(grid[axis], stage.radius, self.border)
            y = y.reshape(y.shape[0], y.shape[1], *grid)
        return y.reshape(*lead, self.outputs, *grid)

    def adjoint(self, y: Tensor) -> Tensor:
        """(..., outputs, *grid) -> (..., *grid), the exact transpose of `forward`."""
        split = y.ndim - self.ndim - 1
        lead, grid = y.shape[:split], list(y.shape[split + 1 :])
        x = y.reshape(math.prod(lead), self.outputs, *grid)
        for axis, stage in enumerate(self.stages):
            x = stage.adjoint(x.reshape(x.shape[0], x.shape[1], *_around(grid, axis)))
            grid[axis] += 2 * stage.radius
            x = fold(x.reshape(x.shape[0], x.shape[1], *grid), axis + 2, stage.radius, self.border)
            grid[axis] = x.shape[axis + 2]
        return x.reshape(*lead, *grid)


def separable_filter(
    outputs: Sequence[Mapping[MultiIndex, float]],
    taps: Sequence[Mapping[int, FloatField]],
    *,
    border: str,
) -> SeparableFilter:
    """Build the filter whose output o is Σ_α outputs[o][α] Π_axis taps[axis][α_axis].

    Parameters
    ----------
    outputs : for each output, the derivatives α that it sums and their factors.
    taps : for each axis, the 1D taps of every order in use; one length per axis.
    """
    ndim = len(taps)
    stages: list[_Stage] = []
    channels: list[MultiIndex] = [()]  # what has been applied so far: the tail of α
    for axis in reversed(range(ndim)):
        last = axis == 0
        tails = sorted({alpha[axis:] for out in outputs for alpha in out})
        bands = []
        for c, done in enumerate(channels):
            rows: dict[int, FloatField] = {}
            if last:
                for o, out in enumerate(outputs):
                    for alpha, factor in out.items():
                        if alpha[1:] == done:
                            rows[o] = rows.get(o, 0.0) + factor * taps[0][alpha[0]]
            else:
                rows = {i: taps[axis][t[0]] for i, t in enumerate(tails) if t[1:] == done}
            bands.append(_Band(c, tuple(rows), np.stack(list(rows.values()))))
        radius = bands[0].taps.shape[1] // 2
        stages.insert(0, _Stage(radius, tuple(bands), len(channels), len(outputs) if last else len(tails)))
        channels = tails
    return SeparableFilter(tuple(stages), border)


def _around(grid: list[int], axis: int) -> list[int]:
    """Collapse a grid to (before, axis, after)."""
    return [int(np.prod(grid[:axis], dtype=int)), grid[axis], int(np.prod(grid[axis + 1 :], dtype=int))]
