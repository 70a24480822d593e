"""The voxel size that a TIFF file states, by dialect: OME, ImageJ, LSM, plain resolution tags."""

from __future__ import annotations

import math
from typing import Any

import tifffile

from chromamol.io.ome import OmeImage
from chromamol.io.pixel_size import Calibration, number
from chromamol.units import um_per_unit

_UM_PER_RESOLUTION_UNIT = {3: ("cm", 1e4), 4: ("mm", 1e3), 5: ("um", 1.0)}
"""The TIFF tag ResolutionUnit. 2 is the inch, a unit of printing: never a pixel size."""

_PRINT_UNITS = ("inch", "inches", "in")


def stated_calibration(tif: tifffile.TiffFile, series: Any, ome: OmeImage | None) -> Calibration:
    """Return what the file states, from the richest dialect that states anything."""
    found = [ome.calibration] if ome else []
    if tif.is_imagej:
        found.append(_imagej(tif.imagej_metadata or {}, series.keyframe))
    if tif.is_lsm:
        found.append(_lsm(tif.lsm_metadata or {}))
    found.append(_resolution_tags(series.keyframe))
    for calibration in found:
        if calibration.x_um is not None or calibration.y_um is not None:
            return calibration
    return next((calibration for calibration in found if calibration.remark), found[0])


def _imagej(metadata: dict[str, Any], page: Any) -> Calibration:
    """ImageJ: XResolution is pixels per `unit`; the micro sign may be written `\\u00B5`."""
    unit = str(metadata.get("unit", "")).strip()
    scale = um_per_unit(unit)
    if scale is None or unit.lower() in _PRINT_UNITS:
        remark = f"ImageJ tags give lengths in {unit!r}: not a pixel size" if unit else ""
        return Calibration("ImageJ tags", remark=remark)
    scale_y = um_per_unit(str(metadata.get("yunit", unit)))
    scale_z = um_per_unit(str(metadata.get("zunit", unit)))
    x, y = _per_pixel(page, "XResolution"), _per_pixel(page, "YResolution")
    spacing = metadata.get("spacing")
    return Calibration(
        "ImageJ tags",
        x_um=None if x is None else x * scale,
        y_um=None if y is None or scale_y is None else y * scale_y,
        z_um=float(spacing) * scale_z if isinstance(spacing, int | float) and scale_z else None,
    )


def _lsm(metadata: dict[str, Any]) -> Calibration:
    """Zeiss LSM states metres."""
    sides = (metadata.get(f"VoxelSize{axis}") for axis in "XYZ")
    x, y, z = (float(side) * 1e6 if side else None for side in sides)
    return Calibration("LSM metadata", x, y, z)


def _resolution_tags(page: Any) -> Calibration:
    tag = page.tags.get("ResolutionUnit")
    unit = int(tag.value) if tag is not None and isinstance(tag.value, int) else 2 if tag is None else 1
    x, y = _per_pixel(page, "XResolution"), _per_pixel(page, "YResolution")
    if x is None:
        return Calibration("TIFF tags")
    if unit not in _UM_PER_RESOLUTION_UNIT:
        per = "inch" if unit == 2 else "unknown unit"
        remark = f"TIFF tags say {number(1 / x)} pixels per {per}: a print resolution, not a pixel size"
        # One pixel per nothing is what writers put when they know nothing.
        return Calibration("TIFF tags", remark="" if x == 1 else remark)
    name, scale = _UM_PER_RESOLUTION_UNIT[unit]
    return Calibration(f"TIFF tags in {name}", x * scale, None if y is None else y * scale)


def _per_pixel(page: Any, tag_name: str) -> float | None:
    """Length of a pixel in the tag's unit: the reciprocal of the stored pixels per unit."""
    tag = page.tags.get(tag_name)
    value = () if tag is None else tag.value
    if not (isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, int) for v in value)):
        return None
    pixels, units = value
    length = units / pixels if pixels else math.inf
    return length if length > 0 else None
