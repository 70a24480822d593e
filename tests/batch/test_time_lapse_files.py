"""Time-lapse files through the whole run: which are inverted together, what the table then says."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

import chromamol as cm
from chromamol import nucleus_rates
from chromamol.batch.run import _read_series
from chromamol.errors import FieldError, ImageContentError, ParameterError
from chromamol.io import Found, read_time_series
from chromamol.nucleus_rates import whose_diffusivity, with_time
from chromamol.pipeline import analyse_series
from chromamol.unseen import require_possible_over_time

TRUTH = Path(__file__).parents[1] / "inverse" / "truth" / "both_0.npz"
PIXEL_UM = 7.5 / 96


@pytest.fixture
def film(tmp_path):
    """Six frames of a pattern at rest, as volume fractions, 30 s apart, with outlines."""
    with np.load(TRUTH) as file:
        phi = np.stack([file[name][::2, ::2].astype(float) for name in ("phi_h", "phi_e")])
    frames = phi + 0.01 * np.random.default_rng(0).standard_normal((6, *phi.shape))
    # fmt: off
    metadata = {"axes": "TCYX", "Channel": {"Name": ["phi_h", "phi_e"]},
                "TimeIncrement": 0.5, "TimeIncrementUnit": "min", "PhysicalSizeX": PIXEL_UM, "PhysicalSizeY": PIXEL_UM}
    # fmt: on
    tifffile.imwrite(tmp_path / "film.ome.tif", frames.astype(np.float32), metadata=metadata, ome=True)
    tifffile.imwrite(tmp_path / "outlines.tif", np.ones(phi.shape[1:], dtype=np.uint8))
    return tmp_path


def settings_for(folder, **more):
    labels = str(folder / "outlines.tif")
    return cm.Settings(interface_length_um=0.03, pixel_size_um=PIXEL_UM, labels=labels, **more)


def test_the_interval_is_read_from_the_file_and_yields_to_the_user(film):
    assert read_time_series(film / "film.ome.tif").interval_s == pytest.approx(30.0)
    assert read_time_series(film / "film.ome.tif", frame_interval_s=7.0).interval_s == 7.0


def test_imagej_states_the_interval_in_seconds(tmp_path):
    frames = np.random.default_rng(0).integers(0, 99, (4, 16, 16)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", frames, imagej=True, metadata={"axes": "TYX", "finterval": 12.5})
    assert read_time_series(tmp_path / "stack.tif").interval_s == 12.5
    tifffile.imwrite(tmp_path / "silent.tif", frames, imagej=True, metadata={"axes": "TYX"})
    assert read_time_series(tmp_path / "silent.tif") is None


@pytest.fixture
def stack_film(tmp_path):
    """Three frames, four planes, two channels: the first frame alone is sharp on plane 3, the others on plane 1."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 9, (3, 4, 2, 24, 26)).astype(np.uint16)
    frames[0, 3] *= 50
    frames[1:, 1] *= 100
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TZCYX", "finterval": 5.0, "spacing": 0.2})
    return path, frames


@pytest.mark.parametrize(("which", "plane"), [("middle", 2), (0, 0), ("sharpest", 1)])
def test_one_plane_of_the_wanted_channel_is_read_of_every_frame(stack_film, which, plane):
    path, frames = stack_film
    series = read_time_series(path, z_plane=which, channels=[1])
    for read, stored in zip(series.frames, frames, strict=True):
        assert not read.is_stack
        np.testing.assert_array_equal(read.data, stored[plane, 1:])
        assert f"z plane {plane} of 4" in read.axes_note
        assert read.choose_channel(1).index == 0
    assert ("z plane 1 of 4, the sharpest of their mean" in series.average().axes_note) == (
        which == "sharpest"
    )


def test_the_run_gives_the_plane_and_the_channels_to_a_time_lapse(stack_film):
    path, frames = stack_film
    settings = cm.Settings(z_plane="max", heterochromatin_channel=1)
    series = _read_series(Found(path, "deep"), settings)
    for read, stored in zip(series.frames, frames, strict=True):
        np.testing.assert_array_equal(read.data, stored[:, 1:].max(axis=0))
    whole = _read_series(Found(path, "deep"), cm.Settings())
    assert whole.frames[0].data.shape == (2, 4, 24, 26)


@pytest.mark.usefixtures("quick_pictures")
def test_all_frames_are_inverted_together_and_the_table_says_what_they_tell(film):
    results = cm.infer(film / "film.ome.tif", output=film / "out", settings=settings_for(film))
    nucleus = results.nuclei.iloc[0]
    assert nucleus["method"] == "time-lapse regression"
    assert "diffusivity_not_identifiable" in nucleus["flags"]
    for column in ("diffusivity_um2_per_s", "diffusivity_se", "gamma_me_per_s", "gamma_ac_per_s", "gamma_me_per_s_se",
                   "gamma_ac_per_s_se", "diffusivity_calibration_se"):  # fmt: skip
        assert np.isnan(nucleus[column])
    assert nucleus["gamma_me_calibration_se"] == 0.0, "volume fractions are taken as they are"
    settings = settings_for(film, phi_max_sd=0.05, diffusivity_um2_per_s=1e-4)
    vague = cm.infer(film / "film.ome.tif", output=film / "vague", settings=settings).nuclei.iloc[0]
    assert vague["gamma_me_se"] > vague["gamma_me_calibration_se"] > 0.05 * vague["gamma_me_per_um2"]
    assert vague["gamma_me_per_um2"] == pytest.approx(nucleus["gamma_me_per_um2"])
    assert nucleus["gamma_me_per_um2"] > 0.0
    # Where the frames tell no D, one that was given makes the rates in 1/s.
    assert np.isnan(vague["diffusivity_um2_per_s"])
    for column in ("gamma_me", "gamma_ac"):
        assert vague[f"{column}_per_s"] == pytest.approx(1e-4 * vague[f"{column}_per_um2"])
        assert vague[f"{column}_per_s_se"] == pytest.approx(1e-4 * vague[f"{column}_se"])
    given = "nucleus 1: the frames tell no D, and rates in 1/s rest on the 0.0001 um2/s that was given"
    assert given in cm.Results(film / "vague").images["notes"].iloc[0]
    assert "6 frames, 30 s apart as the file says" in results.images["axes_note"].iloc[0]


def test_blur_that_most_frames_show_is_that_of_the_film():
    settings = cm.Settings(interface_length_um=0.03)
    blurs = [*(float(np.hypot(sigma, settings.interface_blur_um)) for sigma in (0.3, 0.1, 0.12)), np.nan]
    assert nucleus_rates.seen_psf_um(blurs, settings) == pytest.approx(0.12)
    assert nucleus_rates.seen_psf_um([np.nan], settings) == 0.0


@pytest.mark.parametrize(("given_um", "at_least", "at_most"), [(None, 0.08, 0.16), (0.3, 0.299, 0.31)])
def test_a_film_whose_frames_are_blurred_is_inverted_as_blurred(
    film, monkeypatch, given_um, at_least, at_most
):
    told = []

    def stop(*_, **given):
        told.append(given["psf_sigma_um"])
        raise FieldError("Enough.", expected="the blur.", do="nothing.")

    monkeypatch.setattr(nucleus_rates, "infer_rates_over_time", stop)
    frames = tifffile.imread(film / "film.ome.tif")
    blurred = ndimage.gaussian_filter(frames, (0.0, 0.0, 0.12 / PIXEL_UM, 0.12 / PIXEL_UM))
    tifffile.imwrite(film / "film.tif", (1000 * np.maximum(blurred, 0.0)).astype(np.uint16), imagej=True,
                     metadata={"axes": "TCYX", "finterval": 30.0})  # fmt: skip
    more = {"heterochromatin_channel": 0, "euchromatin_channel": 1, "dark_level": 0.0}
    settings = settings_for(film, psf_sigma_um=given_um, **more)
    with pytest.raises(ImageContentError, match="Enough"):
        cm.infer(film / "film.tif", output=film / "out", settings=settings)
    assert told
    assert all(at_least < psf < at_most for psf in told)


@pytest.mark.usefixtures("quick_pictures")
def test_a_frame_that_is_picked_is_a_snapshot(film):
    results = cm.infer(
        film / "film.ome.tif",
        output=film / "out",
        settings=settings_for(film, time_index=2, method="regression"),
    )
    assert results.nuclei["method"].iloc[0] != "time-lapse regression"
    assert "diffusivity_um2_per_s" not in results.nuclei
    assert "section_thickness_assumed" in results.nuclei["flags"].iloc[0]


@pytest.mark.usefixtures("quick_pictures")
def test_a_thickness_that_is_given_corrects_both_rates_and_takes_the_flag_away(film):
    settings = settings_for(film, time_index=2, method="regression")
    plain, corrected = (
        cm.infer(film / "film.ome.tif", output=film / name, settings=each).nuclei.iloc[0]
        for name, each in (("plain", settings), ("thick", settings.with_values(section_thickness_um=0.6)))
    )
    assert "section_thickness_assumed" not in corrected["flags"]
    factors = [plain[rate] / corrected[rate] for rate in ("gamma_me_per_um2", "gamma_ac_per_um2")]
    # One factor for both, on rates that another width of the test functions gave.
    assert factors[0] == pytest.approx(factors[1], rel=0.1)
    assert min(factors) > 1.1
    assert corrected["rate_ratio"] == plain["rate_ratio"]
    assert corrected["rate_ratio_se"] > plain["rate_ratio_se"]
    assert (
        corrected["gamma_me_se"] / corrected["gamma_me_per_um2"]
        > plain["gamma_me_se"] / plain["gamma_me_per_um2"]
    )


def test_one_channel_over_time_is_refused_with_a_way_out(film, tmp_path):
    frames = np.random.default_rng(0).integers(0, 99, (4, 32, 32)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "one.tif", frames, imagej=True, metadata={"axes": "TYX", "finterval": 5.0})
    with pytest.raises(ImageContentError, match="time-lapse of one channel"):
        cm.infer(tmp_path / "one.tif", output=film / "out", settings=cm.Settings(pixel_size_um=0.1))


def test_what_a_time_lapse_does_not_take_is_refused_all_at_once(film):
    series = read_time_series(film / "film.ome.tif")
    unwanted = {
        "missing": "nan",
        "method": "network",
        "photons_per_count": 2.0,
        "read_noise_counts": 1.5,
        "known_acetylation_per_um2": 1.0,
        "section_thickness_um": 0.3,
    }
    named = ", ".join(f"{name} = {value}" for name, value in unwanted.items())
    with pytest.raises(ParameterError, match=rf"^{named} for .*film\.ome\.tif, a time-lapse"):
        analyse_series(series, settings_for(film, **unwanted))
    for name, value in unwanted.items():
        with pytest.raises(ParameterError, match=f"^{name} = {value} for"):
            require_possible_over_time(cm.Settings(**{name: value}), "a film", stack=False)
    # No stack is a section, of whatever number of frames.
    require_possible_over_time(
        cm.Settings(section_thickness_um=0.3, method="regression"), "a film", stack=True
    )


def test_the_frames_own_diffusivity_goes_before_one_that_was_given():
    given = cm.Settings(diffusivity_um2_per_s=1e-4)
    still = {"nucleus": 1, "gamma_me_per_s": 2e-4}
    told = {"diffusivity_um2_per_s": 3e-4, "gamma_me_per_s": 6e-4}
    untold = {"diffusivity_um2_per_s": np.nan, "gamma_me_per_s": np.nan}
    rows = [with_time(still, told), with_time(still | {"nucleus": 2}, untold)]
    assert [row["gamma_me_per_s"] for row in rows] == [6e-4, 2e-4]
    assert np.isnan(with_time({"nucleus": 3}, untold)["gamma_me_per_s"])
    own, others = whose_diffusivity(rows, given)
    assert own.startswith("nucleus 1: the frames tell D,")
    assert others.startswith("nucleus 2: the frames tell no D,")
    assert whose_diffusivity(rows, cm.Settings()) == []
