"""The pixel-size rule: what the file states is judged, never guessed, and the user's word goes first.

Rates go as 1 / length², so a wrong pixel size is the worst silent error there is. Files state junk:
print resolutions, 1,000,000 µm per pixel, a z-step of 0, nm under the name of µm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chromamol.errors import PixelSizeError

if TYPE_CHECKING:
    from chromamol.io.micrograph import Micrograph

PIXEL_SIZE_RANGE_UM = (0.001, 2.0)
"""From a finely rendered STORM image to a 4x objective: nothing outside resolves or contains a nucleus."""

Z_STEP_RANGE_UM = (0.001, 20.0)

NUCLEUS_DIAMETER_RANGE_UM = (3.0, 40.0)
"""Yeast-sized to giant nuclei: a median outside says that the pixel size is wrong."""

XY_TOLERANCE = 0.01
"""Pixels whose sides differ by more are not square; the regression assumes that they are."""


@dataclass(frozen=True)
class Calibration:
    """What a file states about its pixels, in µm, before it is judged.

    Parameters
    ----------
    source : where it is stated, for people: "ImageJ tags", "OME metadata".
    x_um, y_um, z_um : side lengths of a voxel as stated, None where nothing is stated.
    remark : why a number in the file was not taken for a length, if that is so.
    """

    source: str = ""
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    remark: str = ""


def judge_pixel_size(stated: Calibration, *, given_um: float | None = None) -> tuple[float | None, str]:
    """Return the pixel size in µm, or None, and the sentence that says where it is from or why it is refused.

    Raises
    ------
    PixelSizeError : `given_um`, the user's own number, is outside of `PIXEL_SIZE_RANGE_UM`.
    """
    accepted, verdict = _judge_stated(stated)
    if given_um is None:
        return accepted, verdict
    require_range("pixel size", given_um, PIXEL_SIZE_RANGE_UM, option="--pixel-size-um")
    return float(given_um), f"pixel size {number(given_um)} um given by the user ({verdict})"


def _judge_stated(stated: Calibration) -> tuple[float | None, str]:
    low, high = PIXEL_SIZE_RANGE_UM
    x, y = stated.x_um, stated.y_um
    x, y = (y if x is None else x), (x if y is None else y)
    if x is None or y is None:
        return None, stated.remark or "file states no pixel size"
    if not (math.isfinite(x) and low <= x <= high):
        return None, f"file says {number(x)} um per pixel: refused ({stated.source})"
    if not abs(x - y) <= XY_TOLERANCE * x:
        return None, f"file says {number(x)} um in x and {number(y)} um in y: refused ({stated.source})"
    return x, f"file says {number(x)} um per pixel ({stated.source})"


def judge_z_step(stated: Calibration, *, given_um: float | None = None) -> tuple[float | None, str]:
    """Return the z-step in µm, or None, and the sentence that says where it is from.

    A stated step of 0, negative or absurd counts as absent: writers put 0 where they know none.

    Raises
    ------
    PixelSizeError : `given_um`, the user's own number, is outside of `Z_STEP_RANGE_UM`.
    """
    if given_um is not None:
        require_range("z-step", given_um, Z_STEP_RANGE_UM, option="--z-step-um")
        return float(given_um), f"z-step {number(given_um)} um given by the user"
    low, high = Z_STEP_RANGE_UM
    if stated.z_um is None or stated.z_um == 0:
        return None, "file states no z-step"
    if not (math.isfinite(stated.z_um) and low <= stated.z_um <= high):
        return None, f"file says a z-step of {number(stated.z_um)} um: refused ({stated.source})"
    return stated.z_um, f"file says a z-step of {number(stated.z_um)} um ({stated.source})"


def require_range(what: str, value: float, bounds: tuple[float, float], *, option: str) -> None:
    """Raise `PixelSizeError` unless the user's `value` lies within `bounds`, both in µm."""
    low, high = bounds
    if not (math.isfinite(value) and low <= value <= high):
        raise PixelSizeError(
            f"A {what} of {number(value)} um was given.",
            expected=f"{number(low)} to {number(high)} um.",
            do=f"pass {option} in micrometres (65 nm is 0.065).",
        )


def require_pixel_size(micrograph: Micrograph) -> float:
    """Return the pixel size in µm of an image that is to be analysed.

    Raises
    ------
    PixelSizeError : there is none; the message holds what the file says.
    """
    if micrograph.pixel_size_um is None:
        low, high = PIXEL_SIZE_RANGE_UM
        raise PixelSizeError(
            f"{micrograph.name}: no usable pixel size: {micrograph.calibration_note}.",
            expected=f"{number(low)} to {number(high)} um per pixel.",
            do="look the pixel size up in the microscope's settings and pass --pixel-size-um.",
        )
    return micrograph.pixel_size_um


def require_z_step(micrograph: Micrograph) -> float:
    """Return the z-step in µm of a stack that is to be analysed; raises `PixelSizeError` without one."""
    if micrograph.z_step_um is None:
        low, high = Z_STEP_RANGE_UM
        raise PixelSizeError(
            f"{micrograph.name}: no usable z-step: {micrograph.calibration_note}.",
            expected=f"{number(low)} to {number(high)} um between planes.",
            do="look the z-step up in the microscope's settings and pass --z-step-um.",
        )
    return micrograph.z_step_um


def check_nuclear_diameter(median_diameter_um: float, *, pixel_size_um: float, name: str = "image") -> None:
    """Second half of the rule: the nuclei that a pixel size implies must be of a nucleus's size.

    Parameters
    ----------
    median_diameter_um : median equivalent diameter of the nuclei that were found, in µm.
    pixel_size_um : what that diameter was computed with.
    name : file name for the message.

    Raises
    ------
    PixelSizeError : the diameter is outside of `NUCLEUS_DIAMETER_RANGE_UM`.
    """
    low, high = NUCLEUS_DIAMETER_RANGE_UM
    if not low <= median_diameter_um <= high:
        raise PixelSizeError(
            f"{name}: nuclei of {number(median_diameter_um)} um median diameter at {number(pixel_size_um)} "
            "um per pixel.",
            expected=f"nuclei of {number(low)} to {number(high)} um.",
            do="check the pixel size (a factor of 1000 is nm taken for um; binning and camera magnification "
            "count) and the outlines, and pass the right --pixel-size-um.",
        )


def number(value: float) -> str:
    """Write a length as people do: 1,000,000 instead of 1e+06.

    >>> number(1e6), number(0.051493135957597184)
    ('1,000,000', '0.0514931')
    """
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"
