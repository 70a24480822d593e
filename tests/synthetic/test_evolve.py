"""In time: order, conservation, dissipation, and agreement with the steady solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chromamol.errors import FieldError, ParameterError, SimulationError
from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic import EvolutionOutcome, EvolutionSettings, SimulatedChromatin, evolve_chromatin
from chromamol.synthetic.additive_runge_kutta import TimeSettings, evolve
from chromamol.synthetic.spaces import PeriodicBox, WalledNucleus

H = 0.06


def model(*, walled: bool, reacting: bool = True, pixels: int = 24) -> tuple[ChromatinDynamics, torch.Tensor]:
    """A model and a smooth state that is about to separate."""
    y, x = (np.mgrid[:pixels, :pixels] - (pixels - 1) / 2) * H
    space: PeriodicBox | WalledNucleus = (
        WalledNucleus.build(np.hypot(y, x) < 0.4 * pixels * H, (H, H))
        if walled
        else PeriodicBox.build((pixels, pixels), (H, H))
    )
    wave = 2 * np.pi / (pixels * H)
    phi_h = 0.25 + 0.1 * np.cos(wave * x) * np.cos(wave * (y - 0.2)) + 0.05 * np.sin(2 * wave * y)
    state = torch.as_tensor(np.stack([phi_h, 0.5 - phi_h])[None]) * space.inside
    rate = space.inside[None] * float(reacting)
    return ChromatinDynamics(space, 0.8 * rate, rate, 0.7, 0.03), state


def run(dynamics: ChromatinDynamics, state: torch.Tensor, end: float, **settings: float) -> torch.Tensor:
    (final,) = evolve(dynamics, state, [0.0, end], TimeSettings(**settings))  # type: ignore[arg-type]
    return final


@pytest.mark.parametrize("walled", [False, True])
def test_order_in_time_is_four(walled: bool) -> None:
    """Steps must be small against the stiff modes: larger ones lose up to one order to them."""
    dynamics, state = model(walled=walled)
    steps = [2.5e-4, 1.25e-4]
    exact = run(dynamics, state, 4e-3, fixed_step=3.125e-5, tolerance=1e-11)
    errors = [
        float((run(dynamics, state, 4e-3, fixed_step=s, tolerance=1e-11) - exact).abs().max()) for s in steps
    ]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert 3.7 < orders[-1] < 4.3, orders


def test_step_is_chosen_to_the_tolerance() -> None:
    dynamics, state = model(walled=False)
    exact = run(dynamics, state, 0.3, tolerance=1e-8)
    errors = [float((run(dynamics, state, 0.3, tolerance=t) - exact).abs().max()) for t in (1e-4, 1e-6)]
    assert errors[0] < 3e-3
    assert errors[1] < errors[0] / 10.0


@pytest.mark.parametrize("walled", [False, True])
def test_chromatin_is_conserved(walled: bool) -> None:
    dynamics, state = model(walled=walled)
    final = run(dynamics, state, 0.3)
    cells = float(dynamics.acetylation.sum())
    assert abs(float(final.sum() - state.sum())) / cells < 1e-10


@pytest.mark.parametrize("walled", [False, True])
def test_free_energy_never_rises_without_reactions(walled: bool) -> None:
    dynamics, state = model(walled=walled, reacting=False)
    times = [*np.linspace(0.0, 0.3, 20)]
    energies = [
        float(dynamics.free_energy(s)) for s in [state, *evolve(dynamics, state, times, TimeSettings())]
    ]
    assert np.all(np.diff(energies) <= 1e-12 * energies[0])
    assert energies[-1] < 0.99 * energies[0]


def test_a_steady_pattern_stays(box: SimulatedChromatin) -> None:
    movie = evolve_chromatin(
        box.heterochromatin, box.euchromatin, 1.0, 1.0, times=[0.0, 0.05, 0.1], pixel_size_um=0.05,
        parameters=box.parameters,
    )  # fmt: skip
    assert movie.outcome is EvolutionOutcome.COMPLETE
    assert movie.heterochromatin.shape == (3, 48, 48)
    np.testing.assert_allclose(movie.heterochromatin[-1], box.heterochromatin, atol=5e-5)


def test_seconds_are_time_over_diffusivity(reference: ChromatinParameters) -> None:
    _, state = model(walled=False)
    phi_h, phi_e = state[0].numpy()
    common = {"pixel_size_um": H, "parameters": reference}
    plain = evolve_chromatin(phi_h, phi_e, 0.8, 1.0, times=[0.0, 0.1], **common)
    clocked = evolve_chromatin(
        phi_h, phi_e, 0.8, 1.0, times=[5.0, 15.0], diffusivity_um2_per_s=0.01, **common
    )
    np.testing.assert_allclose(clocked.heterochromatin, plain.heterochromatin, atol=1e-12)
    np.testing.assert_array_equal(clocked.times, [5.0, 15.0])


def test_uniform_mixture_relaxes_exponentially(reference: ChromatinParameters) -> None:
    """Without gradients φ_h obeys u' = Γ_me (c - u) - Γ_ac u: u goes to Γ_me c / (Γ_me + Γ_ac), its rate the sum."""
    even = np.full((8, 8, 8), 0.1)
    movie = evolve_chromatin(
        even, 0.0 * even, 2.0, 3.0, times=[0.0, 0.2], pixel_size_um=H, parameters=reference,
        settings=EvolutionSettings(tolerance=1e-8),
    )  # fmt: skip
    expected = 0.04 + 0.06 * np.exp(-5.0 * 0.2)
    np.testing.assert_allclose(movie.heterochromatin[-1], expected, rtol=1e-6)


def test_missing_frames_are_said(reference: ChromatinParameters) -> None:
    _, state = model(walled=False)
    movie = evolve_chromatin(
        *state[0].numpy(), 0.8, 1.0, times=[0.0, 1e-5, 1.0], pixel_size_um=H, parameters=reference,
        settings=EvolutionSettings(max_steps=3),
    )  # fmt: skip
    assert movie.outcome is EvolutionOutcome.STEP_LIMIT
    assert len(movie.times) == len(movie.heterochromatin) < 3


def test_unstable_step_is_an_error() -> None:
    dynamics, state = model(walled=False)
    with pytest.raises(SimulationError, match="unstable"):
        run(dynamics, state, 100.0, fixed_step=1.0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"times": [0.0]}, ParameterError, "at least two"),
        ({"times": [0.0, 0.0]}, ParameterError, "increase"),
        ({"diffusivity_um2_per_s": -1.0}, ParameterError, "positive"),
        ({"methylation_per_um2": -1.0}, FieldError, "rates >= 0"),
        ({"heterochromatin": np.full((8, 8), 70.0)}, FieldError, "volume fractions"),
        ({"euchromatin": np.full((8, 8), -0.3)}, FieldError, "volume fractions"),
        ({"heterochromatin": np.full((8, 8), np.nan)}, FieldError, "finite"),
        ({"euchromatin": np.full((8, 9), 0.2)}, FieldError, "one 2D or 3D shape"),
        ({"mask": np.ones((8, 8), dtype=bool)}, FieldError, "touches the border"),
        ({"pixel_size_um": 0.1}, ParameterError, "at least 2 pixels"),
    ],
)
def test_bad_input_is_refused_with_a_reason(
    change: dict[str, object], error: type[Exception], message: str, reference: ChromatinParameters
) -> None:
    even = np.full((8, 8), 0.25)
    arguments = {
        "heterochromatin": even, "euchromatin": even, "methylation_per_um2": 1.0, "acetylation_per_um2": 1.0,
        "times": [0.0, 0.1], "pixel_size_um": H, "parameters": reference,
    } | change  # fmt: skip
    with pytest.raises(error, match=message):
        evolve_chromatin(**arguments)
