"""Missing pixels and photon counts reach the estimator, and say so when they can't."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from chromamol import nucleus_rates
from chromamol.channels import choose_channels
from chromamol.cli import app
from chromamol.errors import ParameterError
from chromamol.inverse import network_settings, network_training
from chromamol.io import Micrograph
from chromamol.nucleus_rates import light_noise
from chromamol.pipeline import analyse_image, require_analysable
from chromamol.settings import Settings
from chromamol.unseen import close_unseen, require_all_seen


class Caught(Exception):
    """Stops before the estimator runs."""


def _handed_over(monkeypatch, image: np.ndarray, settings: Settings) -> dict:
    given = {}

    def catch(nuclei, **_):
        given.update(*nuclei)
        raise Caught

    monkeypatch.setattr(nucleus_rates, "infer_rates_together", catch)
    with pytest.raises(Caught):
        analyse_image(Micrograph(image[None], ("0",), 0.1), settings)
    return given


def _holed(small_field) -> tuple[np.ndarray, np.ndarray]:
    image = small_field().astype(float)
    hole = np.zeros(image.shape, dtype=bool)
    hole[40:46, 50:60] = True
    return np.where(hole, np.nan, image), hole


def test_nan_pixels_and_a_mask_of_them_are_the_same(monkeypatch, small_field, tmp_path):
    image, hole = _holed(small_field)
    by_nan = _handed_over(monkeypatch, image, Settings(missing="nan"))
    tifffile.imwrite(tmp_path / "dust.tif", hole.astype(np.uint8))
    by_mask = _handed_over(monkeypatch, small_field(), Settings(missing=tmp_path / "dust.tif"))
    for given in (by_nan, by_mask):
        assert np.count_nonzero(~given["seen"]) == hole.sum()
        assert given["method"] == "auto"
    np.testing.assert_array_equal(by_nan["seen"], by_mask["seen"])
    np.testing.assert_allclose(by_nan["total"], by_mask["total"])


def test_dust_in_two_places_is_one_mask_and_a_clean_image_has_none(small_field, tmp_path):
    image = Micrograph(small_field()[None], ("0",), 0.1)
    dust = np.zeros(image.shape, np.uint8)
    dust[40:44, 50:54], dust[60:64, 40:44] = 255, 255
    for mask, left in ((dust, 32), (dust > 0, 32), (0 * dust, 0)):
        tifffile.imwrite(tmp_path / "dust.tif", mask)
        settings = Settings(missing=tmp_path / "dust.tif")
        closed = close_unseen(choose_channels(image, settings), image, settings)
        assert np.count_nonzero(~closed.seen) == left


def test_dust_at_the_limit_of_the_detector_saturates_no_nucleus(small_field):
    image, hole = _holed(small_field)
    image = np.where(hole, 4095, small_field())
    seen = np.where(hole, np.nan, image)
    limited = Micrograph(image[None], ("0",), 0.1, saturation_level=4095.0)
    channels = choose_channels(limited, Settings())
    np.testing.assert_array_equal(channels.saturated, hole)
    unseen = replace(channels, planes={"total": seen})
    assert not close_unseen(unseen, limited, Settings(missing="nan")).saturated.any()


def test_a_hole_outside_of_the_nucleus_changes_nothing(monkeypatch, small_field):
    image = small_field().astype(float)
    image[:3, :3] = np.nan
    given = _handed_over(monkeypatch, image, Settings(missing="nan"))
    assert given["seen"] is None
    assert given["method"] == "auto"


@pytest.mark.parametrize("method", ["regression", "domains"])
def test_estimators_without_gaps_and_absent_masks_are_refused(method, tmp_path):
    with pytest.raises(ParameterError, match=f"missing with method = '{method}'"):
        require_analysable(Settings(missing="nan", method=method))
    with pytest.raises(ParameterError, match=r"absent\.tif"):
        require_analysable(Settings(missing=tmp_path / "absent.tif"))
    with pytest.raises(ParameterError, match="a time-lapse"):
        require_all_seen(Settings(missing="nan"), "a time-lapse")


def test_noise_follows_the_light_as_poisson_counts_do():
    """Counts of a camera with 0.5 photons per count and 3 counts of read noise, at three levels of light."""
    rng = np.random.default_rng(0)
    photons, gain, read = 0.5, 800.0, 3.0
    for level in (0.05, 0.2, 0.6):
        light = np.full((64, 64), level * gain)
        image = rng.poisson(light * photons) / photons + read * rng.standard_normal(light.shape)
        fraction = image / gain
        settings = Settings(photons_per_count=photons, read_noise_counts=read)
        (noise,), (per_fraction,) = light_noise({"total": fraction}, {"total": gain}, settings)
        assert float(noise.mean()) == pytest.approx(float(fraction.std()), rel=0.05)
        assert per_fraction == photons * gain


def test_the_network_is_given_photons_and_read_noise_the_others_a_map(monkeypatch, small_field):
    light = {"photons_per_count": 0.5, "chromatin_gain": 2000.0}
    other = _handed_over(monkeypatch, small_field(), Settings(method="regression", **light))
    (noise,) = other["noise_sd"]
    assert noise.shape == other["total"].shape
    assert other["network"] is None
    network = _handed_over(monkeypatch, small_field(), Settings(method="network", **light))
    assert network["network"].photons_per_fraction == pytest.approx((1000.0,))
    assert network["noise_sd"] is None
    noisy = _handed_over(
        monkeypatch, small_field(), Settings(method="network", read_noise_counts=4.0, **light)
    )
    assert noisy["noise_sd"] == pytest.approx((0.002,))


def test_the_command_takes_an_image_with_gaps(monkeypatch, small_field, tmp_path):
    monkeypatch.setattr(network_settings, "GRID_STEPS", 5)  # that it runs is the question here, not how well
    monkeypatch.setattr(network_training, "LBFGS_ITERATIONS", 60)
    image, hole = _holed(small_field)
    tifffile.imwrite(tmp_path / "holed.tif", image.astype(np.float32))
    options = ["--missing", "nan", "--photons-per-count", "1", "--pixel-size-um", "0.1"]
    options += ["--set", "calibration_check=false"]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["infer", str(tmp_path / "holed.tif"), "--output", str(out), *options])
    assert done.exit_code == 0, done.output
    assert "network" in (out / "nuclei.csv").read_text()
    assert f"{hole.sum()} of {hole.size} pixels not seen" in (out / "images.csv").read_text()
    assert 'missing = "nan"' in (out / "settings.toml").read_text()
