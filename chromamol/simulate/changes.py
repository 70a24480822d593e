"""`acetylation=x1.5`: what a user writes for a change of a rate."""

from __future__ import annotations

import re
from collections.abc import Iterable

from chromamol.errors import ParameterError
from chromamol.synthetic.perturbation import Perturbation

_CHANGE = re.compile(r"\s*(methylation|acetylation)\s*=\s*([x*+-])\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*")


def parse_perturbation(texts: Iterable[str]) -> Perturbation:
    """Return the change that `acetylation=x1.5` (a factor) or `methylation=-0.2` (a shift, um^-2) asks for.

    Several texts are one change: first the factor, then the shift.

    Raises
    ------
    ParameterError : another text, or two for the same thing.
    """
    values: dict[str, float] = {}
    for text in texts:
        match = _CHANGE.fullmatch(text)
        if match is None:
            raise ParameterError(f"--perturb {text}.",
                                 expected="acetylation or methylation, then =x1.5, =+0.2 or =-0.2.",
                                 do="write for instance --perturb acetylation=x1.5.")  # fmt: skip
        rate, sign, number = match.groups()
        name = f"{rate}_factor" if sign in "x*" else f"{rate}_shift_per_um2"
        if name in values:
            raise ParameterError(f"--perturb {text}: the {rate} was changed already.",
                                 expected="one factor and one shift per rate.", do="leave one out.")  # fmt: skip
        values[name] = -float(number) if sign == "-" else float(number)
    return Perturbation(**values)
