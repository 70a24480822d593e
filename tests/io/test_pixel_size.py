"""What a file states of its pixel size is accepted, or refused with the reason; never guessed."""

import struct

import numpy as np
import pytest
import tifffile

from chromamol.errors import PixelSizeError
from chromamol.io import Micrograph, check_nuclear_diameter, read_image, require_pixel_size, require_z_step

FLAT = np.arange(600, dtype=np.uint16).reshape(20, 30)
STACK = np.stack([FLAT] * 4)


def imagej(path, data=FLAT, *, per_unit=20.0, y_per_unit=None, **metadata):
    resolution = (per_unit, per_unit if y_per_unit is None else y_per_unit)
    axes = "ZYX"[3 - data.ndim :]
    tifffile.imwrite(path, data, imagej=True, resolution=resolution, metadata={"axes": axes, **metadata})
    return path


def ome(path, data=FLAT, **metadata):
    axes = "ZYX"[3 - data.ndim :]
    tifffile.imwrite(path, data, ome=True, metadata={"axes": axes, **metadata})
    return path


@pytest.mark.parametrize("unit", ["um", "µm", "micron", "\\u00B5m"])
def test_imagej_micrometres_in_every_spelling(tmp_path, unit):
    # tifffile cannot write a micro sign into the ASCII tag: put ImageJ's own bytes there afterwards.
    path = imagej(tmp_path / "a.tif", unit="micron" if unit == "µm" else unit)
    if unit == "µm":
        path.write_bytes(path.read_bytes().replace(b"unit=micron\n", b"unit=\xb5m\nx=ab\n"))
    micrograph = read_image(path)
    assert micrograph.pixel_size_um == pytest.approx(0.05)
    assert "ImageJ tags" in micrograph.calibration_note


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"), [("nm", 0.02, 0.05), ("mm", 4000, 0.25), ("cm", 5e4, 0.2)]
)
def test_imagej_lengths_in_other_units(tmp_path, unit, per_unit, expected):
    assert read_image(imagej(tmp_path / "a.tif", unit=unit, per_unit=per_unit)).pixel_size_um == (
        pytest.approx(expected)
    )


@pytest.mark.parametrize("unit", ["pixel", "inch", "\\u00B0", "sec"])
def test_imagej_units_that_are_no_length_of_a_sample(tmp_path, unit):
    micrograph = read_image(imagej(tmp_path / "a.tif", unit=unit))
    assert micrograph.pixel_size_um is None
    assert "not a pixel size" in micrograph.calibration_note


@pytest.mark.parametrize(("unit", "stated"), [("µm", 0.065), ("nm", 65.0), ("mm", 6.5e-5)])
def test_ome_sizes_with_their_unit(tmp_path, unit, stated):
    metadata = {
        "PhysicalSizeX": stated,
        "PhysicalSizeY": stated,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeYUnit": unit,
    }
    micrograph = read_image(ome(tmp_path / "a.ome.tif", **metadata))
    assert micrograph.pixel_size_um == pytest.approx(0.065)
    assert "OME metadata" in micrograph.calibration_note


def test_ome_sizes_in_a_unit_of_no_length_are_not_used(tmp_path):
    metadata = {"PhysicalSizeX": 0.065, "PhysicalSizeXUnit": "reference frame", "PhysicalSizeY": 0.065,
                "PhysicalSizeYUnit": "reference frame"}  # fmt: skip
    micrograph = read_image(ome(tmp_path / "a.ome.tif", **metadata))
    assert micrograph.pixel_size_um is None
    assert "reference frame" in micrograph.calibration_note


def test_nanometres_labelled_as_micrometres_are_refused(tmp_path):
    micrograph = read_image(ome(tmp_path / "a.ome.tif", PhysicalSizeX=65.0, PhysicalSizeY=65.0))
    assert micrograph.pixel_size_um is None
    assert "file says 65 um per pixel: refused" in micrograph.calibration_note


@pytest.mark.parametrize("stated", [0.0009, 2.1, 1e6])
def test_absurd_sizes_are_refused_with_what_the_file_says(tmp_path, stated):
    micrograph = read_image(ome(tmp_path / "a.ome.tif", PhysicalSizeX=stated, PhysicalSizeY=stated))
    with pytest.raises(PixelSizeError, match=r"a\.ome\.tif: .*file says .* refused.*--pixel-size-um"):
        require_pixel_size(micrograph)


@pytest.mark.parametrize(("y", "accepted"), [(0.1009, True), (0.102, False)])
def test_x_and_y_agree_to_one_per_cent(tmp_path, y, accepted):
    micrograph = read_image(ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.1, PhysicalSizeY=y))
    assert (micrograph.pixel_size_um is not None) is accepted
    assert accepted or "0.1 um in x and 0.102 um in y: refused" in micrograph.calibration_note


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 254_000])
def test_a_print_resolution_is_never_a_pixel_size(tmp_path, dpi):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, FLAT, resolution=(dpi, dpi), resolutionunit="inch")
    micrograph = read_image(path)
    assert micrograph.pixel_size_um is None
    assert "print resolution" in micrograph.calibration_note


def test_tiff_tags_in_centimetres_are_a_length(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, FLAT, resolution=(100_000, 100_000), resolutionunit="centimeter")
    assert read_image(path).pixel_size_um == pytest.approx(0.1)
    tifffile.imwrite(path, FLAT, resolution=(28.35, 28.35), resolutionunit="centimeter")
    assert read_image(path).pixel_size_um is None, "72 dpi in centimetres"


def test_a_zero_resolution_tag_is_refused_without_a_crash(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, FLAT, resolution=(7919, 7919), resolutionunit="centimeter")
    stored = struct.pack("<II", 7919, 1)
    assert path.read_bytes().count(stored) == 2
    path.write_bytes(path.read_bytes().replace(stored, struct.pack("<II", 0, 1)))
    micrograph = read_image(path)
    assert micrograph.pixel_size_um is None
    assert "inf um per pixel: refused" in micrograph.calibration_note


@pytest.mark.parametrize(("spacing", "expected"), [(0.3, 0.3), (0.0, None), (1e6, None), (-0.3, None)])
def test_a_z_step_of_zero_is_absent(tmp_path, spacing, expected):
    micrograph = read_image(imagej(tmp_path / "a.tif", STACK, unit="um", spacing=spacing))
    assert micrograph.z_step_um == expected
    if expected is None:
        with pytest.raises(PixelSizeError, match="--z-step-um"):
            require_z_step(micrograph)
    else:
        assert micrograph.spacing_um == (expected, pytest.approx(0.05), pytest.approx(0.05))
        assert micrograph.grid.shape == STACK.shape


def test_the_users_word_goes_first_and_both_are_recorded(tmp_path):
    path = imagej(tmp_path / "a.tif", STACK, unit="um", spacing=0.3)
    micrograph = read_image(path, pixel_size_um=0.1, z_step_um=0.5)
    assert micrograph.spacing_um == (0.5, 0.1, 0.1)
    assert "0.1 um given by the user (file says 0.05 um per pixel" in micrograph.calibration_note


@pytest.mark.parametrize("given", [0.0, -0.1, 65.0, float("nan"), 0.0005])
def test_the_users_word_is_checked_too(tmp_path, given):
    path = imagej(tmp_path / "a.tif", unit="um")
    with pytest.raises(PixelSizeError, match="in micrometres"):
        read_image(path, pixel_size_um=given)
    if given != 0.0005:
        with pytest.raises(PixelSizeError, match="--z-step-um"):
            read_image(path, z_step_um=given)


def test_a_flat_image_has_no_z_step(tmp_path):
    micrograph = read_image(imagej(tmp_path / "a.tif", unit="um", spacing=0.05), z_step_um=0.3)
    assert micrograph.z_step_um is None
    assert micrograph.spacing_um == pytest.approx((0.05, 0.05))


@pytest.mark.parametrize(("diameter", "accepted"), [(2.9, False), (3.0, True), (15.0, True), (41.0, False)])
def test_nuclei_of_an_impossible_size_betray_the_pixel_size(diameter, accepted):
    if accepted:
        check_nuclear_diameter(diameter, pixel_size_um=0.1)
    else:
        with pytest.raises(PixelSizeError, match=r"a\.tif: nuclei of .* um median diameter at 0\.1 um"):
            check_nuclear_diameter(diameter, pixel_size_um=0.1, name="a.tif")


def test_an_image_from_memory_demands_its_pixel_size_too():
    with pytest.raises(PixelSizeError, match="no usable pixel size"):
        require_pixel_size(Micrograph(FLAT[None], ("0",), calibration_note="made in memory"))
