import math

import numpy as np
import pytest
from scipy import ndimage

from chromamol.errors import FieldError
from chromamol.nucleus.boxes import label_boxes, shadow_sizes
from chromamol.nucleus.geometry import find_nuclei

SPACING = (0.1, 0.1)


def discs(centres, radii, shape=(400, 600)):
    y, x = np.indices(shape)
    labels = np.zeros(shape, dtype=np.int32)
    for name, ((cy, cx), r) in enumerate(zip(centres, radii, strict=True), start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= r**2] = name
    return labels


def picture(labels, blur=2.0):
    return 100.0 + 1000 * ndimage.gaussian_filter((labels > 0).astype(float), blur)


GRID = [(100, 100), (100, 300), (100, 500), (300, 100), (300, 300)]


def test_a_nucleus_under_another_keeps_its_shadow():
    stack = np.zeros((4, 20, 30), np.int32)
    stack[0, 2:12, 2:12], stack[2:4, 0:15, 0:20] = 1, 9
    assert shadow_sizes(stack) == {1: 100, 9: 300}
    assert shadow_sizes(stack[0]) == {1: 100}
    assert shadow_sizes(0 * stack) == {}


def test_disc_has_its_area_diameter_and_centre():
    labels = discs([(200.0, 250.0)], [50])
    (nucleus,) = find_nuclei(labels, picture(labels), spacing_um=SPACING, margin_um=0.5)
    assert nucleus.equivalent_diameter_um == pytest.approx(10.0, rel=0.01)
    assert nucleus.area_um2 == pytest.approx(math.pi * 25, rel=0.01)
    assert math.isnan(nucleus.volume_um3)
    np.testing.assert_allclose(nucleus.centroid_um, (20.0, 25.0), atol=1e-9)
    assert nucleus.flags == ()
    assert nucleus.slices == (slice(145, 256), slice(195, 306))
    np.testing.assert_array_equal(nucleus.mask, labels[nucleus.slices] == 1)


def test_ball_in_anisotropic_pixels():
    spacing = (0.5, 0.2, 0.2)
    z, y, x = (np.arange(n) * h for n, h in zip((40, 100, 100), spacing, strict=True))
    ball = (z[:, None, None] - 10) ** 2 + (y[:, None] - 10) ** 2 + (x - 10) ** 2 <= 36
    labels = ball.astype(np.int32)
    (nucleus,) = find_nuclei(labels, picture(labels), spacing_um=spacing)
    assert nucleus.volume_um3 == pytest.approx(4 / 3 * math.pi * 216, rel=0.02)
    assert nucleus.equivalent_diameter_um == pytest.approx(12, rel=0.01)
    assert nucleus.area_um2 == pytest.approx(math.pi * 36, rel=0.02)
    np.testing.assert_allclose(nucleus.centroid_um, (10, 10, 10), atol=0.005)


def test_cut_nucleus_is_flagged_and_others_are_not():
    labels = discs([(20, 300), (200, 100)], [40, 40])
    cut, whole = find_nuclei(labels, picture(labels), spacing_um=SPACING)
    assert cut.flags == ("touches_border",)
    assert whole.flags == ()
    assert cut.slices[0].start == 0


@pytest.mark.parametrize(("radius", "flag"), [(14, "too_small"), (205, "too_large")])
def test_absolute_size_limits(radius, flag):
    labels = discs([(210, 300)], [radius], shape=(420, 600))
    (nucleus,) = find_nuclei(labels, picture(labels), spacing_um=SPACING)
    assert nucleus.flags == (flag,)


def test_size_relative_to_the_field():
    labels = discs(GRID, [30, 30, 30, 16, 60])
    flags = [n.flags for n in find_nuclei(labels, picture(labels), spacing_um=SPACING)]
    assert flags == [(), (), (), ("too_small",), ("too_large",)]


def test_blurred_nucleus_is_out_of_focus():
    labels = discs(GRID, [30] * 5)
    image = picture(labels)
    image[200:, :200] = picture(labels, blur=9.0)[200:, :200]
    flags = [n.flags for n in find_nuclei(labels, image, spacing_um=SPACING)]
    assert flags == [(), (), (), ("out_of_focus",), ()]


def test_edge_width_follows_the_blur():
    labels = discs([(200, 250)], [60])
    widths = [
        find_nuclei(labels, picture(labels, blur), spacing_um=SPACING)[0].edge_width_um for blur in (4, 8)
    ]
    # Edge of an erf of sd s (plus the 1 px of the measurement): rise over slope = sqrt(2 pi (s^2 + 1)).
    expected = [0.1 * math.sqrt(2 * math.pi * (s**2 + 1)) for s in (4, 8)]
    np.testing.assert_allclose(widths, expected, rtol=0.12)


def test_saturation_by_level_and_by_full_scale():
    labels = discs([(100, 100), (100, 300)], [30, 30])
    image = picture(labels).astype(np.uint16)
    image[90:110, 90:110] = 4095
    assert [n.flags for n in find_nuclei(labels, image, spacing_um=SPACING)] == [("saturated",), ()]
    # The same numbers as floats carry no full scale; a level given by the user does.
    floats = image.astype(float)
    assert [n.flags for n in find_nuclei(labels, floats, spacing_um=SPACING)] == [(), ()]
    given = find_nuclei(labels, floats, spacing_um=SPACING, saturation_level=4000)
    assert [n.flags for n in given] == [("saturated",), ()]


def test_one_hot_pixel_is_no_saturation():
    labels = discs([(100, 100)], [30])
    image = picture(labels).astype(np.uint16)
    image[100, 100] = 65535
    assert find_nuclei(labels, image, spacing_um=SPACING)[0].flags == ()


def test_gaps_in_labels_and_empty_labels():
    labels = discs([(100, 100), (100, 300)], [30, 30]) * 5
    image = picture(labels)
    assert [n.label for n in find_nuclei(labels, image, spacing_um=SPACING)] == [5, 10]
    assert find_nuclei(np.zeros_like(labels), image, spacing_um=SPACING) == []


def test_labels_may_have_any_numbers():
    """A list of all numbers up to 2e9 would take 16 GB."""
    labels = discs([(100, 100), (100, 300)], [30, 20])
    high = np.array([0, 2**31 - 1, 50_000_000], np.int32)[labels]
    one, other = (find_nuclei(each, picture(labels), spacing_um=SPACING) for each in (labels, high))
    assert [nucleus.label for nucleus in other] == [50_000_000, 2**31 - 1]
    assert [nucleus.slices for nucleus in other] == [nucleus.slices for nucleus in reversed(one)]
    np.testing.assert_array_equal(other[1].mask, one[0].mask)
    full = np.full((3, 4), 2**31 - 1, np.int32)
    assert list(label_boxes(full)) == [(2**31 - 1, (slice(0, 3), slice(0, 4)))]
    assert not list(label_boxes(np.zeros((0, 4), np.int32)))


def test_arguments_are_not_changed():
    labels = discs([(100, 100)], [30])
    image = picture(labels)
    before = labels.copy(), image.copy()
    find_nuclei(labels, image, spacing_um=SPACING)
    np.testing.assert_array_equal(labels, before[0])
    np.testing.assert_array_equal(image, before[1])


def test_misfit_is_refused():
    labels = discs([(100, 100)], [30])
    with pytest.raises(FieldError, match="one shape"):
        find_nuclei(labels, np.zeros((3, 3)), spacing_um=SPACING)
    with pytest.raises(FieldError, match="spacing"):
        find_nuclei(labels, picture(labels), spacing_um=(0.1,))
