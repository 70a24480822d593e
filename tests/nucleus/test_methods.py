"""How a method is chosen, and what is said where it can't be had."""

import sys
import types

import numpy as np
import pytest

from chromamol.errors import ParameterError
from chromamol.nucleus import METHODS, segment_nuclei
from chromamol.nucleus.backends import FetchesWeights
from chromamol.pipeline import require_analysable
from chromamol.settings import Settings


@pytest.fixture
def disc():
    y, x = np.indices((120, 160))
    return 100 + 1000.0 * ((y - 60) ** 2 + (x - 70) ** 2 < 25**2)


@pytest.fixture
def fake(monkeypatch, disc):
    """Stand in for Cellpose and StarDist; both see one nucleus, and remember what they were asked."""
    asked = {}
    answer = (disc > 500).astype(np.uint16)

    class Cellpose:
        def __init__(self, **options):
            asked.update(options)

        def eval(self, image, **options):
            asked.update(options, shape=image.shape)
            return np.broadcast_to(answer, image.shape), None, None

    class StarDist2D:
        @classmethod
        def from_pretrained(cls, name):
            asked["name"] = name
            return cls()

        def predict_instances(self, image):
            asked["range"] = (image.min(), image.max())
            return answer, {}

    for package, names in {
        "cellpose": {"CellposeModel": Cellpose},
        "stardist": {"StarDist2D": StarDist2D},
    }.items():
        models = types.ModuleType(f"{package}.models")
        for name, value in names.items():
            setattr(models, name, value)
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
        monkeypatch.setitem(sys.modules, f"{package}.models", models)
    return asked


@pytest.mark.parametrize("method", ["cellpose", "stardist"])
def test_an_absent_package_is_named_with_the_way_to_get_it(method, disc, monkeypatch):
    monkeypatch.setitem(sys.modules, f"{method}.models", None)
    with pytest.raises(ParameterError, match=f"pip install {method}"):
        segment_nuclei(disc, method=method)


@pytest.mark.parametrize("method", ["cellpose", "stardist"])
def test_a_package_that_fetches_weights_says_so_and_is_used(method, disc, fake):
    with pytest.warns(FetchesWeights, match="downloads"):
        labels = segment_nuclei(disc, method=method)
    np.testing.assert_array_equal(labels, (disc > 500).astype(np.int32))
    assert fake


def test_cellpose_gets_diameter_and_anisotropy(disc, fake):
    stack = np.repeat(disc[None], 8, axis=0)
    with pytest.warns(FetchesWeights):
        segment_nuclei(stack, pixel_size_um=(0.6, 0.2, 0.2), method="cellpose")
    assert fake["do_3D"]
    assert fake["anisotropy"] == pytest.approx(3.0)
    assert 10 < fake["diameter"] < 80


@pytest.mark.parametrize("method", ["network", "stardist"])
def test_methods_for_planes_refuse_stacks_and_oblong_pixels(method, disc):
    with pytest.raises(ParameterError, match="classical"):
        segment_nuclei(np.stack([disc] * 4), method=method)
    with pytest.raises(ParameterError, match="square"):
        segment_nuclei(disc, pixel_size_um=(0.2, 0.1), method=method)


def test_auto_takes_what_can_take_the_image(disc):
    np.testing.assert_array_equal(segment_nuclei(disc), segment_nuclei(disc, method="network"))
    oblong = segment_nuclei(disc, pixel_size_um=(0.2, 0.1))
    np.testing.assert_array_equal(oblong, segment_nuclei(disc, pixel_size_um=(0.2, 0.1), method="classical"))


def test_unknown_methods_are_refused_before_any_image_is_read(disc):
    with pytest.raises(ParameterError, match=METHODS[0]):
        segment_nuclei(disc, method="otsu")
    with pytest.raises(ParameterError, match="stardist"):
        require_analysable(Settings(segmentation_method="otsu"))
