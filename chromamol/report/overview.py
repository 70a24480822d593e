"""Pictures of a result: all nuclei of an image, or one of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from chromamol.errors import FieldError
from chromamol.nucleus import flags as flag_registry
from chromamol.report import panels, ratio_panel, style
from chromamol.report.layout import MARGIN, Row, place, rows_for
from chromamol.report.numbers import format_measured, is_number
from chromamol.report.panels import Labels2D, Nuclei, Values2D
from chromamol.report.style import QUANTITIES, RAW, Picture, Shown, drawable

MAPS_BY_ROW = ("phi_h", "gamma_me_per_um2", "gamma_ac_per_um2", "phi_e", "gamma_me_se", "gamma_ac_se")
"""Reading order in three columns: a rate above its standard error."""
MAPS_BY_PAIR = ("phi_h", "phi_e", "gamma_me_per_um2", "gamma_me_se", "gamma_ac_per_um2", "gamma_ac_se")
"""Reading order in any other number of columns."""

CROP_BELOW = 0.6
"""Maps are cut to the nuclei when those span less than this part of the image."""
MAX_SIDE = 1800
"""Pixels of a panel's longer side; more could not be seen."""
VALUES_WRITTEN_UP_TO = 40
"""Nuclei in which the ratio is also written as a number."""

NO_MAP: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "too_small": frozenset(QUANTITIES),
        "unresolved_domains": frozenset(QUANTITIES),
        "kernel_exceeds_nucleus": frozenset(QUANTITIES),
        "no_domains": frozenset(QUANTITIES),
        "methylation_not_identifiable": frozenset({"gamma_me_per_um2", "gamma_me_se"}),
        "acetylation_not_identifiable": frozenset({"gamma_ac_per_um2", "gamma_ac_se"}),
        "section_not_corrected": frozenset(
            {"gamma_me_per_um2", "gamma_me_se", "gamma_ac_per_um2", "gamma_ac_se"}
        ),
        "unsteady": frozenset(QUANTITIES),
        "not_converged": frozenset(QUANTITIES),
    }
)
"""Flags that can be why there is no map -> of which quantities."""

Maps = Mapping[str, Values2D]
AnyValues = Shaped[np.ndarray, "..."]
AnyLabels = Int[np.ndarray, "..."]
AnyMaps = Mapping[str, AnyValues]
"""As they come in, before their shapes are checked."""


def title_of(name: str, shape: tuple[int, ...]) -> str:
    """Return the title of a picture of an image: of a stack, with the plane that is drawn, which is the middle one.

    >>> title_of("a.tif", (12, 73, 82)), title_of("b.tif", (73, 82))
    ('a.tif, plane 6 of 0 to 11', 'b.tif')
    """
    return f"{name}, plane {shape[0] // 2} of 0 to {shape[0] - 1}" if len(shape) == 3 else name


def draw_overview(
    image: AnyValues,
    labels: AnyLabels,
    maps: AnyMaps,
    *,
    pixel_size_um: float,
    title: str,
    channel_note: str,
    nuclei: pd.DataFrame,
    shown: Shown = RAW,
) -> Picture:
    """Draw an image with the nuclei that were found, and the maps inside them.

    Parameters
    ----------
    image : (y, x) what is drawn in grey, a channel as it lies in the file; of a z-stack, one plane, and the same of
        the rest.
    labels : (y, x) 0 = background, else the number of the nucleus.
    maps : (y, x) arrays by the channel names of `rates.ome.tif`; NaN where not estimable. Rates are shown
        where `valid` is true, everywhere if it is left out. Keys without a panel are ignored; without any
        map, outlines are all that is drawn.
    pixel_size_um : side of a pixel.
    title, channel_note : what is shown, and which channel was taken and why.
    nuclei : rows of `nuclei.csv` for this image; `nucleus`, `rate_ratio`, `rate_ratio_se` and `flags` are used.
    shown : what `image` is, when it is not a channel of the file.

    Returns
    -------
    A figure, 1800 pixels wide, of a height that fits the shape of the image. It belongs to no window.

    Raises
    ------
    FieldError : arrays of different shapes, or not (y, x).
    """
    _require_one_shape(image, labels, maps)
    image, labels, maps, pixel_size_um = _thinned(image, labels, maps, pixel_size_um)
    box = _box_of_nuclei(labels)
    near = panels.locate(labels[box])
    cut = {key: m[box] for key, m in maps.items()}
    aspect = near.labels.shape[1] / near.labels.shape[0]
    lead = [image.shape[1] / image.shape[0]]
    if has_ratio := bool(maps) or "rate_ratio" in nuclei:
        cut["rate_ratio"] = ratio_panel.fill(near.labels, nuclei)
        lead.append(aspect)
    count = len([key for key in MAPS_BY_ROW if key in cut])
    rows = rows_for(tuple(lead), aspect, count)
    by_row = len(rows[-1].aspects) == len(MAPS_BY_ROW) // 2
    keys = [key for key in (MAPS_BY_ROW if by_row else MAPS_BY_PAIR) if key in cut]
    is_cut = has_ratio and near.labels.shape != labels.shape
    picture, (first, *others) = _picture(rows, title, [channel_note, _legend(maps, nuclei, is_cut)])
    panels.draw_image(
        first, image, panels.locate(labels), title=f"{shown.title} and nuclei", shown=shown,
        pixel_size_um=pixel_size_um,
    )  # fmt: skip
    if is_cut:
        _frame(first, box)
    for axes, key in zip(others, ["rate_ratio"] * has_ratio + keys, strict=True):
        _draw(axes, key, cut, near, nuclei, pixel_size_um)
    if has_ratio and len(near.numbers) <= VALUES_WRITTEN_UP_TO:
        _write_ratios(others[0], near, nuclei)
    return picture


def draw_nucleus(
    image: AnyValues,
    labels: AnyLabels,
    maps: AnyMaps,
    *,
    nucleus: int,
    pixel_size_um: float,
    title: str,
    nuclei: pd.DataFrame,
    shown: Shown = RAW,
) -> Picture:
    """Draw one nucleus: the image, both volume fractions, both rates with their standard errors.

    Parameters are those of `draw_overview`; `nucleus` is its number in `labels`.

    Raises
    ------
    FieldError : arrays of different shapes, or no nucleus of that number.
    """
    _require_one_shape(image, labels, maps)
    if nucleus < 1 or not (labels == nucleus).any():
        known = ", ".join(map(str, np.unique(labels[labels > 0]))) or "none"
        raise FieldError(f"Nucleus {nucleus}.", expected=f"one that is there: {known}.",
                         do="see the numbers in overview.png.")  # fmt: skip
    box = _box(labels == nucleus, margin=0.08)
    around = panels.locate(labels[box])
    alone = panels.locate(np.where(labels[box] == nucleus, labels[box], 0))
    cut = {key: array[box] for key, array in maps.items()}
    aspect = around.labels.shape[1] / around.labels.shape[0]
    keys = [key for key in MAPS_BY_ROW if key in cut]
    half = (len(keys) + 1) // 2
    rows = [Row((aspect,) * (1 + half)), Row((aspect,) * (1 + len(keys) - half))]
    row = nuclei[nuclei["nucleus"] == nucleus]
    picture, axes = _picture(
        rows, f"{title}: nucleus {nucleus}", [_ratio_sentence(row), _legend(maps, row, False)]
    )
    panels.draw_image(
        axes[0], image[box], around, title=shown.title, shown=shown, pixel_size_um=pixel_size_um
    )
    _write_numbers(axes[1 + half], row)
    for panel, key in zip([*axes[1 : 1 + half], *axes[2 + half :]], keys, strict=True):
        _draw(panel, key, cut, alone, row, pixel_size_um, "nucleus")
    return picture


def _draw(
    axes: Axes,
    key: str,
    shown: Maps,
    nuclei: Nuclei,
    table: pd.DataFrame,
    pixel_size_um: float,
    subject: str = "image",
) -> None:
    quantity = QUANTITIES[key]
    values = np.asarray(shown[key], dtype=np.float64)
    if quantity.limited_by_valid and "valid" in shown:
        values = np.where(np.nan_to_num(shown["valid"]) > 0, values, np.nan)
    reason = (f"not estimable in this {subject}", _reasons(table, key))
    least = ratio_panel.least_limits(table) if key == "rate_ratio" else None
    panels.draw_map(axes, values, nuclei, quantity, pixel_size_um=pixel_size_um, reason=reason, least=least)


def _write_ratios(axes: Axes, near: Nuclei, nuclei: pd.DataFrame) -> None:
    room = panels.diameter_points(axes, near)
    words, size = ratio_panel.texts(near, nuclei, diameter_points=room)
    panels.add_texts(axes, near, words, colour="white", stroke="black", size=size)


def _require_one_shape(image: AnyValues, labels: AnyLabels, maps: AnyMaps) -> None:
    shapes = {"labels": labels.shape, **{key: array.shape for key, array in maps.items()}}
    odd = {name: shape for name, shape in shapes.items() if shape != image.shape}
    if odd or image.ndim != 2:
        raise FieldError(
            f"Picture of an image of shape {image.shape} with {odd or 'arrays'} of another.",
            expected="(y, x) arrays of one shape.",
            do="take one plane of a z-stack, the same plane of every array.",
        )


def _thinned(
    image: AnyValues, labels: AnyLabels, maps: AnyMaps, pixel_size_um: float
) -> tuple[AnyValues, AnyLabels, AnyMaps, float]:
    """Take every n-th pixel of an image with more pixels than a panel can show."""
    step = -(-max(image.shape) // MAX_SIDE)
    thin = (slice(None, None, step), slice(None, None, step))
    return image[thin], labels[thin], {k: m[thin] for k, m in maps.items()}, pixel_size_um * step


def _box_of_nuclei(labels: Labels2D) -> tuple[slice, slice]:
    whole = (slice(0, labels.shape[0]), slice(0, labels.shape[1]))
    if not labels.any():
        return whole
    box = _box(labels > 0, margin=0.04)
    area = (box[0].stop - box[0].start) * (box[1].stop - box[1].start)
    return box if area < CROP_BELOW * labels.size else whole


def _box(mask: panels.Mask2D, *, margin: float) -> tuple[slice, slice]:
    spans = [np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1)]
    extra = 2 + round(margin * max(int(s[-1] - s[0]) for s in spans))
    low = [max(0, int(s[0]) - extra) for s in spans]
    high = [min(n, int(s[-1]) + 1 + extra) for s, n in zip(spans, mask.shape, strict=True)]
    return slice(low[0], high[0]), slice(low[1], high[1])


def _frame(axes: Axes, box: tuple[slice, slice]) -> None:
    rows, columns = box
    size = (columns.stop - columns.start, rows.stop - rows.start)
    axes.add_patch(Rectangle((columns.start - 0.5, rows.start - 0.5), *size, fill=False, linestyle="--",
                             linewidth=0.8, edgecolor="white"))  # fmt: skip


def _ratio_sentence(row: pd.DataFrame) -> str:
    if row.empty or "rate_ratio" not in row:
        return ""
    first = row.iloc[0]
    return f"Rate ratio {format_measured(first['rate_ratio'], first.get('rate_ratio_se', np.nan))}"


def _legend(maps: Maps, nuclei: pd.DataFrame, is_cut: bool) -> str:
    if not maps:
        return ""
    sentences = ["Dashed: the part that the maps show."] if is_cut else []
    sentences.append("Grey inside an outline: not estimable.")
    if "valid" in maps:
        sentences.append("Rates are shown where they are valid, away from the border of the nucleus.")
    if "unresolved_domains" in _flags_of(nuclei):
        sentences.append("Domains not resolved: rates are effective ones.")
    sentences.append("Arrows at a colour bar: colours end at the 1st and 99th percentile.")
    return " ".join(sentences)


def _flags_of(nuclei: pd.DataFrame) -> list[str]:
    """Flags of the nuclei, in the registry's order."""
    if "flags" not in nuclei:
        return []
    cells = nuclei["flags"].fillna("").astype(str)
    given = {name for cell in cells for name in cell.split(flag_registry.SEPARATOR)}
    return [name for name in flag_registry.FLAGS if name in given]


def _reasons(nuclei: pd.DataFrame, key: str) -> str:
    names = [name.replace("_", " ") for name in _flags_of(nuclei) if key in NO_MAP.get(name, ())]
    return f"flags: {', '.join(names)}" if names else ""


def _picture(rows: list[Row], title: str, paragraphs: list[str]) -> tuple[Picture, list[Axes]]:
    """Make the picture of the rows under its title and some small print, wrapped to the width."""
    lines = [(line, 14.0, "bold") for line in textwrap.wrap(drawable(title), 90)]
    lines += [(line, 9.0, "normal") for text in paragraphs for line in textwrap.wrap(drawable(text), 160)]
    steps = [0.3 if size > 10 else 0.19 for _, size, _ in lines]
    picture, axes = place(rows, header_inches=sum(steps) + 0.2)
    height = picture.get_figheight()
    y = height - 0.12
    for (line, size, weight), step in zip(lines, steps, strict=True):
        picture.text(MARGIN / picture.get_figwidth(), y / height, line, fontsize=size, fontweight=weight,
                     color=style.TEXT, va="top", parse_math=False)  # fmt: skip
        y -= step
    return picture, axes


def _write_numbers(axes: Axes, row: pd.DataFrame) -> None:
    axes.set_axis_off()
    if row.empty:
        return
    cells = row.iloc[0].to_dict()
    pairs = [
        (f"{style.ME} / {style.AC}", "rate_ratio", "rate_ratio_se", ""),
        (f"{style.ME} / D", "gamma_me_per_um2", "gamma_me_se", "µm⁻²"),
        (f"{style.AC} / D", "gamma_ac_per_um2", "gamma_ac_se", "µm⁻²"),
    ]
    lines = [f"{name} = {_with_unit(cells.get(key), cells.get(se), unit)}" for name, key, se, unit in pairs]
    lines += ["", *(name.replace("_", " ") for name in _flags_of(row))]
    axes.text(0.0, 1.0, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=9.0,
              linespacing=1.5, color=style.TEXT)  # fmt: skip


def _with_unit(value: object, standard_error: object, unit: str) -> str:
    text = format_measured(value, standard_error)
    return f"{text} {unit}".strip() if is_number(value) else text
