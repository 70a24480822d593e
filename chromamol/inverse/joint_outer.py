"""Potentials that chromatin outside the balanced region may cause inside it: what replaces a boundary condition.

Sources outside are white noise below a cut-off; the covariance K of the potential that they cause where the balance
holds has few directions of any size (a source's potential decays towards the inside like exp(-k d)), and these
directions, times their deviations, are the outer potentials.

References
----------
Tropp et al., SIAM J. Matrix Anal. Appl. 38, 1454 (2017), doi:10.1137/17M1111590 (the Nyström approximation).
"""

from __future__ import annotations

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
    inverse_laplacian: torch.Tensor, square_wavenumber: torch.Tensor, outside: torch.Tensor, holding: torch.Tensor,
    *, smallest_norm: float, seed: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Return the potentials u_j where the balance holds, (r, n).

    Parameters
    ----------
    inverse_laplacian, square_wavenumber : symbols on the half spectrum of the box.
    outside : (*box) of 0 and 1.
    holding : (n,), flat indices of the box's pixels where the balance holds.
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

    def covariance(columns: torch.Tensor) -> torch.Tensor:
        values = outside.new_zeros((columns.shape[1], outside.numel())).index_copy_(1, holding, columns.T)
        seen = neutral(filtered(inverse_laplacian, values.reshape(-1, *box)))
        caused = filtered(inverse_laplacian, neutral(filtered(root**2, seen)))
        return caused.flatten(1)[:, holding].T

    generator = torch.Generator(device=outside.device).manual_seed(seed)
    count = min(FIRST_COUNT, len(holding))
    probes = images = outside.new_zeros((len(holding), 0))
    while True:
        fresh = torch.randn((len(holding), count - probes.shape[1]), generator=generator, dtype=outside.dtype,
                            device=outside.device)  # fmt: skip
        fresh.addmm_(probes, probes.T @ fresh, alpha=-1.0)
        # Random directions are far from parallel, so this is as good as a QR factorisation, in place.
        _orthonormalise(fresh)
        first = probes.shape[1]
        probes = torch.cat([probes, fresh], 1)
        del fresh
        images = torch.cat([images, torch.empty_like(probes[:, first:])], 1)
        for start in range(first, count, _CHUNK):
            images[:, start : start + _CHUNK] = covariance(probes[:, start : start + _CHUNK])
        square_root, squares, turn = _nystroem(probes, images)
        norms = squares.sqrt()
        if norms[-1] < smallest_norm or count == len(holding):
            del probes, images
            keep = norms >= smallest_norm
            return turn[:, keep].T @ square_root.T
        count = min(2 * count, len(holding))


def _orthonormalise(columns: torch.Tensor) -> None:
    """Make the columns orthonormal in place: by their Gram matrix, twice for the rounding."""
    for _ in range(2):
        factor = torch.linalg.cholesky(columns.T @ columns)
        columns.copy_(torch.linalg.solve_triangular(factor.T, columns, upper=True, left=False))


def _nystroem(probes: torch.Tensor, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return R, (n, r), eigenvalues, the largest first, and T: the columns of R T are eigenvectors times their roots.

    `probes` are orthonormal, `images` what the covariance makes of them.
    """
    # The shift keeps the small matrix definite in floating point and is taken off again.
    shift = 10.0 * torch.finfo(images.dtype).eps * images.norm()
    shifted = torch.add(images, probes, alpha=float(shift))
    factor = torch.linalg.cholesky(probes.T @ shifted)
    square_root = torch.linalg.solve_triangular(factor.T, shifted, upper=True, left=False)
    squares, turn = (part.flip(-1) for part in torch.linalg.eigh(square_root.T @ square_root))
    values = (squares - shift).clamp_min(0.0)
    return square_root, values, turn * (values / squares.clamp_min(shift)).sqrt()
