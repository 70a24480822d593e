"""One image end to end: what real files give, and how channels, masks and calibrations are put together."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

import chromamol as cm
from chromamol.calibrate import calibrate_nucleus
from chromamol.channels import choose_channels
from chromamol.domains import measure_domains
from chromamol.errors import (
    AxesError,
    ImageContentError,
    KernelError,
    OutputError,
    ParameterError,
    PixelSizeError,
)
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.io import Micrograph, read_image, write_channels, write_labels
from chromamol.nucleus import find_nuclei
from chromamol.nucleus.flags import SEPARATOR
from chromamol.nucleus_rates import nucleus_row
from chromamol.outlines import nucleus_labels
from chromamol.pipeline import MAP_NAMES, ImageAnalysis, analyse_image, outline_nuclei
from chromamol.settings import Settings

EMPTY = np.zeros((96, 96), np.uint16)


def _image(*planes: np.ndarray, names: tuple[str, ...] = (), pixel_size_um: float | None = 0.1) -> Micrograph:
    return Micrograph(np.stack(planes), names or tuple(map(str, range(len(planes)))), pixel_size_um)


def _flags(row: dict) -> set[str]:
    return set(row["flags"].split(SEPARATOR))


# --- channels ----------------------------------------------------------------------------------------------


def test_a_single_channel_is_taken_and_several_are_not_guessed_between():
    assert set(choose_channels(_image(EMPTY), Settings()).planes) == {"total"}
    with pytest.raises(AxesError, match=r"several channels and none named.*0: 'DAPI', 1: 'GFP'"):
        choose_channels(_image(EMPTY, EMPTY, names=("DAPI", "GFP")), Settings())


def test_flags_of_an_image_hold_for_whatever_is_taken_of_it():
    image = replace(_image(EMPTY, EMPTY), flags=("lossy_compression",))
    maps = replace(image, channel_names=("phi_h", "phi_e"), data=np.full((2, 9, 9), 0.2))
    ringed = replace(maps, data=np.pad(maps.data, ((0, 0), (3, 3), (3, 3)), constant_values=np.nan))
    roles = Settings(heterochromatin_channel=0, euchromatin_channel=1)
    single = replace(image, channel_names=("0",), data=image.data[:1])
    for each, settings in ((image, roles), (single, Settings()), (maps, Settings()), (ringed, Settings())):
        assert choose_channels(each, settings).flags == image.flags


def test_named_channels_go_to_their_roles():
    image = _image(EMPTY, EMPTY + 1, EMPTY + 2)
    chosen = choose_channels(image, Settings(chromatin_channel=2, heterochromatin_channel=0))
    assert {role: int(plane[0, 0]) for role, plane in chosen.planes.items()} == {
        "total": 2,
        "heterochromatin": 0,
    }
    marks = choose_channels(image, Settings(heterochromatin_channel=0, euchromatin_channel="1"))
    assert {role: int(plane[0, 0]) for role, plane in marks.planes.items()} == {
        "heterochromatin": 0,
        "euchromatin": 1,
    }


@pytest.mark.parametrize(
    "roles",
    [
        {"heterochromatin_channel": 0},
        {"euchromatin_channel": 0},
        {"chromatin_channel": 0, "euchromatin_channel": 1},
    ],
)
def test_a_combination_that_gives_no_two_fields_is_refused(roles):
    with pytest.raises(AxesError, match="name the missing channel"):
        choose_channels(_image(EMPTY, EMPTY), Settings(**roles))


@pytest.mark.parametrize(
    ("roles", "options"),
    [
        (
            {"heterochromatin_channel": 0, "euchromatin_channel": "0"},
            "--heterochromatin-channel and --euchromatin-channel",
        ),
        (
            {"chromatin_channel": "DNA", "heterochromatin_channel": 0},
            "--chromatin-channel and --heterochromatin-channel",
        ),
    ],
)
def test_one_channel_for_two_roles_is_refused_by_both_options(roles, options):
    with pytest.raises(AxesError, match=rf"channel 0 \('DNA'\) for both {options}\."):
        choose_channels(_image(EMPTY, EMPTY, names=("DNA", "mark")), Settings(**roles))


def test_a_channel_that_is_not_there_is_asked_for_by_its_own_option(tmp_path):
    image = _image(EMPTY, EMPTY, names=("DNA", "mark"))
    with pytest.raises(
        AxesError, match=r"channel 'H3K9' is not.*the heterochromatin channel .* --heterochromatin-channel"
    ):
        choose_channels(image, Settings(chromatin_channel=0, heterochromatin_channel="H3K9"))
    with pytest.raises(AxesError, match=r"channel 4 is not.*: --chromatin-channel"):
        choose_channels(image, Settings(chromatin_channel=4, heterochromatin_channel="mark"))
    write_channels(tmp_path / "a.ome.tif", {"DNA": EMPTY, "mark": EMPTY})
    for kind in ("chromatin", "euchromatin"):
        with pytest.raises(AxesError, match=f"channel 2 is not.*: --{kind}-channel"):
            read_image(tmp_path / "a.ome.tif", channels={"heterochromatin": 0, kind: 2})


# --- one image ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def analysis(small_field) -> ImageAnalysis:
    """Two nuclei in one channel."""
    return analyse_image(_image(small_field(nuclei=2)), Settings())


def test_maps_rows_and_labels_agree(analysis):
    assert tuple(analysis.maps) == MAP_NAMES
    assert [row["nucleus"] for row in analysis.rows] == [1, 2]
    assert set(np.unique(analysis.labels)) == {0, 1, 2}
    inside = analysis.labels > 0
    assert np.array_equal(np.isfinite(analysis.maps["phi_h"]), inside)
    valid = analysis.maps["valid"] > 0
    assert valid.any()
    assert not (valid & ~inside).any()
    for name in ("gamma_me_per_um2", "gamma_ac_per_um2"):
        estimated = np.isfinite(analysis.maps[name])
        assert np.array_equal(estimated, np.isfinite(analysis.maps[name.replace("_per_um2", "_se")]))
        assert not (estimated & ~valid).any()


def test_rates_end_a_kernel_before_the_border(analysis):
    from scipy.ndimage import distance_transform_edt  # noqa: PLC0415

    known = [row for row in analysis.rows if row["valid_fraction"] > 0.0]
    assert known
    for row in known:
        depth = distance_transform_edt(analysis.labels == row["nucleus"], sampling=0.1)
        valid = (analysis.maps["valid"] > 0) & (analysis.labels == row["nucleus"])
        assert depth[valid].min() > row["mollifier_width_um"] - 0.2


def test_what_was_assumed_is_flagged(analysis):
    for row in analysis.rows:
        assert {"calibration_assumed", "split_constant_assumed", "section_thickness_assumed"} <= _flags(row)
        assert {"touches_border", "saturated"}.isdisjoint(_flags(row))


def test_a_background_that_was_cut_off_is_flagged_and_widens_the_errors(small_field):
    raw = small_field()
    cut = np.maximum(raw.astype(int) - 110, 0).astype(np.uint16)
    quick = Settings(method="regression", calibration_check=False)
    (before,), (after,) = (analyse_image(_image(image), quick).rows for image in (raw, cut))
    (given,) = analyse_image(_image(cut), replace(quick, dark_level=-10.0)).rows
    assert "background_clipped" not in _flags(before) | _flags(given)
    assert "background_clipped" in _flags(after)
    assert after["rate_ratio_se"] > 1.3 * before["rate_ratio_se"]


def test_what_was_given_is_not_flagged_as_assumed(small_field):
    settings = Settings(dark_level=100.0, chromatin_gain=2400.0, split_constant=0.2)
    (row,) = analyse_image(_image(small_field()), settings).rows
    assert {"calibration_assumed", "split_constant_assumed"}.isdisjoint(_flags(row))


def test_a_thickness_that_was_given_is_not_called_absent_where_it_corrects_no_rate():
    """With known acetylation it widens the ratio's error alone."""
    inside = np.zeros((48, 48), np.int32)
    inside[8:40, 8:40] = 1
    (nucleus,) = find_nuclei(inside, 1.0 * inside, spacing_um=(0.1, 0.1))
    shape = nucleus.mask.shape
    half = Field(np.full(shape, 0.3), Grid(shape, (0.1, 0.1)), "1", nucleus.mask)
    nothing = RateMap.unknown(shape)
    rates = Rates(
        nothing, nothing, 1.0, 0.1, Outcome.BOTH_RATES, (), "regression", half, half, (0.01, 0.01), 0.5
    )
    domains = measure_domains(half, nucleus.mask, phi_max=0.7)
    for given in (None, 0.3):
        row = nucleus_row(nucleus, rates, domains, settings=Settings(section_thickness_um=given))
        assert ("section_thickness_assumed" in _flags(row)) == (given is None)


def test_the_stain_s_brightness_does_not_matter(small_field, analysis):
    """The calibration is relative: twice the gain of the camera gives the same rates."""
    twice = analyse_image(_image(2.0 * small_field(nuclei=2)), Settings())
    assert np.isfinite([row["gamma_me_per_um2"] for row in analysis.rows]).any()
    for a, b in zip(analysis.rows, twice.rows, strict=True):
        assert b["rate_ratio"] == pytest.approx(a["rate_ratio"], rel=1e-6)
        assert b["gamma_me_per_um2"] == pytest.approx(a["gamma_me_per_um2"], rel=1e-5, nan_ok=True)


def test_an_error_of_one_nucleus_costs_that_one_alone(monkeypatch, small_field):
    image, settings = _image(small_field(nuclei=2)), Settings(calibration_check=False, method="domains")

    def failing_with(kind):
        def calibrate(channels, labels, nucleus, *rest, **more):
            if nucleus.label == 1:
                raise kind("No kernel fits.", expected="room.", do="look at it.")
            return calibrate_nucleus(channels, labels, nucleus, *rest, **more)

        monkeypatch.setattr("chromamol.image_inference.calibrate_nucleus", calibrate)

    for kind in (KernelError, ParameterError):
        failing_with(kind)
        found = analyse_image(image, settings)
        assert [row["nucleus"] for row in found.rows] == [2]
        assert any(note.startswith("nucleus 1: No kernel fits.") for note in found.notes)
    failing_with(OutputError)
    with pytest.raises(OutputError):
        analyse_image(image, settings)


def test_one_nucleus_is_not_called_nuclei(monkeypatch, small_field):
    monkeypatch.setattr("chromamol.pipeline.UNSPLIT_WORTH_A_NOTE", 0.0)
    found = analyse_image(_image(small_field()), Settings(calibration_check=False, method="domains"))
    assert any("of the pixels of nucleus 1 are brighter" in note for note in found.notes)


def test_turning_the_image_turns_the_maps(small_field):
    image = small_field()
    # The network knows left from right by the last pixel of an outline; the classical method doesn't.
    settings = Settings(segmentation_method="classical")
    straight = analyse_image(_image(image), settings)
    turned = analyse_image(_image(np.ascontiguousarray(np.rot90(image))), settings)
    np.testing.assert_array_equal(np.rot90(straight.labels), turned.labels)
    # Not to the last digit: the widths of smoothing are chosen from a few lines of the image.
    assert turned.rows[0]["rate_ratio"] == pytest.approx(straight.rows[0]["rate_ratio"], rel=0.005)
    assert turned.rows[0]["gamma_me_per_um2"] == pytest.approx(straight.rows[0]["gamma_me_per_um2"], rel=0.02)


def test_rates_go_as_one_over_length_squared(small_field):
    """The same pixels at half the pixel size, with every length of the model halved: rates times four."""
    image = small_field(2)
    coarse = analyse_image(_image(image), Settings(pixel_size_um=0.1, interface_length_um=0.02)).rows[0]
    fine = analyse_image(
        _image(image, pixel_size_um=0.05), Settings(pixel_size_um=0.05, interface_length_um=0.01)
    ).rows[0]
    # The outline and the dark level are found within lengths of nuclei, which do not scale.
    assert fine["area_um2"] == pytest.approx(coarse["area_um2"] / 4.0, rel=0.02)
    assert fine["rate_ratio"] == pytest.approx(coarse["rate_ratio"], rel=0.01)
    assert fine["gamma_me_per_um2"] == pytest.approx(4.0 * coarse["gamma_me_per_um2"], rel=0.05)


def test_a_nucleus_at_the_border_is_flagged_and_kept(small_field):
    (row,) = analyse_image(_image(small_field()[:, 40:]), Settings()).rows
    assert "touches_border" in _flags(row)


def test_outlines_alone_are_those_of_the_analysis(small_field, analysis):
    outlines = outline_nuclei(_image(small_field(nuclei=2)), Settings())
    np.testing.assert_array_equal(outlines.labels, analysis.labels)
    assert outlines.maps == {}
    assert [row["area_um2"] for row in outlines.rows] == [row["area_um2"] for row in analysis.rows]


def test_a_nucleus_of_a_stack_that_lies_under_another_is_kept(monkeypatch):
    stack = np.zeros((4, 40, 40), np.int32)
    stack[0, 5:25, 5:25], stack[2, 2:32, 2:32], stack[3, 36:38, 36:38] = 1, 2, 3
    monkeypatch.setattr("chromamol.outlines.segment_nuclei", lambda *_, **__: stack)
    image = replace(_image(stack), z_step_um=0.3)
    found = nucleus_labels(image, choose_channels(image, Settings()), Settings())
    assert set(np.unique(found)) == {0, 1, 2}, "the third is too small"


def test_given_outlines_are_all_used_and_the_record_says_which_are_small(small_field, tmp_path):
    labels = np.zeros((96, 96), np.int32)
    labels[30:60, 30:60], labels[70:80, 70:80] = 1, 2
    write_labels(tmp_path / "l.tif", labels)
    given = Settings(labels=str(tmp_path / "l.tif"), pixel_size_um=0.1)
    found = outline_nuclei(_image(small_field()), given)
    assert [row["nucleus"] for row in found.rows] == [1, 2]
    assert "too_small" in _flags(found.rows[1])
    whose = f"outlines from {tmp_path / 'l.tif'}"
    small = "1 of 2 given outlines are smaller than min_area_um2 = 3: they are used, as all that are given"
    assert found.notes == [whose, small]
    assert outline_nuclei(_image(small_field()), replace(given, min_area_um2=0.5)).notes == [whose]


def test_maps_of_an_analysis_are_an_image_of_volume_fractions(analysis, tmp_path):
    """`rates.ome.tif` is NaN outside nuclei."""
    quick = Settings(method="domains", calibration_check=False)
    maps = _image(*analysis.maps.values(), names=MAP_NAMES)
    again = analyse_image(maps, quick)
    np.testing.assert_array_equal(again.labels, analysis.labels)
    for row, first in zip(again.rows, analysis.rows, strict=True):
        assert row["heterochromatin_fraction"] == pytest.approx(first["heterochromatin_fraction"], rel=1e-4)
        assert "calibration_assumed" not in _flags(row)
    assert {row["scale"] for row in again.calibration} == {"volume fractions"}
    # A hole may be anything, and so may what lies beyond a nucleus.
    maps.data[:2, 48, 48] = np.nan
    with pytest.raises(ImageContentError, match="are NaN or infinite"):
        analyse_image(maps, quick)
    write_labels(tmp_path / "wide.tif", np.ones(maps.shape, np.int32))
    maps.data[:2, 48, 48] = 0.3
    with pytest.raises(ImageContentError, match=r"pixels of the nuclei in .*wide.tif are NaN"):
        analyse_image(maps, replace(quick, labels=str(tmp_path / "wide.tif")))


def test_a_mark_that_is_clipped_is_flagged_whichever_it_is(small_field):
    image = small_field(nuclei=2)
    clipped = np.minimum(image // np.where(np.arange(192) < 96, 4, 1), 700).astype(np.uint16)
    marks, limits = Settings(heterochromatin_channel=0, euchromatin_channel=1), (4095.0, 700.0)
    for order in ((0, 1), (1, 0)):
        planes, levels = ([both[i] for i in order] for both in ((image, clipped), limits))
        micrograph = replace(_image(*planes), channel_saturation=tuple(levels))
        rows = outline_nuclei(micrograph, marks).rows
        assert ["saturated" in _flags(row) for row in rows] == [False, True]
    # A channel that is not analysed does not count.
    (row,) = outline_nuclei(micrograph, Settings(chromatin_channel=1)).rows[1:]
    assert "saturated" not in _flags(row)


def test_nuclei_of_an_impossible_size_are_refused_unless_the_user_vouches(small_field):
    image = small_field()
    with pytest.raises(PixelSizeError, match=r"nuclei of 4\d.* um median diameter at 1 um per pixel"):
        analyse_image(_image(image, pixel_size_um=1.0), Settings())
    vouched = Settings(pixel_size_um=1.0)
    assert outline_nuclei(_image(image, pixel_size_um=1.0), vouched).rows


def test_an_empty_field_is_an_error_that_names_the_options():
    noise = np.random.default_rng(1).poisson(100, (96, 96)).astype(np.uint16)
    with pytest.raises(ImageContentError, match=r"no nucleus found.*--chromatin-channel.*--labels"):
        analyse_image(_image(noise), Settings())


def _strip(tmp_path, numbers: tuple[int, ...]) -> ImageAnalysis:
    """Three nuclei that touch along a strip, so that there is no background beside the one in the middle."""
    rng = np.random.default_rng(5)
    texture = gaussian_filter(rng.standard_normal((60, 200)), 2.5)
    domains = gaussian_filter((texture > np.quantile(texture, 0.65)).astype(float), 1.2)
    place = np.broadcast_to(np.digitize(np.arange(200), (10, 70, 130, 190)) % 4, (60, 200))
    light = np.array([0.0, 1.0, 2.0, 1.0])[place] * (0.45 + domains)
    image = rng.poisson(100 + 1200 * light).astype(np.uint16)
    path = tmp_path / f"{''.join(map(str, numbers))}.tif"
    write_labels(path, np.array([0, *numbers], dtype=np.int32)[place])
    settings = Settings(labels=str(path), method="domains", calibration_check=False, intensity_scale="water")
    return analyse_image(_image(image), settings)


def test_numbers_of_labels_mean_nothing_even_where_a_nucleus_fails(tmp_path):
    """One that can't be analysed is no background for its neighbours."""
    one = _strip(tmp_path, (1, 2, 3))
    assert [row["nucleus"] for row in one.rows] == [1, 3]
    assert set(np.unique(one.labels)) == {0, 1, 3}
    assert one.notes[1].startswith("nucleus 2: No background")
    assert [row["dark_level"] for row in one.calibration] == pytest.approx([100.0, 100.0], abs=3.0)
    other, new = _strip(tmp_path, (7, 1, 2)), {1: 7, 3: 2}
    np.testing.assert_array_equal(other.labels, np.array([0, new[1], 0, new[3]])[one.labels])
    for table in ("rows", "calibration", "domains"):
        renamed = [row | {"nucleus": new[row["nucleus"]]} for row in getattr(one, table)]
        expected = pd.DataFrame(sorted(renamed, key=lambda row: row["nucleus"]))
        pd.testing.assert_frame_equal(pd.DataFrame(getattr(other, table)), expected)
    for name in MAP_NAMES:
        np.testing.assert_array_equal(other.maps[name], one.maps[name])


# --- real files --------------------------------------------------------------------------------------------


def test_hela_cells_has_four_nuclei_and_none_in_the_burned_in_box(sample):
    image = read_image(sample("hela_cells"))
    found = analyse_image(image, Settings(chromatin_channel=2))
    assert len(found.rows) == 4
    box = image.channel(2) == 0
    assert box.sum() == 34 * 181, "zeros, where no camera says less than its offset"
    assert box[476:510, 488:669].all()
    assert not found.labels[466:, 478:].any()
    for row in found.rows:
        assert "unresolved_domains" in _flags(row)
        assert np.isfinite(row["rate_ratio"])
        assert row["lad_thickness_um"] != 0.0, "dense at the border to the eye"
        assert np.isnan(row["lad_thickness_um"]) == ("lads_unresolved" in _flags(row))
        assert 25.0 < row["area_um2"] < 45.0
    # "YXS" of three samples: the nuclear channel is the last sample, not a colour.
    assert found.channel_note.startswith("total chromatin: 2, channel 2")
    assert found.spacing_um == pytest.approx((0.0515, 0.0515), rel=1e-3)


def test_bbbc022_needs_a_pixel_size_and_is_fine_with_one(sample):
    path = sample("bbbc022_u2os")
    with pytest.raises(PixelSizeError, match=r"file states no pixel size.*--pixel-size-um"):
        analyse_image(read_image(path), Settings(chromatin_channel=0))
    found = outline_nuclei(
        read_image(path, pixel_size_um=0.656), Settings(chromatin_channel=0, pixel_size_um=0.656)
    )
    areas = [row["area_um2"] for row in found.rows]
    assert 20 <= len(areas) <= 30, "27 by eye, some of them in clumps"
    assert 150.0 < np.median(areas) < 350.0, "U2OS nuclei of 14 to 21 um"


def test_speckles_says_why_its_pixel_size_is_refused(sample, tmp_path):
    path = sample("speckles_hoechst")
    with pytest.raises(PixelSizeError, match=r"file says 1,000,000 um per pixel: refused.*--pixel-size-um"):
        analyse_image(read_image(path), Settings())
    crop = read_image(path, pixel_size_um=0.1)
    plane = crop.channel()[:420, :420]
    results = analyse_image(_image(plane), Settings(pixel_size_um=0.1))
    assert results.rows
    assert all("unresolved_domains" in _flags(row) for row in results.rows)
    assert cm.read_image(path).pixel_size_um is None
