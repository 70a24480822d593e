"""The columns of the report's table of nuclei: what stands in front, with which unit, in how many digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from chromamol.report.numbers import format_measured, format_number, is_number
from chromamol.report.tables import FOLDER_COLUMN, MEASURED_COLUMNS, NUCLEI_COLUMNS, PER_SECOND_COLUMNS


@dataclass(frozen=True)
class Column:
    """One column that a person reads.

    Parameters
    ----------
    key : column of `nuclei.csv`.
    title, unit : its head.
    explanation : shown when the pointer rests on the head.
    error : column of the standard error that is written behind the value, if there is one.
    digits : significant digits where there is no standard error.
    """

    key: str
    title: str
    unit: str
    explanation: str
    error: str = ""
    digits: int = 3

    @property
    def is_rate(self) -> bool:
        """Whether this is the ratio or a rate: these come first, and the flags right behind them."""
        return self.key.startswith(("rate_", "gamma_"))

    def show(self, row: Mapping[str, Any]) -> str:
        """Return the cell of one nucleus."""
        if self.error in row:
            return format_measured(row[self.key], row[self.error])
        value = row[self.key]
        return (
            str(value) if self.digits == 0 and is_number(value) else format_number(value, digits=self.digits)
        )

    def sort_key(self, row: Mapping[str, Any]) -> str:
        """Return what the cell is sorted by; empty sorts last."""
        return repr(float(row[self.key])) if is_number(row[self.key]) else ""


COLUMNS: tuple[Column, ...] = (
    Column("rate_ratio", "rate ratio", "", "Mean heterochromatin over mean euchromatin of the nucleus, which is the "
           "ratio of the rates, each weighted by the chromatin that it acts on: the robust number.", "rate_ratio_se"),
    Column("gamma_me_per_um2", "methylation", "µm⁻²", "Γme / D, mean of the valid pixels.", "gamma_me_se"),
    Column("gamma_ac_per_um2", "acetylation", "µm⁻²", "Γac / D, mean of the valid pixels.", "gamma_ac_se"),
    Column("gamma_me_per_s", "methylation", "s⁻¹", "Γme with the diffusivity given, or that of a time-lapse.",
           "gamma_me_per_s_se"),
    Column("gamma_ac_per_s", "acetylation", "s⁻¹", "Γac with the diffusivity given, or that of a time-lapse.",
           "gamma_ac_per_s_se"),
    Column("diffusivity_um2_per_s", "diffusivity", "µm² s⁻¹", "D as the frames of a time-lapse tell it.",
           "diffusivity_se"),
    Column("heterochromatin_fraction", "hetero- chromatin", "fraction", "Share of heterochromatin in all chromatin."),
    Column("area_um2", "area", "µm²", "Area inside the outline."),
    Column("domain_count", "domains", "", "Heterochromatin domains away from the border.", digits=0),
    Column("domain_radius_um", "domain radius", "µm", "Median radius of the domains.", digits=2),
    Column("domain_spacing_um", "domain spacing", "µm", "Mean distance to the 5 nearest domains.", digits=2),
    Column("lad_thickness_um", "LAD thickness", "µm", "Mean thickness of the heterochromatin at the border.",
           digits=2),
    Column("valid_fraction", "valid", "fraction", "Part of the nucleus where the rate maps hold.", digits=2),
    Column("mollifier_width_um", "kernel half-width", "µm", "Half-width of the kernel's support.", digits=2),
    Column("noise_sd", "noise", "volume fraction", "Standard deviation of the noise per pixel.", digits=2),
)  # fmt: skip
"""In the order of the report: the ratio first. `flags` stand behind the rates, `method` at the end."""

_KNOWN = frozenset((*NUCLEI_COLUMNS, *PER_SECOND_COLUMNS, *MEASURED_COLUMNS, FOLDER_COLUMN))


def shown_columns(nuclei: pd.DataFrame, *, outlines: bool = False) -> list[Column]:
    """Return the columns that this table has; of outlines alone, those that have a number.

    A kernel is left out where no fit of the table has one.
    """
    there = [column for column in COLUMNS if column.key in nuclei]
    told = {column.key for column in there if nuclei[column.key].notna().any()}
    optional = {column.key for column in there} - {"area_um2"} if outlines else {"mollifier_width_um"}
    return [column for column in there if column.key in told or column.key not in optional]


def other_columns(nuclei: pd.DataFrame) -> list[str]:
    """Return the names of columns that the report does not show and does not know."""
    return [str(name) for name in nuclei.columns if name not in _KNOWN]
