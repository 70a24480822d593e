"""What a filter sees beyond the edge of the array: four extensions and their exact adjoints.

`reflect`   c b a | a b c ...   mirror at the pixel edge; odd derivatives vanish there
`periodic`  the opposite side
`zero`      zeros
`valid`     no extension: the output loses the support's radius on each side
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from chromamol.errors import FieldError

Border = Literal["reflect", "periodic", "zero", "valid"]
BORDERS: tuple[str, ...] = get_args(Border)


def check_border(border: str) -> None:
    """Raise `FieldError` for a border that is not one of `BORDERS`."""
    if border not in BORDERS:
        raise FieldError(
            f"Border {border!r}.", expected=f"one of {', '.join(BORDERS)}.", do="use one of them."
        )


def output_length(length: int, radius: int, border: str) -> int:
    """Pixels left along an axis after a filter of this radius."""
    return length - 2 * radius if border == "valid" else length


def check_support(length: int, radius: int, border: str, axis: int) -> None:
    """Raise `FieldError` if the support doesn't fit the axis."""
    longest = (length - 1) // 2 if border == "valid" else length
    if radius > longest:
        raise FieldError(
            f"A support of {2 * radius + 1} px on axis {axis} of {length} px with border {border!r}.",
            expected=f"a half-width of at most {longest} px.",
            do="give width and spacing in the same unit, or use a narrower kernel or a larger field.",
        )


def extend(x: Tensor, dim: int, radius: int, border: str, *, tail: int = 0) -> Tensor:
    """Return x with `radius` more pixels on each side of `dim` (none for `valid`), then `tail` zeros."""
    n = x.shape[dim]
    radius = 0 if border == "valid" else radius
    blank = x.new_zeros(()).expand(_with(x.shape, dim, radius if border == "zero" else 0))
    if border == "periodic":
        before, after = x.narrow(dim, n - radius, radius), x.narrow(dim, 0, radius)
    elif border == "reflect":
        before = x.narrow(dim, 0, radius).flip(dim)
        after = x.narrow(dim, n - radius, radius).flip(dim)
    else:
        before = after = blank
    parts = [before, x, after, x.new_zeros(()).expand(_with(x.shape, dim, tail))]
    parts = [part for part in parts if part.shape[dim]]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def fold(y: Tensor, dim: int, radius: int, border: str) -> Tensor:
    """Adjoint of `extend`: return the sum of what each pixel contributed."""
    if radius == 0 or border == "valid":
        return y
    n = y.shape[dim] - 2 * radius
    x = y.narrow(dim, radius, n)
    if border == "zero":
        return x.contiguous()
    x = x.clone()
    before, after = y.narrow(dim, 0, radius), y.narrow(dim, n + radius, radius)
    if border == "periodic":
        before, after = after, before
    else:
        before, after = before.flip(dim), after.flip(dim)
    x.narrow(dim, 0, radius).add_(before)
    x.narrow(dim, n - radius, radius).add_(after)
    return x


def _with(shape: torch.Size, dim: int, size: int) -> list[int]:
    sizes = list(shape)
    sizes[dim] = size
    return sizes
