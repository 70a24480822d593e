"""Mirror images: an adjoint, a wall that lets nothing through, and an edge beyond which domains go on."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from chromamol.inverse.joint_beyond import RESEMBLANCE, mirror_images

CPU = torch.device("cpu")


def disc(shape, radius):
    centred = np.ix_(*(np.arange(n) - 0.5 * (n - 1) for n in shape))
    return np.asarray(sum(c**2 for c in centred) < radius**2)


def boxed(mask, margin):
    """The box of a nucleus, and what lies behind its wall."""
    box = tuple(n + margin for n in mask.shape)
    return np.pad(~mask, [(0, margin)] * mask.ndim, constant_values=True), box


@pytest.mark.parametrize("shape", [(30, 34), (12, 16, 14)])
def test_gathering_is_the_adjoint_of_adding(shape):
    mask = disc(shape, 0.4 * min(shape))
    behind, box = boxed(mask, 8)
    images = mirror_images(mask, behind, (0.04,) * len(shape), device=CPU)
    generator = torch.Generator().manual_seed(0)
    source, potential = (torch.randn((2, *box), generator=generator, dtype=torch.float64) for _ in range(2))
    left = (images.add_to_(source.clone(), len(box)) * potential).sum()
    right = (source * images.gather_(potential.clone(), len(box))).sum()
    assert images.at.numel() > 100
    assert float(left) == pytest.approx(float(right), rel=1e-12)


def potential_of(source):
    """Δ⁻¹ of a source without mean, by Fourier transform on the periodic box."""
    waves = np.ix_(*(2.0 * np.pi * np.fft.fftfreq(n) for n in source.shape))
    square = np.asarray(sum(k**2 for k in waves))
    square.flat[0] = np.inf
    return np.fft.ifftn(-np.fft.fftn(source) / square).real


def test_images_take_the_slope_from_a_flat_wall():
    mask = np.zeros((120, 64), bool)
    mask[40:80] = True
    rng = np.random.default_rng(0)
    domains = ndimage.gaussian_filter(rng.standard_normal(mask.shape), 3.0, mode="wrap") * mask
    domains -= mask * domains.mean(axis=1, keepdims=True)  # no wave is so long that it sees the other wall
    images = mirror_images(mask, ~mask, (0.04, 0.04), device=CPU)
    continued = images.add_to_(torch.as_tensor(domains.copy()), 2).numpy()
    alone, mirrored = (np.diff(potential_of(source), axis=0)[79] for source in (domains, continued))
    assert np.abs(mirrored).max() < 0.02 * np.abs(alone).max()


def test_a_source_before_a_bent_wall_is_as_deep_as_its_image():
    mask = disc((161, 161), 50.0)
    behind, _ = boxed(mask, 0)
    images = mirror_images(mask, behind, (0.04, 0.04), device=CPU)
    distance = np.hypot(*(np.mgrid[:161, :161] - 80.0)) - 50.0
    outside, inside = distance.ravel()[images.at[0]], distance.ravel()[images.of[0]]
    strip = outside < 20.0
    assert strip.sum() > 0.95 * np.pi * (70.0**2 - 50.0**2)
    # Pixels are round off by half a diagonal, and so is the way to the nearest one.
    np.testing.assert_allclose(inside[strip], -outside[strip], atol=1.6)
    assert (images.charge == 1.0).all()


def test_beyond_an_edge_of_the_image_domains_go_on_for_a_while():
    mask = np.ones((40, 30), bool)
    box = (64, 54)
    images = mirror_images(mask, np.zeros(box, bool), (0.04, 0.05), device=CPU)
    charge = np.zeros(box)
    charge.ravel()[images.at[0]] = images.charge[0]
    depth = (np.arange(12) + 0.5) * 0.04
    expected = np.clip(1.0 - 2.0 * depth / RESEMBLANCE, 0.0, None)
    np.testing.assert_allclose(charge[40:52, 15], expected, atol=1e-12)
    np.testing.assert_allclose(
        charge[:-13:-1, 15], expected, atol=1e-12
    )  # before the first row, by periodicity
    rows = np.arange(64)[:, None] + np.zeros(54, int)
    at, of = rows.ravel()[images.at[0]], rows.ravel()[images.of[0]]
    column = np.flatnonzero((images.at[0] % 54 == 15).numpy())
    beyond_last = at[column] >= 40
    near = at[column] < 52
    assert (of[column][beyond_last & near] == 79 - at[column][beyond_last & near]).all()
    assert (of[column][~near] == 63 - at[column][~near]).all()
