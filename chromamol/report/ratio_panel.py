"""The panel of rate ratios: colours no finer than the errors, and numbers with their errors where there is room."""

from __future__ import annotations

import numpy as np
import pandas as pd

from chromamol.report.numbers import format_measured, format_number, is_number
from chromamol.report.panels import Labels2D, Limits, Nuclei, Values2D

COLOUR_ERRORS = 3
"""The colours span at least so many standard errors to either side of the median: less is no difference."""
ERROR_WHERE_NONE = 0.1
"""Relative standard error where a table has none, as that of true ratios: what one channel leaves open."""

SIZE_ALONE = 0.36
SIZE_WITH_ERROR = 0.21
"""Size of the numbers over the diameter of a nucleus: of a ratio alone, and of one with its error below it."""
LEAST_SIZE = 5.0
"""Points; a smaller error could not be read, and is left out."""


def fill(labels: Labels2D, nuclei: pd.DataFrame) -> Values2D:
    """Fill each nucleus with its mean rate ratio."""
    lookup = np.full(int(labels.max(initial=0)) + 1, np.nan)
    for number, (ratio, _) in _ratios(nuclei).items():
        if 0 < number < lookup.size:
            lookup[number] = ratio
    return lookup[labels]


def least_limits(nuclei: pd.DataFrame) -> Limits | None:
    """Return what the colours must span at least, None where there is no ratio."""
    pairs = [pair for pair in _ratios(nuclei).values() if is_number(pair[0])]
    if not pairs:
        return None
    middle = float(np.median([ratio for ratio, _ in pairs]))
    errors = [error for _, error in pairs if is_number(error)]
    error = float(np.median(errors)) if errors else ERROR_WHERE_NONE * middle
    half = COLOUR_ERRORS * error
    measured = f"{COLOUR_ERRORS} standard errors (of {format_number(error, digits=1)})"
    note = f"colours: at least ± {measured if errors else f'{COLOUR_ERRORS * ERROR_WHERE_NONE:.0%}'}"
    return Limits(max(0.0, middle - half), middle + half, note)


def texts(near: Nuclei, nuclei: pd.DataFrame, *, diameter_points: float) -> tuple[list[str], float]:
    """Return what is written on each nucleus, and the size over the diameter: with the errors where they fit."""
    ratios = _ratios(nuclei)
    pairs = [ratios.get(number, (np.nan, np.nan)) for number in near.numbers]
    if not _has_errors(nuclei) or SIZE_WITH_ERROR * diameter_points < LEAST_SIZE:
        return [format_number(r, digits=2) if is_number(r) else "" for r, _ in pairs], SIZE_ALONE
    return [_with_error(*pair) for pair in pairs], SIZE_WITH_ERROR


def _with_error(ratio: float, error: float) -> str:
    if not is_number(ratio):
        return ""
    if not is_number(error):
        return f"{format_number(ratio, digits=2)}\n± ?"
    return format_measured(ratio, error).replace(" ± ", "\n± ")


def _has_errors(nuclei: pd.DataFrame) -> bool:
    return "rate_ratio_se" in nuclei and bool(nuclei["rate_ratio_se"].notna().any())


def _ratios(nuclei: pd.DataFrame) -> dict[int, tuple[float, float]]:
    """Ratio and standard error by the number of the nucleus."""
    if not {"nucleus", "rate_ratio"} <= set(nuclei.columns):
        return {}
    errors = nuclei["rate_ratio_se"] if "rate_ratio_se" in nuclei else [np.nan] * len(nuclei)
    rows = zip(nuclei["nucleus"], nuclei["rate_ratio"], errors, strict=True)
    return {int(number): (float(ratio), float(error)) for number, ratio, error in rows}
