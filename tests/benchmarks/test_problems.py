"""The published problems: their truths solve their equations, their data carry the noise that is said."""

from __future__ import annotations

import numpy as np
import pytest

from chromamol.benchmarks.problems import FOURTH_ORDER, HEAT, LANGEVIN, PROBLEMS, score
from chromamol.errors import FieldError


def test_langevin_truth_solves_its_equation_to_second_order() -> None:
    left = []
    for pixels in (201, 401):
        truth = LANGEVIN.truth(pixels, 0)
        u = truth.fields["u"]
        slope = (u[2:] - u[:-2]) / (2.0 * truth.spacing[0])
        left.append(np.abs(slope - u[1:-1] - truth.unknown[1:-1]).max())
        assert u[0] == pytest.approx(1.0)
    assert np.log2(left[0] / left[1]) == pytest.approx(2.0, abs=0.1)


def test_heat_truth_solves_its_equation_to_second_order() -> None:
    left = []
    for pixels in (40, 80):
        truth = HEAT.truth(pixels, 0)
        u, h = truth.fields["u"], truth.spacing[0]
        inner = (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]) / h**2
        left.append(np.abs(truth.unknown[1:-1, 1:-1] * inner + truth.fields["m"][1:-1, 1:-1]).mean())
    assert np.log2(left[0] / left[1]) == pytest.approx(2.0, abs=0.3)


def test_fourth_order_truth_balances() -> None:
    truth = FOURTH_ORDER.truth(32, 0)
    made = (truth.unknown * truth.fields["phi_e"]).mean()
    assert made == pytest.approx(truth.fields["phi_h"].mean(), rel=1e-3)


def test_noise_is_on_the_observed_fields_only() -> None:
    truth = HEAT.truth(64, 1)
    data = HEAT.data(truth, seed=0, noise=0.1)
    np.testing.assert_array_equal(data["m"], truth.fields["m"])
    assert (data["u"] - truth.fields["u"]).std() == pytest.approx(0.1 * truth.fields["u"].std(), rel=0.05)


def test_every_problem_says_what_it_solves() -> None:
    assert [p.order for p in PROBLEMS.values()] == [1, 2, 4]
    assert all(p.unknown.split("(")[0] in p.equation for p in PROBLEMS.values())
    assert {(f.autodiff, f.mollifier) for f in FOURTH_ORDER.published} >= {(0.17, 0.84), (2.70, 0.21)}


def test_score_of_the_truth_is_perfect_and_gaps_are_refused() -> None:
    truth = HEAT.truth(16, 0).unknown
    assert score(truth, truth) == pytest.approx((1.0, 0.0))
    with pytest.raises(FieldError, match="crop both"):
        score(np.full_like(truth, np.nan), truth)
