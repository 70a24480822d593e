"""The rate ratio of many nuclei in a line: a median that never stands without its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from chromamol.nucleus.flags import SEPARATOR
from chromamol.report.numbers import NOT_ESTIMABLE, counted, format_measured, format_number, format_range
from chromamol.report.tables import folder_of_images

AGAINST_RATIO: frozenset[str] = frozenset(
    {
        "too_small", "dead", "mitotic", "saturated", "no_domains", "background_clipped", "projected_maximum",
        "off_centre_plane", "marks_alike", "negative_rate", "unsteady", "not_converged",
    }
)  # fmt: skip
"""Flags that speak against a nucleus or its fit, and so against its ratio, not of what was assumed for all alike."""


@dataclass(frozen=True)
class RatioSummary:
    """The ratio of some nuclei.

    Parameters
    ----------
    number : "0.45 ± 0.05": the median, and the median of the nuclei's standard errors.
    remark : of how many nuclei, their spread, and how many carry `AGAINST_RATIO`.
    """

    number: str
    remark: str

    @property
    def sentence(self) -> str:
        return f"{self.number} ({self.remark})" if self.remark else self.number


def ratio_summary(nuclei: pd.DataFrame) -> RatioSummary:
    """Return the ratio of the nuclei of a table as `nuclei.csv`.

    The error is that of one nucleus: where the calibration's and the split's parts are most of it, which nuclei have in
    common, no number of nuclei makes it smaller. The spread between nuclei stands beside it.
    """
    known = nuclei[nuclei["rate_ratio"].notna()]
    if known.empty:
        return RatioSummary(NOT_ESTIMABLE, f"in {counted(len(nuclei), 'nucleus')}")
    ratios = known["rate_ratio"]
    number = format_measured(float(ratios.median()), _typical_error(known["rate_ratio_se"]))
    if len(known) == 1:
        return RatioSummary(
            number, "; ".join(filter(None, ["one nucleus, ± standard error", _against(known)]))
        )
    spread = f"SD {format_number(float(ratios.std()), digits=2)}, {format_range(ratios.min(), ratios.max())}"
    parts = [
        f"median of {counted(len(known), 'nucleus')} ± standard error of one",
        f"between nuclei: {spread}",
        _against(known),
    ]
    return RatioSummary(number, "; ".join(filter(None, parts)))


def _typical_error(errors: pd.Series) -> float:
    """Return the median; infinite, which is written as an unknown error, where half of the nuclei have none."""
    return float(errors.fillna(np.inf).median())


def _against(known: pd.DataFrame) -> str:
    """Which flags speak against the ratios, and of how many nuclei."""
    names = [set(str(cell).split(SEPARATOR)) & AGAINST_RATIO for cell in known["flags"]]
    doubtful = sum(map(bool, names))
    if not doubtful:
        return ""
    words = ", ".join(sorted(name.replace("_", " ") for name in set().union(*names)))
    who = "flagged" if len(known) == 1 else f"{doubtful} of them flagged"
    return f"{who} {words}"


@dataclass(frozen=True)
class FolderPart:
    """The nuclei of one input folder."""

    folder: str
    images: int
    nuclei: int
    ratio: RatioSummary


def by_folder(nuclei: pd.DataFrame, images: pd.DataFrame) -> list[FolderPart]:
    """Return a summary for each input folder, in the order of the inputs; none where there is one folder.

    Folders are conditions more often than not, and their nuclei are not to be mixed in one median.
    """
    folders = folder_of_images(images)
    names = list(dict.fromkeys(folders.values()))
    own = nuclei["image"].map(folders)
    parts = [FolderPart(name, sum(f == name for f in folders.values()), int((own == name).sum()),
                        ratio_summary(nuclei[own == name])) for name in names]  # fmt: skip
    return parts if len(parts) > 1 else []
