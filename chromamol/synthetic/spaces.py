"""Where the synthetic chromatin lives: a periodic box, or a nucleus with a wall.

Both give a Laplacian over the last axes, and the symbol of a nearby operator that the fast Fourier
transform inverts exactly: the Laplacian itself in a box, its periodic extension for a walled nucleus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.ndimage import gaussian_filter

from chromamol.errors import FieldError
from chromamol.shapes import FloatField, Mask
from chromamol.synthetic.krylov import conjugate_gradients


def _wave_numbers(shape: Sequence[int], spacing: Sequence[float]) -> list[np.ndarray]:
    """Angular wave numbers along each axis, broadcastable; the last axis is halved (real transform)."""
    axes = [2.0 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(shape[:-1], spacing[:-1], strict=True)]
    axes.append(2.0 * np.pi * np.fft.rfftfreq(shape[-1], spacing[-1]))
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


@dataclass(frozen=True, eq=False)
class _FourierSpace:
    """What the two spaces share: a grid, cells that count, and a Laplacian symbol on a box around it."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    padded: tuple[int, ...]
    symbol: torch.Tensor
    inside: torch.Tensor
    wall_per_length: torch.Tensor

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(range(-self.ndim, 0))

    @property
    def cells(self) -> float:
        return float(self.inside.sum())

    def transform(self, values: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfftn(values, s=self.padded, dim=self.axes)

    def inverse_transform(self, values: torch.Tensor) -> torch.Tensor:
        whole = torch.fft.irfftn(values, s=self.padded, dim=self.axes)
        return whole[(..., *(slice(n) for n in self.shape))]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average over the cells that count, kept broadcastable."""
        return (values * self.inside).sum(self.axes, keepdim=True) / self.cells


@dataclass(frozen=True, eq=False)
class PeriodicBox(_FourierSpace):
    """A box whose opposite sides meet. Derivatives are spectral: exact up to the grid's own wave numbers."""

    @classmethod
    def build(
        cls, shape: Sequence[int], spacing: Sequence[float], *, device: torch.device | str = "cpu"
    ) -> PeriodicBox:
        symbol = torch.as_tensor(-sum(k**2 for k in _wave_numbers(shape, spacing)), device=device)
        ones = torch.ones(tuple(shape), dtype=torch.float64, device=device)
        return cls(tuple(shape), tuple(spacing), tuple(shape), symbol, ones, 0.0 * ones)

    @property
    def mode_weights(self) -> torch.Tensor:
        """How often each mode of the halved transform counts in Parseval's sum of squares, (n // 2 + 1,)."""
        weights = torch.full_like(self.symbol[(0,) * (self.ndim - 1)], 2.0)
        weights[0] = 1.0
        if self.shape[-1] % 2 == 0:
            weights[-1] = 1.0
        return weights

    def laplacian(self, values: torch.Tensor) -> torch.Tensor:
        return self.inverse_transform(self.symbol * self.transform(values))

    def solve_diffusion(
        self, right: torch.Tensor, quadratic: torch.Tensor, quartic: float, *, tolerance: float
    ) -> torch.Tensor:
        """Solve (1 - a Δ + b Δ²) u = `right`, exactly: `tolerance` is for spaces that iterate.

        Parameters
        ----------
        quadratic, quartic : a >= 0, broadcastable to `right`, and b >= 0.
        """
        symbol = self.symbol
        return self.inverse_transform(
            self.transform(right) / (1.0 - quadratic * symbol + quartic * symbol**2)
        )


@dataclass(frozen=True, eq=False)
class WalledNucleus(_FourierSpace):
    """The cells of a mask, with no flux through the wall: finite volumes.

    With L_a the second difference along axis a whose flux through the wall is zero, Δ is approximated by
    the sum of L_a - (h² / 12) L_a L_a: fourth order inside. It is symmetric and never positive, and every
    flux leaves one cell and enters its neighbour, so a Laplacian sums to zero over the nucleus, to
    rounding. Values outside the mask are held at zero. `symbol` is that of the same stencil on a whole
    box; it serves to precondition, never as the operator.

    Parameters
    ----------
    own : what the value of each cell weighs in Δ there, (*grid).
    others : (axis, step, weights): what that of the cell `step` further along the axis weighs, for all that have one.
    """

    own: torch.Tensor
    others: tuple[tuple[int, int, torch.Tensor], ...]

    @classmethod
    def build(
        cls, mask: Mask, spacing: Sequence[float], *, device: torch.device | str = "cpu"
    ) -> WalledNucleus:
        """Raise `FieldError` if the mask is empty or touches the box."""
        require_free_border(mask)
        # Lengths like 286 = 2 · 11 · 13 transform slowly; the box may be longer, it is cut off anyway.
        padded = tuple(next_fast_len(n, real=True) for n in mask.shape)
        waves = _wave_numbers(padded, spacing)
        seconds = [((2.0 - 2.0 * np.cos(k * h)) / h**2, h) for k, h in zip(waves, spacing, strict=True)]
        symbol = -sum(s + h**2 / 12.0 * s**2 for s, h in seconds)
        stencils = [_walled_stencil(mask, axis, h) for axis, h in enumerate(spacing)]
        others = [
            (axis, step, torch.as_tensor(weights, device=device))
            for axis, stencil in zip(range(-mask.ndim, 0), stencils, strict=True)
            for step, weights in stencil.items()
            if step
        ]
        return cls(
            mask.shape,
            tuple(spacing),
            padded,
            torch.as_tensor(symbol, device=device),
            torch.as_tensor(mask.astype(np.float64), device=device),
            torch.as_tensor(wall_per_length(mask, spacing), device=device),
            torch.as_tensor(np.sum([stencil[0] for stencil in stencils], axis=0), device=device),
            tuple(others),
        )

    def laplacian(self, values: torch.Tensor) -> torch.Tensor:
        out = self.own * values
        for axis, step, weights in self.others:
            cells = weights.shape[axis]
            here, there = max(0, -step), max(0, step)
            out.narrow(axis, here, cells).addcmul_(weights, values.narrow(axis, there, cells))
        return out

    def solve_diffusion(
        self, right: torch.Tensor, quadratic: torch.Tensor, quartic: float, *, tolerance: float
    ) -> torch.Tensor:
        """Solve (1 - a Δ + b Δ²) u = `right` to a residual of `tolerance`, keeping the mean exactly.

        Parameters
        ----------
        quadratic, quartic : a >= 0, broadcastable to `right`, and b >= 0.
        """
        multiplier = 1.0 / (1.0 - quadratic * self.symbol + quartic * self.symbol**2)

        def operator(values: torch.Tensor) -> torch.Tensor:
            return values - self.laplacian(quadratic * values - quartic * self.laplacian(values))

        def precondition(values: torch.Tensor) -> torch.Tensor:
            return self.inverse_transform(self.transform(values) * multiplier) * self.inside

        found = conjugate_gradients(
            operator, right, precondition=precondition, tolerance=tolerance, ndim=self.ndim
        )
        return found - self.mean(found - right) * self.inside


def _walled_stencil(mask: Mask, axis: int, spacing: float) -> dict[int, FloatField]:
    """By step along the axis, what cells that far off weigh in L - (h² / 12) L L at every cell that has one there.

    The weights are read off combs: of cells five apart no two reach the same one.
    """
    open_faces = (np.diff(mask.astype(np.int8), axis=axis) == 0) & np.take(
        mask, range(1, mask.shape[axis]), axis
    )
    faces = open_faces / spacing**2
    number = np.arange(mask.shape[axis]).reshape([-1 if a == axis else 1 for a in range(mask.ndim)])
    answers = []
    for first in range(5):
        comb = np.broadcast_to(number % 5 == first, mask.shape).astype(np.float64)
        second = _walled_second_derivative(comb, axis, faces)
        fourth = _walled_second_derivative(second, axis, faces)
        answers.append(second - spacing**2 / 12.0 * fourth)
    stencil = {}
    for step in range(-2, 3):
        asked = np.broadcast_to((number + step) % 5, mask.shape)[None]
        weights = np.take_along_axis(np.stack(answers), asked, axis=0)[0]
        have = range(max(0, -step), mask.shape[axis] - max(0, step))
        stencil[step] = np.ascontiguousarray(np.take(weights, have, axis))
    return stencil


def _walled_second_derivative(values: FloatField, axis: int, faces: FloatField) -> FloatField:
    """The second difference L; `faces` holds 1 / h² where two cells meet inside, 0 at the wall."""
    flux = np.diff(values, axis=axis) * faces
    closed = [(int(a == axis),) * 2 for a in range(values.ndim)]  # nothing flows through the ends of the box
    return np.diff(np.pad(flux, closed), axis=axis)


def wall_per_length(mask: Mask, spacing: Sequence[float]) -> np.ndarray:
    """Wall area over cell volume of each cell of a mask, in 1 / length.

    A staircase of cell faces is longer than the smooth wall it stands for (by 4 / π for a circle). Each
    face is therefore weighted with the cosine between it and the wall, whose normal comes from the
    mask smoothed over two pixels: the sum over the mask is then the area of the smooth wall.
    """
    smooth = gaussian_filter(mask.astype(np.float64), 2.0)
    gradient = (
        np.stack(np.gradient(smooth, *spacing)) if mask.ndim > 1 else np.gradient(smooth, *spacing)[None]
    )
    normal = np.abs(gradient) / np.maximum(np.linalg.norm(gradient, axis=0), 1e-12)
    area = np.zeros(mask.shape)
    for axis, h in enumerate(spacing):
        for shift in (1, -1):
            outside = ~np.roll(mask, shift, axis)
            area += (mask & outside) * normal[axis] / h
    return area


def require_free_border(mask: Mask) -> None:
    """Raise `FieldError` if the mask is empty or touches the box."""
    if not mask.any():
        raise FieldError("The nuclear mask is empty.", expected="a mask with at least one True pixel.",
                         do="pass the mask of one nucleus.")  # fmt: skip
    edges = [np.take(mask, i, axis=a).any() for a in range(mask.ndim) for i in (0, -1)]
    if any(edges):
        raise FieldError("The nuclear mask touches the border of its box.",
                         expected="at least one background pixel around the nucleus.",
                         do="pad the mask, for instance np.pad(mask, 2).")  # fmt: skip
