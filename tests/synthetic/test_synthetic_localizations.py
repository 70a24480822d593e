"""Drawn localisations: numbers, positions, errors and blinking have the statistics that were asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chromamol.errors import FieldError, ParameterError
from chromamol.synthetic.localizations import Labelling, localisation_precision, localize

ONCE = Labelling(molecules_per_um=20_000.0, efficiency=0.5, bursts=1.0, on_frames=1e-6, frames=10_000)
"""Each label shines once, within one frame."""


def draw(density: np.ndarray, labelling: Labelling, seed: int = 0, spacing: float = 0.1):
    return localize(density, (spacing,) * density.ndim, labelling, rng=np.random.default_rng(seed))


def test_the_number_is_the_density_times_the_efficiency() -> None:
    table = draw(np.full((20, 20), 0.5), ONCE)
    expected = 20_000.0 * 0.5 * 0.5 * 4.0
    assert len(table) == pytest.approx(expected, abs=5.0 * np.sqrt(expected))


def test_localisations_lie_where_the_density_is_and_err_by_their_precision() -> None:
    density = np.zeros((41, 41))
    density[20, 20] = 1.0
    labelling = replace(ONCE, molecules_per_um=1e6, photons=400.0, photons_log_sd=0.0)
    table = draw(density, labelling, spacing=0.01)
    x, y = table.x_um - 0.205, table.y_um - 0.205
    variance = table.precision_um[0] ** 2 + 0.01**2 / 12.0  # the error, and the cell itself
    assert x.mean() == pytest.approx(0.0, abs=5.0 * np.sqrt(variance / len(table)))
    assert x.var() == pytest.approx(variance, rel=5.0 * np.sqrt(2.0 / len(table)))
    assert y.var() == pytest.approx(variance, rel=5.0 * np.sqrt(2.0 / len(table)))


def test_precision_follows_the_photons_as_published() -> None:
    """Without background and pixels: σ = √(16/9) σ_psf / √N."""
    found = localisation_precision(
        np.array([900.0]), psf_sigma_um=0.15, camera_pixel_um=1e-6, background_photons=0.0
    )
    assert found[0] == pytest.approx(4.0 / 3.0 * 0.15 / 30.0)
    precise = localisation_precision(
        np.array([100.0, 400.0]), psf_sigma_um=0.13, camera_pixel_um=0.1, background_photons=0.0
    )
    assert precise[0] / precise[1] == pytest.approx(2.0)
    typical = localisation_precision(
        np.array([1500.0]), psf_sigma_um=0.13, camera_pixel_um=0.1, background_photons=10.0
    )
    assert 0.004 < typical[0] < 0.010


def test_labels_blink_as_often_and_as_long_as_asked() -> None:
    # Pauses far shorter than the acquisition: only the first burst's place decides what is cut off.
    labelling = replace(ONCE, bursts=3.0, on_frames=2.0, off_frames=20.0, frames=400_000)
    table = draw(np.full((20, 20), 0.5), labelling)
    order = np.lexsort((table.frame, table.molecule))
    label, frame = table.molecule[order], table.frame[order]
    new_label = np.diff(label) != 0
    per_label = len(table) / (new_label.sum() + 1)
    # A burst of exponential length touches one frame more than its mean length.
    assert per_label == pytest.approx(3.0 * (2.0 + 1.0), rel=0.03)
    pauses = np.diff(frame)[~new_label]
    # Rounded to frames, a pause of less than one frame is not seen: at least 19 of 20 are.
    bursts = ((pauses > 1).sum() + new_label.sum() + 1) / (new_label.sum() + 1)
    assert 0.9 * 3.0 < bursts <= 3.1


def test_frames_are_ordered_within_the_acquisition() -> None:
    table = draw(np.full((10, 10), 0.5), replace(ONCE, bursts=4.0, off_frames=5_000.0))
    assert np.all(np.diff(table.frame) >= 0)
    assert table.frame.min() >= 1
    assert table.frame.max() <= 10_000


def test_false_localisations_are_everywhere_and_marked() -> None:
    density = np.zeros((20, 40))
    density[:, :10] = 0.5
    table = draw(density, replace(ONCE, false_per_um=500.0))
    false = table.molecule < 0
    assert false.sum() == pytest.approx(500.0 * 8.0, abs=5.0 * np.sqrt(4000.0))
    assert (table.x_um[false] > 2.0).mean() == pytest.approx(0.5, abs=0.05)
    assert table.x_um[~false].max() < 1.2


def test_a_volume_gives_heights_with_a_larger_error() -> None:
    density = np.zeros((21, 21, 21))
    density[10, 10, 10] = 1.0
    labelling = replace(ONCE, molecules_per_um=3e8, photons_log_sd=0.0, axial_ratio=3.0)
    table = draw(density, labelling, spacing=0.01)
    assert table.z_um is not None
    extra = [np.var(v) - 0.01**2 / 12.0 for v in (table.z_um, table.x_um)]
    assert np.sqrt(extra[0] / extra[1]) == pytest.approx(3.0, rel=0.15)


def test_same_generator_same_table() -> None:
    first, second = (draw(np.full((5, 5), 0.5), Labelling(), seed=3) for _ in range(2))
    assert np.array_equal(first.x_um, second.x_um)
    assert np.array_equal(first.frame, second.frame)
    assert not np.array_equal(draw(np.full((5, 5), 0.5), Labelling(), seed=4).x_um[:50], first.x_um[:50])


@pytest.mark.parametrize("bad", [{"efficiency": 0.0}, {"bursts": 0.5}, {"photons": -1.0}, {"frames": 0}])
def test_impossible_labellings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        Labelling(**bad)


def test_no_density_gives_no_table() -> None:
    with pytest.raises(ParameterError, match="No localisation"):
        draw(np.zeros((10, 10)), Labelling())
    with pytest.raises(ParameterError, match="one cell size per axis"):
        localize(np.ones((4, 4)), (0.1,), Labelling(), rng=np.random.default_rng(0))
    with pytest.raises(FieldError, match="NaN or infinite"):
        draw(np.full((10, 10), np.nan), Labelling())
