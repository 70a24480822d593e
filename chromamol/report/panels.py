"""One panel of a picture: a grey image or a map, with outlines, numbers, colour bar and scale bar."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Bool, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy import ndimage
from skimage.measure import find_contours

from chromamol.grid import equivalent_radius
from chromamol.nucleus.boxes import label_boxes
from chromamol.report import style
from chromamol.report.numbers import format_range
from chromamol.report.style import Quantity, Shown

Labels2D = Int[np.ndarray, "y x"]
Mask2D = Bool[np.ndarray, "y x"]
Values2D = Shaped[np.ndarray, "y x"]

ROBUST_PERCENTILES = (1.0, 99.0)
"""Colours span these; what lies outside gets the end colours, and the panel says so."""

COLOUR_BAR_INCHES = 0.14

_BAR_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Nuclei:
    """Where the nuclei are on a panel.

    Parameters
    ----------
    labels : 0 = background, else the number of the nucleus.
    numbers : nuclei that are there.
    centres : (y, x) of each in pixels, inside its outline's bounding box.
    outlines : closed lines of (x, y) in pixels.
    diameter : of a typical nucleus, in pixels.
    """

    labels: Labels2D
    numbers: tuple[int, ...]
    centres: tuple[tuple[float, float], ...]
    outlines: tuple[np.ndarray, ...]
    diameter: float


@dataclass(frozen=True)
class Limits:
    """A range of colours, and the remark that says what it is."""

    low: float
    high: float
    note: str


def locate(labels: Labels2D) -> Nuclei:
    """Find outline and centre of each nucleus."""
    numbers, centres, outlines, areas = [], [], [], []
    for number, box in label_boxes(labels):
        mask = np.pad(labels[box] == number, 1)
        top, left = box[0].start - 1, box[1].start - 1
        y, x = ndimage.center_of_mass(mask)
        numbers.append(number)
        centres.append((float(y) + top, float(x) + left))
        areas.append(int(mask.sum()))
        outlines += [line[:, ::-1] + (left, top) for line in find_contours(mask.astype(float), 0.5)]
    diameter = 2.0 * equivalent_radius(float(np.median(areas)), 2) if areas else 0.0
    return Nuclei(labels, tuple(numbers), tuple(centres), tuple(outlines), diameter)


def nice_length_um(width_um: float) -> float:
    """Return a round length, 1, 2 or 5 times a power of ten, of 10 to 25 % of a width.

    >>> nice_length_um(34.6), nice_length_um(0.9)
    (5.0, 0.2)
    """
    largest = 0.25 * width_um
    power = 10.0 ** math.floor(math.log10(largest))
    step = max(s for s in _BAR_STEPS if s * power <= largest * (1 + 1e-9))
    return float(f"{step * power:.6g}")


def bare(axes: Axes, shape: tuple[int, ...]) -> None:
    """Take ticks and frame off; the axes span the pixels of `shape`."""
    axes.set_axis_off()
    axes.set_xlim(-0.5, shape[1] - 0.5)
    axes.set_ylim(shape[0] - 0.5, -0.5)
    axes.set_aspect("equal")


def add_title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=style.TITLE_SIZE, color=style.TEXT, loc="left", pad=4)


def add_note(axes: Axes, text: str) -> None:
    """Write a remark under the scale bar."""
    axes.annotate(text, (0.0, 0.0), (0.0, -15.0), xycoords="axes fraction", textcoords="offset points",
                  ha="left", va="top", fontsize=style.NOTE_SIZE, color=style.TEXT)  # fmt: skip


def add_scale_bar(axes: Axes, *, pixel_size_um: float) -> None:
    """Draw a bar of a round length at the left, under the panel, where it hides nothing."""
    left, right = axes.get_xlim()
    length = nice_length_um((right - left) * pixel_size_um)
    pixels = length / pixel_size_um
    below = axes.get_xaxis_transform()
    (bar,) = axes.plot([left, left + pixels], [-0.012, -0.012], transform=below, color=style.TEXT,
                       linewidth=2.5, solid_capstyle="butt", clip_on=False)  # fmt: skip
    bar.set_gid("scale-bar")
    label = f"{length:g} µm" if length >= 1.0 else f"{1000 * length:g} nm"
    axes.annotate(label, (left + pixels, 0.0), (4.0, -4.0), xycoords=below, textcoords="offset points",
                  ha="left", va="top", fontsize=style.NOTE_SIZE + 1, color=style.TEXT)  # fmt: skip


def add_outlines(axes: Axes, nuclei: Nuclei, *, colour: str, width: float) -> None:
    lines = LineCollection(list(nuclei.outlines), colors=colour, linewidths=width)
    lines.set_gid("outlines")
    axes.add_collection(lines, autolim=False)


def diameter_points(axes: Axes, nuclei: Nuclei) -> float:
    """Return the diameter of a typical nucleus on the page, in points."""
    left, right = axes.get_xlim()
    width = axes.get_position().width * axes.figure.get_figwidth() * 72.0  # type: ignore[union-attr]
    return float(nuclei.diameter * width / (right - left))


def add_texts(
    axes: Axes, nuclei: Nuclei, texts: Iterable[str], *, colour: str, stroke: str, size: float = 0.36
) -> None:
    """Write one text at the centre of each nucleus; `size` is that of its letters over the nucleus's diameter."""
    points = float(np.clip(size * diameter_points(axes, nuclei), 4.5, 11.0))
    for (y, x), text in zip(nuclei.centres, texts, strict=True):
        axes.text(x, y, text, ha="center", va="center", fontsize=points, color=colour, fontweight="bold",
                  path_effects=[withStroke(linewidth=1.6, foreground=stroke)], clip_on=True)  # fmt: skip


def draw_image(
    axes: Axes, image: Values2D, nuclei: Nuclei, *, title: str, shown: Shown, pixel_size_um: float
) -> None:
    """Draw an image in grey with outlines and numbers."""
    values = np.asarray(image, dtype=np.float64)
    low, high = _grey_limits(values, nuclei)
    bare(axes, values.shape)
    axes.imshow(values, cmap="gray", vmin=low, vmax=high)
    add_title(axes, title)
    add_note(axes, f"{shown.values} {format_range(low, high)}{shown.remark}")
    add_scale_bar(axes, pixel_size_um=pixel_size_um)
    add_outlines(axes, nuclei, colour=style.OUTLINE, width=0.9)
    add_texts(axes, nuclei, map(str, nuclei.numbers), colour=style.OUTLINE, stroke="black")
    if not nuclei.numbers:
        say(axes, "no nucleus found")


def draw_map(
    axes: Axes,
    values: Values2D,
    nuclei: Nuclei,
    quantity: Quantity,
    *,
    pixel_size_um: float,
    reason: tuple[str, ...],
    least: Limits | None = None,
) -> None:
    """Draw a map inside the nuclei: grey where it is NaN, white outside of them.

    Parameters
    ----------
    values : NaN where not estimable.
    reason : lines that are written where there is no value at all.
    least : what the colours span at least; just what is there when None.
    """
    inside = nuclei.labels > 0
    shown = np.where(inside & np.isfinite(values), values, np.nan).astype(np.float64)
    bare(axes, shown.shape)
    add_title(axes, quantity.title)
    axes.imshow(np.where(inside, 0.0, np.nan), cmap=ListedColormap([style.UNKNOWN]), interpolation="nearest")
    if np.isfinite(shown).any():
        _draw_colours(axes, shown, quantity, least)
    elif nuclei.numbers:
        say(axes, *reason)
    add_outlines(axes, nuclei, colour=style.MAP_OUTLINE, width=0.6)
    add_scale_bar(axes, pixel_size_um=pixel_size_um)


def _draw_colours(axes: Axes, shown: Values2D, quantity: Quantity, given: Limits | None) -> None:
    finite = shown[np.isfinite(shown)]
    low, high = (float(p) for p in np.percentile(finite, ROBUST_PERCENTILES))
    least, most = float(finite.min()), float(finite.max())
    # A few extreme pixels are cut; where there are none, the colours span all that is there.
    span = high - low
    low = least if least >= low - 0.05 * span else low
    high = most if most <= high + 0.05 * span else high
    notes = []
    if given is not None:
        low, high = min(low, given.low), max(high, given.high)
        notes.append(given.note)
    below, above = least < low, most > high
    if above or below:
        notes.insert(0, f"all values: {format_range(least, most)}")
    if notes:
        add_note(axes, "\n".join(notes))
    picture = axes.imshow(shown, cmap=_colours(quantity), norm=Normalize(*_open_limits(low, high)))
    width = COLOUR_BAR_INCHES / (axes.get_position().width * axes.figure.get_figwidth())  # type: ignore[union-attr]
    beside = axes.inset_axes((1.0 + 0.5 * width, 0.0, width, 1.0))
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    bar = axes.figure.colorbar(picture, cax=beside, extend=ends[below, above])
    bar.set_label(quantity.unit, fontsize=style.NOTE_SIZE + 1, color=style.TEXT, labelpad=2)
    bar.locator = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
    bar.ax.tick_params(labelsize=style.NOTE_SIZE, length=2, pad=2, colors=style.TEXT)
    bar.outline.set_linewidth(0.4)


def _colours(quantity: Quantity) -> Colormap:
    return matplotlib.colormaps[quantity.colours].with_extremes(bad=(0, 0, 0, 0))


def _open_limits(low: float, high: float) -> tuple[float, float]:
    """Widen a range that is empty up to rounding, so that one value has a colour and a scale around it."""
    if high - low > 1e-6 * max(abs(low), abs(high)):
        return low, high
    margin = 0.1 * max(abs(low), abs(high)) or 0.1
    return low - margin, high + margin


def _grey_limits(values: Values2D, nuclei: Nuclei) -> tuple[float, float]:
    """From the background to the bright end of the nuclei, however little of the field they fill."""
    finite = np.isfinite(values)
    if not finite.any():
        return 0.0, 1.0
    inside = finite & (nuclei.labels > 0)
    low = float(np.percentile(values[finite], 1.0))
    high = float(np.percentile(values[inside if inside.any() else finite], 99.5))
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def say(axes: Axes, *lines: str) -> None:
    """Write lines in the middle of a panel, wrapped to its width."""
    inches = axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]
    wrapped = [part for line in lines for part in textwrap.wrap(line, max(16, int(13 * inches)))]
    axes.text(0.5, 0.5, "\n".join(wrapped), transform=axes.transAxes, ha="center", va="center",
              fontsize=style.NOTE_SIZE + 1.5, color=style.TEXT, zorder=5,
              bbox={"facecolor": "white", "edgecolor": style.TEXT, "linewidth": 0.5})  # fmt: skip
