"""What is written reads back the same, has the same bytes each time, and is whole or not there."""

import errno

import numpy as np
import pytest
import tifffile

from chromamol.errors import FieldError, OutputError
from chromamol.io import atomic_write, read_image, read_labels, write_channels, write_labels, write_text

RNG = np.random.default_rng(3)


def maps(*shape):
    values = RNG.normal(size=shape).astype(np.float32)
    values[..., :3] = np.nan
    return {"phi_h": values, "gamma_me_per_um2": -values, "valid": np.isfinite(values)}


@pytest.mark.parametrize("shape", [(20, 31), (5, 20, 31), (5, 1, 7)])
def test_maps_read_back_with_names_sizes_and_nan(tmp_path, shape):
    path = tmp_path / "rates.ome.tif"
    written = maps(*shape)
    write_channels(path, written, pixel_size_um=0.05, z_step_um=0.3 if len(shape) == 3 else None)
    micrograph = read_image(path)
    assert micrograph.channel_names == tuple(written)
    assert micrograph.data.dtype == np.float32
    assert micrograph.spacing_um == ((0.3, 0.05, 0.05) if len(shape) == 3 else (0.05, 0.05))
    for name, values in written.items():
        np.testing.assert_array_equal(micrograph.channel(name), values.astype(np.float32))


def test_maps_without_a_pixel_size_state_none(tmp_path):
    write_channels(tmp_path / "a.ome.tif", maps(4, 6))
    assert read_image(tmp_path / "a.ome.tif").pixel_size_um is None


def test_the_ome_metadata_is_read_by_an_independent_parser(tmp_path):
    path = tmp_path / "a.ome.tif"
    write_channels(path, maps(5, 4, 6), pixel_size_um=0.05, z_step_um=0.3)
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].kind == "ome"
        assert (tif.series[0].axes, tif.series[0].shape) == ("CZYX", (3, 5, 4, 6))
        described = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert described["PhysicalSizeX"] == described["PhysicalSizeY"] == 0.05
    assert described["PhysicalSizeZ"] == 0.3
    assert described["PhysicalSizeXUnit"] == "µm"
    assert [channel["Name"] for channel in described["Channel"]] == ["phi_h", "gamma_me_per_um2", "valid"]


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    written = maps(20, 31)
    labels = RNG.integers(0, 9, size=(20, 31)).astype(np.int32)
    for name in ("first", "second"):
        write_channels(tmp_path / f"{name}.ome.tif", written, pixel_size_um=0.05)
        write_labels(tmp_path / f"{name}.tif", labels)
    for ending in (".ome.tif", ".tif"):
        assert (tmp_path / f"first{ending}").read_bytes() == (tmp_path / f"second{ending}").read_bytes()


def test_channels_of_different_shapes_are_refused(tmp_path):
    with pytest.raises(FieldError, match="of one shape"):
        write_channels(tmp_path / "a.ome.tif", {"a": np.zeros((3, 4)), "b": np.zeros((4, 3))})
    with pytest.raises(FieldError, match="at least one channel"):
        write_channels(tmp_path / "a.ome.tif", {})
    assert not list(tmp_path.iterdir())


def test_the_origin_is_the_position_of_every_plane(tmp_path):
    maps = {"a": np.ones((2, 3, 4), np.float32), "b": np.zeros((2, 3, 4), np.float32)}
    write_channels(tmp_path / "a.ome.tif", maps, origin_um=(1.5, -2.25))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
    planes = image["Pixels"]["Plane"]
    assert [(plane["TheC"], plane["TheZ"]) for plane in planes] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert {(plane["PositionY"], plane["PositionX"], plane["PositionXUnit"]) for plane in planes} == {
        (1.5, -2.25, "µm")
    }
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.tif").data, np.stack(list(maps.values())))


@pytest.mark.parametrize("shape", [(20, 31), (5, 20, 31)])
def test_labels_read_back(tmp_path, shape):
    labels = RNG.integers(0, 100_000, size=shape).astype(np.int32)
    write_labels(tmp_path / "labels.tif", labels)
    read = read_labels(tmp_path / "labels.tif", shape=shape)
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)
    assert read_image(tmp_path / "labels.tif").is_stack == (len(shape) == 3), "the axes are in the file"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "nuclei.csv"
    write_text(path, "old")

    def fail(error):
        with atomic_write(path) as temporary:
            temporary.write_text("half of the ne")
            raise error

    for error in (RuntimeError("stopped"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
    with pytest.raises(OutputError, match=r"nuclei\.csv: cannot be written \(No space left"):
        fail(OSError(errno.ENOSPC, "No space left on device"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["nuclei.csv"]
    assert path.read_text() == "old"


def test_a_good_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "a.tsv"
    for text in ("old", "new µm\n"):
        write_text(path, text)
    assert path.read_bytes() == "new µm\n".encode()
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".tsv", "writers choose the format by the ending"
        assert temporary.parent == path.parent
        temporary.write_text("third")
        assert path.read_text() == "new µm\n", "until the end the old file stands"
    assert path.read_text() == "third"


def test_text_with_a_name_that_is_no_utf8_is_written(tmp_path):
    write_text(tmp_path / "a.txt", "caf\udce9 µ\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "caf\\udce9 µ\n"


def test_a_folder_that_is_not_there_or_in_the_way_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="existing folder"):
        write_text(tmp_path / "missing" / "a.csv", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "folder", "text")
    with pytest.raises(OutputError, match="cannot be written"), atomic_write(tmp_path / "a.csv"):
        pass  # the block wrote nothing
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
