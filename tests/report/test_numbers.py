"""Numbers with the digits that their error supports."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from chromamol.report.numbers import NOT_ESTIMABLE, counted, format_measured, format_number, is_number


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.8371, 0.0234, "0.84 ± 0.02"),
        (0.8371, 0.0134, "0.837 ± 0.013"),
        (1234.0, 310.0, "1200 ± 300"),
        (5.0, 0.0996, "5.00 ± 0.10"),
        (1.0, 50.0, "0 ± 50"),
        (-3e-5, 2e-6, "(−3.0 ± 0.2) × 10⁻⁵"),
        (1e6, 2e4, "(1.00 ± 0.02) × 10⁶"),
        (2.0, 0.0, "2.00 ± 0"),
        (2.0, math.nan, "2.00 (error unknown)"),
        (math.nan, 0.1, NOT_ESTIMABLE),
        (math.inf, 0.1, NOT_ESTIMABLE),
        (pd.NA, pd.NA, NOT_ESTIMABLE),
    ],
)
def test_value_and_error_end_at_the_same_digit(value: object, error: object, text: str) -> None:
    assert format_measured(value, error) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (9.996, "10.0"), (12345, "12300"), (99999.9, "1.00 × 10⁵"), (-2.5, "−2.50"), (1.2e-7, "1.20 × 10⁻⁷")],
)  # fmt: skip
def test_three_significant_digits(value: float, text: str) -> None:
    assert format_number(value) == text


def test_what_is_printed_is_within_half_a_last_digit() -> None:
    rng = np.random.default_rng(0)
    for value in 10.0 ** rng.uniform(-3, 4.9, 300):
        assert float(format_number(value)) == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize("nothing", [None, "3", math.nan, pd.NA, np.float32("nan"), np.inf])
def test_missing_values_are_no_numbers(nothing: object) -> None:
    assert not is_number(nothing)
    assert format_number(nothing) == NOT_ESTIMABLE


def test_numpy_numbers_are_numbers() -> None:
    assert is_number(np.float32(1.5))
    assert is_number(np.int64(2))


def test_one_thing_is_not_several() -> None:
    assert [counted(n, "nucleus") for n in (0, 1, 2)] == ["0 nuclei", "1 nucleus", "2 nuclei"]
    assert [counted(n, "image") for n in (1, 2)] == ["1 image", "2 images"]
