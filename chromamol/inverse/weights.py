"""Weights of equations by the covariance of their errors, C: what a fit spends most of its time on.

Test functions share pixels with their neighbours alone, so C is block tridiagonal in blocks of a few rows of the
lattice, and so is what is needed of its inverse:

    L_kk L_kkᵀ = C_kk - B_k-1 B_k-1ᵀ,    B_k = C_k+1,k L_kk⁻ᵀ,    G_k = B_k L_kk⁻¹,
    W_kk = (L_kk L_kkᵀ)⁻¹ + G_kᵀ W_k+1,k+1 G_k,    W_k+1,k = -W_k+1,k+1 G_k

By count about half of the operations of a full matrix for 676 functions, a quarter for 1296. On a GPU, where blocks
would be too small, the matrix is full.

References
----------
Takahashi, Fagan & Chen, Proc. 8th PICA Conf. (1973), 63; Erisman & Tinney, Commun. ACM 18, 177 (1975),
doi:10.1145/360680.360704 (elements of the inverse of a sparse matrix).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import blas, lapack
from torch import Tensor

_COVARIANCE_FLOOR = 1e-4
"""Relative addition to the diagonal of C: keeps sums that the noise model calls noise-free from deciding."""


def weights_of(
    covariance: np.ndarray, *, device: torch.device, blocks: Sequence[slice] | None = None
) -> Weights:
    """Factor C, symmetric, with a floor under its diagonal, which is added in place.

    `blocks` are the rows of consecutive blocks, of which only neighbours are correlated; None for one.
    """
    floor = _COVARIANCE_FLOOR * np.median(covariance.diagonal())
    np.fill_diagonal(covariance, covariance.diagonal() + floor)
    if device.type != "cpu":
        return DeviceWeights.of(covariance, device)
    return HostWeights.of(covariance, blocks or [slice(0, len(covariance))])


def mirrored(lower: np.ndarray) -> np.ndarray:
    """Return the symmetric matrix that has this lower triangle."""
    half = np.tril(lower)
    whole = half + half.T
    np.fill_diagonal(whole, half.diagonal())
    return np.asarray(whole)


@dataclass(frozen=True, eq=False)
class HostWeights:
    """By LAPACK, block by block.

    Parameters
    ----------
    blocks : rows of each block.
    roots : L_kk, with anything above the diagonal.
    below : B_k, (rows of block k + 1, rows of block k).
    """

    blocks: Sequence[slice]
    roots: list[np.ndarray]
    below: list[np.ndarray]

    @classmethod
    def of(cls, covariance: np.ndarray, blocks: Sequence[slice]) -> HostWeights:
        """Factor C."""
        roots: list[np.ndarray] = []
        below: list[np.ndarray] = []
        for number, rows in enumerate(blocks):
            block = covariance[rows, rows]
            if number:
                before = blocks[number - 1]
                below.append(blas.dtrsm(1.0, roots[-1], covariance[rows, before], side=1, lower=1, trans_a=1))
                block = block - below[-1] @ below[-1].T
            root, failed = lapack.dpotrf(block, lower=1, clean=0)
            if failed:
                raise np.linalg.LinAlgError("The covariance of the equations is not positive definite.")
            roots.append(root)
        return cls(blocks, roots, below)

    def products(self, columns: np.ndarray, right_side: np.ndarray) -> np.ndarray:
        """Return [A b]ᵀ C⁻¹ [A b]."""
        stacked = np.column_stack([columns, right_side])
        whitened: list[np.ndarray] = []
        for number, (rows, root) in enumerate(zip(self.blocks, self.roots, strict=True)):
            part = stacked[rows]
            if number:
                part = part - self.below[number - 1] @ whitened[-1]
            whitened.append(blas.dtrsm(1.0, root, part.T, side=1, lower=1, trans_a=1).T)
        together = np.concatenate(whitened)
        return np.asarray(together.T @ together)

    def inverse(self) -> np.ndarray:
        """Return C⁻¹: the lower triangle of every block of C, what is above it is undefined, and 0 elsewhere."""
        last = self.blocks[-1]
        inverse = np.zeros((last.stop, last.stop))
        for number in reversed(range(len(self.blocks))):
            rows, root = self.blocks[number], self.roots[number]
            own, _ = lapack.dpotri(root, lower=1)
            if number + 1 < len(self.blocks):
                ahead = blas.dtrsm(1.0, root, self.below[number], side=1, lower=1)  # G
                after = self.blocks[number + 1]
                inverse[after, rows] = -mirrored(inverse[after, after]) @ ahead
                own = own - ahead.T @ inverse[after, rows]
            inverse[rows, rows] = own
        return inverse


@dataclass(frozen=True, eq=False)
class DeviceWeights:
    """By torch; `root` is the lower Cholesky factor of C."""

    root: Tensor

    @classmethod
    def of(cls, covariance: np.ndarray, device: torch.device) -> DeviceWeights:
        """Factor C on a device."""
        root, failed = torch.linalg.cholesky_ex(torch.as_tensor(covariance, device=device))
        if failed:
            raise np.linalg.LinAlgError("The covariance of the equations is not positive definite.")
        return cls(root)

    def products(self, columns: np.ndarray, right_side: np.ndarray) -> np.ndarray:
        """Return [A b]ᵀ C⁻¹ [A b]."""
        stacked = torch.as_tensor(np.column_stack([columns, right_side]), device=self.root.device)
        whitened = torch.linalg.solve_triangular(self.root, stacked, upper=False)
        return (whitened.T @ whitened).cpu().numpy()

    def inverse(self) -> np.ndarray:
        """Return C⁻¹."""
        return torch.cholesky_inverse(self.root).cpu().numpy()


Weights = HostWeights | DeviceWeights
"""C⁻¹ of one tile's equations."""
