"""Axes and channels are read as stated and refused where they are not; nothing is guessed."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from chromamol.errors import AxesError, FieldError, ImageContentError, ReadError
from chromamol.io import Micrograph, TimeSeries, check_content, read_image, source, tiff

RNG = np.random.default_rng(1)


def noise(*shape, dtype=np.uint16):
    return RNG.integers(1, 200, size=shape).astype(dtype)


@pytest.fixture
def write(tmp_path):
    def save(data, name="image.tif", **options):
        path = tmp_path / name
        tifffile.imwrite(path, data, **options)
        return path

    return save


def test_an_image_is_described_in_a_line_without_its_pixels():
    flat = Micrograph(np.zeros((2, 20, 30), np.uint16), ("DNA", "H3K9me3"), 0.0515)
    assert (
        repr(flat) == "Micrograph(image, uint16, (20, 30), 0.0515 um per pixel, channels: 'DNA', 'H3K9me3')"
    )
    stack = Micrograph(np.zeros((1, 5, 20, 30), np.float32), ("0",), None, 0.3)
    assert repr(stack) == (
        "Micrograph(image, float32, (5, 20, 30), pixel size unknown, 0.3 um between planes, channels: '0')"
    )


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("YX", (20, 30), (1, 20, 30)),
        ("ZYX", (5, 20, 30), (1, 5, 20, 30)),
        ("CYX", (3, 20, 30), (3, 20, 30)),
        ("ZCYX", (5, 3, 20, 30), (3, 5, 20, 30)),
        ("TZCYX", (1, 5, 3, 20, 30), (3, 5, 20, 30)),
    ],
)
@pytest.mark.parametrize("dialect", ["imagej", "ome"])
def test_stated_axes_become_channel_z_y_x(write, axes, shape, expected, dialect):
    data = noise(*shape)
    path = write(data, f"{dialect}.ome.tif" if dialect == "ome" else "ij.tif", metadata={"axes": axes},
                 imagej=dialect == "imagej", ome=dialect == "ome", photometric="minisblack")  # fmt: skip
    micrograph = read_image(path)
    order = [axes.index(a) for a in "TCZYX" if a in axes]
    np.testing.assert_array_equal(micrograph.data, data.transpose(order).reshape(expected))
    assert micrograph.data.dtype == data.dtype


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_values_and_number_type_are_kept(write, dtype, byteorder):
    data = noise(9, 11, dtype=dtype)
    micrograph = read_image(write(data, byteorder=byteorder))
    np.testing.assert_array_equal(micrograph.data[0], data)
    assert micrograph.data.dtype == data.dtype
    assert micrograph.data.dtype.isnative


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_large_file_stays_on_the_disk_and_is_never_changed(write, monkeypatch, byteorder):
    data = noise(3, 20, 30)
    path = write(data, byteorder=byteorder, metadata={"axes": "CYX"}, photometric="minisblack")
    monkeypatch.setattr(tiff, "MEMORY_MAP_BYTES", 100)
    micrograph = read_image(path)
    assert isinstance(micrograph.data, np.memmap) is (byteorder == "<"), "mapped where the byte order allows"
    np.testing.assert_array_equal(micrograph.channel(1), data[1])
    micrograph.data[:] = 0
    np.testing.assert_array_equal(read_image(path).data, data)


def test_an_image_larger_than_the_memory_is_refused(write, monkeypatch):
    path = write(noise(20, 30), compression="zlib")
    monkeypatch.setattr(source.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(ReadError, match="GB of memory are free"):
        read_image(path)


def test_sixteen_bit_samples_are_fluorophores(write):
    data = noise(20, 30, 3)
    micrograph = read_image(write(data, photometric="rgb"))
    np.testing.assert_array_equal(micrograph.channel(2), data[..., 2])
    assert micrograph.channel_names == ("0", "1", "2")
    assert "fluorophores" in micrograph.axes_note


def test_an_8_bit_rgb_export_says_what_that_means(write):
    data = noise(20, 30, 3, dtype=np.uint8)
    micrograph = read_image(write(data, photometric="rgb"))
    np.testing.assert_array_equal(micrograph.channel("Blue"), data[..., 2])
    assert "rescaled for display" in micrograph.axes_note
    assert micrograph.flags == ()


@pytest.mark.parametrize("samples", [(), (3,)])
def test_jpeg_is_said_to_have_lost_something_and_stays_the_picture_that_it_was(write, samples):
    data = noise(32, 48, *samples, dtype=np.uint8)
    kind = {"photometric": "rgb" if samples else "minisblack"}
    plain = read_image(write(data, "plain.tif", **kind))
    lossy = read_image(write(data, "lossy.tif", compression="jpeg", **kind))
    assert lossy.channel_names == plain.channel_names
    assert lossy.axes_note == (
        f"lossy compression (JPEG): noise and fine structure are altered; {plain.axes_note}"
    )
    assert (plain.flags, lossy.flags) == ((), ("lossy_compression",))


@pytest.mark.parametrize(("compression", "name"), [("webp", "WebP"), ("jpeg2000", "JPEG 2000")])
def test_compression_that_may_have_no_loss_is_named_and_raises_no_flag(write, compression, name):
    micrograph = read_image(
        write(noise(32, 48, 3, dtype=np.uint8), photometric="rgb", compression=compression)
    )
    assert f"compressed with {name}: if with loss" in micrograph.axes_note
    assert micrograph.flags == ()


@pytest.mark.parametrize("metadata", [None, {"axes": "QYX"}, {"axes": "IYX"}])
def test_planes_of_unknown_meaning_are_refused_until_the_user_says_what_they_are(write, metadata):
    data = noise(5, 20, 30)
    path = write(data, metadata=metadata, photometric="minisblack", compression="zlib")
    with pytest.raises(AxesError, match=r"not understood: \w of length 5.*--set axes=ZYX \(axes='ZYX' in"):
        read_image(path)
    assert read_image(path, axes="ZYX").data.shape == (1, 5, 20, 30)
    assert read_image(path, axes="cyx").data.shape == (5, 20, 30)
    np.testing.assert_array_equal(read_image(path, axes="TYX", time_index=3).data[0], data[3])


@pytest.mark.parametrize("axes", ["ZZX", "YX", "ZYXC", "QYX", "ZCX"])
def test_declared_axes_must_fit(write, axes):
    with pytest.raises(AxesError, match=r"one letter per axis.*--set axes=ZYX"):
        read_image(write(noise(5, 20, 30), photometric="minisblack"), axes=axes)


def test_a_stack_saved_as_channels_is_taken_for_one_only_if_its_labels_say_so(write):
    data = noise(12, 20, 30)
    silent = write(data, "silent.tif", imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(AxesError, match=r"12 channels without names.*--set axes=ZYX .* --set axes=CYX"):
        read_image(silent)
    assert read_image(silent, axes="CYX").data.shape == (12, 20, 30)
    labels = [f"z:{i + 1}/12 - embryo" for i in range(12)]
    labelled = write(data, "labelled.tif", imagej=True, metadata={"axes": "CYX", "Labels": labels})
    micrograph = read_image(labelled)
    assert micrograph.data.shape == (1, 12, 20, 30)
    assert "channel axis is z" in micrograph.axes_note


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_time_series_needs_a_time_point(write, compression):
    data = noise(4, 2, 20, 30)
    path = write(data, "series.ome.tif", metadata={"axes": "TCYX"}, ome=True, compression=compression,
                 photometric="minisblack")  # fmt: skip
    with pytest.raises(
        AxesError,
        match=r"4 time points, none was chosen.*from 0 to 3.*--time \(time_index in Python\), or give",
    ):
        read_image(path)
    with pytest.raises(AxesError, match="number 4 was asked for"):
        read_image(path, time_index=4)
    micrograph = read_image(path, time_index=2)
    np.testing.assert_array_equal(micrograph.data, data[2])
    assert "time point 2 of 4" in micrograph.axes_note


def test_one_of_several_scenes_must_be_chosen(tmp_path):
    path = tmp_path / "scenes.ome.tif"
    scenes = [noise(20, 30), noise(24, 36)]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for index, data in enumerate(scenes):
            side = 0.1 * (index + 1)
            size = {"PhysicalSizeX": side, "PhysicalSizeY": side}
            writer.write(data, metadata={"axes": "YX", "Name": f"well {index}", **size})
    with pytest.raises(
        AxesError, match=r"2 scenes, none was chosen.*0: 'well 0', 1: 'well 1'.* by its index or its name"
    ):
        read_image(path)
    for asked in (1, "well 1"):
        micrograph = read_image(path, scene=asked)
        np.testing.assert_array_equal(micrograph.data[0], scenes[1])
        assert micrograph.pixel_size_um == pytest.approx(0.2), "the scene's own, not the first one's"
    assert "scene 1 of 2 (well 1)" in micrograph.axes_note
    with pytest.raises(AxesError, match="2 was asked for"):
        read_image(path, scene=2)


def test_a_scene_that_is_a_number_is_an_index_and_text_that_means_two_is_refused(tmp_path):
    path = tmp_path / "scenes.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for index in range(3):
            tif.write(np.full((4, 5), index, np.uint8), metadata={"axes": "YX", "Name": str(index + 1)})
    for asked, index in ((2, 2), (0, 0), ("3", 2), ("0", 0)):
        assert read_image(path, scene=asked).data.max() == index
    with pytest.raises(AxesError, match=r"3 scenes, '2' was asked for, which fits 2 of them.*1: '2', 2: '3'"):
        read_image(path, scene="2")


def test_a_reduced_size_preview_is_no_second_scene(tmp_path):
    path = tmp_path / "preview.tif"
    data = noise(40, 60)
    with tifffile.TiffWriter(path) as writer:
        writer.write(data[::4, ::4], subfiletype=1, metadata=None)
        writer.write(data, metadata=None)
    micrograph = read_image(path)
    np.testing.assert_array_equal(micrograph.data[0], data)
    assert "1 reduced-size preview left out" in micrograph.axes_note


def test_channels_are_named_by_ome_and_imagej(write):
    data = noise(2, 20, 30)
    ome = write(data, "c.ome.tif", ome=True, photometric="minisblack",
                metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "AF568"]}})  # fmt: skip
    imagej = write(data, "c.tif", imagej=True, metadata={"axes": "CYX", "Labels": ["DAPI", "AF568"]})
    for path in (ome, imagej):
        assert read_image(path).channel_names == ("DAPI", "AF568")


def named(*names):
    return Micrograph(np.arange(len(names) * 6).reshape(len(names), 2, 3), names)


@pytest.mark.parametrize("which", [1, "1", "H2B", "h2b"])
def test_a_channel_is_found_by_index_and_name(which):
    micrograph = named("GFP", "H2B")
    assert micrograph.choose_channel(which).index == 1
    assert "'H2B'" in micrograph.choose_channel(which).reason
    np.testing.assert_array_equal(micrograph.channel(which), micrograph.data[1])


def test_a_single_channel_needs_no_name():
    assert named("whatever").choose_channel().reason == "the only channel of the image"


@pytest.mark.parametrize("which", [None, 2, -1, "2", "DAPI"])
def test_dna_is_never_guessed(which):
    with pytest.raises(AxesError, match=r"0: 'Hoechst', 1: 'GFP'.* by its index or its name"):
        named("Hoechst", "GFP").channel(which)


def test_a_number_that_is_index_and_name_of_two_channels_is_refused():
    with pytest.raises(AxesError, match="fits 2 channels"):
        named("1", "2", "3").channel("2")
    assert named("1", "2", "3").choose_channel(2).name == "3"
    with pytest.raises(AxesError, match="fits 2 channels"):
        named("DAPI", "dapi").channel("Dapi")


def test_an_image_without_a_channel_axis_is_refused():
    with pytest.raises(FieldError, match="channel axis first"):
        Micrograph(np.zeros((4, 5)), ("0",))


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (np.zeros((4, 5), np.uint16), "every pixel is 0"),
        (np.full((4, 5), 7.5), "every pixel is 7.5"),
        (np.array([[0.0, np.nan], [1.0, np.inf]]), "2 of 4 pixels are NaN or infinite"),
    ],
)
def test_pixels_that_hold_nothing_are_refused(plane, message):
    with pytest.raises(ImageContentError, match=f"a.tif: {message}"):
        check_content(plane, name="a.tif")
    check_content(np.arange(6).reshape(2, 3), name="a.tif")


# --- saturation --------------------------------------------------------------------------------------------


def test_each_channel_has_a_limit_of_its_own(write):
    """A 12-bit camera beside a 16-bit one."""
    planes = np.full((2, 8, 8), 7, np.uint16)
    planes[0, 2:4, 2:4], planes[1, 5, 5] = 4095, 60_000
    image = read_image(write(planes, metadata={"axes": "CYX"}))
    assert image.channel_saturation == (4095.0, 65535.0)
    np.testing.assert_array_equal(image.saturated_pixels(0), planes[0] == 4095)
    assert not image.saturated_pixels(1).any()
    assert read_image(write(planes.astype(np.float32), metadata={"axes": "CYX"})).saturated_pixels(0) is None


def test_a_mean_of_frames_is_saturated_where_one_of_them_is():
    """Bleaching: the first frames reach the limit, their mean does not."""
    planes = np.full((3, 1, 8, 8), 900, np.uint16)
    planes[0, 0, 2:4, 2:4], planes[1, 0, 6, 6] = 4095, 4095
    frames = tuple(Micrograph(each, ("0",), 0.1, saturation_level=limit)
                   for each, limit in zip(planes, (4095.0, 4095.0, 65535.0), strict=True))  # fmt: skip
    mean = TimeSeries(frames, 60.0, "3 frames").average()
    np.testing.assert_array_equal(mean.saturated_pixels(0), (planes == 4095).any(axis=0)[0])
    stated = tuple(Micrograph(each, ("0",), 0.1, channel_saturation=(4095.0,)) for each in planes)
    assert np.count_nonzero(TimeSeries(stated, 60.0, "").average().saturated_pixels(0)) == 5
    reals = tuple(Micrograph(each, ("0",), 0.1) for each in planes.astype(np.float32))
    assert TimeSeries(reals, 60.0, "").average().saturated_pixels(0) is None
