"""The same filters by fast Fourier transform: for wide supports, and for kernels that don't separate.

The field is extended at its borders first and transformed on a grid large enough that nothing wraps around,
so every border gives the same numbers as the direct filter, to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from chromamol.calculus.borders import check_support, extend, fold, output_length
from chromamol.calculus.separable import MultiIndex
from chromamol.shapes import FloatField


@dataclass(frozen=True, eq=False)
class FourierFilter:
    """A linear map (..., *grid) -> (..., outputs, *grid); see `chromamol.calculus.apply.LinearFilter`.

    Parameters
    ----------
    parts : for each output, the terms that it sums; a term is a tuple of arrays whose outer product are its
        taps: one per axis, or one array with all axes.
    radii : pixels on each side of the centre.
    border : see `chromamol.calculus.borders`.
    """

    parts: tuple[tuple[tuple[FloatField, ...], ...], ...]
    radii: tuple[int, ...]
    border: str
    _cache: dict[tuple[tuple[int, ...], torch.dtype, torch.device], Tensor] = field(default_factory=dict)

    @property
    def ndim(self) -> int:
        return len(self.radii)

    @property
    def outputs(self) -> int:
        return len(self.parts)

    def forward(self, x: Tensor) -> Tensor:
        """(..., *grid) -> (..., outputs, *grid)."""
        grid = x.shape[x.ndim - self.ndim :]
        for axis, (n, r) in enumerate(zip(grid, self.radii, strict=True)):
            check_support(n, r, self.border, axis)
            x = extend(x, axis - self.ndim, r, self.border)
        if not x.numel():  # the transform refuses an empty batch
            lengths = (output_length(n, r, self.border) for n, r in zip(grid, self.radii, strict=True))
            return x.new_zeros((*x.shape[: x.ndim - self.ndim], self.outputs, *lengths))
        size, axes = _transform_size(x.shape[x.ndim - self.ndim :]), self._axes
        spectrum = torch.fft.rfftn(x, s=size, dim=axes).unsqueeze(-self.ndim - 1)
        y = torch.fft.irfftn(spectrum * self._transfer(size, x).conj(), s=size, dim=axes)
        for axis, (n, r) in enumerate(zip(grid, self.radii, strict=True)):
            y = y.narrow(axis - self.ndim, 0, output_length(n, r, self.border))
        return y.contiguous()

    def adjoint(self, y: Tensor) -> Tensor:
        """(..., outputs, *grid) -> (..., *grid), the exact transpose of `forward`."""
        padded = [n + 2 * r for n, r in zip(y.shape[y.ndim - self.ndim :], self.radii, strict=True)]
        if not y.numel():
            lengths = padded if self.border == "valid" else y.shape[y.ndim - self.ndim :]
            return y.new_zeros((*y.shape[: y.ndim - self.ndim - 1], *lengths))
        size, axes = _transform_size(padded), self._axes
        spectrum = (torch.fft.rfftn(y, s=size, dim=axes) * self._transfer(size, y)).sum(-self.ndim - 1)
        x = torch.fft.irfftn(spectrum, s=size, dim=axes)
        for axis, (n, r) in enumerate(zip(padded, self.radii, strict=True)):
            x = fold(x.narrow(axis - self.ndim, 0, n), axis - self.ndim, r, self.border)
        return x.contiguous()

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.ndim, 0))

    def _transfer(self, size: tuple[int, ...], like: Tensor) -> Tensor:
        """Spectra of the taps, (outputs, *half spectrum), computed in float64 on the CPU and kept."""
        key = (size, like.dtype, like.device)
        if key not in self._cache:
            spectra = [sum(_spectrum(term, size) for term in terms) for terms in self.parts]
            dtype = torch.complex64 if like.dtype == torch.float32 else torch.complex128
            self._cache[key] = torch.from_numpy(np.stack(spectra)).to(dtype).to(like.device)
        return self._cache[key]


def fourier_filter(
    outputs: Sequence[Mapping[MultiIndex, float]],
    taps: Mapping[MultiIndex, tuple[FloatField, ...]],
    *,
    border: str,
) -> FourierFilter:
    """Build the filter whose output o is Σ_α outputs[o][α] taps[α].

    `taps` holds one 1D array per axis (a separable kernel) or a single array with all axes.
    """
    parts = tuple(
        tuple((factor * taps[alpha][0], *taps[alpha][1:]) for alpha, factor in out.items()) for out in outputs
    )
    first = next(iter(taps.values()))
    shape = first[0].shape if len(first) == 1 else tuple(t.size for t in first)
    return FourierFilter(parts, tuple(n // 2 for n in shape), border)


def _transform_size(grid: Sequence[int]) -> tuple[int, ...]:
    return tuple(next_fast_len(int(n), real=True) for n in grid)


def _spectrum(term: tuple[FloatField, ...], size: tuple[int, ...]) -> np.ndarray:
    if len(term) == 1:
        return np.fft.rfftn(term[0], s=size, axes=tuple(range(term[0].ndim)))
    spectra = [np.fft.fft(t, n) for t, n in zip(term[:-1], size[:-1], strict=True)]
    spectra.append(np.fft.rfft(term[-1], size[-1]))
    result = spectra[0]
    for s in spectra[1:]:
        result = np.multiply.outer(result, s)
    return result
