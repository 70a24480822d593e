"""The nuclei of an image: outlines that were given or are found, and whether their size is believable."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chromamol.channels import Channels
from chromamol.errors import ImageContentError
from chromamol.io import Micrograph, check_nuclear_diameter, find_labels, read_labels
from chromamol.nucleus import Nucleus, segment_nuclei
from chromamol.nucleus.boxes import shadow_sizes
from chromamol.nucleus.fractions import label_fractions
from chromamol.settings import Settings
from chromamol.shapes import Labels


def nucleus_labels(micrograph: Micrograph, channels: Channels, settings: Settings) -> Labels:
    """Return the nuclei as int32 labels: all that are given, or those found that are not too small to be nuclei.

    Raises
    ------
    ReadError, AxesError : labels that can't be read or do not fit the image.
    ImageContentError : no nucleus.
    """
    if settings.labels is not None:
        source = label_file(micrograph, settings.labels)
        labels = np.array(read_labels(source, shape=micrograph.shape, allow_pickle=settings.allow_pickle))
        _require_maps_inside(labels, micrograph, channels, source)
        return labels
    if channels.outlines is not None:
        return channels.outlines
    spacing = micrograph.spacing_um
    if channels.calibrated:
        labels = label_fractions(channels.all_chromatin)
    else:
        labels = np.array(
            segment_nuclei(channels.all_chromatin, pixel_size_um=spacing, method=settings.segmentation_method)
        )
    least = settings.min_area_um2 / (spacing[-1] * spacing[-2])
    small = [number for number, pixels in shadow_sizes(labels).items() if pixels < least]
    labels[np.isin(labels, small)] = 0
    if not labels.any():
        raise ImageContentError(
            f"{micrograph.name}: no nucleus found in {channels.note}, at {micrograph.spacing_um[-1]:g} um per pixel.",
            expected="at least one nucleus of 3 to 40 um, brighter than the background.",
            do="check the channel with --chromatin-channel and the pixel size, or give outlines with --labels.",
        )
    return labels


def label_file(micrograph: Micrograph, labels: str | Path) -> Path:
    """Return the file of the outlines that were given: `labels`, or the one of this image in that folder."""
    return Path(labels) if micrograph.path is None else find_labels(labels, image=micrograph.path)


def small_given(nuclei: list[Nucleus], settings: Settings) -> list[str]:
    """Say that given outlines are used although they are smaller than what is looked for."""
    small = [n for n in nuclei if settings.labels is not None and n.area_um2 < settings.min_area_um2]
    if not small:
        return []
    return [f"{len(small)} of {len(nuclei)} given outlines are smaller than min_area_um2 = {settings.min_area_um2:g}: "
            "they are used, as all that are given"]  # fmt: skip


def _require_maps_inside(labels: Labels, micrograph: Micrograph, channels: Channels, source: Path) -> None:
    """Refuse outlines that reach beyond those of maps, where there is no volume fraction."""
    if channels.outlines is None:
        return
    beyond = np.count_nonzero((labels > 0) & (channels.outlines == 0))
    if beyond:
        raise ImageContentError(
            f"{micrograph.name}: {beyond:,} pixels of the nuclei in {source} are NaN.",
            expected="volume fractions inside every outline.",
            do="give the labels.tif of the same run, or leave --labels out.",
        )


def require_plausible_size(
    nuclei: list[Nucleus], micrograph: Micrograph, channels: Channels, settings: Settings
) -> None:
    """Refuse a pixel size that implies impossible nuclei, unless the user vouched for it.

    Raises
    ------
    PixelSizeError : nuclei of an impossible size.
    """
    # Volume fractions may be a simulation's, in units of its own.
    if settings.pixel_size_um is not None or channels.calibrated:
        return
    whole = [n for n in nuclei if "touches_border" not in n.flags] or nuclei
    median = float(np.median([n.equivalent_diameter_um for n in whole]))
    check_nuclear_diameter(median, pixel_size_um=micrograph.spacing_um[-1], name=micrograph.name)
