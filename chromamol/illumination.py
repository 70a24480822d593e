"""The planes of an image with even illumination: by a flat field that the user took, or by the background."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from chromamol.channels import Channels
from chromamol.density.illumination import Shading, estimate_shading, flat_field_shading
from chromamol.errors import AxesError, ParameterError
from chromamol.io import Micrograph, read_image
from chromamol.io.reading import checksum_of
from chromamol.nucleus.boxes import shadow_sizes
from chromamol.settings import Settings
from chromamol.shapes import Labels

HAZE_DIAMETERS = 0.25
"""Background nearer to a nucleus than this share of the median diameter is left out: it holds the nucleus's haze."""


def divide_by_flat_field(channels: Channels, micrograph: Micrograph, settings: Settings) -> Channels:
    """Return the planes divided by the flat field of the settings; as they are where there is none.

    A flat field of one channel holds for all; of several, each belongs to the channel of the same index.

    Raises
    ------
    AxesError : another shape than the image, or a channel that it does not have.
    ImageContentError : a flat field without light.
    ParameterError : an image of volume fractions, which no illumination scales.
    """
    if settings.flat_field is None:
        return channels
    if channels.calibrated:
        raise ParameterError(f"{micrograph.name}: a flat field for volume fractions.",
                             expected="intensities.", do="leave --flat-field out.")  # fmt: skip
    path = Path(settings.flat_field)
    flat = read_image(path)
    if flat.is_stack or flat.shape != micrograph.shape[-2:]:
        raise AxesError(
            f"{path}: a flat field of {' x '.join(map(str, flat.shape))} pixels for an image of "
            f"{' x '.join(map(str, micrograph.shape[-2:]))}.",
            expected="one plane of the image's height and width.",
            do="take it with the same camera region and binning.",
        )
    name = f"{path.name} (sha256 {checksum_of(path)[:12]})"
    offset = next((v for v in (settings.camera_offset, settings.dark_level) if v is not None), 0.0)
    shadings = {}
    for role in channels.planes:
        place = 0 if len(flat.channel_names) == 1 else channels.numbers[role]
        if place >= len(flat.channel_names):
            raise AxesError(
                f"{path}: {len(flat.channel_names)} channels, number {place} is wanted.",
                expected="one channel, or as many as the image has.",
                do="save it with all channels.",
            )
        shadings[role] = flat_field_shading(flat.data[place], offset=offset, name=name)
    return apply_shading(channels, shadings)


def even_out(channels: Channels, labels: Labels, micrograph: Micrograph, settings: Settings) -> Channels:
    """Return the planes divided by the illumination that their background shows, where that is asked for.

    Volume fractions and counted localisations have none. Where the background does not tell it, planes stay as they
    are, and the nuclei carry `illumination_not_measurable`.
    """
    if not settings.estimate_illumination or channels.calibrated or channels.molecules is not None:
        return channels
    assert settings.camera_offset is not None
    flat = labels if labels.ndim == 2 else labels.max(axis=0)
    areas = list(shadow_sizes(labels).values())
    diameter = 2.0 * float(np.sqrt(np.median(areas) / np.pi)) if areas else 0.0
    outside = ndimage.distance_transform_edt(flat == 0) > HAZE_DIAMETERS * diameter
    found: dict[str, Shading] = {}
    notes = []
    for role, plane in channels.planes.items():
        seen = plane if plane.ndim == 2 else plane.mean(axis=0)
        shading, note = estimate_shading(seen, outside, offset=settings.camera_offset)
        if shading is None:
            notes.append(f"{role}: {note}")
        else:
            found[role] = shading
    flags = (("illumination_estimated",) if found else ()) + (
        ("illumination_not_measurable",) if notes else ()
    )
    evened = apply_shading(channels, found)
    return replace(evened, note="; ".join((evened.note, *notes)), flags=(*evened.flags, *flags))


def apply_shading(channels: Channels, shadings: dict[str, Shading]) -> Channels:
    """Return the planes that have an illumination divided by it."""
    planes = {
        role: shadings[role].correct(plane) if role in shadings else plane
        for role, plane in channels.planes.items()
    }
    notes = [channels.note, *(f"{role}: {shading.note}" for role, shading in shadings.items())]
    return replace(channels, planes=planes, note="; ".join(notes), shadings=channels.shadings | shadings)
