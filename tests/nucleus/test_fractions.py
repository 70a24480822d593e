"""Where chromatin is a volume fraction, the nucleus is where there is some."""

import numpy as np
from scipy import ndimage

from chromamol.nucleus.fractions import label_fractions

RNG = np.random.default_rng(0)


def test_a_disc_with_domains_is_one_nucleus_to_the_pixel():
    y, x = np.indices((120, 140))
    disc = (y - 60) ** 2 + (x - 70) ** 2 < 45**2
    total = np.where(disc, np.where(np.sin(x / 5) * np.sin(y / 5) > 0.4, 0.95, 0.28), 0.0)
    labels = label_fractions(total + 0.02 * RNG.standard_normal(total.shape))
    assert labels.max() == 1
    assert np.all(labels[ndimage.binary_erosion(disc)] == 1)
    assert not np.any(labels[~ndimage.binary_dilation(disc, iterations=2)])


def test_two_nuclei_have_two_numbers_and_specks_none():
    total = np.zeros((80, 160))
    total[20:60, 20:60] = total[20:60, 100:140] = 0.4
    total[5:8, 80:83] = 0.4
    labels = label_fractions(total)
    assert sorted(np.unique(labels)) == [0, 1, 2]
    assert labels[6, 81] == 0


def test_noise_alone_is_no_nucleus():
    assert label_fractions(0.02 * RNG.standard_normal((90, 90))).max() == 0
