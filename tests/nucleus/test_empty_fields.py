"""A field without nuclei has none, and says so at once."""

import numpy as np
import pytest
from scipy import ndimage

from chromamol.nucleus import segment_nuclei

SHAPE = (200, 240)
FIELDS = {
    "gaussian": lambda rng: rng.normal(100, 10, SHAPE),
    "poisson": lambda rng: rng.poisson(50, SHAPE),
    "smoothed": lambda rng: ndimage.gaussian_filter(rng.normal(0, 10, SHAPE), 1.0) + 100,
    "constant": lambda rng: np.full(SHAPE, 7),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_noise_holds_no_nuclei(kind):
    assert segment_nuclei(FIELDS[kind](np.random.default_rng(0))).max() == 0


def test_a_nucleus_in_noise_is_still_found():
    y, x = np.indices(SHAPE)
    disc = (y - 90) ** 2 + (x - 120) ** 2 < 30**2
    image = 100 + 60 * disc + np.random.default_rng(0).normal(0, 10, SHAPE)
    labels = segment_nuclei(image)
    assert labels.max() == 1
    assert np.count_nonzero((labels > 0) ^ disc) < 0.1 * np.count_nonzero(disc)
