"""Pixels that were not seen are left out of a joint fit's data: its errors hold around them, and in them."""

import numpy as np
import pytest

import chromamol as cm
from chromamol.errors import ParameterError
from chromamol.grid import Grid
from chromamol.inverse.gaps import with_gaps
from chromamol.inverse.inference import choose_method
from chromamol.inverse.joint_setup import last_tau
from chromamol.physics import ChromatinParameters

RESOLVED = ChromatinParameters(interface_length_um=0.03)


def test_rates_around_a_hole_and_lost_lines_are_within_their_errors(truth, check_errors):
    state, piece = truth("both_0"), (slice(64, 120), slice(64, 120))
    images = [phi[piece].copy() for phi in state.noisy(0.05, 0)]
    y, x = np.indices(images[0].shape)
    seen = (np.hypot(y - 24, x - 30) > 7.0) & ~np.isin(y, (11, 12))
    for image in images:
        image[~seen] = np.nan
    rates = cm.infer_rates(*images, seen=seen, device="cpu", **state.settings)
    assert rates.method == "joint"
    assert "pixels that were not seen" in rates.reason
    maps, true = (rates.methylation, rates.acetylation), (state.methylation[piece], state.acetylation[piece])
    inside = maps[0].valid & ~seen
    assert inside.any()
    for where in (maps[0].valid, inside):
        off = np.stack([(m.values - t)[where] for m, t in zip(maps, true, strict=True)])
        error = np.stack([m.standard_error[where] for m in maps])
        check_errors(off, error, mean_square=(0.1, 2.0), covered=0.9)


def test_noise_of_the_last_steps_is_that_of_the_pixels_that_were_seen(small_problem):
    problem = small_problem()
    assert last_tau(with_gaps(problem, np.indices((72, 72))[0] > 20)) == pytest.approx(last_tau(problem))


def test_auto_gives_gaps_to_the_joint_fit_or_to_the_network():
    assert choose_method("auto", Grid((90, 90), (0.04, 0.04)), RESOLVED, gaps=True)[0] == "joint"
    for grid in (
        Grid((90, 90), (0.2, 0.2)),
        Grid((500, 500), (0.04, 0.04)),
        Grid((20, 90, 90), (0.1, 0.04, 0.04)),
    ):
        chosen, reason = choose_method("auto", grid, RESOLVED, gaps=True)
        assert chosen == "network"
        assert "not seen" in reason


def test_the_regression_takes_no_gaps():
    with pytest.raises(ParameterError, match="seen with method = 'regression'"):
        cm.infer_rates(np.ones((40, 40)), np.ones((40, 40)), pixel_size_um=0.04, method="regression",
                       seen=np.ones((40, 40), bool))  # fmt: skip
