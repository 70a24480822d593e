"""OME-Zarr and the files of microscope makers: axes, scenes, pixel size, planes; and what happens without the readers.

OME-Zarr and LIF files are made here. Nothing writes ND2 or CZI: for these two, stand-ins for the open file, with the
attributes that nd2 0.12 and czifile 2019.7 give, hold the adaptors; the readers themselves meet broken files only.
"""

import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from chromamol.errors import AxesError, ReadError
from chromamol.io import discover, is_image, read_image
from chromamol.io.axes import plan_axes
from chromamol.io.vendor import czi_source, nd2_source

DATA = np.random.default_rng(5).integers(0, 4000, size=(2, 3, 4, 20, 24)).astype(np.uint16)
"""(time, channel, z, y, x)."""


def write_zarr(path, data=DATA, *, version="0.4", unit="micrometer", scale=(1.0, 1.0, 0.3, 0.1, 0.1)):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    add_image(group, data, version=version, unit=unit, scale=scale)
    return group


def add_image(group, data, *, version="0.4", unit="micrometer", scale=(1.0, 1.0, 0.3, 0.1, 0.1)):
    array = group.create_array("0", shape=data.shape, chunks=(1, 1, 1, 20, 24), dtype=data.dtype)
    array[...] = data
    axes = [{"name": n, **({"type": "space", "unit": unit} if n in "zyx" and unit else {})} for n in "tczyx"]
    transforms = [{"type": "scale", "scale": list(scale)}]
    metadata = {
        "multiscales": [{"version": version, "axes": axes,
                         "datasets": [{"path": "0", "coordinateTransformations": transforms}]}],
        "omero": {"channels": [{"label": "DAPI"}, {"label": "H3K9me3"}, {"label": "H3K27ac"}]},
    }  # fmt: skip
    group.attrs.update(metadata if version == "0.4" else {"ome": metadata})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_reads_as_what_it_is(tmp_path, version):
    path = tmp_path / "field 1.ome.zarr"
    write_zarr(path, version=version)
    image = read_image(path, time_index=1)
    np.testing.assert_array_equal(image.data, DATA[1])
    assert image.channel_names == ("DAPI", "H3K9me3", "H3K27ac")
    assert (image.pixel_size_um, image.z_step_um) == pytest.approx((0.1, 0.3))
    assert "OME-Zarr metadata" in image.calibration_note
    assert "time point 1 of 2" in image.axes_note
    with pytest.raises(AxesError, match="2 time points, none was chosen"):
        read_image(path)


def test_ome_zarr_in_nanometres_and_without_a_unit(tmp_path):
    write_zarr(tmp_path / "nm.zarr", unit="nanometer", scale=(1, 1, 300, 100, 100))
    assert read_image(tmp_path / "nm.zarr", time_index=0).pixel_size_um == pytest.approx(0.1)
    write_zarr(tmp_path / "none.zarr", unit="")
    image = read_image(tmp_path / "none.zarr", time_index=0)
    assert image.pixel_size_um is None
    assert "no unit" in image.calibration_note


@pytest.mark.parametrize(
    ("names", "letters"),
    [(("time", "channel", "z", "y", "x"), "TCZYX"), (("frame", "dye", "z", "y", "x"), "TCZYX"),
     (("t", "c", "depth", "y", "x"), "TCQYX")],
)  # fmt: skip
def test_axes_of_any_name_are_known_by_their_type(tmp_path, names, letters):
    path = tmp_path / "named.zarr"
    group = write_zarr(path)
    multiscales = group.attrs["multiscales"]
    kinds = ("time", "channel", "space", "space", "space")
    units = ({}, {}, *({"unit": "micrometer"},) * 3)
    multiscales[0]["axes"] = [
        {"name": n, "type": k, **u} for n, k, u in zip(names, kinds, units, strict=True)
    ]
    group.attrs["multiscales"] = multiscales
    if "Q" in letters:
        with pytest.raises(AxesError, match=r"axes TCQYX .* not understood: Q of length"):
            read_image(path, time_index=0)
    image = read_image(path, time_index=0, axes="TCZYX" if "Q" in letters else None, z_step_um=0.3)
    np.testing.assert_array_equal(image.data, DATA[0])
    assert (image.pixel_size_um, image.z_step_um) == pytest.approx((0.1, 0.3))


def test_metadata_of_another_number_of_axes_are_refused(tmp_path):
    few = write_zarr(tmp_path / "few.zarr")
    multiscales = few.attrs["multiscales"]
    multiscales[0]["axes"] = multiscales[0]["axes"][2:]
    few.attrs["multiscales"] = multiscales
    write_zarr(tmp_path / "short.zarr", scale=(0.1, 0.1))
    for name in ("few", "short"):
        with pytest.raises(AxesError, match=r"an array of 5 axes with metadata of"):
            read_image(tmp_path / f"{name}.zarr", time_index=0)


def test_a_collection_is_scenes_and_a_plate_is_refused(tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "many.zarr", mode="w", zarr_format=2)
    for name in ("0", "1"):
        add_image(group.create_group(name), DATA + int(name))
    with pytest.raises(AxesError, match=r"2 scenes, none was chosen.*0: 'image 0'"):
        read_image(tmp_path / "many.zarr", time_index=0)
    image = read_image(tmp_path / "many.zarr", time_index=0, scene=1)
    np.testing.assert_array_equal(image.data, DATA[0] + 1)
    assert "scene 1 of 2" in image.axes_note
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}]}
    with pytest.raises(ReadError, match=r"a plate with wells A/1"):
        read_image(tmp_path / "plate.zarr")


def test_chunks_that_are_not_there_are_said(tmp_path):
    path = tmp_path / "a.zarr"
    write_zarr(path)
    chunks = sorted(
        p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".") and p.suffix != ".json"
    )
    chunks[0].unlink()
    assert "1 of 24 chunks are not stored: read as 0" in read_image(path, time_index=0).axes_note


def test_a_zarr_folder_is_an_image_and_not_a_folder_of_images(tmp_path):
    write_zarr(tmp_path / "a.ome.zarr")
    (found,) = discover([tmp_path / "a.ome.zarr"])
    assert found.is_readable
    assert found.stem == "a"
    assert is_image(found.path)
    assert [entry.stem for entry in discover([tmp_path])] == ["a"]


@pytest.mark.parametrize("content", ["not json", '{"zarr_format": 2}', '{"zarr_format": 99}', "[]"])
def test_a_broken_zarr_is_a_typed_error(tmp_path, content):
    pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / ".zgroup").write_text(content)
    with pytest.raises(ReadError, match=r"a\.zarr"):
        read_image(path)


def lif_bytes(series):
    """Return a LIF file: UTF-16 XML, then one block of pixels for each series of (z, y, x), 8-bit, side in metres."""
    elements, blocks = "", b""
    for number, (name, data, side, step) in enumerate(series):
        dims, increment = "", 1
        for dim, n, each in ((1, data.shape[2], side), (2, data.shape[1], side), (3, data.shape[0], step)):
            dims += (f'<DimensionDescription DimID="{dim}" NumberOfElements="{n}" Origin="0" Length="{each * (n - 1)}" '
                     f'Unit="m" BitInc="0" BytesInc="{increment}"/>')  # fmt: skip
            increment *= n
        elements += (f'<Element Name="{name}" Visibility="1" UniqueID="{number}"><Data><Image><ImageDescription>'
                     '<Channels><ChannelDescription DataType="0" ChannelTag="0" Resolution="8" '
                     'NameOfMeasuredQuantity="" Min="0" '
                     'Max="255" Unit="" LUTName="Gray" IsLUTInverted="0" BytesInc="0" BitInc="0"/>'
                     '</Channels><Dimensions>'
                     f'{dims}</Dimensions></ImageDescription></Image></Data><Memory Size="{data.size}" '
                     f'MemoryBlockID="MemBlock_{number}"/></Element>')  # fmt: skip
        identity = f"MemBlock_{number}"
        blocks += struct.pack("<IIBQBI", 0x70, 0, 0x2A, data.size, 0x2A, len(identity)) + identity.encode(
            "utf-16-le"
        )
        blocks += data.tobytes()
    xml = (f'<LMSDataContainerHeader Version="2"><Element Name="lif" UniqueID="x"><Children>{elements}</Children>'
           "</Element></LMSDataContainerHeader>")  # fmt: skip
    text = xml.encode("utf-16-le")
    return struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(xml)) + text + blocks


@pytest.fixture
def lif(tmp_path):
    pytest.importorskip("liffile")
    stack = (DATA[0, 0] % 251).astype(np.uint8)
    path = tmp_path / "a.lif"
    path.write_bytes(lif_bytes([("overview", stack[:1], 5e-7, 0.0), ("nucleus", stack, 6.5e-8, -3e-7)]))
    return path, stack


def test_lif_gives_metres_series_and_planes(lif):
    path, stack = lif
    with pytest.raises(AxesError, match=r"2 scenes, none was chosen.*0: 'overview', 1: 'nucleus'"):
        read_image(path)
    image = read_image(path, scene="nucleus")
    np.testing.assert_array_equal(image.data, stack[None])
    assert (image.pixel_size_um, image.z_step_um) == pytest.approx((0.065, 0.3)), (
        "downwards is a distance, too"
    )
    assert "scene 1 of 2 (nucleus)" in image.axes_note
    assert read_image(path, scene=0).shape == (20, 24)


def test_a_truncated_lif_is_a_typed_error(lif):
    path, _ = lif
    whole = path.read_bytes()
    for kept in (8, 200, len(whole) - 500):
        path.write_bytes(whole[:kept])
        with pytest.raises(ReadError, match=r"a\.lif"):
            read_image(path, scene=1)


class Nd2StandIn:
    """What `nd2.ND2File` gives for 2 positions of 3 planes in 2 channels."""

    sizes = {"P": 2, "Z": 3, "C": 2, "Y": 20, "X": 24}  # noqa: RUF012 - a stand-in that is never changed
    dtype = np.dtype("uint16")
    loop_indices = tuple({"P": p, "Z": z} for p in range(2) for z in range(3))

    def __init__(self, *, calibrated=True):
        self.frames_read = []
        volume = SimpleNamespace(
            axesCalibration=(0.11, 0.11, 0.25), axesCalibrated=(calibrated, calibrated, True)
        )
        self.metadata = SimpleNamespace(
            channels=[
                SimpleNamespace(channel=SimpleNamespace(name=n), volume=volume) for n in ("DAPI", "GFP")
            ]
        )

    def read_frame(self, index):
        self.frames_read.append(index)
        return DATA[0, :2, 0] + index


def test_nd2_adaptor_takes_the_frames_of_one_position_only(tmp_path):
    path = tmp_path / "a.nd2"
    with pytest.raises(AxesError, match="2 scenes, none was chosen"):
        nd2_source(Nd2StandIn(), path, None)
    file = Nd2StandIn()
    source = nd2_source(file, path, 1)
    plan = plan_axes(source.axes, name="a.nd2")
    data = plan.arrange_without(source.read(plan.fixed), set())
    assert file.frames_read == [3, 4, 5]
    assert data.shape == (2, 3, 20, 24)
    np.testing.assert_array_equal(data[1, 2], DATA[0, 1, 0] + 5)
    assert source.axes.channel_names == ("DAPI", "GFP")
    assert (source.calibration.x_um, source.calibration.z_um) == (0.11, 0.25)


def test_an_uncalibrated_nd2_states_no_pixel_size(tmp_path):
    calibration = nd2_source(Nd2StandIn(calibrated=False), tmp_path / "a.nd2", 0).calibration
    assert calibration.x_um is None
    assert "not calibrated" in calibration.remark


class CziStandIn:
    """What `czifile.CziFile` gives for 2 scenes, 2 channels, each plane in two tiles side by side."""

    axes, shape, start, dtype = "SCYX0", (2, 2, 20, 24, 1), (0, 0, -4, 100, 0), np.dtype("uint16")

    def __init__(self):
        self.tiles_read = 0

    def metadata(self):
        return (
            '<ImageDocument><Metadata><Scaling><Items><Distance Id="X"><Value>6.5e-8</Value></Distance>'
            '<Distance Id="Y"><Value>6.5e-8</Value></Distance></Items></Scaling><Information><Image>'
            "<Dimensions><Channels>"
            '<Channel Name="H3-T1"/><Channel Name="AF568"/></Channels></Dimensions></Image></Information></Metadata>'
            "</ImageDocument>"
        )

    @property
    def filtered_subblock_directory(self):
        return [self.entry(s, c, x) for s in range(2) for c in range(2) for x in (0, 12)]

    def entry(self, s, c, x):
        tile = DATA[s, c, 0][None, None, :, x : x + 12, None]

        def data(**_):
            self.tiles_read += 1
            return tile

        return SimpleNamespace(start=(s, c, -4, 100 + x, 0), shape=tile.shape,
                               data_segment=lambda: SimpleNamespace(data=data))  # fmt: skip


def test_czi_adaptor_takes_the_tiles_of_one_scene_only(tmp_path):
    file = CziStandIn()
    source = czi_source(file, tmp_path / "a.czi", 1)
    plan = plan_axes(source.axes, name="a.czi")
    np.testing.assert_array_equal(plan.arrange_without(source.read(plan.fixed), set()), DATA[1, :2, 0])
    assert file.tiles_read == 4
    assert source.axes.channel_names == ("H3-T1", "AF568")
    assert source.calibration.x_um == pytest.approx(0.065)


@pytest.mark.parametrize(("ending", "module"), [("nd2", "nd2"), ("lif", "liffile"), ("czi", "czifile")])
def test_broken_files_and_missing_readers_say_what_to_do(tmp_path, monkeypatch, ending, module):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"ZISRAWFILE" + bytes(400))
    pytest.importorskip(module)
    with pytest.raises(ReadError, match=rf"a\.{ending}: broken or truncated"):
        read_image(path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ReadError, match=r"pip install 'chromamol\[formats\]'"):
        read_image(path)
