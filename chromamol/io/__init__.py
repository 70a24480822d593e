"""Files in, files out. The only place that knows file formats and imports tifffile."""

from chromamol.io.atomic import atomic_write, readable, write_text
from chromamol.io.inputs import Found, discover
from chromamol.io.labels import find_labels, read_labels, read_mask
from chromamol.io.micrograph import ChannelChoice, Micrograph, check_content
from chromamol.io.pixel_size import check_nuclear_diameter, require_pixel_size, require_z_step
from chromamol.io.reading import TimeSeries, checksum_of, is_image, read_image, read_time_series
from chromamol.io.smlm import Localizations, is_localization_table, read_localizations
from chromamol.io.write import write_channels, write_labels

__all__ = [
    "ChannelChoice",
    "Found",
    "Localizations",
    "Micrograph",
    "TimeSeries",
    "atomic_write",
    "check_content",
    "check_nuclear_diameter",
    "checksum_of",
    "discover",
    "find_labels",
    "is_image",
    "is_localization_table",
    "read_image",
    "read_labels",
    "read_localizations",
    "read_mask",
    "read_time_series",
    "readable",
    "require_pixel_size",
    "require_z_step",
    "write_channels",
    "write_labels",
    "write_text",
]
