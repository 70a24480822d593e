"""Real files read as what they are: one table of shape, number type, axes and pixel size."""

import numpy as np
import pytest

from chromamol import datasets
from chromamol.errors import AxesError, PixelSizeError, ReadError
from chromamol.io import check_content, read_image, read_labels, require_pixel_size

# name: shape, number type, channels, pixel size, what the calibration note says, saturation level
TABLE = {
    "hela_cells": ((3, 512, 672), "uint16", 3, 0.05149313617, "0.0514931 um per pixel (ImageJ", 4095),
    "bbbc022_u2os": ((3, 395, 695), "uint16", 3, None, "states no pixel size", 4095),
    "speckles_hoechst": ((1, 1000, 1200), "uint16", 1, None, "1,000,000 um per pixel: refused", 4095),
    "speckles_h2ax": ((1, 1000, 1200), "uint16", 1, None, "1,000,000 um per pixel: refused", 4095),
    "stardist_img2d": ((1, 512, 512), "uint16", 1, None, "states no pixel size", 65535),
    "stardist_mask2d": ((1, 512, 512), "uint16", 1, None, "states no pixel size", 65535),
    "qcanet_16_cell_stage": ((1, 51, 120, 122), "uint16", 1, None, "states no z-step", 65535),
    "qcanet_16_cell_stage_labels": ((1, 51, 120, 122), "uint8", 1, None, "states no z-step", 255),
    "nuclei_dsb2018/00071198d059": ((1, 256, 256), "uint8", 1, None, "states no pixel size", 255),
    "nuclei_dsb2018/07fb37aafa66": ((1, 520, 696), "uint8", 1, None, "states no pixel size", 255),
    "nuclei_dsb2018/00071198d059_labels": ((1, 256, 256), "uint16", 1, None, "no pixel size", 65535),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_real_file_reads_as_what_it_is(sample, name):
    shape, dtype, channels, pixel, note, saturation = TABLE[name]
    micrograph = read_image(sample(name))
    assert micrograph.data.shape == shape
    assert micrograph.data.dtype == np.dtype(dtype)
    assert len(micrograph.channel_names) == channels
    assert micrograph.pixel_size_um == (None if pixel is None else pytest.approx(pixel))
    assert note in micrograph.calibration_note
    assert micrograph.saturation_level == saturation


def test_the_third_fluorophore_of_hela_cells_is_its_nuclei(sample):
    micrograph = read_image(sample("hela_cells"))
    nuclei = micrograph.channel(2)
    check_content(nuclei, name="hela-cells.tif")
    assert "fluorophores stored like RGB" in micrograph.axes_note
    # Independent of any TIFF reader: big-endian pixels begin at byte 2942 of this file.
    raw = np.fromfile(micrograph.path, ">u2", count=512 * 672 * 3, offset=2942).reshape(512, 672, 3)
    np.testing.assert_array_equal(nuclei, raw[..., 2])
    assert micrograph.spacing_um == pytest.approx((0.05149313617,) * 2)


def test_three_fluorophores_need_a_choice(sample):
    micrograph = read_image(sample("bbbc022_u2os"))
    with pytest.raises(AxesError, match=r"several channels and none named.*IXMtest_A02_s9_c1"):
        micrograph.channel()


def test_a_junk_tag_is_refused_with_the_way_out_and_the_users_word_counts(sample):
    path = sample("speckles_hoechst")
    with pytest.raises(PixelSizeError, match=r"1,000,000 um per pixel: refused.*--pixel-size-um"):
        require_pixel_size(read_image(path))
    assert require_pixel_size(read_image(path, pixel_size_um=0.1)) == 0.1


def test_real_labels_read_as_labels(sample):
    labels = read_labels(sample("stardist_mask2d"), shape=(512, 512))
    assert labels.dtype == np.int32
    assert np.unique(labels).size - 1 == 125


def test_a_mask_without_instances_is_no_label_image(sample):
    with pytest.raises(ReadError, match=r"pieces that all have the value 255: a mask, not labels"):
        read_labels(sample("qcanet_16_cell_stage_labels"), shape=(51, 120, 122))


def test_fields_of_the_data_science_bowl_read_with_their_labels(sample):
    names = [
        name
        for name in datasets.names()
        if name.startswith("nuclei_dsb2018/") and not name.endswith("_labels")
    ]
    assert len(names) == 398
    nuclei = 0
    for name in names[::4]:
        micrograph = read_image(sample(name))
        assert micrograph.pixel_size_um is None
        assert len(micrograph.channel_names) == 1
        nuclei += np.unique(read_labels(sample(f"{name}_labels"), shape=micrograph.shape)).size - 1
    assert nuclei == 4_039


def test_every_file_of_the_data_folder_is_in_the_registry(sample):
    folder = sample("hela_cells").parents[1]
    known = {datasets.describe(name).path for name in datasets.names()}
    if not known <= {str(path.relative_to(folder)) for path in folder.rglob("*")}:
        pytest.skip("the folder does not hold all sample files")
    others = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - known
    assert others <= {"README.md", "SHA256SUMS"}


def test_the_finite_element_solution_has_its_rows(sample):
    rows = np.load(sample("torchphysics_heat"))
    assert rows.shape == (51 * 41 * 41, 4)
    assert [np.unique(rows[:, axis]).size for axis in range(3)] == [51, 41, 41]
