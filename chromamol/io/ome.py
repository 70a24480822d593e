"""The little of OME-XML that is needed: channel names, voxel size, significant bits; read and written."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from xml.etree import ElementTree

from chromamol.errors import ReadError
from chromamol.io.pixel_size import Calibration, number
from chromamol.units import um_per_unit

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"

MAX_PLANES = 1_000_000
"""More planes than any microscope wrote into one file: a larger count is a broken header."""


@dataclass(frozen=True)
class OmeImage:
    """One image of an OME file.

    Parameters
    ----------
    name : of the image.
    channel_names : empty if any channel has none.
    calibration : stated voxel size.
    significant_bits : of the camera, if stated.
    pixel_count : of all planes together.
    frame_interval_s : time between frames, if stated.
    """

    name: str
    channel_names: tuple[str, ...]
    calibration: Calibration
    significant_bits: int | None
    pixel_count: int
    frame_interval_s: float | None = None


SECONDS_PER_UNIT = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "µs": 1e-6, "min": 60.0, "h": 3600.0}


def parse_ome(xml: str, *, name: str) -> tuple[OmeImage, ...]:
    """Read OME-XML.

    Raises
    ------
    ReadError : the text is not XML, defines entities, or states counts that no file can hold.
    """
    broken = ReadError(
        f"{name}: its OME metadata is broken or states impossible sizes.",
        expected="OME-XML as Bio-Formats writes it.",
        do="export the image again from the microscope's software or through Fiji.",
    )
    if "<!ENTITY" in xml or "<!DOCTYPE" in xml:
        raise broken
    try:
        root = ElementTree.fromstring(xml)
        _require_possible_counts(root)
        return tuple(_image(image) for image in _children(root, "Image"))
    except (ElementTree.ParseError, ValueError, OverflowError) as error:
        raise broken from error


def _require_possible_counts(root: ElementTree.Element) -> None:
    """Bound the numbers by which a reader allocates, before it does."""
    counts = ("IFD", "NumPlanes", "PlaneCount", "FirstC", "FirstT", "FirstZ", "SamplesPerPixel")
    for element in root.iter():
        planes = math.prod(int(element.get(f"Size{a}", 1)) for a in "CZT")
        stated = [planes, *(int(element.get(key, 0)) for key in counts)]
        if not all(0 <= n <= MAX_PLANES for n in stated):
            raise ValueError(stated)


def _children(element: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    """Children by local name: the namespace changes with the schema's year."""
    return [child for child in element if child.tag.rpartition("}")[2] == tag]


def _image(image: ElementTree.Element) -> OmeImage:
    pixels = next(iter(_children(image, "Pixels")), ElementTree.Element("Pixels"))
    names = tuple(channel.get("Name", "") for channel in _children(pixels, "Channel"))
    bits = pixels.get("SignificantBits")
    return OmeImage(
        name=image.get("Name", ""),
        channel_names=names if all(names) else (),
        calibration=_calibration(pixels),
        significant_bits=None if bits is None else int(bits),
        pixel_count=math.prod(int(pixels.get(f"Size{a}", 1)) for a in "XYCZT"),
        frame_interval_s=_frame_interval(pixels),
    )


def _frame_interval(pixels: ElementTree.Element) -> float | None:
    """OME states TimeIncrement in seconds unless it names another unit."""
    stated = pixels.get("TimeIncrement")
    scale = SECONDS_PER_UNIT.get(pixels.get("TimeIncrementUnit", "s"))
    return None if stated is None or scale is None else float(stated) * scale or None


def _calibration(pixels: ElementTree.Element) -> Calibration:
    sides: dict[str, float] = {}
    remarks = []
    for axis in "XYZ":
        stated = pixels.get(f"PhysicalSize{axis}")
        if stated is None:
            continue
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        scale = um_per_unit(unit)
        if scale is None:
            remarks.append(
                f"OME metadata says {number(float(stated))} {unit} along {axis.lower()}: not a length"
            )
        else:
            sides[axis] = float(stated) * scale
    return Calibration("OME metadata", sides.get("X"), sides.get("Y"), sides.get("Z"), "; ".join(remarks))


def format_ome(
    shape: tuple[int, ...],
    channel_names: tuple[str, ...],
    *,
    pixel_size_um: float | None,
    z_step_um: float | None,
    origin_um: tuple[float, float] = (0.0, 0.0),
) -> str:
    """Return OME-XML for a float32 image of shape (channel, z, y, x), whose planes have a position where it is not 0.

    There is no UUID and no date in it: the same image gives the same bytes.
    """
    channels, z, y, x = shape
    root = ElementTree.Element("OME", xmlns=NAMESPACE, Creator="chromamol")
    image = ElementTree.SubElement(root, "Image", ID="Image:0", Name="chromamol")
    sizes = {"SizeX": x, "SizeY": y, "SizeZ": z, "SizeC": channels, "SizeT": 1}
    sides = {"X": pixel_size_um, "Y": pixel_size_um, "Z": z_step_um}
    attributes = {"ID": "Pixels:0", "DimensionOrder": "XYZCT", "Type": "float", "BigEndian": "false"}
    attributes |= {key: str(value) for key, value in sizes.items()}
    for axis, side in sides.items():
        if side is not None:
            attributes |= {f"PhysicalSize{axis}": repr(float(side)), f"PhysicalSize{axis}Unit": "µm"}
    pixels = ElementTree.SubElement(image, "Pixels", attributes)
    for index, name in enumerate(channel_names):
        entry = {"ID": f"Channel:0:{index}", "Name": name, "SamplesPerPixel": "1"}
        ElementTree.SubElement(pixels, "Channel", entry)
    ElementTree.SubElement(pixels, "TiffData", IFD="0", PlaneCount=str(channels * z))
    position = {"PositionX": repr(float(origin_um[1])), "PositionXUnit": "µm",
                "PositionY": repr(float(origin_um[0])), "PositionYUnit": "µm"}  # fmt: skip
    for c, plane in itertools.product(range(channels), range(z)) if any(origin_um) else ():
        place = {"TheC": str(c), "TheZ": str(plane), "TheT": "0"}
        ElementTree.SubElement(pixels, "Plane", place | position)
    # TIFF descriptions are ASCII; the micro sign goes in as a character reference.
    return ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True).decode("ascii")
