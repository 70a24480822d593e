"""One plane of a stack and the wanted channels only: what is kept is right, and no more is read than that."""

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

import chromamol as cm
from chromamol.errors import AxesError, ParameterError
from chromamol.io import reading
from chromamol.io.planes import choose_plane

SHARP = 2


@pytest.fixture(scope="module")
def stack():
    """(z, channel, y, x): detail blurred with the distance from plane 2."""
    rng = np.random.default_rng(0)
    detail = 1000.0 * rng.random((2, 40, 50))
    planes = [gaussian_filter(detail, (0, abs(z - SHARP) + 0.5, abs(z - SHARP) + 0.5)) for z in range(6)]
    return np.stack(planes).astype(np.uint16)


@pytest.fixture(params=[None, "zlib"])
def path(stack, tmp_path, request):
    """As OME-TIFF, whose planes are read one by one when it is compressed."""
    tifffile.imwrite(tmp_path / "stack.ome.tif", stack, ome=True, compression=request.param, photometric="minisblack",
                     metadata={"axes": "ZCYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.3,
                               "Channel": {"Name": ["DNA", "mark"]}})  # fmt: skip
    return tmp_path / "stack.ome.tif"


@pytest.mark.parametrize(("which", "plane"), [(0, 0), ("3", 3), ("middle", 3), ("sharpest", SHARP)])
def test_the_plane_that_was_asked_for(path, stack, which, plane):
    image = cm.read_image(path, z_plane=which)
    assert not image.is_stack
    np.testing.assert_array_equal(image.data, stack[plane])
    assert f"z plane {plane} of 6" in image.axes_note


def test_the_maximum_says_that_it_is_no_density(path, stack):
    image = cm.read_image(path, z_plane="max")
    np.testing.assert_array_equal(image.data, stack.max(axis=0))
    assert "no densities" in image.axes_note
    assert image.flags == ("projected_maximum",)
    assert cm.read_image(path, z_plane="sharpest").flags == ()
    tifffile.imwrite(path, stack[:1], ome=True, metadata={"axes": "ZCYX"}, photometric="minisblack")
    assert cm.read_image(path, z_plane="max").flags == ()


def ball():
    """A nucleus in a stack of 11 planes, widest on plane 5, over a dark level of 100."""
    z, y, x = np.ogrid[-5:6, -10:11, -10:11]
    return 100.0 + 400.0 * ((2.0 * z) ** 2 + y**2 + x**2 < 95.0)


@pytest.mark.parametrize(("which", "off"), [(0, True), (3, True), (4, False), (5, False), (6, False), (8, True),
                                            ("middle", False)])  # fmt: skip
def test_a_plane_above_or_below_the_widest_section_says_so(which, off):
    stack = ball()
    chosen = choose_plane(lambda index: stack[index][None], len(stack), which, name="a")
    assert chosen.flags == (("off_centre_plane",) if off else ())
    assert ("more light" in chosen.note) == off


def test_of_the_widest_section_only_the_neighbours_are_looked_at():
    stack, seen = ball(), []
    choose_plane(lambda index: seen.append(index) or stack[index][None], len(stack), 5, name="a")
    assert sorted(seen) == [4, 5, 6]


def test_light_of_every_channel_counts_and_haze_and_noise_do_not():
    stack = np.stack([ball(), ball()[:, ::-1]], axis=1) + 50.0 * np.arange(11)[:, None, None, None]
    noise = np.random.default_rng(0).normal(0.0, 5.0, stack.shape)
    flags = [
        choose_plane(lambda i: (stack + noise)[i], 11, which, name="a").flags for which in (2, 4, 5, 6, 8)
    ]
    assert flags == [("off_centre_plane",), (), (), (), ("off_centre_plane",)]


@pytest.mark.parametrize("which", [1, "mark"])
def test_a_channel_keeps_its_number_and_name(path, stack, which):
    image = cm.read_image(path, channels=[which])
    np.testing.assert_array_equal(image.data, stack[None, :, 1])
    assert image.channel_names == ("mark",)
    for again in (1, "mark"):
        np.testing.assert_array_equal(image.channel(again), stack[:, 1])
    with pytest.raises(AxesError, match="1: 'mark'"):
        image.channel(0)
    both = cm.read_image(path, channels=["mark", 0], z_plane=4)
    np.testing.assert_array_equal(both.data, stack[4])


def test_planes_are_read_one_at_a_time(path, stack, monkeypatch):
    seen = []
    original = reading.choose_plane

    def watched(read, count, which, *, name):
        return original(lambda index: seen.append(read(index).shape) or read(index), count, which, name=name)

    monkeypatch.setattr(reading, "choose_plane", watched)
    cm.read_image(path, z_plane="max", channels=[0])
    assert seen == [(1, 40, 50)] * len(stack)


def test_a_flat_image_has_no_plane_to_choose_and_says_so(tmp_path, stack):
    tifffile.imwrite(tmp_path / "flat.tif", stack[0, 0])
    image = cm.read_image(tmp_path / "flat.tif", z_plane="middle")
    np.testing.assert_array_equal(image.data[0], stack[0, 0])
    assert "no z axis" in image.axes_note


def test_what_is_not_there_is_refused(path):
    with pytest.raises(AxesError, match="from 0 to 5"):
        cm.read_image(path, z_plane=6)
    with pytest.raises(ParameterError, match="sharpest"):
        cm.read_image(path, z_plane="best")
    with pytest.raises(ParameterError, match="z_plane"):
        cm.Settings(z_plane="best")
    with pytest.raises(ParameterError, match="index from 0"):
        choose_plane(lambda index: np.zeros((1, 2, 2)), 3, -1, name="a")
