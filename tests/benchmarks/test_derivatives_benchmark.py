"""The derivative benchmark runs, its truth is true, and its tables say what they should."""

import numpy as np
import pandas as pd
import pytest
import torch

from chromamol.benchmarks.derivatives import run
from chromamol.benchmarks.derivatives_cost import layer_cost, peak_mib, tanh_network
from chromamol.benchmarks.derivatives_fields import FIELDS, PIXEL, exact_derivative, exact_operator
from chromamol.calculus.layer import laplacian
from chromamol.errors import DeviceError
from chromamol.report.derivative_figures import derivative_figure


@pytest.mark.parametrize("field", ["waves", "cubic"])
def test_the_exact_derivatives_are_exact(field):
    centres = (np.arange(128) + 0.5) * PIXEL
    y, x = np.meshgrid(centres, centres, indexing="ij")
    expected = {
        "waves": -20 * np.pi**2 * np.sin(2 * np.pi * x) * np.cos(4 * np.pi * y),
        "cubic": 6 * x * y + 2 - 4 * x,
    }[field]
    np.testing.assert_allclose(exact_operator(field, laplacian(2)), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_the_exact_derivatives_agree_with_differences(field):
    u, slope = exact_derivative(field, (0, 0)), exact_derivative(field, (0, 1))
    difference = (u[:, :-4] - 8 * u[:, 1:-3] + 8 * u[:, 3:-1] - u[:, 4:]) / (12 * PIXEL)
    assert np.abs(difference - slope[:, 2:-2]).max() < 3e-3 * np.abs(slope).max()


def test_peak_memory_counts_what_is_held_at_once():
    def job():
        a = torch.zeros(1024, 1024)
        b = a + 1
        del a
        return b + 1

    assert peak_mib(job) == pytest.approx(8.0, abs=0.1)


def test_costs_are_measured_without_the_random_numbers_that_all_share():
    before = torch.get_rng_state()
    first, second = tanh_network(), tanh_network()
    layer_cost((32,), (5,), repeats=1, device="cpu")
    torch.testing.assert_close(first[0].weight, second[0].weight, rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    return run(folder, quick=True), folder


def test_the_tables_hold_every_method_and_are_written(result):
    benchmark, folder = result
    names = {path.name for path in folder.iterdir()}
    assert names == {f"derivatives_{n}.csv" for n in ("accuracy", "widths", "cost", "network")}
    assert len(pd.read_csv(folder / "derivatives_accuracy.csv")) == len(benchmark.accuracy)
    summary = benchmark.summary()
    assert {"polynomial kernel", "bump kernel", "FFT", "finite difference", "Savitzky-Golay"} <= set(
        summary.index
    )
    assert np.isfinite(summary.to_numpy()).all()


def test_the_tables_show_why_mollifiers_are_needed(result):
    noisy = result[0].summary()[("bilaplacian", 0.05)]
    assert noisy["polynomial kernel"] < 1e-2 * noisy["finite difference"]
    assert noisy["polynomial kernel"] < noisy["bump kernel"]


def test_automatic_widths_beat_guessing(result):
    """No one width is as good for all fields and derivatives; the least of the four is 1.2 times worse (median)."""
    widths, accuracy = result[0].widths, result[0].accuracy
    risk = widths[widths.criterion == "risk"]
    assert risk.ratio_to_oracle.median() < 1.3
    fixed = accuracy[(accuracy.method == "polynomial kernel") & (accuracy.noise > 0.0)]
    both = fixed.merge(risk, on=["field", "operator", "noise"], suffixes=("", "_chosen"))
    worse = both.relative_error / both.relative_error_chosen
    assert (worse.groupby(both.width_px).median() > 1.1).all()


def test_a_fourth_order_training_step_needs_less_memory_than_autodiff(result):
    table = result[0].network.set_index(["residual_order", "method"])
    assert table.loc[(4, "nested autodiff"), "memory_ratio"] > 10
    assert table.loc[(4, "collapsed Taylor mode"), "memory_ratio"] > 10


def test_the_figure_has_four_labelled_panels(result):
    benchmark, _ = result
    figure = derivative_figure(benchmark.accuracy, benchmark.cost, benchmark.network)
    assert len(figure.axes) == 4
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert axes.get_title()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(DeviceError, match="cuda"):
        run(quick=True, device="cuda")
