"""PirateNet: physics-informed residual adaptive networks.

    Φ = [cos B x, sin B x],   U = σ(W_1 Φ + b_1),   V = σ(W_2 Φ + b_2),   x_0 = Φ
    f = σ(W x_l + b),  z = f ⊙ U + (1 - f) ⊙ V,  g = σ(W' z + b'),  z' = g ⊙ U + (1 - g) ⊙ V,  h = σ(W'' z' + b'')
    x_(l+1) = α_l h + (1 - α_l) x_l,                                                     u = W_out x_L

Every α starts at zero, so that the network starts as a linear combination of Φ; W_out is then the least-squares fit to
the data ("physics-informed initialisation"). σ = tanh.

References
----------
Wang, Li, Chen & Perdikaris, PirateNets, J. Mach. Learn. Res. 25 (2024), arXiv:2402.00326, equations 4.1 to 4.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from chromamol.networks.fourier import FourierFeatures, dense
from chromamol.networks.interface import CoordinateNetwork, Values

RIDGE = 1e-6
"""Of the least-squares start, over the largest eigenvalue: random features are nearly dependent."""


class _Block(nn.Module):
    """One residual adaptive block; U and V are those of the whole network."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__()
        self.first, self.second, self.third = (dense(width, width, **options) for _ in range(3))
        self.alpha = nn.Parameter(
            torch.zeros((), dtype=self.first.weight.dtype, device=self.first.weight.device)
        )

    def forward(self, x: Values, u: Values, v: Values) -> Values:
        mixed = x
        for layer in (self.first, self.second):
            gate = torch.tanh(layer(mixed))
            mixed = gate * u + (1.0 - gate) * v
        h = torch.tanh(self.third(mixed))
        return h * self.alpha + x * (1.0 - self.alpha)


class PirateNet(CoordinateNetwork):
    """`blocks` residual adaptive blocks (each of three layers) on `features` random Fourier features.

    Parameters
    ----------
    frequency : standard deviation of the features' frequencies, in cycles per unit of the spacing.
    """

    def __init__(
        self, shape: Sequence[int], spacing: Sequence[float], *, outputs: int, frequency: float,
        generator: torch.Generator, features: int = 64, blocks: int = 2,
        dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__(shape, spacing, outputs=outputs, dtype=dtype, device=torch.device(device))
        options: dict[str, Any] = {"generator": generator, "dtype": dtype, "device": device}
        per_unit = frequency * float(self.get_buffer("half_sides").max())
        self.features = FourierFeatures(len(shape), features, frequency=per_unit, **options)
        width = 2 * features
        self.gates = nn.ModuleList(dense(width, width, **options) for _ in range(2))
        self.blocks = nn.ModuleList(_Block(width, **options) for _ in range(blocks))
        self.out = dense(width, outputs, **options)

    def _before_last(self, scaled: Values) -> Values:
        x = self.features(scaled)
        u, v = (torch.tanh(gate(x)) for gate in self.gates)
        for block in self.blocks:
            x = block(x, u, v)
        return x

    def body(self, scaled: Values) -> Values:
        return self.out(self._before_last(scaled))

    @torch.no_grad()
    def start_from(self, values: Tensor, seen: Tensor) -> None:
        half = self.get_buffer("half_sides")
        rows = self._before_last((self.get_buffer("points") - half) / half.max()).double()
        rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
        for k in range(values.shape[1]):
            use = seen[0, k].reshape(-1)
            chosen = rows[use]
            gram = chosen.T @ chosen
            shift = RIDGE * torch.linalg.eigvalsh(gram)[-1]
            right = chosen.T @ values[0, k].reshape(-1)[use].double()
            solved = torch.linalg.solve(gram + shift * torch.eye(len(gram)).to(gram), right)
            self.out.weight[k].copy_(solved[:-1])
            self.out.bias[k].copy_(solved[-1])
