"""Perturbed nuclei: direction of the response, regions, refusals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from chromamol.errors import FieldError, ParameterError
from chromamol.physics.model import ChromatinModel
from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic import SimulatedChromatin, SolverSettings, evolve_chromatin, simulate_chromatin
from chromamol.synthetic.perturbation import Perturbation, perturb, summarise

ROUGH = SolverSettings(steadiness=1e-2)


def test_more_acetylation_leaves_less_heterochromatin(box: SimulatedChromatin) -> None:
    response = perturb(box, Perturbation(acetylation_factor=1.5), settings=ROUGH)
    before, after = response.summaries
    assert after.heterochromatin_fraction < before.heterochromatin_fraction - 0.03
    assert after.domain_area_fraction < before.domain_area_fraction
    assert response.after.total.mean() == pytest.approx(response.before.total.mean(), abs=1e-10)


def test_no_change_gives_no_response(box: SimulatedChromatin) -> None:
    response = perturb(box, Perturbation(), settings=ROUGH)
    np.testing.assert_array_equal(response.before.heterochromatin, response.after.heterochromatin)


@dataclass(frozen=True)
class Transcription:
    """Heterochromatin is lost where the two meet."""

    rate: float = 0.5
    equation: str = "- Γ_tr φ_h φ_e"

    def __call__(self, phi_h: Any, phi_e: Any) -> Any:
        return -self.rate * phi_h * phi_e


def test_a_further_conversion_goes_on() -> None:
    """Without it the pattern would gain a tenth of its heterochromatin."""
    settings = SolverSettings(steadiness=3e-2)
    model = ChromatinModel(ChromatinParameters(interface_length_um=0.03), conversions=(Transcription(),))
    steady = simulate_chromatin(
        1.0, 1.0, pixel_size_um=0.08, shape=(24, 24), parameters=model, seed=1, settings=settings
    )
    response = perturb(steady, Perturbation(), settings=settings)
    np.testing.assert_array_equal(response.before.heterochromatin, steady.heterochromatin)
    np.testing.assert_array_equal(response.after.heterochromatin, steady.heterochromatin)
    assert response.after.model == model
    followed = perturb(steady, Perturbation(), time_um2=0.01).after
    change = np.abs(followed.heterochromatin - steady.heterochromatin).max()
    assert change < 2.0 * 0.01 * settings.steadiness
    movie = evolve_chromatin(
        steady.heterochromatin, steady.euchromatin, 1.0, 1.0, times=(0.0, 1e-4), pixel_size_um=0.08, parameters=model
    )  # fmt: skip
    assert movie.model == model


def test_torch_nuclei_respond_in_torch(box: SimulatedChromatin) -> None:
    names = ("heterochromatin", "euchromatin", "methylation", "acetylation", "mask")
    torched = replace(box, **{name: torch.tensor(getattr(box, name)) for name in names})
    change = Perturbation(acetylation_factor=1.02)
    region = np.arange(48)[:, None] * np.ones(48) < 24
    wanted = perturb(box, change, region=region, time_um2=1e-3).after
    found = perturb(torched, change, region=torch.tensor(region), time_um2=1e-3).after
    for name in names:
        assert isinstance(getattr(found, name), torch.Tensor)
        np.testing.assert_array_equal(getattr(found, name).numpy(), getattr(wanted, name))
    assert summarise(found) == summarise(wanted)
    assert isinstance(perturb(torched, Perturbation(), settings=ROUGH).after.acetylation, torch.Tensor)


def test_a_region_of_numbers_is_the_same_region() -> None:
    """As indices it would pick the first rows, and miss the rate that becomes negative."""
    rates = np.full((6, 6), 2.0)
    rates[5, 5] = 0.5
    region = np.zeros((6, 6), dtype=np.uint8)
    region[4:] = 1
    with pytest.raises(FieldError, match=r"would fall to -0\.5"):
        Perturbation(acetylation_shift_per_um2=-1.0).apply(rates, rates, region)


def test_only_the_region_changes() -> None:
    rates = np.full((6, 6), 2.0)
    region = np.zeros((6, 6), dtype=bool)
    region[:3] = True
    change = Perturbation(methylation_factor=0.5, acetylation_shift_per_um2=1.0)
    methylation, acetylation = change.apply(rates, rates, region)
    assert np.all(methylation[:3] == 1.0)
    assert np.all(acetylation[:3] == 3.0)
    assert np.all(methylation[3:] == 2.0)
    assert np.all(acetylation[3:] == 2.0)


def test_negative_rates_are_refused_not_clipped() -> None:
    with pytest.raises(FieldError, match="would fall to -1"):
        Perturbation(methylation_shift_per_um2=-3.0).apply(np.full((4, 4), 2.0), np.ones((4, 4)))
    with pytest.raises(ParameterError):
        Perturbation(acetylation_factor=-1.0)


@pytest.mark.parametrize("factor", [1e-4, 1e4, float("inf"), float("nan"), -1.0])
def test_factors_that_no_pattern_survives_are_refused(factor: float) -> None:
    for name in ("methylation_factor", "acetylation_factor"):
        with pytest.raises(ParameterError, match=r"a factor of 0, or from 0\.001 to 1000"):
            Perturbation(**{name: factor})


@pytest.mark.parametrize("name", ["methylation", "acetylation"])
def test_shifts_are_bounded_as_factors_are(name: str) -> None:
    with pytest.raises(ParameterError, match="finite shifts"):
        Perturbation(**{f"{name}_shift_per_um2": float("inf")})
    rates = {"methylation": np.zeros((4, 4)), "acetylation": np.full((4, 4), 2.0)}
    with pytest.raises(FieldError, match="at most 2000, 1000 times the faster rate"):
        Perturbation(**{f"{name}_shift_per_um2": 2001.0}).apply(**rates)
    Perturbation(0.0, 1e3).apply(**rates)
    nothing = np.zeros((4, 4))
    assert Perturbation(acetylation_shift_per_um2=5.0).apply(nothing, nothing)[1].max() == 5.0


def test_region_of_another_shape_is_refused(box: SimulatedChromatin) -> None:
    with pytest.raises(FieldError, match="own grid"):
        perturb(box, Perturbation(), region=np.ones((3, 3), dtype=bool))


def test_summary_of_two_discs() -> None:
    y, x = np.mgrid[:60, :100] * 0.1
    discs = np.minimum(np.hypot(y - 3, x - 2.5), np.hypot(y - 3, x - 7.5)) < 1.5
    phi_h = np.where(discs, 0.7, 0.0)
    template = {"methylation": None, "acetylation": None, "mask": np.ones(discs.shape, bool)}
    state = SimulatedChromatin(
        phi_h, np.full(discs.shape, 0.2), **template, pixel_size_um=(0.1, 0.1),
        parameters=ChromatinParameters(), steadiness=0.0,
    )  # fmt: skip
    summary = summarise(state)
    assert summary.domain_count == 2
    assert summary.domain_radius_um == pytest.approx(1.5, rel=0.01)
    assert summary.domain_area_fraction == discs.mean()


def test_a_response_in_time_lies_between_the_start_and_the_steady_one(box: SimulatedChromatin) -> None:
    change = Perturbation(acetylation_factor=1.5)
    early, later = (
        summarise(perturb(box, change, time_um2=t).after).heterochromatin_fraction for t in (0.05, 0.3)
    )
    start = summarise(box).heterochromatin_fraction
    end = perturb(box, change, settings=ROUGH).summaries[1].heterochromatin_fraction
    assert end - 0.01 < later < early < start


def test_a_short_time_changes_the_fraction_at_the_rate_of_the_reactions(box: SimulatedChromatin) -> None:
    """At rest both reactions balance; the added half of the acetylation is then the whole change of φ_h."""
    time = 1e-3
    response = perturb(box, Perturbation(acetylation_factor=1.5), time_um2=time)
    change = (response.after.heterochromatin - response.before.heterochromatin).mean()
    assert change == pytest.approx(-0.5 * time * box.heterochromatin.mean(), rel=0.01)


@pytest.mark.parametrize("time", [0.0, -1.0, float("nan")])
def test_a_time_that_is_none_is_refused(box: SimulatedChromatin, time: float) -> None:
    with pytest.raises(ParameterError, match="time_um2"):
        perturb(box, Perturbation(), time_um2=time)
