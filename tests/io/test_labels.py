"""Outlines of other tools by their conventions: Cellpose, StarDist, ImageJ ROIs."""

import pickle
import zipfile

import imagecodecs
import numpy as np
import pytest
import roifile
import tifffile

from chromamol.errors import AxesError, ChromamolError, ReadError
from chromamol.io import find_labels, read_image, read_labels, read_mask

LABELS = np.zeros((30, 40), dtype=np.uint16)
LABELS[4:10, 5:15], LABELS[15:28, 20:35] = 1, 700


def polygon(corners, **options):
    roi = roifile.ImagejRoi.frompoints(np.asarray(corners, dtype=np.float32), **options)
    roi.roitype = roifile.ROI_TYPE.POLYGON
    return roi


def combined(*paths, close=4):
    """What Create Selection, Combine and XOR make: a rectangle with the paths inside it."""
    flat = [v for path in paths for k, (x, y) in enumerate(path) for v in (min(k, 1), x, y)] + [close]
    corners = np.concatenate(paths).astype(int)
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    return roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, top=top, left=left, bottom=bottom, right=right,
                             shape_roi_size=len(flat), multi_coordinates=np.array(flat, dtype=np.float32))  # fmt: skip


def box(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def save_rois(path, rois):
    with zipfile.ZipFile(path, "w") as archive:
        for number, roi in enumerate(rois):
            archive.writestr(f"{number:04d}.roi", roi.tobytes())
    return path


def test_a_cellpose_png_keeps_its_numbers(tmp_path):
    path = tmp_path / "img01_cp_masks.png"
    path.write_bytes(imagecodecs.png_encode(LABELS))
    np.testing.assert_array_equal(read_labels(path, shape=(30, 40)), LABELS)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ReadError, match="broken or truncated PNG"):
        read_labels(path, shape=(30, 40))


def test_a_pickle_is_read_only_on_the_users_word(tmp_path):
    path = tmp_path / "img01_seg.npy"
    np.save(path, {"masks": LABELS, "outlines": LABELS}, allow_pickle=True)
    with pytest.raises(ReadError, match=r"pickle.*--set allow_pickle=true"):
        read_labels(path, shape=(30, 40))
    np.testing.assert_array_equal(read_labels(path, shape=(30, 40), allow_pickle=True), LABELS)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


def test_no_code_of_a_pickle_runs_without_the_users_word(tmp_path):
    path, target = tmp_path / "img01_seg.npy", tmp_path / "ran"
    np.save(path, np.array(Trap(str(target)), dtype=object), allow_pickle=True)
    assert pickle.dumps(Trap(str(target))), "the trap is a pickle"
    with pytest.raises(ReadError, match="pickle"):
        read_labels(path, shape=(30, 40))
    assert not target.exists()


def test_rois_of_imagej_cover_the_pixels_that_imagej_fills(tmp_path):
    # ImageJ counts from the corner of the first pixel: the square (5, 4) to (15, 10) holds 10 x 6 pixels.
    square = polygon([(5, 4), (15, 4), (15, 10), (5, 10)])
    rectangle = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, top=15, left=20, bottom=28, right=35)
    labels = read_labels(save_rois(tmp_path / "a.zip", [square, rectangle]), shape=(30, 40))
    np.testing.assert_array_equal(labels, np.where(LABELS == 700, 2, LABELS))


def test_an_oval_has_the_area_of_an_ellipse(tmp_path):
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, top=5, left=10, bottom=45, right=70)
    (tmp_path / "a.roi").write_bytes(oval.tobytes())
    labels = read_labels(tmp_path / "a.roi", shape=(60, 80))
    assert np.count_nonzero(labels) == pytest.approx(np.pi * 20 * 30, rel=0.01)
    rows, columns = np.nonzero(labels)
    assert (rows.mean(), columns.mean()) == pytest.approx((24.5, 39.5), abs=0.05)


def test_a_combined_roi_is_its_paths_and_not_the_box_around_them(tmp_path):
    ring = np.zeros((30, 40), dtype=bool)
    ring[4:20, 5:25], ring[8:12, 10:20] = True, False
    apart = np.zeros((30, 40), dtype=bool)
    apart[22:28, 5:15] = apart[20:28, 30:38] = True
    rois = [
        combined(box(5, 4, 25, 20), box(10, 8, 20, 12)),
        combined(box(5, 22, 15, 28), box(30, 20, 38, 28)),
    ]
    path = save_rois(tmp_path / "a.zip", rois)
    np.testing.assert_array_equal(read_labels(path, shape=(30, 40)), np.where(ring, 1, 2 * apart))
    np.testing.assert_array_equal(read_mask(path, shape=(30, 40)), ring | apart)
    with pytest.raises(ReadError, match=r"2 separate pieces .* ROI Manager, More, Split"):
        read_labels(save_rois(tmp_path / "b.zip", rois[1:]), shape=(30, 40))
    with pytest.raises(ReadError, match=r"ROI 1 .* combined of curves"):
        read_labels(save_rois(tmp_path / "c.zip", [combined(box(5, 4, 25, 20), close=2)]), shape=(30, 40))


def test_lines_foreign_archives_and_stacks_without_positions_are_refused(tmp_path):
    line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, x1=1, y1=1, x2=9, y2=9)
    with pytest.raises(ReadError, match="is a line"):
        read_labels(save_rois(tmp_path / "line.zip", [line]), shape=(30, 40))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(ReadError, match="0 ROIs"):
        read_labels(tmp_path / "other.zip", shape=(30, 40))
    square = polygon([(5, 4), (15, 4), (15, 10), (5, 10)])
    with pytest.raises(AxesError, match="on plane 0 of 3"):
        read_labels(save_rois(tmp_path / "flat.zip", [square]), shape=(3, 30, 40))
    square = polygon([(5, 4), (15, 4), (15, 10), (5, 10)])
    square.position = 2
    labels = read_labels(save_rois(tmp_path / "deep.zip", [square]), shape=(3, 30, 40))
    assert [np.count_nonzero(plane) for plane in labels] == [0, 60, 0]


def test_rois_of_several_planes_or_times_are_no_outlines_of_one(tmp_path):
    def square(left, **place):
        roi = polygon(box(left, 4, left + 8, 10))
        for name, value in place.items():
            setattr(roi, name, value)
        return roi

    def read(*rois, shape=(30, 40)):
        return read_labels(save_rois(tmp_path / "a.zip", rois), shape=shape)

    with pytest.raises(AxesError, match=r"ROIs on planes 1, 5, for an image of one.*Remove Positions"):
        read(square(2, position=1), square(12, position=5), square(22))
    with pytest.raises(AxesError, match="ROIs on planes 2, 3"):
        read(square(2, z_position=2, t_position=1), square(12, z_position=3, t_position=1))
    for shape in ((30, 40), (3, 30, 40)):
        with pytest.raises(AxesError, match="ROIs on time points 1, 2"):
            read(square(2, z_position=2, t_position=1), square(12, z_position=2, t_position=2), shape=shape)
    assert read(square(2, position=5), square(12, c_position=2), square(22)).max() == 3
    apart = read(
        square(2, z_position=1, t_position=1), square(12, z_position=3, t_position=1), shape=(3, 30, 40)
    )
    assert [plane.max() for plane in apart] == [1, 0, 2]


@pytest.mark.parametrize(
    "name",
    ["img01_cp_masks.tif", "img01_cp_masks.png", "img01.stardist.tif", "img01_labels.tif", "img01_RoiSet.zip",
     "img01.zip", "img01_seg.npy"],
)  # fmt: skip
def test_the_outlines_of_an_image_are_found_by_its_stem(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "img02_labels.tif").write_bytes(b"x")
    assert find_labels(tmp_path, image="elsewhere/img01.tif") == tmp_path / name


@pytest.mark.parametrize(
    ("image", "name"),
    [("img.ome.tif", "img.ome_cp_masks.tif"), ("img.ome.tif", "img.ome.stardist.tif"),
     ("img.ome.tif", "img.ome_seg.npy"), ("IMG.OME.TIF", "IMG_labels.tif"), ("IMG.OME.TIF", "IMG.OME_cp_masks.png"),
     ("img.tif", "img_labels.TIF"), ("IMG.TIF", "img_RoiSet.ZIP"), ("fr\u00fch.tif", "fru\u0308h_labels.tif")],
)  # fmt: skip
def test_neither_a_second_ending_nor_the_case_of_letters_hides_outlines(tmp_path, image, name):
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / image).write_bytes(b"x")
    assert find_labels(tmp_path, image=tmp_path / image) == tmp_path / name


def test_the_name_as_it_is_goes_first_and_two_stems_of_one_image_are_refused(tmp_path):
    for name in ("IMG_labels.tif", "img_labels.tif"):
        (tmp_path / name).write_bytes(b"x")
    for stem in ("img", "IMG"):
        assert find_labels(tmp_path, image=f"{stem}.tif").name == f"{stem}_labels.tif"
    with pytest.raises(ReadError, match=r"2 label files for Img\.tif: IMG_labels\.tif, img_labels\.tif"):
        find_labels(tmp_path, image="Img.tif")
    (tmp_path / "img.ome_cp_masks.tif").write_bytes(b"x")
    with pytest.raises(ReadError, match=r"img\.ome_cp_masks\.tif, img_labels\.tif"):
        find_labels(tmp_path, image="img.ome.tif")


def test_a_pickle_counts_only_where_there_is_no_other_and_two_others_are_refused(tmp_path):
    for name in ("img01_seg.npy", "img01_cp_masks.tif"):
        (tmp_path / name).write_bytes(b"x")
    assert find_labels(tmp_path, image="img01.tif").name == "img01_cp_masks.tif"
    (tmp_path / "img01_RoiSet.zip").write_bytes(b"x")
    with pytest.raises(ReadError, match="2 label files"):
        find_labels(tmp_path, image="img01.tif")


def test_a_stardist_tiff_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "img01.stardist.tif", LABELS)
    np.testing.assert_array_equal(read_labels(tmp_path / "img01.stardist.tif", shape=(30, 40)), LABELS)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_rois_are_typed_errors(tmp_path, kept):
    path = save_rois(tmp_path / "a.zip", [polygon([(5, 4), (15, 4), (15, 10), (5, 10)])])
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ChromamolError, match=r"a\.zip"):
        read_labels(path, shape=(30, 40))


@pytest.mark.parametrize("kind", ["0 and 255", "all zero", "bool", "1 bit", "real", "png"])
def test_a_mask_is_whatever_is_not_zero_in_any_number_of_pieces(tmp_path, kind):
    marked = (LABELS > 0) & (kind != "all zero")
    path = tmp_path / "dust.tif"
    if kind == "png":
        path.write_bytes(imagecodecs.png_encode(255 * marked.astype(np.uint8)))
    elif kind == "1 bit":
        tifffile.imwrite(path, marked, bitspersample=1)
    else:
        tifffile.imwrite(
            path, marked if kind == "bool" else marked * np.array(0.4 if kind == "real" else 255, "f4")
        )
    np.testing.assert_array_equal(read_mask(path, shape=(30, 40)), marked)
    with pytest.raises(AxesError, match="shape of the image"):
        read_mask(path, shape=(30, 41))
    tifffile.imwrite(path, np.where(marked, np.nan, 1.0))
    if marked.any():
        with pytest.raises(ReadError, match="NaN or infinite"):
            read_mask(path, shape=(30, 40))


def test_one_piece_of_yes_and_no_is_an_outline_and_two_are_not(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", LABELS == 700)
    np.testing.assert_array_equal(read_labels(tmp_path / "one.tif", shape=(30, 40)), LABELS // 700)
    tifffile.imwrite(tmp_path / "two.tif", LABELS > 0)
    with pytest.raises(ReadError, match="2 separate pieces that all have the value 1"):
        read_labels(tmp_path / "two.tif", shape=(30, 40))
    with pytest.raises(ReadError, match="pixels of type bool"):
        read_image(tmp_path / "two.tif")
