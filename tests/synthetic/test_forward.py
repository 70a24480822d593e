"""The forward model: what must hold for any steady pattern, and what the source reports for the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chromamol.errors import FieldError, ParameterError
from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic import SimulatedChromatin, SolverSettings, simulate_chromatin
from chromamol.synthetic.inputs import as_shape, fraction_map
from chromamol.synthetic.levels import simulate_in_levels
from chromamol.synthetic.steady import Outcome

ROUNDING = 1e-10


def mean_inside(state: SimulatedChromatin, values: np.ndarray) -> float:
    return float(values[state.mask].mean())


@pytest.mark.parametrize("kind", ["box", "nucleus"])
def test_total_chromatin_is_conserved(kind: str, request: pytest.FixtureRequest) -> None:
    state = request.getfixturevalue(kind)
    assert abs(mean_inside(state, state.total) - 0.5) < ROUNDING


@pytest.mark.parametrize("kind", ["box", "nucleus"])
def test_as_much_is_methylated_as_acetylated(kind: str, request: pytest.FixtureRequest) -> None:
    state = request.getfixturevalue(kind)
    made = mean_inside(state, state.methylation * state.euchromatin)
    lost = mean_inside(state, state.acetylation * state.heterochromatin)
    assert abs(made / lost - 1.0) < 10.0 * state.steadiness


def test_domains_form_with_the_plateaus_of_the_reference_model(box: SimulatedChromatin) -> None:
    phi_h = box.heterochromatin
    assert 0.67 < phi_h.max() < 0.70
    assert 0.02 < phi_h.min() < 0.06
    assert (phi_h > 0.35).mean() == pytest.approx(0.32, abs=0.06)  # a box of few domains: wider than 0.03


def test_sum_of_the_potentials_is_one_number(box: SimulatedChromatin) -> None:
    """μ_h + μ_e = C, by a stencil that the solver does not use."""
    h, width, top = 0.05, 0.03, 0.7
    phi_h, phi_e = box.heterochromatin, box.euchromatin
    weights = np.array([-1 / 560, 8 / 315, -1 / 5, 8 / 5, -205 / 72, 8 / 5, -1 / 5, 8 / 315, -1 / 560])

    def laplacian(u: np.ndarray) -> np.ndarray:
        shifts = range(-4, 5)
        return (
            sum(w * (np.roll(u, s, 0) + np.roll(u, s, 1)) for w, s in zip(weights, shifts, strict=True))
            / h**2
        )

    mu_h = phi_h * (top - phi_h) * (top - 2 * phi_h) - width**2 * laplacian(phi_h)
    mu_e = phi_e - width**2 * laplacian(phi_e)
    assert (mu_h + mu_e).std() < 0.02 * mu_h.std()


def test_nothing_outside_the_nucleus(nucleus: SimulatedChromatin) -> None:
    assert np.all(nucleus.total[~nucleus.mask] == 0.0)


def test_same_seed_same_pattern_other_seed_other_pattern(reference: ChromatinParameters) -> None:
    def run(seed: int) -> np.ndarray:
        return simulate_chromatin(
            0.8, 1.0, pixel_size_um=0.06, shape=(24, 24), parameters=reference, seed=seed,
            settings=SolverSettings(steadiness=1e-2),
        ).heterochromatin  # fmt: skip

    assert np.array_equal(run(5), run(5))
    assert not np.allclose(run(5), run(6), atol=1e-2)


def test_lengths_set_the_unit(reference: ChromatinParameters) -> None:
    """Lengths times a and rates over a² are the same nucleus."""
    a, settings = 0.2, SolverSettings(steadiness=1e-3)
    one = simulate_chromatin(
        0.8, 1.0, pixel_size_um=0.06, shape=(24, 24), parameters=reference, settings=settings
    )
    scaled = simulate_chromatin(
        0.8 / a**2, 1.0 / a**2, pixel_size_um=0.06 * a, shape=(24, 24), settings=settings,
        parameters=ChromatinParameters(interface_length_um=0.03 * a),
    )  # fmt: skip
    np.testing.assert_allclose(scaled.heterochromatin, one.heterochromatin, atol=1e-6)


def test_a_steady_pattern_stays(box: SimulatedChromatin, reference: ChromatinParameters) -> None:
    again = simulate_chromatin(
        1.0, 1.0, pixel_size_um=0.05, parameters=reference, initial=(box.heterochromatin, box.euchromatin),
        settings=SolverSettings(steadiness=2e-4),
    )  # fmt: skip
    np.testing.assert_array_equal(again.heterochromatin, box.heterochromatin)


def test_uniform_mixture_without_reactions_at_low_content_stays_uniform() -> None:
    """Below the spinodal nothing separates: f'(φ) > 0 at φ_h = 0.1."""
    phi = np.full((32, 32), 0.1) + 1e-3 * np.cos(2 * np.pi * np.arange(32) / 32)
    state = simulate_chromatin(
        0.0, 0.0, pixel_size_um=0.05, initial=(phi, np.full((32, 32), 0.4)),
        parameters=ChromatinParameters(interface_length_um=0.03),
    )  # fmt: skip
    assert np.ptp(state.heterochromatin) < 1e-6


def test_volume_is_simulated_like_a_plane(reference: ChromatinParameters) -> None:
    """A plane of droplets repeated along z is a steady state in 3D as well."""
    plane = simulate_chromatin(
        1.0, 1.0, pixel_size_um=0.06, shape=(24, 24), parameters=reference,
        settings=SolverSettings(steadiness=1e-4),
    )  # fmt: skip
    column = tuple(np.repeat(v[None], 12, axis=0) for v in (plane.heterochromatin, plane.euchromatin))
    volume = simulate_chromatin(
        1.0, 1.0, pixel_size_um=0.06, parameters=reference, initial=column,
        settings=SolverSettings(steadiness=2e-4, max_steps=1),
    )  # fmt: skip
    assert volume.steadiness <= 1e-4
    assert volume.heterochromatin.shape == (12, 24, 24)


def test_adhesion_gathers_heterochromatin_at_the_wall() -> None:
    y, x = np.mgrid[-17:18, -17:18] * 0.06
    mask = np.hypot(y, x) < 0.9
    rim = mask & (np.hypot(y, x) > 0.78)

    def rim_level(adhesion: float) -> float:
        state = simulate_chromatin(
            0.6, 1.0, pixel_size_um=0.06, mask=mask, seed=2, settings=SolverSettings(steadiness=3e-2),
            parameters=ChromatinParameters(interface_length_um=0.03, adhesion=adhesion),
        )  # fmt: skip
        return float(state.heterochromatin[rim].mean())

    assert rim_level(0.08) > rim_level(0.0) + 0.1


def test_coarse_to_fine_reaches_the_same_identity(reference: ChromatinParameters) -> None:
    y, x = np.mgrid[-18:19, -18:19] * 0.04
    mask = np.hypot(y, x) < 0.64
    ones = np.ones(mask.shape)
    state = simulate_in_levels(
        0.8 * ones, ones, pixel_size_um=0.04, mask=mask, factors=(2,), parameters=reference,
        settings=SolverSettings(steadiness=1e-3),
    )  # fmt: skip
    assert state.mask.shape == mask.shape
    assert np.array_equal(state.mask, mask)
    assert state.outcome is Outcome.STEADY
    assert 0.8 * mean_inside(state, state.euchromatin) == pytest.approx(
        mean_inside(state, state.heterochromatin), rel=1e-2
    )


def test_torch_in_torch_out(reference: ChromatinParameters) -> None:
    rate = torch.full((16, 16), 0.8, dtype=torch.float64, requires_grad=True)
    state = simulate_chromatin(
        rate, 1.0, pixel_size_um=0.06, parameters=reference, settings=SolverSettings(max_steps=2)
    )
    assert isinstance(state.heterochromatin, torch.Tensor)


def test_step_limit_is_reported(reference: ChromatinParameters) -> None:
    state = simulate_chromatin(
        0.8,
        1.0,
        pixel_size_um=0.06,
        shape=(16, 16),
        parameters=reference,
        settings=SolverSettings(max_steps=2),
    )
    assert state.outcome is Outcome.STEP_LIMIT
    assert state.steadiness > 1e-6


def test_rates_are_not_changed(reference: ChromatinParameters) -> None:
    rate = np.full((16, 16), 0.8)
    simulate_chromatin(
        rate, rate, pixel_size_um=0.06, parameters=reference, settings=SolverSettings(max_steps=1)
    )
    assert np.all(rate == 0.8)


def test_one_number_is_no_shape() -> None:
    with pytest.raises(FieldError, match="whole numbers >= 1"):
        as_shape(16)
    assert as_shape([16, np.int64(8)]) == (16, 8)


def test_pixels_of_a_start_may_be_below_zero_by_noise() -> None:
    noisy = np.random.default_rng(0).normal(0.2, 0.2, (16, 16))
    assert noisy.min() < -0.2
    np.testing.assert_array_equal(fraction_map(noisy, np.ones((16, 16), dtype=bool), "start"), noisy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methylation_per_um2": -1.0}, "rates >= 0"),
        ({"acetylation_per_um2": np.nan}, "finite"),
        ({"mask": np.ones((16, 16), dtype=bool)}, "touches the border"),
        ({"mask": np.zeros((16, 16), dtype=bool)}, "empty"),
        ({"shape": None}, "know the grid"),
        ({"methylation_per_um2": np.ones((8, 8))}, "one 2D or 3D shape"),
        ({"shape": (16,)}, "one 2D or 3D shape"),
        ({"shape": (0, 16)}, "whole numbers >= 1"),
        ({"pixel_size_um": 0.0}, "positive"),
        (
            {"initial": (np.full((16, 16), 300.0), np.full((16, 16), 200.0))},
            "heterochromatin goes from 300 to 300",
        ),
        (
            {"initial": (np.full((16, 16), 0.4), np.full((16, 16), -0.3))},
            "euchromatin goes from -0.3 to -0.3",
        ),
    ],
)
def test_bad_input_is_refused_with_a_reason(change: dict[str, object], message: str) -> None:
    arguments = {
        "methylation_per_um2": 1.0, "acetylation_per_um2": 1.0, "pixel_size_um": 0.06, "shape": (16, 16),
        "parameters": ChromatinParameters(interface_length_um=0.03),
    } | change  # fmt: skip
    with pytest.raises(FieldError, match=message):
        simulate_chromatin(**arguments)


def test_pixel_too_coarse_for_the_interface_is_refused(reference: ChromatinParameters) -> None:
    with pytest.raises(ParameterError, match="at least 2 pixels"):
        simulate_chromatin(1.0, 1.0, pixel_size_um=0.1, shape=(16, 16), parameters=reference)


@pytest.mark.parametrize("water", [0.0, 1.0, float("nan")])
def test_water_fraction_out_of_range_is_refused(water: float) -> None:
    with pytest.raises(ParameterError, match="water_fraction"):
        simulate_chromatin(1.0, 1.0, pixel_size_um=0.01, shape=(16, 16), water_fraction=water)
