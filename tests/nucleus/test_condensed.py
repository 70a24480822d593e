"""What the others of the field tell about a nucleus: condensed chromatin, and only that, is dead or mitotic."""

import numpy as np
import pytest
from scipy import ndimage

from chromamol.nucleus.geometry import find_nuclei

SPACING = (0.2, 0.2)
CENTRES = [(60, 60), (60, 180), (60, 300), (180, 60), (180, 180), (180, 300)]
RADIUS, LIGHT = 30, 200.0


def ellipse(centre, half_height, half_width, shape=(240, 360)):
    y, x = np.indices(shape)
    return ((y - centre[0]) / half_height) ** 2 + ((x - centre[1]) / half_width) ** 2 <= 1


def field(last, light):
    """Five ordinary nuclei and `last`, of that much light."""
    labels = np.zeros((240, 360), dtype=np.int32)
    image = np.zeros(labels.shape)
    masks = [ellipse(c, RADIUS, RADIUS) for c in CENTRES[:5]] + [last]
    for number, mask in enumerate(masks, start=1):
        labels[mask] = number
        image[mask] = light if number == len(masks) else LIGHT
    return labels, 50 + ndimage.gaussian_filter(image, 1.0)


@pytest.mark.parametrize(
    ("half_height", "half_width", "light", "flags"),
    [
        pytest.param(18, 18, 2.8 * LIGHT, ("dead",), id="pyknotic: all of its DNA in a third of the area"),
        pytest.param(10, 28, 3 * LIGHT, ("mitotic",), id="metaphase plate"),
        pytest.param(24, 24, 2.4 * LIGHT, ("mitotic",), id="round, with twice the DNA"),
        pytest.param(40, 40, 1.1 * LIGHT, (), id="G2: larger with more DNA"),
        pytest.param(30, 30, 1.5 * LIGHT, (), id="brighter stain alone"),
        pytest.param(22, 22, 1.2 * LIGHT, (), id="smaller alone"),
        pytest.param(20, 38, LIGHT, (), id="elongated alone"),
    ],
)
def test_condensed_nuclei(half_height, half_width, light, flags):
    labels, image = field(ellipse(CENTRES[5], half_height, half_width), light)
    nuclei = find_nuclei(labels, image, spacing_um=SPACING)
    assert nuclei[-1].flags == flags
    assert all(n.flags == () for n in nuclei[:-1])


def test_ragged_condensed_chromatin_is_mitotic():
    arms = ellipse(CENTRES[5], 8, 28) | ellipse(CENTRES[5], 28, 8)
    labels, image = field(arms, 3 * LIGHT)
    nucleus = find_nuclei(labels, image, spacing_um=SPACING)[-1]
    assert nucleus.solidity < 0.8
    assert nucleus.flags == ("mitotic",)


def test_a_cut_nucleus_is_not_judged_by_what_is_left_of_it():
    labels, image = field(ellipse((180, 357), 15, 15), 4 * LIGHT)
    assert find_nuclei(labels, image, spacing_um=SPACING)[-1].flags == ("touches_border",)


def test_without_others_nothing_is_condensed():
    labels, image = field(ellipse(CENTRES[5], 15, 15), 4 * LIGHT)
    labels[labels < 4] = 0
    assert all(n.flags == () for n in find_nuclei(labels, image, spacing_um=SPACING))


def test_shape_numbers_of_an_ellipse():
    labels = ellipse((100, 150), 20, 40).astype(np.int32)
    (nucleus,) = find_nuclei(labels, 1.0 + labels, spacing_um=SPACING)
    assert nucleus.elongation == pytest.approx(2.0, rel=0.01)
    assert nucleus.solidity == pytest.approx(1.0, abs=0.03)  # the hull spans the steps between pixels
    assert nucleus.contrast == pytest.approx(1.0)
