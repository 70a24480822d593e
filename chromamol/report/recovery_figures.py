"""The figure of `chromamol benchmark recovery`."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from chromamol.report.style import AC, ME

_SYMBOLS = {"methylation": ME, "acetylation": AC}


def recovery_figure(scores: pd.DataFrame) -> Figure:
    """Draw error and bound, coverage of the intervals, and time, one line per case and rate.

    Parameters
    ----------
    scores : table of `chromamol.benchmarks.recovery.RecoveryBenchmark`.
    """
    lines = list(dict.fromkeys(zip(scores.case, scores.rate, strict=True)))
    figure = Figure(figsize=(13, 2.2 + 0.34 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    error, coverage, time = figure.subplots(1, 3, sharey=True, width_ratios=(3, 1.5, 1.5))
    heights = {line: -i for i, line in enumerate(lines)}
    _points(error, scores, "relative_l2", heights)
    _bounds(error, scores, heights)
    _log_axis(error)
    error.set_xlabel("relative error of the map: every seed, and the median (ringed)")
    coverage.axvspan(0.90, 0.98, color="0.9", zorder=0)
    _points(coverage, scores, "coverage", heights)
    coverage.set_xlim(0.0, 1.02)
    coverage.set_xlabel("share of pixels inside 95 % intervals")
    _points(time, scores, "cpu_s", heights)
    _log_axis(time)
    time.set_xlabel("processor time (s)")
    error.set_yticks([heights[line] for line in lines], [f"{case}  {_SYMBOLS[rate]}" for case, rate in lines])
    figure.legend(*error.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
    return figure


def _log_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _points(axes: Axes, scores: pd.DataFrame, column: str, heights: dict[tuple[str, str], int]) -> None:
    """Every seed as a dot, the median of each method ringed; methods a little apart."""
    methods = list(dict.fromkeys(scores.method))
    for i, method in enumerate(methods):
        rows = scores[scores.method == method]
        shift = 0.3 - 0.6 * i / max(1, len(methods) - 1)
        if column not in rows or rows[column].dropna().empty:
            continue
        height = [heights[line] + shift for line in zip(rows.case, rows.rate, strict=True)]
        axes.plot(rows[column], height, ".", color=f"C{i}", markersize=5, label=method)
        for line, part in rows.groupby(["case", "rate"], sort=False):
            case, rate = line if isinstance(line, tuple) else (str(line), "")
            axes.plot([part[column].median()], [heights[str(case), str(rate)] + shift], "o", color=f"C{i}",
                      markersize=6, markerfacecolor="none")  # fmt: skip
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)


def _bounds(axes: Axes, scores: pd.DataFrame, heights: dict[tuple[str, str], int]) -> None:
    known = scores.dropna(subset=["bound"])
    for i, (line, rows) in enumerate(known.groupby(["case", "rate"], sort=False)):
        case, rate = line if isinstance(line, tuple) else (str(line), "")
        height = heights[str(case), str(rate)]
        label = "Cramér-Rao bound" if i == 0 else ""
        axes.vlines(
            [rows.bound.median()], height - 0.42, height + 0.42, color="black", linewidth=1.5, label=label
        )
