"""The pictures: right panels, units, outlines and words, for one nucleus or many, with or without rates."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from chromamol.errors import FieldError
from chromamol.nucleus import segment_nuclei
from chromamol.report import DENSITY, SHOWN, draw_nucleus, draw_overview, title_of
from chromamol.report.overview import NO_MAP
from chromamol.report.panels import locate, nice_length_um
from chromamol.report.response import ShownResponse, draw_response
from chromamol.report.style import QUANTITIES, UNKNOWN, drawable

PIXEL_UM = 0.05
RATIO_NOTE = "colours: at least ± 3 standard errors (of 0.02)"
RATES = ("gamma_me_per_um2", "gamma_me_se", "gamma_ac_per_um2", "gamma_ac_se")


def nuclei_on(shape: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    """Discs on a lattice, numbered from 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    cell_y, cell_x = shape[0] / rows, shape[1] / columns
    radius = 0.35 * min(cell_y, cell_x)
    off = np.hypot(y % cell_y - cell_y / 2, x % cell_x - cell_x / 2)
    number = (y // cell_y).astype(int) * columns + (x // cell_x).astype(int) + 1
    return np.where(off < radius, number, 0).astype(np.int32)


def maps_for(labels: np.ndarray, *, rates: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    inside = labels > 0
    keys = ("phi_h", "phi_e", *RATES)
    maps = {key: np.where(inside, rng.uniform(1.0, 2.0, labels.shape), np.nan).astype("f4") for key in keys}
    if not rates:
        maps |= {key: np.full(labels.shape, np.nan, dtype="f4") for key in RATES}
    return {**maps, "valid": inside if rates else np.zeros_like(inside)}


def table_for(labels: np.ndarray, flags: str = "unresolved_domains") -> pd.DataFrame:
    numbers = np.unique(labels[labels > 0])
    ratio = 0.5 + 0.01 * np.arange(numbers.size)
    return pd.DataFrame({"nucleus": numbers, "rate_ratio": ratio, "rate_ratio_se": 0.02, "flags": flags})


def overview(labels: np.ndarray, maps: dict[str, np.ndarray] | None = None, **changes: object) -> Figure:
    image = np.random.default_rng(0).normal(100.0, 5.0, labels.shape) + 900.0 * (labels > 0)
    given = {"pixel_size_um": PIXEL_UM, "title": "img", "channel_note": "", "nuclei": table_for(labels)}
    return draw_overview(image, labels, maps_for(labels) if maps is None else maps, **(given | changes))  # type: ignore[arg-type]


def panels_of(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def words_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def bar_labels(figure: Figure) -> list[str]:
    beside = [child for axes in figure.axes for child in axes.child_axes]
    return [axes.get_ylabel() for axes in beside]


def outlines_in(axes: Axes) -> list[LineCollection]:
    return [c for c in axes.collections if isinstance(c, LineCollection) and c.get_gid() == "outlines"]


def test_panels_stand_in_the_order_of_trust() -> None:
    titles = list(panels_of(overview(nuclei_on((200, 200), 2, 2))))
    assert titles[:2] == ["Image and nuclei", QUANTITIES["rate_ratio"].title]
    assert set(titles[2:]) == {QUANTITIES[key].title for key in ("phi_h", "phi_e", *RATES)}


def test_every_colour_bar_has_a_unit() -> None:
    labels = bar_labels(overview(nuclei_on((200, 200), 2, 2)))
    assert sorted(labels) == sorted(["ratio (no unit)", *["volume fraction"] * 2, *["µm⁻²"] * 4])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (10, 12)])
def test_one_and_120_nuclei_are_outlined_and_numbered(rows: int, columns: int) -> None:
    labels = nuclei_on((360, 432), rows, columns)
    figure = overview(labels)
    first = panels_of(figure)["Image and nuclei"]
    (outlines,) = outlines_in(first)
    assert len(outlines.get_segments()) == rows * columns
    numbers = {text.get_text() for text in first.texts}
    assert {str(n) for n in range(1, rows * columns + 1)} <= numbers
    for number in (1, rows * columns):
        text = next(t for t in first.texts if t.get_text() == str(number))
        x, y = (round(v) for v in text.get_position())
        assert labels[y, x] == number


@pytest.mark.parametrize("shape", [(200, 200), (60, 600), (600, 60), (100, 300)])
def test_no_two_panels_overlap_whatever_the_shape(shape: tuple[int, int]) -> None:
    figure = overview(nuclei_on(shape, *(max(1, n // 60) for n in shape)))
    boxes = [axes.get_position() for axes in figure.axes]
    for i, a in enumerate(boxes):
        assert 0.0 <= a.x0 < a.x1 <= 1.0
        assert 0.0 <= a.y0 < a.y1 <= 1.0
        assert not any(a.overlaps(b) for b in boxes[i + 1 :])
    assert figure.get_figwidth() * figure.dpi == 1800
    assert figure.get_figheight() < 2.0 * figure.get_figwidth()


def test_pixels_keep_their_shape() -> None:
    figure = overview(nuclei_on((100, 300), 1, 3))
    for axes in panels_of(figure).values():
        box = axes.get_window_extent()
        assert box.width / box.height == pytest.approx(3.0, rel=0.01)


def test_a_map_without_any_value_says_so_and_why() -> None:
    labels = nuclei_on((200, 200), 2, 2)
    table = table_for(labels, "touches_border;unresolved_domains;acetylation_not_identifiable")
    panels = panels_of(overview(labels, maps_for(labels, rates=False), nuclei=table))
    methylation = " ".join(t.get_text() for t in panels[QUANTITIES["gamma_me_per_um2"].title].texts).split()
    acetylation = " ".join(t.get_text() for t in panels[QUANTITIES["gamma_ac_per_um2"].title].texts).split()
    assert " ".join(methylation).count("not estimable in this image flags: unresolved domains") == 1
    assert "acetylation" not in methylation
    assert " ".join(acetylation).count("acetylation not identifiable") == 1
    assert "border" not in methylation + acetylation


@pytest.mark.parametrize(
    ("flag", "panels", "others"),
    [
        ("unsteady", ("gamma_me_per_um2", "rate_ratio"), ()),
        ("section_not_corrected", ("gamma_me_per_um2",), ("rate_ratio",)),
    ],
)
def test_motion_and_a_section_out_of_reach_are_reasons(
    flag: str, panels: tuple[str, ...], others: tuple[str, ...]
) -> None:
    assert all(flag in NO_MAP and key in NO_MAP[flag] for key in panels)
    assert not NO_MAP[flag] & set(others)


def test_maps_are_shown_inside_nuclei_and_rates_where_valid() -> None:
    labels = nuclei_on((100, 100), 1, 1)
    maps = {key: np.full(labels.shape, 2.0, dtype="f4") for key in ("phi_h", "gamma_me_per_um2")}
    maps["valid"] = (labels > 0) & (np.arange(100) < 50)
    panels = panels_of(overview(labels, maps))

    def shown(key: str) -> np.ndarray:
        return ~np.ma.getmaskarray(panels[QUANTITIES[key].title].images[-1].get_array())

    box = tuple(slice(int(v.min()) - 4, int(v.max()) + 5) for v in np.nonzero(labels))
    inside, valid = labels > 0, maps["valid"]
    if shown("phi_h").shape != labels.shape:
        inside, valid = inside[box], valid[box]
    np.testing.assert_array_equal(shown("phi_h").sum(), inside.sum())
    np.testing.assert_array_equal(shown("gamma_me_per_um2").sum(), valid.sum())


def test_the_colour_of_not_estimable_is_in_no_colour_map() -> None:
    import matplotlib  # noqa: PLC0415 - only this test needs the colour maps
    from matplotlib.colors import to_rgb  # noqa: PLC0415

    for quantity in QUANTITIES.values():
        colours = matplotlib.colormaps[quantity.colours](np.linspace(0, 1, 256))[:, :3]
        assert np.abs(colours - to_rgb(UNKNOWN)).max(axis=1).min() > 0.15


def test_cut_colours_are_declared_and_uncut_ones_are_not() -> None:
    labels = nuclei_on((200, 200), 2, 2)
    maps = maps_for(labels)
    y, x = np.argwhere(labels > 0)[0]
    maps["phi_h"][y, x] = 1000.0
    panels = panels_of(overview(labels, maps))
    notes = [t.get_text() for t in panels[QUANTITIES["phi_h"].title].texts]
    assert any(note.startswith("all values:") and note.endswith("1000") for note in notes)
    ratio_notes = [t.get_text() for t in panels[QUANTITIES["rate_ratio"].title].texts]
    assert not any(note.startswith("all values:") for note in ratio_notes)


def test_each_nucleus_is_filled_with_its_own_ratio() -> None:
    labels = nuclei_on((200, 200), 2, 2)
    table = table_for(labels)
    table["rate_ratio"] = [0.5, np.nan, 1.5, 2.5]
    panel = panels_of(overview(labels, nuclei=table))[QUANTITIES["rate_ratio"].title]
    values = np.ma.filled(panel.images[-1].get_array().astype(float), np.nan)
    assert set(np.unique(values[np.isfinite(values)])) == {0.5, 1.5, 2.5}
    written = {t.get_text() for t in panel.texts if "µm" not in t.get_text()}
    assert written == {"0.50\n± 0.02", "", "1.50\n± 0.02", "2.50\n± 0.02", RATIO_NOTE}


def ratio_panel_of(table: pd.DataFrame, labels: np.ndarray) -> tuple[tuple[float, float], set[str]]:
    """Ends of the colours, and the texts."""
    panel = panels_of(overview(labels, nuclei=table))[QUANTITIES["rate_ratio"].title]
    return panel.images[-1].get_clim(), {t.get_text() for t in panel.texts}


def test_ratios_that_are_alike_get_colours_that_are_alike() -> None:
    labels = nuclei_on((200, 200), 1, 2)
    table = table_for(labels).assign(rate_ratio=[0.94, 0.96], rate_ratio_se=[0.09, 0.11])
    (low, high), words = ratio_panel_of(table, labels)
    assert (low, high) == pytest.approx((0.65, 1.25))
    assert "colours: at least ± 3 standard errors (of 0.1)" in words
    known = table.drop(columns="rate_ratio_se")
    (low, high), words = ratio_panel_of(known, labels)
    assert (low, high) == pytest.approx((0.665, 1.235))
    assert {"0.94", "0.96", "colours: at least ± 30%"} <= words
    far = table.assign(rate_ratio=[0.2, 2.0], rate_ratio_se=[0.01, 0.01])
    assert ratio_panel_of(far, labels)[0] == pytest.approx((0.2, 2.0))


def test_an_error_is_written_where_it_can_be_read_and_an_unknown_one_is_said() -> None:
    labels = nuclei_on((200, 200), 1, 2)
    table = table_for(labels).assign(rate_ratio_se=[0.02, np.nan])
    assert {"0.50\n± 0.02", "0.51\n± ?"} <= ratio_panel_of(table, labels)[1]
    small = nuclei_on((200, 1600), 4, 10)
    _, words = ratio_panel_of(table_for(small), small)
    assert "0.50" in words
    assert not any("\n" in word for word in words)


def test_scale_bar_has_the_length_it_names() -> None:
    panel = panels_of(overview(nuclei_on((200, 200), 2, 2)))["Image and nuclei"]
    (bar,) = (line for line in panel.lines if line.get_gid() == "scale-bar")
    left, right = bar.get_xdata()
    (label,) = (t.get_text() for t in panel.texts if "µm" in t.get_text())
    assert f"{(right - left) * PIXEL_UM:g} µm" == label


@pytest.mark.parametrize("width", [0.13, 1.0, 7.7, 34.6, 512.0])
def test_scale_bar_is_a_tenth_to_a_quarter_of_the_width(width: float) -> None:
    assert 0.1 * width <= nice_length_um(width) <= 0.25 * width


@pytest.mark.parametrize(
    "image", [np.zeros((50, 50)), np.full((50, 50), np.nan), np.zeros((50, 50), np.uint16)]
)
def test_images_without_contrast_and_without_nuclei_are_drawn(image: np.ndarray) -> None:
    labels = np.zeros((50, 50), dtype=np.int32)
    figure = draw_overview(image, labels, maps_for(labels), pixel_size_um=0.1, title="", channel_note="",
                           nuclei=pd.DataFrame())  # fmt: skip
    figure.savefig(io.BytesIO())
    assert "no nucleus found" in words_of(figure)


def test_what_is_drawn_is_called_by_its_name() -> None:
    labels = nuclei_on((80, 80), 1, 1)
    assert "grey values" in words_of(overview(labels))
    figure = overview(labels, shown=DENSITY)
    assert "Density of localisations and nuclei" in panels_of(figure)
    assert "localisations per µm²: " in words_of(figure)
    figure = overview(labels, shown=SHOWN["marks"])
    assert "Both marks and nuclei" in panels_of(figure)
    assert "each over its own standard deviation: " in words_of(figure)
    assert "grey values" not in words_of(figure)
    assert title_of("a.tif", (12, 73, 82)) == "a.tif, plane 6 of 0 to 11"
    assert title_of("a.tif", (73, 82)) == "a.tif"


def test_names_are_written_as_they_are() -> None:
    title = "$_x$ 名 <b> 100%.tif"
    figure = overview(nuclei_on((80, 80), 1, 1), title=title)
    figure.savefig(io.BytesIO())  # a missing glyph or broken mathematics would warn or raise here
    assert drawable(title) == "$_x$ □ <b> 100%.tif"
    assert drawable(title) in words_of(figure)


def test_large_images_are_thinned_and_keep_their_scale() -> None:
    labels = np.repeat(np.repeat(nuclei_on((200, 200), 2, 2), 10, axis=0), 10, axis=1)
    small, large = overview(nuclei_on((200, 200), 2, 2)), overview(labels, pixel_size_um=PIXEL_UM / 10)
    assert panels_of(large)["Image and nuclei"].images[0].get_array().shape == (1000, 1000)
    for figure in (small, large):
        assert "2 µm" in [t.get_text() for t in panels_of(figure)["Image and nuclei"].texts]


def test_notebooks_get_a_picture() -> None:
    assert overview(nuclei_on((80, 80), 1, 1))._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_arrays_of_two_shapes_are_refused() -> None:
    labels = nuclei_on((80, 80), 1, 1)
    with pytest.raises(FieldError, match="phi_h"):
        overview(labels, {"phi_h": np.zeros((80, 81))})
    with pytest.raises(FieldError, match="one plane"):
        overview(np.zeros((2, 8, 8), dtype=np.int32), {}, nuclei=pd.DataFrame())


def test_one_nucleus_alone() -> None:
    labels = nuclei_on((200, 200), 2, 2)
    figure = draw_nucleus(
        np.where(labels > 0, 900.0, 100.0), labels, maps_for(labels), nucleus=3, pixel_size_um=PIXEL_UM,
        title="img01", nuclei=table_for(labels),
    )  # fmt: skip
    words = words_of(figure)
    assert "img01: nucleus 3" in words
    assert "Rate ratio 0.52 ± 0.02" in words
    assert set(panels_of(figure)) == {"Image"} | {QUANTITIES[key].title for key in ("phi_h", "phi_e", *RATES)}
    assert panels_of(figure)["Image"].images[0].get_array().shape[0] < 100
    with pytest.raises(FieldError, match="1, 2, 3, 4"):
        draw_nucleus(labels, labels, {}, nucleus=9, pixel_size_um=1.0, title="", nuclei=table_for(labels))


def test_outlines_alone_without_a_word_on_rates() -> None:
    labels = nuclei_on((100, 100), 2, 2)
    figure = overview(labels, {}, nuclei=table_for(labels)[["nucleus", "flags"]])
    assert list(panels_of(figure)) == ["Image and nuclei"]
    assert "rate" not in words_of(figure).lower()
    box = panels_of(figure)["Image and nuclei"].get_position()
    assert box.width > 0.95, "the image fills the page"


def test_real_image_with_its_nuclei(sample: Callable[[str], Path]) -> None:
    image = tifffile.imread(sample("hela_cells"))[..., 2]
    labels = segment_nuclei(image, pixel_size_um=0.0515)
    figure = overview(labels, pixel_size_um=0.0515)
    (outlines,) = outlines_in(panels_of(figure)["Image and nuclei"])
    assert len(outlines.get_segments()) == labels.max()
    assert "5 µm" in words_of(figure)


def test_nuclei_are_located_whatever_their_numbers():
    labels = np.zeros((20, 20), np.int32)
    labels[2:8, 2:8], labels[12:18, 5:11] = 2**31 - 1, 4
    found = locate(labels)
    assert found.numbers == (4, 2**31 - 1)
    assert found.centres == ((14.5, 7.5), (4.5, 4.5))


@pytest.mark.parametrize("phi_max", [0.4, 0.7, 0.9])
def test_colours_of_a_response_end_at_the_dense_phase(phi_max):
    rng = np.random.default_rng(0)
    before, after = phi_max * rng.random((2, 16, 16))
    measures = {"heterochromatin_fraction": 0.5, "domain_radius_um": 0.2, "domain_count": 4}
    table = pd.DataFrame([{"nucleus": 1, "state": state, **measures} for state in ("before", "after")])
    shown = [ShownResponse(1, before, after, np.ones((16, 16), dtype=bool))]
    picture = draw_response(shown, table, pixel_size_um=0.1, title="x1.5", phi_max=phi_max)
    limits = [image.get_clim() for axes in picture.axes for image in axes.get_images()]
    assert limits[:2] == [(0.0, phi_max)] * 2
    assert limits[2][0] == -limits[2][1]
