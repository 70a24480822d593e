"""Which pixels are a nucleus, its geometry, and what may be doubtful about it."""

from chromamol.nucleus.flags import FLAGS, describe, join
from chromamol.nucleus.from_localizations import outline_localizations
from chromamol.nucleus.geometry import Nucleus, find_nuclei
from chromamol.nucleus.scoring import Score, match_labels, mean_average_precision
from chromamol.nucleus.segment import segment_nuclei
from chromamol.nucleus.settings import SegmentationSettings

__all__ = [
    "FLAGS",
    "Nucleus",
    "Score",
    "SegmentationSettings",
    "describe",
    "find_nuclei",
    "join",
    "match_labels",
    "mean_average_precision",
    "outline_localizations",
    "segment_nuclei",
]
