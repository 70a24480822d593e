"""The figure of `chromamol benchmark paper`."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

_COLOURS = {"mollifier": "C0", "taylor": "C1", "nested": "C3"}
_MARKERS = {"grid": "s", "mlp": "o", "piratenet": "^", "pinnsformer": "D"}


def paper_figure(rows: pd.DataFrame) -> Figure:
    """Draw one column per problem: correlation of the unknown against noise, and a step's time against its memory.

    Parameters
    ----------
    rows : of `chromamol.benchmarks.paper.PaperBenchmark`.
    """
    problems = list(rows.problem.unique())
    figure = Figure(figsize=(4.2 * len(problems), 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(problems), squeeze=False)
    for column, problem in enumerate(problems):
        part = rows[rows.problem == problem]
        _correlation(axes[0, column], part)
        axes[0, column].set_title(str(problem).replace("_", "-"))
        _cost(axes[1, column], part)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if (rows.steps == 0).any():
        handles.append(Line2D([], [], marker="o", color="grey", markerfacecolor="none", linestyle="none"))
        labels.append("hollow: not run, cost taken on from few points")
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _correlation(axes: Axes, part: pd.DataFrame) -> None:
    """Bars where there is one noise, lines where there are several."""
    groups = part.groupby(["architecture", "derivatives"], sort=False)
    several = part.noise.nunique() > 1
    for position, ((architecture, method), group) in enumerate(groups):
        medians = group.groupby("noise")["correlation"].median()
        x = [100.0 * n for n in medians.index] if several else [position]
        axes.plot(x, medians.to_numpy(dtype=float), marker=_MARKERS[str(architecture)], color=_COLOURS[str(method)],
                  label=f"{architecture}, {method}")  # fmt: skip
    axes.set_ylim(min(0.0, float(part.correlation.min()) - 0.05), 1.03)
    axes.set_ylabel("correlation of the unknown")
    if several:
        axes.set_xlabel("noise (% of each field's standard deviation)")
    else:
        names = [f"{architecture}, {method}" for (architecture, method), _ in groups]
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
        axes.set_xlabel(f"network and method, {part.noise.iloc[0]:.0%} noise")


def _cost(axes: Axes, part: pd.DataFrame) -> None:
    """Hollow where no step was run at full size, so that its cost is taken on from few points."""
    for (architecture, method), group in part.groupby(["architecture", "derivatives"], sort=False):
        time, memory = group[["cpu_step_ms", "peak_mib"]].median().to_numpy(dtype=float)
        face = {"markerfacecolor": "none"} if (group.steps == 0).all() else {}
        axes.loglog([time], [memory], marker=_MARKERS[str(architecture)], color=_COLOURS[str(method)], linestyle="none",
                    **face)  # fmt: skip
    axes.xaxis.set_minor_formatter(NullFormatter())  # they collide on an axis of one decade
    axes.set_xlabel("one training step (ms of the processor)")
    axes.set_ylabel("peak memory (MiB)")
    axes.margins(0.15)
