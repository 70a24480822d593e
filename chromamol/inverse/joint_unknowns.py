"""The unknowns of the joint fit and its residuals, as vectors with named parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True, eq=False)
class Unknowns:
    """A point, a direction or a gradient of the joint fit; batch first.

    Parameters
    ----------
    phi_h, phi_e : (B, *box), over s.
    outer : (B, outer potentials), whitened.
    modes : (B, maps, *modes), whitened cosine coefficients of the log-rates.
    scalars : (B, maps + 2 + 2 C + 2): mean log-rates, c_h, c_e, then whitened: log-gain and offset of each
        channel, log φ_max, log ℓ.
    """

    phi_h: torch.Tensor
    phi_e: torch.Tensor
    outer: torch.Tensor
    modes: torch.Tensor
    scalars: torch.Tensor

    def parts(self) -> tuple[torch.Tensor, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))

    def map(self, function: Callable[..., torch.Tensor], *others: Unknowns) -> Unknowns:
        """Apply `function` to corresponding parts."""
        return Unknowns(*(function(*p) for p in zip(self.parts(), *(o.parts() for o in others), strict=True)))

    def plus(self, factor: torch.Tensor, other: Unknowns) -> Unknowns:
        """self + factor · other, one factor per entry of the batch."""
        return self.map(lambda a, b: torch.addcmul(a, factor.view(-1, *(1,) * (a.ndim - 1)), b), other)

    def add_(self, factor: torch.Tensor, other: Unknowns) -> None:
        """Add factor · other in place, one factor per entry of the batch."""
        for a, b in zip(self.parts(), other.parts(), strict=True):
            a.addcmul_(factor.view(-1, *(1,) * (a.ndim - 1)), b)

    def dot(self, other: Unknowns) -> torch.Tensor:
        """Inner product of each entry of the batch, (B,)."""
        pairs = (
            torch.broadcast_tensors(a.flatten(1), b.flatten(1))
            for a, b in zip(self.parts(), other.parts(), strict=True)
        )
        products = [torch.bmm(a[:, None], b[..., None]).flatten() for a, b in pairs]
        return torch.stack(products).sum(0)

    def split(self, size: int | list[int]) -> list[Unknowns]:
        """Parts of `size` entries of the batch, or of as many as each of a list says."""
        return [Unknowns(*part) for part in zip(*(p.split(size) for p in self.parts()), strict=True)]


def concatenated(each: Sequence[Unknowns]) -> Unknowns:
    """Join batches of unknowns of the same sizes."""
    return each[0].map(lambda *parts: torch.cat(parts), *each[1:])


Residuals = dict[str, torch.Tensor]


def squares(residuals: Residuals) -> torch.Tensor:
    """Sum of squares of each entry of the batch, (B,)."""
    return torch.stack([r.square().flatten(1).sum(1) for r in residuals.values()]).sum(0)
