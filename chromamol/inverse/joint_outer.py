"""Potentials that chromatin outside the balanced region may cause inside it: what replaces a boundary condition.

Sources outside are white noise below a cut-off; the covariance K of the potential that they cause where the balance
holds has few directions of any size (a source's potential decays towards the inside like exp(-k d)), and these
directions, times their deviations, are the outer potentials.

References
----------
Tropp et al., SIAM J. Matrix Anal. Appl. 38, 1454 (2017), doi:10.1137/17M1111590 (the Nyström approximation).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

OUTER_SOURCE_SD = 4.0
OUTER_WAVENUMBER = 8.0
"""Strength (per pixel, over mean Γ) and cut-off (over √Γ_ac) of the outer sources. The exchange inside has
white-noise strengths of 0.5 to 3 up to a wave number of 8 / L0 (measured on simulated patterns)."""

FIRST_COUNT = 96
"""Directions looked for at first: 64 matter in 192² pixels of 7.5 L0 at 5 % noise, 31 in 96²; doubled until enough."""

_CHUNK = 8
"""Directions transformed at a time, which bounds the memory."""


def outer_potentials(
    inverse_laplacian: torch.Tensor, square_wavenumber: torch.Tensor, outside: torch.Tensor, balanced: torch.Tensor,
    *, smallest_norm: float, seed: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Return the potentials u_j, (r, *box), zero where the balance does not hold.

    Parameters
    ----------
    inverse_laplacian, square_wavenumber : symbols on the half spectrum of the box.
    outside, balanced : (*box) of 0 and 1.
    smallest_norm : directions whose norm over all pixels is smaller are left out.
    seed : of the random probes; which directions are found does not depend on it.
    """
    box = tuple(outside.shape)
    dims = tuple(range(-len(box), 0))
    root = OUTER_SOURCE_SD * torch.exp(-0.5 * (square_wavenumber / OUTER_WAVENUMBER**2) ** 2)

    def filtered(symbol: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfftn(symbol * torch.fft.rfftn(values, dim=dims), s=box, dim=dims)

    def neutral(values: torch.Tensor) -> torch.Tensor:
        return outside * (values - (outside * values).sum(dims, keepdim=True) / outside.sum())

    def covariance(values: torch.Tensor) -> torch.Tensor:
        seen = neutral(filtered(inverse_laplacian, balanced * values))
        return balanced * filtered(inverse_laplacian, neutral(filtered(root**2, seen)))

    generator = torch.Generator(device=outside.device).manual_seed(seed)
    available, count = int(balanced.sum()), FIRST_COUNT
    while True:
        found, norms = _nystroem(covariance, balanced, min(count, available), generator)
        if norms[-1] < smallest_norm or count >= available:
            keep = norms >= smallest_norm
            return (found[:, keep] * norms[keep]).T.reshape(-1, *box)
        count *= 2


def _nystroem(
    covariance: Callable[[torch.Tensor], torch.Tensor], balanced: torch.Tensor, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return eigenvectors in columns and roots of the eigenvalues, largest first."""
    probes = torch.randn(
        (count, *balanced.shape), generator=generator, dtype=balanced.dtype, device=balanced.device
    )
    probes = torch.linalg.qr((probes * balanced).flatten(1).T)[0]
    images = torch.cat([
        covariance(part.reshape(-1, *balanced.shape)).flatten(1) for part in probes.T.split(_CHUNK)
    ]).T  # fmt: skip
    # The shift keeps the small matrix definite in floating point and is taken off again.
    shift = 10.0 * torch.finfo(balanced.dtype).eps * images.norm()
    images = images + shift * probes
    factor = torch.linalg.cholesky(probes.T @ images)
    square_root = torch.linalg.solve_triangular(factor.T, images, upper=True, left=False)
    vectors, values, _ = torch.linalg.svd(square_root, full_matrices=False)
    return vectors, (values.square() - shift).clamp_min(0.0).sqrt()
