"""A multi-resolution pixel grid in the place of a network.

    g(x) = Σ_l  U_l[p_l](x),     l = 0 … L - 1

p_l are free numbers on a grid of spacing 2^l pixels and U_l interpolates them linearly. A fine grid alone learns
coarse features slowly, pixel by pixel; the coarse grids carry them in few numbers. The sum is a preconditioner of the
pixels (a hierarchical basis), not a restriction: l = 0 alone can represent everything.

References
----------
Yserentant, Numer. Math. 49, 379 (1986), doi:10.1007/BF01389538 (hierarchical bases as preconditioners).
Müller, Evans, Schied & Keller, ACM Trans. Graph. 41, 102 (2022), doi:10.1145/3528223.3530127 (grids of several
resolutions as fields; ours are dense, added up, and have no network behind them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chromamol.errors import ParameterError
from chromamol.networks.interface import FieldNetwork

LEVELS = 6
"""Coarsest spacing 32 px, about the distance of domains where pixels resolve their interfaces."""

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class MultiResolutionGrid(FieldNetwork):
    """Free numbers on grids of several resolutions, added up; all start at zero.

    Parameters
    ----------
    shape, spacing, outputs, batch : as `FieldNetwork`.
    levels : at most; none that is coarser than the shortest side.
    """

    def __init__(
        self, shape: Sequence[int], spacing: Sequence[float], *, outputs: int, batch: int = 1,
        levels: int = LEVELS, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__()
        if levels < 1 or len(shape) not in MODES:
            raise ParameterError(f"{levels} levels on a grid of shape {tuple(shape)}.",
                                 expected="at least one level, one to three axes.", do="use the default.")  # fmt: skip
        self.shape, self.spacing, self.outputs, self.batch = tuple(shape), tuple(spacing), outputs, batch
        count = min(levels, 1 + max(0, int(math.log2(min(shape)))))
        self.levels = nn.ParameterList(
            nn.Parameter(torch.zeros(batch, outputs, *self._size(level), dtype=dtype, device=device))
            for level in range(count)
        )

    def _size(self, level: int) -> tuple[int, ...]:
        """Numbers per axis: one cell more than covers the shape, so that no pixel is extrapolated."""
        return self.shape if level == 0 else tuple(-(-n // 2**level) + 1 for n in self.shape)

    @torch.no_grad()
    def start_from(self, values: Tensor, seen: Tensor) -> None:
        self.levels[0].copy_(torch.where(seen, values, 0.0))

    def forward(self) -> Tensor:
        total = self.levels[0]
        for level, values in enumerate(self.levels):
            if level:
                step = 2**level
                fine = nn.functional.interpolate(
                    values, scale_factor=step, mode=MODES[len(self.shape)], align_corners=False
                )
                window = tuple(slice(step // 2, step // 2 + n) for n in self.shape)
                total = total + fine[(slice(None), slice(None), *window)]
        return total
