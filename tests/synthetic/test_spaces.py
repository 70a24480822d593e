"""The two spaces: exactness, convergence order, conservation, symmetry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chromamol.errors import FieldError
from chromamol.synthetic.shapes import nucleus_mask
from chromamol.synthetic.spaces import PeriodicBox, WalledNucleus, wall_per_length


def disc(pixels: int) -> tuple[np.ndarray, float]:
    h = 2.4 / pixels
    y, x = (np.mgrid[:pixels, :pixels] - (pixels - 1) / 2) * h
    return np.hypot(y, x) < 1.0, h


def test_spectral_laplacian_is_exact_on_waves() -> None:
    box = PeriodicBox.build((24, 30), (0.1, 0.2))
    y, x = np.meshgrid(0.1 * np.arange(24), 0.2 * np.arange(30), indexing="ij")
    ky, kx = 2 * np.pi * 3 / 2.4, 2 * np.pi * 4 / 6.0
    wave = torch.as_tensor(np.sin(ky * y) * np.cos(kx * x))
    torch.testing.assert_close(box.laplacian(wave), -(ky**2 + kx**2) * wave, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("ndim", [2, 3])
def test_walled_laplacian_conserves_is_symmetric_and_never_positive(ndim: int) -> None:
    mask = nucleus_mask(1.2, (0.1,) * ndim, rng=np.random.default_rng(0))
    space = WalledNucleus.build(mask, (0.1,) * ndim)
    a, b = (torch.as_tensor(np.random.default_rng(s).standard_normal(mask.shape) * mask) for s in (1, 2))
    scale = float(space.laplacian(a).abs().sum())
    assert abs(float(space.laplacian(a).sum())) < 1e-13 * scale
    assert float((b * space.laplacian(a)).sum()) == pytest.approx(float((a * space.laplacian(b)).sum()))
    assert float((a * space.laplacian(a)).sum()) < 0.0


def test_walled_laplacian_vanishes_on_constants_and_outside() -> None:
    mask, h = disc(20)
    space = WalledNucleus.build(mask, (h, h))
    rounding = np.finfo(float).eps * float(space.own.abs().max())
    assert float(space.laplacian(space.inside).abs().max()) < rounding
    rough = torch.as_tensor(np.random.default_rng(0).standard_normal(mask.shape) * mask)
    assert float(space.laplacian(rough)[~torch.as_tensor(mask)].abs().max()) == 0.0


def test_walled_laplacian_is_of_fourth_order_inside() -> None:
    """Manufactured: Δ sin(3y) cos(2x) = -13 sin(3y) cos(2x), away from the wall."""
    errors = []
    for pixels in (30, 60):
        mask, h = disc(pixels)
        y, x = (np.mgrid[:pixels, :pixels] - (pixels - 1) / 2) * h
        wave = np.sin(3 * y) * np.cos(2 * x)
        found = WalledNucleus.build(mask, (h, h)).laplacian(torch.as_tensor(wave * mask)).numpy()
        errors.append(np.abs(found + 13 * wave)[np.hypot(y, x) < 0.6].max())
    assert np.log2(errors[0] / errors[1]) > 3.7


def test_wall_has_the_length_of_the_smooth_outline() -> None:
    mask, h = disc(96)
    length = (wall_per_length(mask, (h, h)) * mask).sum() * h**2
    assert length == pytest.approx(2 * np.pi, rel=0.02)


def test_diffusion_in_a_walled_disc_decays_with_the_bessel_rate() -> None:
    """Smallest no-flux mode of a unit disc with one nodal line: rate 1.8412², from J1'(1.8412) = 0."""
    mask, h = disc(48)
    space = WalledNucleus.build(mask, (h, h))
    x = np.broadcast_to((np.arange(48) - 23.5) * h, mask.shape)
    mode = torch.as_tensor(np.where(mask, x, 0.0))
    for _ in range(3000):  # power iteration on 1 + (h² / 12) Δ, without the constant
        mode = mode + h**2 / 12.0 * space.laplacian(mode)
        mode = mode / mode.norm()
    rate = -float((mode * space.laplacian(mode)).sum())
    assert rate == pytest.approx(1.8412**2, rel=0.03)


def test_mask_that_touches_the_box_is_refused() -> None:
    mask = np.zeros((12, 12), dtype=bool)
    mask[0:6, 3:9] = True
    with pytest.raises(FieldError, match="touches the border"):
        WalledNucleus.build(mask, (1.0, 1.0))
