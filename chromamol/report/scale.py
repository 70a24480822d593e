"""What was assumed on the intensity scale of each image, and what a wrong scale would do, in words."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from chromamol.report.numbers import format_number, format_range, is_number
from chromamol.report.tables import read_details

UNMOVED = "none"
QUANTITIES = (("Γme", "gamma_me_per_um2"), ("Γac", "gamma_ac_per_um2"), ("ratio", "rate_ratio"))


def scale_facts(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Return (title, text) pairs by image: how intensity became volume fraction, and how the rates move with it.

    Raises
    ------
    ReadError : calibration.csv or sensitivity.csv is there and broken.
    """
    facts: dict[str, list[tuple[str, str]]] = {}
    for image, rows in read_details(folder, "calibration").groupby("image"):
        facts.setdefault(str(image), []).append(("intensity scale", _scale(rows)))
    for image, rows in read_details(folder, "sensitivity").groupby("image"):
        if text := _sensitivity(rows):
            facts.setdefault(str(image), []).append(("if the scale were wrong", text))
    return facts


def _scale(rows: pd.DataFrame) -> str:
    parts = []
    for plane, own in rows.groupby("plane"):
        how = " and ".join(sorted(set(own["scale"])))
        if how == "volume fractions":
            parts.append(f"{plane}: volume fractions, as they are")
            continue
        dark, gain = (_spread(own[name]) for name in ("dark_level", "gain"))
        parts.append(
            f"{plane}: scale by {how}, dark level {dark}, gain {gain} per unit of volume fraction{_note(own)}"
        )
    return "; ".join(parts)


def _note(rows: pd.DataFrame) -> str:
    """The note of the first nucleus that has one."""
    noted = rows[rows["note"] != ""]
    if noted.empty:
        return ""
    others = f"; {len(noted) - 1} others likewise" if len(noted) > 1 else ""
    return f" (nucleus {noted['nucleus'].iloc[0]}: {noted['note'].iloc[0]}{others})"


def _spread(values: pd.Series) -> str:
    low, high = float(values.min()), float(values.max())
    return format_number(low) if low == high else format_range(low, high)


def _sensitivity(rows: pd.DataFrame) -> str:
    """Each change with its factors on both rates and the ratio."""
    base = rows[rows["change"] == UNMOVED]
    moved = rows[rows["change"] != UNMOVED]
    if base.empty or moved.empty:
        return ""
    parts = []
    for row in moved.to_dict("records"):
        factors = [
            f"{title} × {format_number(row[key] / base[key].iloc[0], digits=3)}"
            for title, key in QUANTITIES
            if is_number(row[key]) and is_number(base[key].iloc[0]) and base[key].iloc[0] != 0.0
        ]
        parts.append(f"{row['change']}: {', '.join(factors) or 'not estimable'}")
    return f"nucleus {int(base['nucleus'].iloc[0])}, by regression. " + "; ".join(parts)
