"""Every broken file ends in one typed error that names it; no library's traceback, no silent zeros."""

import logging
import random
import struct

import numpy as np
import pytest
import tifffile

from chromamol.errors import AxesError, ChromamolError, ImageContentError, ReadError
from chromamol.io import Micrograph, is_image, read_image, read_labels

DATA = np.random.default_rng(2).integers(0, 4096, size=(6, 40, 50)).astype(np.uint16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "zero bytes"),
        (b"nucleus,area\n1,20\n", "starting with b'nucleus,'"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (b"<!DOCTYPE html><html>Not found</html>", "a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"II*\0", "broken or truncated TIFF"),
        (b"II*\0\x08\0\0\0" + bytes(20), "broken or truncated TIFF"),
    ],
)
def test_what_is_no_tiff_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "field 1.tif"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=rf"field 1\.tif: {message}.*Expected: .*Do: "):
        read_image(path)


def test_missing_files_folders_and_other_formats_are_refused(tmp_path):
    with pytest.raises(ReadError, match="no such file"):
        read_image(tmp_path / "missing.tif")
    with pytest.raises(ReadError, match="a folder"):
        read_image(tmp_path)
    (tmp_path / "a.vsi").write_bytes(b"II*\1" + bytes(40))
    with pytest.raises(ReadError, match=r"files ending in '\.vsi' are not read.*OME-TIFF"):
        read_image(tmp_path / "a.vsi")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n", "a PNG image"),
        ("a.csv", b"\x89PNG\r\n\x1a\n", "a PNG image"),
        ("a", b"\xff\xd8\xff\xe0", "a JPEG image"),
        ("a.gif", b"GIF89a", "a GIF image"),
        ("a.webp", b"RIFF\1\0\0\0WEBP", "a WebP image"),
        ("a.pdf", b"%PDF-1.7", "a PDF document"),
        ("a.BMP", b"BM\1\0", r"files ending in '\.BMP' are not read"),
        ("a.oib", b"\xd0\xcf\x11\xe0", r"files ending in '\.oib' are not read"),
    ],
)
def test_images_of_other_kinds_are_no_tables_and_to_be_exported(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert is_image(tmp_path / name)
    with pytest.raises(ReadError, match=rf"{message}.*export the image as OME-TIFF"):
        read_image(tmp_path / name)


def test_a_tiff_with_another_ending_is_still_a_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.stk2", DATA[0])
    np.testing.assert_array_equal(read_image(tmp_path / "a.stk2").data[0], DATA[0])


WRITERS = {
    "plain": {"photometric": "minisblack", "metadata": {"axes": "ZYX"}},
    "pages": {"photometric": "minisblack", "metadata": None, "rowsperstrip": 8},
    "zlib": {"photometric": "minisblack", "compression": "zlib", "metadata": {"axes": "ZYX"}},
    "tiled": {
        "photometric": "minisblack",
        "compression": "lzw",
        "tile": (16, 16),
        "metadata": {"axes": "ZYX"},
    },
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX", "unit": "um", "spacing": 0.3}},
    "ome": {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}},
    "ome zlib": {"ome": True, "compression": "zlib", "metadata": {"axes": "ZYX"}},
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kept", [0.02, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_never_filled_up_with_zeros(tmp_path, writer, kept):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DATA, **WRITERS[writer])
    whole = path.read_bytes()
    np.testing.assert_array_equal(read_image(path, axes="ZYX").data[0], DATA)
    path.write_bytes(whole[: int(kept * len(whole))])
    try:
        read = read_image(path, axes="ZYX").data[0]
    except ReadError as error:
        found = str(error)
    else:
        # Some writers put tags behind the pixels: then all pixels may still be there.
        np.testing.assert_array_equal(read, DATA)
        found = "a.tif: all pixels, last tags truncated" if kept > 0.95 else ""
    assert "a.tif: " in found
    assert "truncated" in found


def test_missing_planes_of_an_ome_tiff_are_no_zeros(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, DATA, **WRITERS["ome"])
    for old, new in ((b'SizeZ="6"', b'SizeZ="8"'), (b'PlaneCount="6"', b'PlaneCount="8"')):
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(ReadError, match="missing"):
        read_image(path)


@pytest.mark.parametrize("count", [10**6 + 1, 10**12, -1])
def test_impossible_counts_in_ome_metadata_are_refused_before_anything_is_allocated(tmp_path, count):
    path = tmp_path / "a.ome.tif"
    xml = ('<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="I:0"><Pixels ID="P:0" '
           f'DimensionOrder="XYZCT" Type="uint16" SizeX="50" SizeY="40" SizeZ="{count}" SizeC="1" SizeT="1">'
           f'<TiffData IFD="0" PlaneCount="{count}"/></Pixels></Image></OME>')  # fmt: skip
    tifffile.imwrite(path, DATA[0], description=xml, metadata=None)
    with pytest.raises(ReadError, match="impossible sizes"):
        read_image(path)
    path.write_bytes(path.read_bytes().replace(b"<OME xmlns=", b"<!ENTITY a="))
    with pytest.raises(ChromamolError):
        read_image(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_an_absurd_header_allocates_nothing(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DATA[0], compression=compression, metadata=None, rowsperstrip=40)
    content = path.read_bytes()
    for code, value in ((256, 50), (257, 40), (278, 40)):  # width, length, rows per strip
        for kind, pack in ((3, "<HHIHH"), (4, "<HHII")):
            old = struct.pack(pack, code, kind, 1, *((value, 0) if kind == 3 else (value,)))
            content = content.replace(old, struct.pack("<HHII", code, 4, 1, 3_000_000))
    assert content != path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(ReadError, match="truncated TIFF"):
        read_image(path)


@pytest.mark.parametrize("data", [DATA[0].astype(np.complex64), DATA[0] > 100])
def test_pixels_that_are_no_intensities_are_refused(tmp_path, data):
    tifffile.imwrite(tmp_path / "a.tif", data)
    with pytest.raises(ReadError, match=r"pixels of type (complex64|bool)"):
        read_image(tmp_path / "a.tif")


def test_other_loggers_and_handlers_are_left_as_they_were(tmp_path, caplog):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DATA, metadata=None, photometric="minisblack", compression="zlib")
    path.write_bytes(path.read_bytes()[:-200])
    logger = logging.getLogger("tifffile")
    before = (list(logger.filters), list(logger.handlers), logger.level, logger.propagate)
    with caplog.at_level(logging.DEBUG), pytest.raises(ReadError):
        read_image(path)
    assert not caplog.records, "the reader's own noise stays inside"
    assert (list(logger.filters), list(logger.handlers), logger.level, logger.propagate) == before
    logger.warning("still heard")
    assert "still heard" in caplog.text


def mutants(whole, *, count, seed):
    """Headers and tags are where it hurts, pixels are most of the bytes: both are hit."""
    rng = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8, 40))):
            reach = min(700, len(mutant)) if rng.random() < 0.7 else len(mutant)
            position = rng.randrange(reach)
            mutant[position] = rng.choice((0, 1, 255, mutant[position] ^ (1 << rng.randrange(8))))
        yield bytes(mutant)


def test_mutated_bytes_end_in_an_image_or_a_typed_error(tmp_path):
    path = tmp_path / "a.tif"
    images, errors = [], []
    for writer, options in WRITERS.items():
        tifffile.imwrite(path, DATA[:3, :20, :24], **options)
        for mutant in mutants(path.read_bytes(), count=40, seed=writer):
            path.write_bytes(mutant)
            try:
                images.append(read_image(path, axes="ZYX"))
            except ChromamolError as error:
                errors.append(str(error))
    assert all(isinstance(image, Micrograph) for image in images)
    assert all("a.tif" in message for message in errors)
    assert len(images) > 50, "many mutants are still images"
    assert len(errors) > 50, "many mutants are broken"


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.zeros((40, 50), np.uint16), ImageContentError, "no label in it"),
        (DATA[0, :30], AxesError, r"labels of shape \(30, 50\).*Expected: \(40, 50\)"),
        (np.full((40, 50), 0.5, np.float32), ReadError, "whole numbers from 0"),
        (np.full((40, 50), np.nan, np.float32), ReadError, "whole numbers from 0"),
        (np.full((40, 50), -1, np.int16), ReadError, "whole numbers from 0"),
        (np.full((40, 50), 2**31, np.uint32), ReadError, "whole numbers from 0"),
        (
            np.where(DATA[0] > 4000, 255, 0).astype(np.uint8),
            ReadError,
            "separate pieces that all have the value 255",
        ),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, data, error, message):
    tifffile.imwrite(tmp_path / "a_labels.tif", data)
    with pytest.raises(error, match=rf"a_labels\.tif: .*{message}"):
        read_labels(tmp_path / "a_labels.tif", shape=(40, 50))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "uint64"])
def test_labels_of_every_writer_become_int32(tmp_path, dtype):
    labels = (DATA // 64).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="minisblack")  # no axes: shape decides
    read = read_labels(tmp_path / "a.tif", shape=labels.shape)
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)
