"""Weights of neighbouring equations against those of the full matrix."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from chromamol.grid import Grid
from chromamol.inverse.lattice import TestLattice
from chromamol.inverse.pair_products import NeighbourPairs
from chromamol.inverse.weights import DeviceWeights, mirrored, weights_of

CPU = torch.device("cpu")


def covariance_of(mask, *, reach, seed=0):
    """A covariance of the functions inside `mask`, in which only those within `reach` pixels have a part."""
    grid = Grid(mask.shape, (0.04,) * mask.ndim)
    lattice = TestLattice.inside_mask(grid, mask, (reach * 0.04,) * mask.ndim)
    tile = max(lattice.tiles(), key=lambda each: np.count_nonzero(each.inside))
    pairs = NeighbourPairs.of(tile)
    shape = [*pairs.tile.window]
    box = tuple(s.stop - s.start for s in shape)
    rng, rows = np.random.default_rng(seed), []
    for first in tile.corners:
        row = np.zeros(box)
        corner = [c - s.start for c, s in zip(first, shape, strict=True)]
        row[tuple(slice(c, c + n) for c, n in zip(corner, tile.stencil_shape, strict=True))] = 1.0
        rows.append((row * rng.uniform(0.5, 1.5, box)).ravel())
    return pairs, np.array(rows) @ np.array(rows).T


def disc(side, *, hole):
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    mask = y**2 + x**2 < 0.95
    return mask & ~(ndimage.gaussian_filter((np.abs(y) < 0.12).astype(float), 1) > 0.5) if hole else mask


@pytest.mark.parametrize(
    "mask",
    [np.ones((90, 70), bool), disc(110, hole=False), disc(150, hole=True), np.ones((40, 24, 30), bool),
     np.ones(90, bool)],
    ids=["box", "disc", "two halves", "3D", "1D"],
)  # fmt: skip
def test_blocks_weigh_as_the_full_matrix_does(mask):
    pairs, covariance = covariance_of(mask, reach=11.0)
    blocks = pairs.blocks()
    assert [b.start for b in blocks[1:]] == [b.stop for b in blocks[:-1]]
    assert blocks[-1].stop == len(covariance)
    full = DeviceWeights.of(covariance + 1e-4 * np.median(np.diag(covariance)) * np.eye(len(covariance)), CPU)
    weights = weights_of(covariance.copy(), device=CPU, blocks=blocks)
    columns, right = np.random.default_rng(1).standard_normal((2, len(covariance), 5))
    expected = full.products(columns, right[:, 0])
    np.testing.assert_allclose(
        weights.products(columns, right[:, 0]), expected, atol=1e-9 * np.abs(expected).max()
    )
    found, inverse = mirrored(weights.inverse()), full.inverse()
    at = pairs.first, pairs.second
    np.testing.assert_allclose(found[at], inverse[at], atol=1e-9 * np.abs(inverse).max())


def test_blocks_leave_out_no_pair():
    """Blocks that are not neighbours have no function in common pixels, in a mask of two halves as well."""
    pairs, covariance = covariance_of(disc(150, hole=True), reach=11.0)
    blocks = pairs.blocks()
    assert len(blocks) >= 3
    for number, rows in enumerate(blocks):
        for other in blocks[number + 2 :]:
            assert not covariance[rows, other].any()


@pytest.mark.parametrize(
    "factor", [DeviceWeights.of, lambda matrix, device: weights_of(matrix, device=device)]
)
def test_a_covariance_that_is_none_is_an_error(factor):
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        factor(-np.eye(12), CPU)
