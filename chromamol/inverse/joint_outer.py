"""Potentials that chromatin outside the balanced region may cause inside it: what replaces a boundary condition.

Sources outside differ from what is expected of them (`joint_beyond`) by white noise below a cut-off. The covariance K
of the potential that this causes where the balance holds has few directions of any size (a source's potential decays
towards the inside like exp(-k d)), and these directions, times their deviations, are the outer potentials.

References
----------
Tropp et al., SIAM J. Matrix Anal. Appl. 38, 1454 (2017), doi:10.1137/17M1111590 (the Nyström approximation).
"""

from __future__ import annotations

import math

import torch

EDGE_SOURCE_SD, WALL_SOURCE_SD = 4.0, 1.0
OUTER_WAVENUMBER = 8.0
"""Strength (per pixel, over mean Γ) of the outer sources beyond an edge of the image and behind a wall, and their
cut-off (over √Γ_ac). The exchange inside has white-noise strengths of 0.5 to 3 up to a wave number of 8 / L0 (measured
on simulated patterns). Behind a wall they correct the mirror images: closed nuclei ask for .4 to .6 of this strength,
and for .6 to 1.1 when the mask is two pixels too small."""

FIRST_COUNT = 96
"""Directions looked for at first: 115 matter in 192² pixels of 7.5 L0 at 5 % noise, 219 in 400²."""

_CHUNK, _ROWS = 8, 16384
"""Directions transformed and pixels multiplied at a time, which bounds the memory."""


def outer_potentials(
    inverse_laplacian: torch.Tensor, square_wavenumber: torch.Tensor, strength: torch.Tensor, holding: torch.Tensor,
    *, smallest_norm: float, seed: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Return the potentials u_j where the balance holds, (r, n).

    Parameters
    ----------
    inverse_laplacian, square_wavenumber : symbols on the half spectrum of the box.
    strength : (*box), of the sources; 0 inside.
    holding : (n,), flat indices of the box's pixels where the balance holds.
    smallest_norm : directions whose norm over all pixels is smaller are left out.
    seed : of the random probes; which directions are found does not depend on it.
    """
    if not strength.any():
        return strength.new_zeros((0, len(holding)))
    box = tuple(strength.shape)
    dims = tuple(range(-len(box), 0))
    outside = (strength > 0.0).to(strength)
    root = torch.exp(-0.5 * (square_wavenumber / OUTER_WAVENUMBER**2) ** 2)

    def filtered(symbol: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfftn(symbol * torch.fft.rfftn(values, dim=dims), s=box, dim=dims)

    def neutral(values: torch.Tensor) -> torch.Tensor:
        return outside * (values - (outside * values).sum(dims, keepdim=True) / outside.sum())

    def covariance(columns: torch.Tensor) -> torch.Tensor:
        values = outside.new_zeros((columns.shape[1], outside.numel())).index_copy_(1, holding, columns.T)
        seen = neutral(filtered(inverse_laplacian, values.reshape(-1, *box)))
        caused = filtered(inverse_laplacian, neutral(strength * filtered(root**2, strength * seen)))
        return caused.flatten(1)[:, holding].T

    generator = torch.Generator(device=outside.device).manual_seed(seed)
    count = min(FIRST_COUNT, len(holding))
    probes = images = outside.new_zeros((len(holding), 0))
    while True:
        first = probes.shape[1]
        probes, images = (_widened(part, count) for part in (probes, images))
        fresh = probes[:, first:].normal_(generator=generator)
        fresh.addmm_(probes[:, :first], probes[:, :first].T @ fresh, alpha=-1.0)
        # Random directions are far from parallel, so this is as good as a QR factorisation, in place.
        _orthonormalise(fresh)
        for start in range(first, count, _CHUNK):
            images[:, start : start + _CHUNK] = covariance(probes[:, start : start + _CHUNK])
        shift, inverse_root, norms, turn = _nystroem(probes, images)
        if norms[-1] < smallest_norm or count == len(holding):
            images.add_(probes, alpha=shift)
            del probes, fresh
            return (inverse_root @ turn[:, norms >= smallest_norm]).T @ images.T
        count = min(max(_enough(norms, smallest_norm), count + FIRST_COUNT // 2), len(holding))


def _widened(columns: torch.Tensor, count: int) -> torch.Tensor:
    """The same columns with room for more."""
    wide = columns.new_empty((len(columns), count))
    wide[:, : columns.shape[1]] = columns
    return wide


def _enough(norms: torch.Tensor, smallest: float) -> int:
    """How many directions exceed the smallest norm, if norms go on falling as over the last half; and a tenth."""
    half = norms[len(norms) // 2 :].log()
    fall = float(half[0] - half[-1]) / max(len(half) - 1, 1)
    return math.ceil(1.1 * (len(norms) + float(half[-1] - math.log(smallest)) / max(fall, 1e-3)))


def _orthonormalise(columns: torch.Tensor) -> None:
    """Make the columns orthonormal in place: by their Gram matrix, twice for the rounding."""
    for _ in range(2):
        factor = torch.linalg.cholesky(columns.T @ columns)
        columns.copy_(torch.linalg.solve_triangular(factor.T, columns, upper=True, left=False))


def _nystroem(
    probes: torch.Tensor, images: torch.Tensor
) -> tuple[float, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return σ, L⁻ᵀ, norms of eigenvectors times their roots, the largest first, and T.

    `probes` P are orthonormal, `images` I what the covariance makes of them; the columns of (I + σ P) L⁻ᵀ T are the
    eigenvectors times their roots. Rows are taken a part at a time, which bounds the memory.
    """
    # The shift keeps the small matrix definite in floating point and is taken off again.
    shift = 10.0 * torch.finfo(images.dtype).eps * float(images.norm())
    one = torch.eye(images.shape[1], dtype=images.dtype, device=images.device)
    small = probes.T @ images
    factor = torch.linalg.cholesky(0.5 * (small + small.T) + shift * one)
    inverse_root = torch.linalg.solve_triangular(factor, one, upper=False).T
    gram = torch.zeros_like(one)
    for image, probe in zip(images.split(_ROWS), probes.split(_ROWS), strict=True):
        root = torch.add(image, probe, alpha=shift) @ inverse_root
        gram += root.T @ root
    squares, turn = (part.flip(-1) for part in torch.linalg.eigh(gram))
    values = (squares - shift).clamp_min(0.0)
    return shift, inverse_root, values.sqrt(), turn * (values / squares.clamp_min(shift)).sqrt()
