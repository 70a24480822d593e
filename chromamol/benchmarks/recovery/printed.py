"""The tables of the recovery benchmark as a reader wants them: median and worst in one cell, nothing that is empty."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from chromamol.benchmarks.markdown import markdown_table

PLAIN = ("correlation", "relative_l2")
"""Printed as they are; errors of numbers are printed in percent."""

PERCENT = {
    "bias": "bias of the mean", "ratio_error": "ratio of the means", "stated_ratio_error": "ratio as stated",
    "diffusivity_error": "D", "median_error": "median", "spread": "spread",
}  # fmt: skip


def printed(summary: pd.DataFrame) -> str:
    """Return the summary as a Markdown table: `median / worst` over the seeds."""
    rows = [_row(row) for row in summary.to_dict("records")]
    return markdown(pd.DataFrame(rows))


def markdown(frame: pd.DataFrame) -> str:
    """Return a Markdown table; empty cells are what does not apply."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return "" if math.isnan(value) else f"{value:.4g}"
        return str(value)

    return markdown_table(
        list(frame.columns), ([cell(v) for v in row] for row in frame.itertuples(index=False))
    )


def _row(row: dict[Any, Any]) -> dict[str, Any]:
    cells = {"case": row["case"], "method": row["method"], "rate": row["rate"], "seeds": row["seeds"]}
    cells |= {name: _pair(row, name, "{:.4f}") for name in PLAIN}
    shown = {text: _pair(row, name, "{:+.1f}", 100.0) for name, text in PERCENT.items()}
    cells["errors, %"] = "; ".join(f"{text} {pair}" for text, pair in shown.items() if pair)
    cells["intervals cover"] = _pair(row, "coverage", "{:.2f}")
    cells["means covered"] = row["means_covered"]
    cells["bound"] = _number(row["bound"], "{:.4f}")
    cells["CPU s"], cells["MB"] = (_number(row[name], "{:.3g}") for name in ("cpu_s", "peak_mb"))
    return cells | {"outcome": row["outcome"], "bar met": row["bar_met"]}


def _pair(row: dict[str, Any], name: str, form: str, scale: float = 1.0) -> str:
    """`median / worst`, or nothing."""
    if math.isnan(row[name]):
        return ""
    return " / ".join(form.format(scale * row[key]) for key in (name, f"worst_{name}"))


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)
