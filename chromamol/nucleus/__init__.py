"""Which pixels are a nucleus, its geometry, and what may be doubtful about it."""

from chromamol.nucleus.compare import Nucleus
from chromamol.nucleus.flags import FLAGS, describe, join
from chromamol.nucleus.from_localizations import outlines_on_grid
from chromamol.nucleus.geometry import find_nuclei
from chromamol.nucleus.localizations import LocalizationNuclei, outline_localizations
from chromamol.nucleus.scoring import Score, match_labels, mean_average_precision
from chromamol.nucleus.segment import METHODS, segment_nuclei
from chromamol.nucleus.settings import SegmentationSettings

__all__ = [
    "FLAGS",
    "METHODS",
    "LocalizationNuclei",
    "Nucleus",
    "Score",
    "SegmentationSettings",
    "describe",
    "find_nuclei",
    "join",
    "match_labels",
    "mean_average_precision",
    "outline_localizations",
    "outlines_on_grid",
    "segment_nuclei",
]
