"""`Axes`: the named axes of a user's own data, in the user's own units."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from chromamol.errors import FieldError
from chromamol.grid import Grid
from chromamol.shapes import Mask

TIME = "t"
"""An axis of this name is time; every other one is space (`grad`, `div` and `laplacian` run over those)."""

MAX_AXES = 4


@dataclass(frozen=True)
class Axes(Grid):
    """A regular grid of one to four named axes, in the order of the arrays.

    The spacings of `Grid` stand here for any unit that the user's equation is written in.

    Parameters
    ----------
    names : one per axis; "t" is time.
    whole : shape of the user's arrays, of which these axes are the box that holds the mask; `shape` when not given.
    first : where the box begins in them.
    inside : True in the box where the data count; everywhere when None.

    Raises
    ------
    FieldError : no axis or too many, names that repeat, spacings that are not positive.
    """

    names: tuple[str, ...] = ()
    whole: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    inside: Mask | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.whole:
            object.__setattr__(self, "whole", self.shape)
            object.__setattr__(self, "first", (0,) * len(self.shape))
        object.__setattr__(self, "origin_um", (0.0,) * len(self.shape))
        if not 1 <= len(self.names) <= MAX_AXES or len(set(self.names)) != len(self.names):
            raise FieldError(f"Axes {self.names}.", expected=f"one to {MAX_AXES} axes of different names.",
                             do="name each axis once, in the order of the arrays.")  # fmt: skip
        if not all(math.isfinite(h) and h > 0 for h in self.spacing_um):
            raise FieldError(f"Spacing {dict(zip(self.names, self.spacing_um, strict=True))}.",
                             expected="positive, finite numbers.", do="give the distance between samples.")  # fmt: skip

    @property
    def space(self) -> tuple[str, ...]:
        """Names of the axes of space, in order."""
        return tuple(name for name in self.names if name != TIME)

    @property
    def window(self) -> tuple[slice, ...]:
        """The box in the user's arrays."""
        return tuple(slice(first, first + n) for first, n in zip(self.first, self.shape, strict=True))

    def order(self, **derivative: int) -> tuple[int, ...]:
        """Return the multi-index of ∂^k along named axes: `order(t=1)`."""
        return tuple(derivative.get(name, 0) for name in self.names)

    def index(self, name: Any) -> int:
        """Return the position of an axis; `FieldError` if there is none of that name."""
        if name not in self.names:
            raise FieldError(f"Axis {name!r}.", expected=f"one of {', '.join(self.names)}.",
                             do="use a name that was given to InverseProblem.")  # fmt: skip
        return self.names.index(name)
