"""The figure of `chromamol benchmark derivatives`."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_SHOWN = (
    "polynomial kernel",
    "bump kernel",
    "gaussian kernel",
    "vanishing kernel",
    "Savitzky-Golay",
    "FFT, Gaussian low pass",
    "finite difference",
)
_STYLE: dict[str, Any] = {"marker": "o", "markersize": 3, "linewidth": 1.2}


def derivative_figure(accuracy: pd.DataFrame, cost: pd.DataFrame, network: pd.DataFrame) -> Figure:
    """Draw the benchmark: error against width and against noise, time against size, one training step.

    Parameters
    ----------
    accuracy, cost, network : tables of `chromamol.benchmarks.derivatives.DerivativeBenchmark`.
    """
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    noise = max(n for n in accuracy.noise.unique() if n <= 0.05)
    _error_against_width(
        axes[0, 0], accuracy[(accuracy.noise == noise) & (accuracy.operator == "bilaplacian")]
    )
    axes[0, 0].set_title(f"Bilaplacian at {noise:.0%} noise")
    _error_against_noise(axes[0, 1], accuracy[accuracy.best & (accuracy.operator == "bilaplacian")])
    _time_against_size(axes[1, 0], cost)
    _training_step(axes[1, 1], network)
    return figure


def _error_against_width(axes: Axes, table: pd.DataFrame) -> None:
    for method in _SHOWN[:-1]:
        rows = table[table.method == method]
        medians = rows.groupby("width_px")["relative_error"].median()
        axes.loglog(medians.index, medians.to_numpy(dtype=float), label=method, **_STYLE)
    axes.set_ylim(top=100.0)
    axes.set_xlabel("half-width (px)")
    axes.set_ylabel("relative error, median over fields")
    axes.legend(fontsize=8)


def _error_against_noise(axes: Axes, table: pd.DataFrame) -> None:
    for method in _SHOWN:
        medians = table[table.method == method].groupby("noise")["relative_error"].median()
        axes.plot([100 * n for n in medians.index], medians.to_numpy(dtype=float), label=method, **_STYLE)
    axes.set_yscale("log")
    axes.set_xlabel("noise (% of the contrast)")
    axes.set_ylabel("relative error at the best setting")
    axes.set_title("Bilaplacian, every method at its best setting")
    axes.legend(fontsize=8)


def _time_against_size(axes: Axes, table: pd.DataFrame) -> None:
    support = 41 if 41 in set(table.support_px) else int(table.support_px.iloc[0])
    rows = table[(table.support_px == support) & (table.outputs == "value, yy, xx") & (table.batch == 1)]
    for method, part in rows.groupby("method"):
        axes.loglog(part["size"], 1e3 * part.both_s, label=str(method), **_STYLE)
    axes.set_xlabel("pixels along a side")
    axes.set_ylabel("forward + backward (ms)")
    axes.set_title(f"Three outputs, support {support} px, {rows.device.iloc[0]}")
    axes.legend(fontsize=8)


def _training_step(axes: Axes, table: pd.DataFrame) -> None:
    markers = dict(zip(table.method.unique(), "osD^v", strict=False))
    colours = dict(zip(table.residual_order.unique(), ("C0", "C1", "C2"), strict=False))
    for method, order, seconds, mib in zip(
        table.method, table.residual_order, table.step_s, table.peak_mib, strict=True
    ):
        label = f"{method}, order {order}"
        axes.loglog([1e3 * seconds], [mib], markers[method], color=colours[order], label=label)
    axes.set_xlabel("one training step (ms)")
    axes.set_ylabel("peak memory (MiB)")
    axes.set_title(f"4 x 64 tanh network on {int(table['size'].iloc[0])}² points")
    axes.margins(0.25)
    axes.legend(fontsize=8)
