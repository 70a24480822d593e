"""`Field`: values that know their grid, their unit and where they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from chromamol.errors import FieldError
from chromamol.grid import Grid
from chromamol.shapes import FloatField, Mask


@dataclass(frozen=True, eq=False, repr=False)
class Field:
    """Values on a grid.

    Parameters
    ----------
    values : real array of the grid's shape. Where `valid` is False the number has no meaning.
    grid : where the pixels are.
    unit : unit of the values: "1" for a volume fraction, "um^-2" for a rate over diffusivity.
    valid : True where the value can be used; everywhere when omitted.

    Raises
    ------
    FieldError : shapes that differ, a `valid` that is not boolean, or a value that is not finite where `valid` says
        that it counts.
    """

    values: FloatField
    grid: Grid
    unit: str
    valid: Mask | None = None

    def __post_init__(self) -> None:
        if self.valid is None:
            object.__setattr__(self, "valid", np.ones(self.grid.shape, dtype=bool))
        for name in ("values", "valid"):
            shape = getattr(self, name).shape
            if shape != self.grid.shape:
                raise FieldError(
                    f"Field with {name} of shape {shape} on a grid of shape {self.grid.shape}.",
                    expected="the grid's shape.",
                    do="build the Grid from the array's shape.",
                )
        kind = np.asarray(self.valid).dtype
        if kind != np.bool_:
            raise FieldError(f"Field with valid of dtype {kind}.", expected="bool.",
                             do="use `labels == n`, or valid.astype(bool).")  # fmt: skip
        bad = int(np.count_nonzero(~np.isfinite(self.values[self.mask])))
        if bad:
            raise FieldError(
                f"Field with {bad} NaN or infinite values at pixels marked valid.",
                expected="finite values wherever `valid` is True.",
                do="mark those pixels invalid.",
            )

    def __repr__(self) -> str:
        held = self.values[self.mask]
        span = f"{held.min():.3g} to {held.max():.3g}" if held.size else "no value"
        return f"Field({span}, unit '{self.unit}', {held.size} of {self.grid.shape} pixels valid)"

    @property
    def mask(self) -> Mask:
        """`valid`, never None."""
        assert self.valid is not None
        return self.valid

    def like(self, values: FloatField, *, unit: str | None = None, valid: Mask | None = None) -> Field:
        """Return new values on the same grid, with this field's unit and validity unless given."""
        return replace(self, values=values, unit=self.unit if unit is None else unit,
                       valid=self.mask if valid is None else valid)  # fmt: skip

    def require_same_grid(self, other: Field) -> None:
        """Raise `FieldError` unless `other` lives on the same grid: fields of two grids never mix."""
        if self.grid != other.grid:
            raise FieldError(
                f"Two fields on different grids: {self.grid} and {other.grid}.",
                expected="one grid for both.",
                do="resample one of them onto the other's grid first.",
            )

    def filled(self) -> FloatField:
        """Return the values with NaN where they do not hold."""
        return np.where(self.mask, self.values, np.nan)
