"""Strong and weak residuals: equal in what they say, right where the answer is known, open for more terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from chromamol.errors import KernelError
from chromamol.physics import ChromatinModel, ChromatinParameters, TestFunction
from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.synthetic import evolve_chromatin, simulate_chromatin
from chromamol.synthetic.spaces import PeriodicBox

LENGTH = 0.03
MODEL = ChromatinModel(ChromatinParameters(interface_length_um=LENGTH))
SIDE = 1.2


@dataclass(frozen=True)
class Transcription:
    """A trial term: heterochromatin is lost where both kinds meet."""

    rate_per_um2: float
    equation: str = "- Γ_tr φ_h φ_e"

    def __call__(self, phi_h: Any, phi_e: Any) -> Any:
        return -self.rate_per_um2 * phi_h * phi_e


def fields(pixels: int, ndim: int = 2) -> tuple[torch.Tensor, torch.Tensor, PeriodicBox]:
    box = PeriodicBox.build((pixels,) * ndim, (SIDE / pixels,) * ndim)
    axes = np.meshgrid(*[SIDE / pixels * np.arange(pixels)] * ndim, indexing="ij")
    wave = 2 * np.pi / SIDE
    phi_h = 0.3 + 0.2 * np.sin(wave * axes[-1]) * np.cos(wave * axes[-2] + 0.3)
    phi_e = 0.25 + 0.05 * np.cos(2 * wave * axes[-1] + 0.1)
    return torch.as_tensor(phi_h), torch.as_tensor(phi_e), box


def bump(pixels: int, ndim: int = 2) -> TestFunction:
    return TestFunction.bump(
        (pixels,) * ndim, (SIDE / pixels,) * ndim, centre=(0.55, 0.62, 0.58)[:ndim], radius=0.55,
        power=10,
    )  # fmt: skip


def test_strong_residual_is_what_the_dynamics_do() -> None:
    phi_h, phi_e, box = fields(24)
    rate = ChromatinDynamics(
        box, 0.8 * box.inside[None], box.inside[None], 0.7, LENGTH
    ).rate_of_change(torch.stack([phi_h, phi_e])[None])[0]  # fmt: skip
    conversion = 0.8 * phi_e - phi_h
    for balance, field, change in zip(
        (MODEL.heterochromatin, MODEL.euchromatin), (phi_h, phi_e), rate, strict=True
    ):
        found = balance.strong(field, conversion, laplacian=box.laplacian)
        torch.testing.assert_close(found, change, rtol=0.0, atol=1e-11)
        left = balance.strong(field, conversion, laplacian=box.laplacian, change=change)
        assert float(left.abs().max()) < 1e-11


@pytest.mark.parametrize("ndim", [2, 3])
def test_weak_residual_is_the_tested_strong_one(ndim: int) -> None:
    """The midpoint rule converges as fast as ΔΔψ, (1 - r²)^6 at its border, is smooth."""
    errors = []
    for pixels in (20, 40):
        phi_h, phi_e, box = fields(pixels, ndim)
        test, conversion = bump(pixels, ndim), 0.8 * phi_e - phi_h
        psi = torch.as_tensor(test.values)
        numbers = []
        for balance, field in ((MODEL.heterochromatin, phi_h), (MODEL.euchromatin, phi_e)):
            strong = balance.strong(field, conversion, laplacian=box.laplacian, change=0.1 * field)
            weak = balance.weak(field.numpy(), conversion.numpy(), test=test, change=0.1 * field.numpy())
            numbers.append((float(test.integrate(strong * psi)), float(weak)))
        strong = MODEL.water.strong(phi_h, phi_e, laplacian=box.laplacian)
        weak = MODEL.water.weak(phi_h.numpy(), phi_e.numpy(), test=test)
        numbers.append((float(test.integrate(strong * psi)), float(weak)))
        errors.append(max(abs(w / s - 1.0) for s, w in numbers))
    assert errors[1] < 1e-4
    assert np.log2(errors[0] / errors[1]) > 5.0


def test_derivatives_of_the_test_function_are_exact() -> None:
    """(1 - r²)^6 at the origin in d dimensions: Δψ = -12 d, ΔΔψ = 120 d (d + 2), from its series 1 - 6 r² + 15 r⁴."""
    for ndim in (1, 2, 3):
        test = TestFunction.bump((9,) * ndim, (0.25,) * ndim, centre=(1.0,) * ndim, radius=1.0)
        middle = (4,) * ndim
        assert test.values[middle] == 1.0
        assert test.laplacian[middle] == pytest.approx(-12.0 * ndim)
        assert test.bilaplacian[middle] == pytest.approx(120.0 * ndim * (ndim + 2))


@pytest.mark.parametrize(
    ("change", "message"), [({"power": 4}, "at least 5"), ({"radius": 0.1}, "four cells")]
)
def test_test_function_that_cannot_be_is_refused(change: dict[str, float], message: str) -> None:
    arguments: dict[str, Any] = {"centre": (0.5, 0.5), "radius": 0.4} | change
    with pytest.raises(KernelError, match=message):
        TestFunction.bump((16, 16), (0.06, 0.06), **arguments)


def test_water_balance_does_not_know_the_rates() -> None:
    """What the two balances say of the total is what the water balance says."""
    phi_h, phi_e, box = fields(24)
    conversion = 3.0 * phi_e * phi_h
    both = [
        balance.strong(field, conversion, laplacian=box.laplacian)
        for balance, field in ((MODEL.heterochromatin, phi_h), (MODEL.euchromatin, phi_e))
    ]
    water = MODEL.water.strong(phi_h, phi_e, laplacian=box.laplacian)
    torch.testing.assert_close(both[0] + both[1], water, rtol=0.0, atol=1e-11)
    potential = MODEL.water.potential(phi_h, phi_e, laplacian=box.laplacian)
    parts = MODEL.heterochromatin.potential(phi_h, laplacian=box.laplacian) + MODEL.euchromatin.potential(
        phi_e, laplacian=box.laplacian
    )
    torch.testing.assert_close(potential, parts)


def test_model_prints_its_equation_and_parameters() -> None:
    text = str(ChromatinModel(conversions=(Transcription(1.0),)))
    first, second, *parameters = text.splitlines()
    assert first.endswith("+ Γ_me φ_e - Γ_ac φ_h - Γ_tr φ_h φ_e")
    assert second.endswith("- Γ_me φ_e + Γ_ac φ_h + Γ_tr φ_h φ_e")
    assert any("0.007 um" in line and "doi:" in line for line in parameters)


def test_derivative_with_a_further_conversion_matches_differences() -> None:
    phi_h, phi_e, box = fields(16)
    state, change = torch.stack([phi_h, phi_e])[None], torch.stack([phi_e, 0.3 * phi_h])[None]
    dynamics = ChromatinDynamics(
        box, 0.8 * box.inside[None], box.inside[None], 0.7, LENGTH, 0.0, (Transcription(5.0),), 0.5
    )
    ahead, behind = (dynamics.rate_of_change(state + s * 1e-5 * change) for s in (1, -1))
    exact = dynamics.linearised(state)(change)
    assert float((exact - (ahead - behind) / 2e-5).norm() / exact.norm()) < 1e-8


def test_transcription_empties_heterochromatin_and_keeps_chromatin() -> None:
    """Uniform: Γ_me φ_e = Γ_ac φ_h + Γ_tr φ_h φ_e with φ_h + φ_e = .5 is a quadratic equation."""
    model = ChromatinModel(MODEL.parameters, (Transcription(10.0),))
    even = np.full((8, 8), 0.05)
    common: dict[str, Any] = {"pixel_size_um": 0.06, "parameters": model}
    state = simulate_chromatin(1.0, 4.0, initial=(even, 0.5 - even), **common)
    # (.5 - h) - 4 h - 10 h (.5 - h) = 0, i.e. 10 h² - 10 h + .5 = 0
    expected = 0.5 * (1.0 - np.sqrt(0.8))
    np.testing.assert_allclose(state.heterochromatin, expected, atol=1e-5)
    movie = evolve_chromatin(even, 0.5 - even, 1.0, 4.0, times=[0.0, 3.0], **common)
    np.testing.assert_allclose(movie.heterochromatin[-1], expected, atol=1e-5)
    assert movie.total[-1].mean() == pytest.approx(0.5, abs=1e-10)
