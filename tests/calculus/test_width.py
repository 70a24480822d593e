"""Automatic widths against the width that an oracle would choose."""

import numpy as np
import pytest

from chromamol.benchmarks.derivatives_fields import FIELDS, PIXEL, exact_derivative, exact_operator
from chromamol.calculus.layer import laplacian, mollified_derivative
from chromamol.calculus.validity import valid_after
from chromamol.calculus.width import select_width
from chromamol.errors import FieldError, ParameterError


def noisy(name, noise, seed):
    clean = exact_derivative(name, (0, 0))
    sd = noise * np.ptp(clean)
    return clean + sd * np.random.default_rng(seed).standard_normal(clean.shape), sd


def ratio_to_oracle(field, name, terms, choice):
    inside = valid_after(np.ones(field.shape, dtype=bool), choice.candidates[-1] / PIXEL)
    truth = exact_operator(name, terms)[inside]
    errors = [
        np.sqrt(np.mean((mollified_derivative(field, terms, spacing=PIXEL, width=w)[inside] - truth) ** 2))
        for w in choice.candidates
    ]
    return errors[choice.candidates.index(choice.width)] / min(errors)


@pytest.mark.parametrize(("criterion", "median", "worst"), [("risk", 1.1, 1.6), ("balancing", 1.3, 1.6)])
def test_the_error_is_close_to_the_oracles(criterion, median, worst):
    ratios = []
    for seed, name in enumerate(FIELDS):
        field, _ = noisy(name, (0.01, 0.05, 0.1)[seed % 3], seed)
        choice = select_width(field, laplacian(2), spacing=PIXEL, criterion=criterion)
        ratios.append(ratio_to_oracle(field, name, laplacian(2), choice))
    assert np.median(ratios) < median
    assert max(ratios) < worst


def test_more_noise_asks_for_a_wider_kernel_and_higher_orders_too():
    widths = [
        select_width(noisy("bump", noise, 0)[0], (0, 2), spacing=PIXEL).width for noise in (0.01, 0.05, 0.2)
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
    field, sd = noisy("bump", 0.01, 0)
    by_order = [select_width(field, (0, k), spacing=PIXEL, noise_sd=sd).width for k in (1, 2, 4)]
    assert by_order[0] < by_order[1] < by_order[2]


def test_only_the_mask_is_used_and_the_noise_is_found():
    field, sd = noisy("disc, tanh interface", 0.05, 1)
    mask = np.zeros(field.shape, dtype=bool)
    mask[10:110, 15:120] = True
    spoiled = np.where(mask, field, np.nan)
    choice = select_width(spoiled, laplacian(2), spacing=PIXEL, mask=mask)
    assert choice.noise_sd == pytest.approx(sd, rel=0.1)
    assert not choice.at_limit
    assert choice.width == select_width(field, laplacian(2), spacing=PIXEL, mask=mask).width


@pytest.mark.parametrize(("shape", "spacing"), [((400,), 0.05), ((40, 40, 40), (0.1, 0.05, 0.05))])
@pytest.mark.parametrize("criterion", ["risk", "balancing", "gcv"])
def test_one_and_three_dimensions(shape, spacing, criterion):
    rng = np.random.default_rng(0)
    x = np.arange(shape[-1]) * 0.05
    field = np.sin(2 * x) * np.ones(shape) + 0.05 * rng.standard_normal(shape)
    order = (0,) * (len(shape) - 1) + (1,)
    choice = select_width(field, order, spacing=spacing, criterion=criterion)
    assert choice.width in choice.candidates
    assert choice.score[choice.candidates.index(choice.width)] == min(choice.score)
    assert choice.criterion == criterion


def test_masked_samples_and_nan_are_unknown():
    """NaN made every score NaN, and the first candidate the best."""
    field, _ = noisy("bump", 0.05, 0)
    hidden = np.zeros(field.shape, dtype=bool)
    hidden[:10] = True
    known = select_width(field, (2, 0), spacing=PIXEL, mask=~hidden)
    for given in (
        np.ma.masked_array(np.where(hidden, -9999.0, field), hidden),
        np.where(hidden, np.nan, field),
    ):
        assert select_width(given, (2, 0), spacing=PIXEL).score == known.score
        with pytest.raises(FieldError, match="finite values inside the mask"):
            select_width(given, (2, 0), spacing=PIXEL, noise_sd=0.1, mask=np.ones(field.shape, dtype=bool))


def test_bad_requests_are_typed_errors():
    field, _ = noisy("bump", 0.05, 0)
    with pytest.raises(ParameterError, match="risk, balancing, gcv"):
        select_width(field, (2, 0), spacing=PIXEL, criterion="guess")
    with pytest.raises(ParameterError, match=">= 0"):
        select_width(field, (2, 0), spacing=PIXEL, noise_sd=-1.0)
    small = np.zeros(field.shape, dtype=bool)
    small[:3, :3] = True
    with pytest.raises(FieldError, match="at least two widths"):
        select_width(field, (2, 0), spacing=PIXEL, mask=small)
