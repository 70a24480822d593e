"""The benchmark of the mollifier-layer paper: its models solve the truth, its rows say what was not run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import cumulative_trapezoid

from chromamol.benchmarks import paper
from chromamol.benchmarks.paper import PaperBenchmark, highest_derivative, run
from chromamol.benchmarks.paper_model import EQUATIONS, PaperModel
from chromamol.benchmarks.paper_prior import langevin_bound, langevin_prior
from chromamol.benchmarks.problems import HEAT, LANGEVIN, PROBLEMS
from chromamol.errors import FieldError, ParameterError
from chromamol.inverse.network_derivatives import Derivatives
from chromamol.report.paper_figures import paper_figure


def test_the_truth_has_no_residual():
    for problem, pixels in ((LANGEVIN, 64), (HEAT, 32)):
        truth = problem.truth(pixels, 0)
        field = torch.tensor(truth.fields["u"])[None, None]
        top = torch.tensor(highest_derivative(problem, truth))[None, None]
        u = Derivatives(field, top[:, :, None], top, top)
        known = {n: torch.tensor(f)[None] for n, f in truth.fields.items() if n not in problem.observed}
        residual = EQUATIONS[problem.name].residual(u, torch.tensor(truth.unknown)[None], known)
        assert float(residual.abs().max()) < 1e-10


@pytest.mark.parametrize("derivatives", ["nested", "taylor"])
def test_every_method_has_the_same_loss_on_a_smooth_field(derivatives):
    truth = HEAT.truth(40, 0)
    data = HEAT.data(truth, seed=0)
    losses = []
    for name in ("mollifier", derivatives):
        model = PaperModel(HEAT, truth, data, architecture="mlp", derivatives=name, dtype=torch.float64)
        with torch.no_grad():
            model.trained.network.layers[0].matrix.mul_(0.2)
        losses.append(float(model(1.0).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_grid_finds_the_coefficient_and_the_figure_is_drawn():
    result = run(quick=True, seconds=1.0, problems=("heat",), architectures=("grid",))
    (row,) = result.rows.to_dict("records")
    assert row["correlation"] > 0.9
    assert row["note"] == ""
    assert "| heat | grid | mollifier |" in result.markdown("A machine.")
    assert "0.84" in result.markdown("A machine.")
    several = pd.concat([result.rows, result.rows.assign(noise=0.1)])
    for rows in (result.rows, several):
        assert len(paper_figure(rows).axes) == 2


def test_what_would_not_fit_is_not_run_and_says_so(monkeypatch):
    monkeypatch.setattr(paper, "_free_mib", lambda device: 1.0)
    result = run(quick=True, seconds=0.01, problems=("heat",), architectures=("mlp",))
    nested = result.rows.set_index("derivatives").loc["nested"]
    assert nested.steps == 0
    assert np.isnan(nested.correlation)
    assert nested.note.startswith("not run")
    ratios = PaperBenchmark(result.rows, result.published, "").ratios()
    assert (ratios.memory > 3.0).all()
    figure = paper_figure(result.rows)
    correlations, costs = figure.axes
    names = ["mlp, mollifier", "mlp, nested", "mlp, taylor"]
    assert [label.get_text() for label in correlations.get_xticklabels()] == names
    hollow = [line.get_markerfacecolor() == "none" for line in costs.lines]
    assert hollow == list(result.rows.steps == 0)
    assert any("not run" in text.get_text() for text in figure.legends[0].get_texts())


def test_unknown_names_are_refused():
    with pytest.raises(FieldError, match="langevin, heat"):
        run(quick=True, problems=("burgers",))
    assert set(EQUATIONS) == set(PROBLEMS)


@pytest.mark.parametrize(
    "options",
    [
        {"seconds": 0.0},
        {"seconds": -1.0},
        {"seconds": np.nan},
        {"noise": (0.05, -1.0)},
        {"noise": (np.nan,)},
        {"seeds": (-1,)},
    ],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ParameterError):
        run(quick=True, problems=("langevin",), architectures=("grid",), **options)


def test_the_data_tell_how_smooth_and_how_large_the_langevin_rate_is():
    """A slow small wave and a fast large one, at 1 % noise."""
    t = np.linspace(0.0, 1.0, 512)
    found = []
    for height, waves in ((0.3, 1), (2.0, 5)):
        omega = 2.0 * np.pi * waves
        wave = (
            -height * (np.sin(omega * t) + omega * np.cos(omega * t)) / (1.0 + omega**2)
        )  # of λ = height sin ωt
        clean = 2.0 * np.exp(t) + wave
        noisy = clean + 0.002 * np.random.default_rng(0).standard_normal(len(t))
        found.append(langevin_prior(noisy, t[1], 0.002))
    (slow, small), (fast, large) = found
    assert fast < 0.5 * slow
    assert small < 1.0 < large


def test_least_squares_in_the_true_waves_reaches_the_bound():
    truth = LANGEVIN.truth(512, 0)
    u, h = truth.fields["u"], truth.spacing[0]
    t, sd = h * np.arange(len(u)), 0.05 * u.std()
    omega = 2.0 * np.pi * np.arange(1, 5)[:, None] * t
    waves = np.concatenate([np.ones((1, len(t))), np.sin(omega), np.cos(omega)])
    # u' - u = λ for each wave, by an integrating factor and SciPy's cumulative trapezium rule.
    seen = np.exp(t) * cumulative_trapezoid(waves * np.exp(-t), t, initial=0.0)
    design = np.vstack([seen, np.exp(t)]).T
    rng = np.random.default_rng(0)
    noisy = u[:, None] + sd * rng.standard_normal((len(t), 200))
    found = waves.T @ np.linalg.lstsq(design, noisy, rcond=None)[0][:-1]
    error = np.mean((found - truth.unknown[:, None]) ** 2) / truth.unknown.var()
    assert langevin_bound(truth.unknown, h, sd) == pytest.approx(1.0 / np.sqrt(1.0 + error), rel=0.01)
