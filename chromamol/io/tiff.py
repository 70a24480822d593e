"""TIFF and its dialects (OME, ImageJ, LSM) through tifffile, with the file's promises checked first."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC

from chromamol.errors import ChromamolError, ReadError
from chromamol.io.axes import StoredAxes
from chromamol.io.ome import MAX_PLANES, SECONDS_PER_UNIT, OmeImage, parse_ome
from chromamol.io.source import ImageSource, choose_scene, require_memory, require_number_type
from chromamol.io.tiff_calibration import stated_calibration

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

PICTURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a WebP image or a film",
    b"%PDF": "a PDF document",
}
"""First bytes of what is an image to everybody, and not read."""

MAX_EXPANSION = 2000
"""Deflate gains at most 1032:1 and LZW about 1400:1: a header that promises more is broken."""

MEMORY_MAP_BYTES = 512_000_000
"""Uncompressed images above this stay on the disk and are read when used."""

LOSSY = {
    COMPRESSION.OJPEG: "JPEG",
    COMPRESSION.JPEG: "JPEG",
    COMPRESSION.JPEG_99: "JPEG",
    COMPRESSION.ALT_JPEG: "JPEG",
    COMPRESSION.JPEG_LOSSY: "JPEG",
    COMPRESSION.JPEG_2000_LOSSY: "JPEG 2000",
    COMPRESSION.APERIO_JP2000_YCBC: "JPEG 2000",
    COMPRESSION.APERIO_JP2000_RGB: "JPEG 2000",
}
"""Compression with loss."""

PERHAPS_LOSSY = {
    COMPRESSION.JPEG2000: "JPEG 2000",
    COMPRESSION.JPEGXR: "JPEG XR",
    COMPRESSION.JPEGXR_NDPI: "JPEG XR",
    COMPRESSION.WEBP: "WebP",
    COMPRESSION.JPEGXL: "JPEG XL",
    COMPRESSION.JPEGXL_DNG: "JPEG XL",
}
"""Compression with or without loss, which the file does not say."""

LOSSY_JPEG_BITS = 12
"""JPEG of more bits per sample has no loss."""

_FATAL = re.compile(
    r"page offset|offset to page|tag list|circular|missing|corrupted|incorrect Strip|reshape|index out"
)
"""tifffile logs these and goes on with fewer planes, or with zeros in place of pixels."""


@contextmanager
def open_tiff(path: Path, *, scene: int | str | None = None, masks: bool = False) -> Iterator[ImageSource]:
    """Open one scene of a TIFF file; with `masks` also one of 1 bit per pixel, which is no image.

    Raises
    ------
    ReadError : no TIFF, truncated, planes missing, sizes that the file cannot hold.
    AxesError : several scenes and none chosen.
    """
    with ExitStack() as stack:
        with _as_read_errors(path):
            tif = stack.enter_context(tifffile.TiffFile(path))
            source = _source(tif, path, scene, masks=masks)
        yield source


def _source(tif: tifffile.TiffFile, path: Path, scene: int | str | None, *, masks: bool) -> ImageSource:
    images = _ome_images(tif, path)
    series = [s for s in tif.series if not s.keyframe.is_reduced] or list(tif.series)
    if not series:
        raise _broken(path, "no image in it")
    names = [s.name or f"{s.axes} {s.shape}" for s in series]
    index = choose_scene(names, scene, name=str(path))
    chosen = series[index]
    require_number_type(chosen.dtype, name=str(path), masks=masks)
    _require_complete(chosen, path)
    ome = images[index] if len(images) == len(series) else None
    dropped = len(tif.series) - len(series)
    remarks = [f"scene {index} of {len(series)} ({names[index]})"] if len(series) > 1 else []
    remarks += [f"{dropped} reduced-size preview{'s' * (dropped > 1)} left out"] if dropped else []
    loss, is_lossy = _loss(chosen.keyframe)
    remarks += [loss] if loss else []

    def read(fixed: dict[int, int]) -> np.ndarray:
        with _as_read_errors(path):
            return _read(tif, chosen, fixed, path)

    return ImageSource(
        axes=_stored_axes(tif, chosen, ome),
        dtype=chosen.dtype.newbyteorder("="),
        calibration=stated_calibration(tif, chosen, ome),
        saturation_level=_saturation_level(chosen, ome),
        note="; ".join(remarks),
        read=read,
        frame_interval_s=_frame_interval(tif, ome),
        flags=("lossy_compression",) if is_lossy else (),
    )


def _loss(page: Any) -> tuple[str, bool]:
    """Return what is to be said of a page's compression, and whether it is known to have lost something."""
    altered = "noise and fine structure are altered"
    kind = LOSSY.get(page.compression, "")
    if kind and not (kind == "JPEG" and page.bitspersample > LOSSY_JPEG_BITS):
        return f"lossy compression ({kind}): {altered}", True
    if page.compression in PERHAPS_LOSSY:
        return f"compressed with {PERHAPS_LOSSY[page.compression]}: if with loss, {altered}", False
    return "", False


def _frame_interval(tif: tifffile.TiffFile, ome: OmeImage | None) -> float | None:
    """ImageJ states `finterval` in seconds unless it names another unit."""
    if ome is not None:
        return ome.frame_interval_s
    metadata = tif.imagej_metadata or {}
    stated, scale = metadata.get("finterval"), SECONDS_PER_UNIT.get(str(metadata.get("tunit", "s")))
    return float(stated) * scale or None if isinstance(stated, int | float) and scale is not None else None


@contextmanager
def _as_read_errors(path: Path) -> Iterator[None]:
    """Turn whatever tifffile raises, or logs although data are lost, into one `ReadError`."""
    records: list[str] = []
    with _capture_log(records):
        try:
            yield
        except ChromamolError:
            raise
        except Exception as error:
            # On a broken file tifffile and its codecs raise anything, from struct.error to MemoryError.
            raise _broken(path, _reason(error)) from error
        lost = [message for message in records if _FATAL.search(message)]
        if lost:
            raise _broken(path, lost[0])


@contextmanager
def _capture_log(records: list[str]) -> Iterator[None]:
    """Collect what tifffile logs in this thread. Other threads keep their messages."""
    logger, thread = logging.getLogger("tifffile"), threading.get_ident()

    def collect(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        # Messages begin with the file's repr, whose name could look like one of the patterns.
        records.append(re.sub(r"<tifffile\.\w+ [^>]*>", "", record.getMessage()).strip())
        return False

    logger.addFilter(collect)
    try:
        yield
    finally:
        logger.removeFilter(collect)


def _reason(error: Exception) -> str:
    """What the reader or a codec found; a slip of their own code over junk says nothing to a user."""
    if isinstance(error, TypeError | LookupError | ArithmeticError | AttributeError | AssertionError):
        return "its tags contradict each other"
    return (str(error).splitlines() or [""])[0][:160] or type(error).__name__


def _broken(path: Path, found: str) -> ReadError:
    return ReadError(
        f"{path}: broken or truncated TIFF ({found}).",
        expected="a complete TIFF file.",
        do="copy the file again from its source and compare sizes, or export it again.",
    )


def _ome_images(tif: tifffile.TiffFile, path: Path) -> tuple[OmeImage, ...]:
    xml = tif.ome_metadata
    if xml is None:
        return ()
    images = parse_ome(xml, name=str(path))
    if any(image.pixel_count > MAX_PLANES * max(tif.pages.first.size, 1) for image in images):
        raise _broken(path, "its OME metadata states impossible sizes")
    return images


def _require_complete(series: Any, path: Path) -> None:
    """Check, before anything is allocated, that the file holds what its header promises."""
    size = path.stat().st_size
    if series.dataoffset is not None:
        if series.dataoffset + series.nbytes > size:
            raise _broken(path, f"{series.nbytes:,} bytes of pixels promised, file has {size:,} bytes")
        return
    stored = 0
    for page in series.pages:
        if page is None:
            raise _broken(path, "planes are missing, or lie in other files that are not there")
        stored += _stored_bytes(page, path)
    if series.nbytes > MAX_EXPANSION * stored:
        raise _broken(path, f"{series.nbytes:,} bytes of pixels promised from {stored:,} bytes of data")


def _stored_bytes(page: Any, path: Path) -> int:
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    expected = math.prod(page.keyframe.chunked)
    if len(segments) < expected or any(count == 0 for _, count in segments):
        raise _broken(path, f"{len(segments)} of {expected} strips or tiles hold data")
    limit = page.parent.filehandle.size
    if any(offset + count > limit for offset, count in segments):
        raise _broken(path, f"pixels of plane {page.index} end after the file's {limit:,} bytes")
    stored = sum(count for _, count in segments)
    # Counted in bits: cameras of 12 bits may pack two pixels into three bytes.
    needed = page.keyframe.size * page.keyframe.bitspersample // 8
    if page.keyframe.compression == COMPRESSION.NONE and stored < needed:
        raise _broken(path, f"plane {page.index} has {stored:,} of {needed:,} bytes")
    return stored


def _stored_axes(tif: tifffile.TiffFile, series: Any, ome: OmeImage | None) -> StoredAxes:
    labels = (tif.imagej_metadata or {}).get("Labels") or []
    labels = tuple(str(label) for label in labels) if isinstance(labels, list) else ()
    names = ome.channel_names if ome else ()
    # ImageJ labels planes, not channels: they name channels only where each plane is one.
    if not names and "C" in series.axes and "Z" not in series.axes and "T" not in series.axes:
        count = series.shape[series.axes.index("C")]
        names = labels if len(labels) == count == len(set(labels)) and all(labels) else ()
    photometric = series.keyframe.photometric
    # YCbCr is how JPEG stores red, green and blue, and they come out as these.
    decoded = photometric == PHOTOMETRIC.YCBCR and series.keyframe.compression in LOSSY
    return StoredAxes(
        letters=series.axes,
        shape=tuple(int(n) for n in series.shape),
        channel_names=names,
        plane_labels=labels,
        is_rgb=(photometric == PHOTOMETRIC.RGB or decoded) and series.dtype == np.uint8,
    )


def _saturation_level(series: Any, ome: OmeImage | None) -> float | None:
    """What the camera could reach: OME significant bits, or the tag MaxSampleValue."""
    if series.dtype.kind == "f":
        return None
    if ome is not None and ome.significant_bits:
        return float(2**ome.significant_bits - 1)
    tag = series.keyframe.tags.get("MaxSampleValue")
    value = np.ravel(tag.value) if tag is not None else np.empty(0)
    return float(value.max()) if value.size and value.dtype.kind in "ui" and value.max() > 0 else None


def _read(tif: tifffile.TiffFile, series: Any, fixed: dict[int, int], path: Path) -> np.ndarray:
    shape = tuple(int(n) for n in series.shape)
    index = tuple(fixed.get(axis, slice(None)) for axis in range(len(shape)))
    wanted = math.prod(n for axis, n in enumerate(shape) if axis not in fixed) * series.dtype.itemsize
    if series.dataoffset is not None:
        stored = np.dtype(tif.byteorder + series.dtype.char)
        # Copy-on-write: callers may change the array, never the file.
        mapped = np.memmap(path, dtype=stored, mode="c", offset=series.dataoffset, shape=shape)[index]
        if wanted > MEMORY_MAP_BYTES and stored.isnative:
            return mapped
        require_memory(wanted, name=str(path))
        return np.array(mapped, dtype=stored.newbyteorder("="))
    pages = _pages_to_read(series, shape, fixed)
    if pages is None:
        require_memory(series.nbytes, name=str(path))
        return tif.asarray(series=series).reshape(shape)[index]
    require_memory(wanted, name=str(path))
    rest = tuple(n for axis, n in enumerate(shape) if axis not in fixed)
    return tif.asarray(key=pages, series=series).reshape(rest)


def _pages_to_read(series: Any, shape: tuple[int, ...], fixed: dict[int, int]) -> list[int] | None:
    """Which planes of a compressed file are needed, None where that is not a matter of whole planes."""
    plane = tuple(series.keyframe.shape)
    leading = shape[: len(shape) - len(plane)]
    if shape[len(leading) :] != plane or len(series.pages) != math.prod(leading):
        return None
    if not fixed or any(axis >= len(leading) for axis in fixed):
        return None
    index = tuple(fixed.get(axis, slice(None)) for axis in range(len(leading)))
    return [int(page) for page in np.ravel(np.arange(math.prod(leading)).reshape(leading)[index])]


def name_kind(head: bytes, kinds: Mapping[bytes, str]) -> str:
    """Return what the first bytes of a file are by `kinds`; empty if they are none of these."""
    return next((text for start, text in kinds.items() if head.startswith(start)), "")


def require_tiff(path: Path, head: bytes) -> None:
    """Raise `ReadError` unless the first bytes are those of a TIFF file; say what they are if known."""
    if head.startswith(MAGIC):
        return
    known = PICTURES | {
        b"PK\x03\x04": "a ZIP archive",
        b"version https://git-lfs": "a Git LFS pointer, not the file itself",
        b"<": "a web page or XML",
    }
    what = name_kind(head, known) or f"starting with {head[:8]!r}"
    raise ReadError(
        f"{path}: {what}.",
        expected="a TIFF file.",
        do="export the image as TIFF or OME-TIFF; renaming a file does not convert it.",
    )
