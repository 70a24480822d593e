"""The heat benchmark on its own data: what is to be reached is reached, and the table says so."""

import numpy as np
import pandas as pd
import pytest

from chromamol.benchmarks import heat_fem
from chromamol.errors import ParameterError


@pytest.fixture
def data(sample):
    sample(heat_fem.DATASET)
    return heat_fem.load()


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_draw_of_the_noise_is_refused(seeds):
    with pytest.raises(ParameterError, match="at least 1"):
        heat_fem.run(seeds=seeds)


def test_the_data_are_sorted_onto_their_grid(data):
    field, spacing, truth = data
    assert field.shape == (51, 41, 41)
    assert spacing == pytest.approx({"t": 0.1, "y": 0.25, "x": 0.25})
    wave = np.sin(np.pi * np.linspace(0, 1, 41))
    np.testing.assert_allclose(field[0], 100.0 * np.outer(wave, wave), atol=1e-6)
    assert np.unravel_index(truth.argmax(), truth.shape) == (12, 12)


def test_the_steps_of_the_data_explain_its_misfit(data):
    """The finite elements stepped implicitly; the equation that such steps solve is met ten times better."""
    field, spacing = data[0][:, 6:24, 6:24], data[1]
    plain, euler = (heat_fem.invert(field, spacing, method=each) for each in (heat_fem.PLAIN, heat_fem.EULER))
    assert euler.misfit < plain.misfit / 10


def test_a_fit_that_went_astray_begins_again(data):
    """Without noise, fields that meet a constant D and c lie far from the data, and the first fit ends there."""
    field, truth = data[0][:26, ::2, ::2], data[2][::2, ::2]
    found = heat_fem.invert(field, {"t": 0.1, "y": 0.5, "x": 0.5}, method=heat_fem.FOUND)
    assert found.misfit < 0.2
    assert np.linalg.norm(found["D"].values - truth) < 0.04 * np.linalg.norm(truth)


def test_what_is_to_be_reached_is_reached_at_five_per_cent_noise_and_written(
    data, monkeypatch, tmp_path, check_errors
):
    invert, found = heat_fem.invert, []

    def kept(field, spacing, *, method):
        found.append(invert(field, spacing, method=method))
        return found[-1]

    monkeypatch.setattr(heat_fem, "invert", kept)
    monkeypatch.setattr(heat_fem, "QUICK_NOISE", (0.05,))
    monkeypatch.setattr(heat_fem, "two_step_error", lambda *_: 0.5)
    table = heat_fem.run(tmp_path / "new", quick=True)
    assert list(table["method"]) == [
        heat_fem.EULER,
        heat_fem.FOUND,
        heat_fem.PLAIN,
        heat_fem.TWO_STEP,
    ]
    assert (table["target"] == 0.08).all()
    assert (table["error"][:3] < 0.08).all()
    assert table["misfit"][:3].between(0.8, 1.3).all()
    # With the equation that the data obey the intervals hold the truth, whether the step is given or found.
    assert (table["covered"][:2] > 0.85).all()
    for estimate in (solution["D"] for solution in found[:2]):
        off = (estimate.values - data[2])[estimate.valid]
        check_errors(off, estimate.standard_error[estimate.valid], mean_square=(0.45, 3.2))
    again = pd.read_csv(tmp_path / "new" / "heat_fem.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    text = (tmp_path / "new" / "heat_fem.md").read_text(encoding="utf-8")
    assert text.startswith("| method | noise |")
    assert "nan" not in text
    assert "TorchPhysics" in text
