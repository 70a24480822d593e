"""The figure of a what-if: heterochromatin before and after a rate was changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from chromamol.report import panels
from chromamol.report.style import NOTE_SIZE, QUANTITIES, TEXT, Picture, Quantity, drawable

Values2D = Float[np.ndarray, "y x"]
Mask2D = Bool[np.ndarray, "y x"]

PANEL_INCHES = 3.0
SHOWN = 4
"""Nuclei in the figure; all are in the table."""

DIFFERENCE = Quantity("After minus before", "volume fraction", "RdBu_r", limited_by_valid=False)
COMPARED = (
    ("heterochromatin_fraction", "heterochromatin"),
    ("domain_radius_um", "domain radius (µm)"),
    ("domain_count", "domains"),
)


@dataclass(frozen=True, eq=False)
class ShownResponse:
    """One nucleus of the figure.

    Parameters
    ----------
    number : as in the table.
    before, after : heterochromatin volume fraction, (y, x).
    mask : the nucleus.
    """

    number: int
    before: Values2D
    after: Values2D
    mask: Mask2D


def draw_response(
    responses: Sequence[ShownResponse],
    table: pd.DataFrame,
    *,
    pixel_size_um: float,
    title: str,
    phi_max: float = 0.7,
) -> Picture:
    """Draw before, after and the difference of up to four nuclei, and what was measured of them.

    Parameters
    ----------
    responses : the nuclei.
    table : rows of `response.csv`: `nucleus`, `state` ("before", "after") and the measures.
    pixel_size_um : of the fields.
    title : what was changed.
    phi_max : volume fraction of the dense phase, at which the colours end.
    """
    shown = list(responses)[:SHOWN]
    picture = Picture(4.0 * PANEL_INCHES, 0.7 + PANEL_INCHES * len(shown))
    picture.suptitle(drawable(title), x=0.02, ha="left", fontsize=11, color=TEXT)
    top = 1.0 - 0.7 / picture.get_figheight()
    grid = picture.add_gridspec(
        len(shown),
        4,
        left=0.02,
        right=0.97,
        top=top,
        bottom=0.5 / picture.get_figheight(),
        wspace=0.45,
        hspace=0.3,
    )
    phi = QUANTITIES["phi_h"]
    for row, response in enumerate(shown):
        where = panels.locate(response.mask.astype(np.int32))
        limit = float(max(np.abs(response.after - response.before)[response.mask].max(), 1e-6))
        maps = (
            (f"Nucleus {response.number}, before", response.before, phi, (0.0, phi_max)),
            ("After", response.after, phi, (0.0, phi_max)),
            (DIFFERENCE.title, response.after - response.before, DIFFERENCE, (-limit, limit)),
        )
        for column, (name, values, quantity, limits) in enumerate(maps):
            axes = picture.add_subplot(grid[row, column])
            panels.bare(axes, values.shape)
            panels.add_title(axes, name)
            seen = np.where(response.mask, values, np.nan)
            image = axes.imshow(seen, cmap=quantity.colours, vmin=limits[0], vmax=limits[1])
            bar = picture.colorbar(image, ax=axes, fraction=0.045, pad=0.02)
            bar.set_label(quantity.unit, fontsize=NOTE_SIZE)
            bar.ax.tick_params(labelsize=NOTE_SIZE)
            panels.add_outlines(axes, where, colour="#202020", width=0.6)
            panels.add_scale_bar(axes, pixel_size_um=pixel_size_um)
        own = table[table["nucleus"] == response.number].set_index("state")
        _write_numbers(picture.add_subplot(grid[row, 3]), own)
    return picture


def _write_numbers(axes, rows: pd.DataFrame) -> None:  # type: ignore[no-untyped-def]  # matplotlib's Axes
    """Relative change of each measure as a bar, with both numbers written beside it."""
    names = [label for _, label in COMPARED]
    pairs = [(float(rows[key]["before"]), float(rows[key]["after"])) for key, _ in COMPARED]
    changes = [100.0 * (b / a - 1.0) if a else np.nan for a, b in pairs]
    places = range(len(names))
    axes.barh(places, [0.0 if np.isnan(c) else c for c in changes], height=0.35, color="#4c72b0")
    axes.axvline(0.0, color=TEXT, linewidth=0.6)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.margins(x=0.15)
    axes.set_xlabel("change (%)", fontsize=NOTE_SIZE + 1)
    axes.tick_params(labelsize=NOTE_SIZE)
    for place, name, (a, b) in zip(places, names, pairs, strict=True):
        text = f"{name}: {a:.3g} → {b:.3g}"
        axes.text(0.0, place - 0.3, text, transform=axes.get_yaxis_transform(), fontsize=NOTE_SIZE + 1,
                  color=TEXT)  # fmt: skip
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
