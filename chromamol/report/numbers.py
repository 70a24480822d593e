"""Numbers as a person reads them: as many digits as the standard error supports."""

from __future__ import annotations

import math
from numbers import Real

NOT_ESTIMABLE = "not estimable"
"""What stands for NaN wherever a person reads it."""

PLAIN_RANGE = (1e-3, 1e5)
"""Magnitudes outside are written with a power of ten."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def is_number(value: object) -> bool:
    """Whether `value` is a finite real number: neither NaN, nor a missing value of pandas, nor text.

    >>> is_number(float("nan")), is_number(3)
    (False, True)
    """
    return isinstance(value, Real) and math.isfinite(float(value))


def format_number(value: object, *, digits: int = 3) -> str:
    """Return a number with so many significant digits.

    >>> format_number(0.83712), format_number(1.2e-7), format_number(math.nan)
    ('0.837', '1.20 × 10⁻⁷', 'not estimable')
    """
    if not isinstance(value, Real) or not is_number(value):
        return NOT_ESTIMABLE
    number = float(value)
    if number == 0.0:
        return "0"
    number = float(f"{number:.{digits - 1}e}")  # 9.996 becomes 10.0 before its digits are counted
    decimals = digits - 1 - _magnitude(number)
    low, high = PLAIN_RANGE
    if low <= abs(number) < high:
        return _minus(f"{round(number, decimals):.{max(0, decimals)}f}")
    power = _magnitude(number)
    return f"{_minus(f'{number / 10.0**power:.{digits - 1}f}')} × {_power_of_ten(power)}"


def format_measured(value: object, standard_error: object) -> str:
    """Return `value ± standard error`, both cut where the error's first digit ends (second if that is a 1).

    >>> format_measured(0.8371, 0.0234), format_measured(1234.0, 310.0), format_measured(2.0, math.nan)
    ('0.84 ± 0.02', '1200 ± 300', '2.00 (error unknown)')
    """
    if not isinstance(value, Real) or not is_number(value):
        return NOT_ESTIMABLE
    if not isinstance(standard_error, Real) or not is_number(standard_error):
        return f"{format_number(value)} (error unknown)"
    number, error = float(value), float(standard_error)
    if error <= 1e-6 * abs(number):
        return f"{format_number(number)} ± {format_number(error, digits=1)}"
    low, high = PLAIN_RANGE
    largest = max(abs(number), error)
    power = 0 if low <= largest < high else _magnitude(largest)
    number, error = number / 10.0**power, error / 10.0**power
    decimals = -_magnitude(error) + (1 if f"{error:e}"[0] == "1" else 0)
    shown = f"{_rounded(number, decimals)} ± {_rounded(error, decimals)}"
    return shown if power == 0 else f"({shown}) × {_power_of_ten(power)}"


def format_range(low: object, high: object) -> str:
    """Return `low to high`.

    >>> format_range(0.5, 1.25)
    '0.500 to 1.25'
    """
    return f"{format_number(low)} to {format_number(high)}"


def counted(number: int, one: str) -> str:
    """Return a number with its noun, which is an image, an input, a nucleus or another regular word.

    >>> counted(1, "nucleus"), counted(3, "nucleus"), counted(0, "image")
    ('1 nucleus', '3 nuclei', '0 images')
    """
    several = f"{one[:-2]}i" if one.endswith("us") else f"{one}s"
    return f"{number} {one if number == 1 else several}"


def _magnitude(number: float) -> int:
    return math.floor(math.log10(abs(number)))


def _rounded(number: float, decimals: int) -> str:
    return _minus(f"{round(number, decimals):.{max(0, decimals)}f}")


def _power_of_ten(power: int) -> str:
    return f"10{str(power).translate(_SUPERSCRIPTS)}"


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
