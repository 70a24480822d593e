"""Collapsed Taylor mode for networks of linear layers and tanh.

Along a line x + t v the network is a power series in t; pushing its coefficients through the layers gives
the directional derivatives D_v^k u = k! [t^k] in one pass. A mixed derivative of total order k is a weighted
sum of D_v^k over a few directions v, and since the highest coefficient enters every layer linearly, the sum
can be taken before the first layer instead of after the last: one top coefficient for all directions.

References
----------
Dangel, Siebert, Zeinhofer & Walther, Collapsing Taylor Mode Automatic Differentiation, arXiv:2505.13644.
Griewank, Utke & Walther, doi:10.1090/S0025-5718-00-01120-0 (mixed derivatives from directions).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from chromamol.calculus.separable import MultiIndex
from chromamol.errors import FieldError


def directional_sum(network: nn.Sequential, points: Tensor, terms: Mapping[MultiIndex, float]) -> Tensor:
    """Return Σ_α terms[α] ∂^α network at the points; shape (points,).

    Parameters
    ----------
    network : Linear and Tanh modules, one output.
    points : (points, axes).
    terms : derivatives, of any total orders.

    Raises
    ------
    FieldError : another kind of module.
    """
    total = points.new_zeros(points.shape[0])
    for order in sorted({sum(alpha) for alpha in terms}):
        part = {alpha: f for alpha, f in terms.items() if sum(alpha) == order}
        if order == 0:
            total = total + sum(part.values()) * network(points).reshape(-1)
            continue
        directions, weights = directions_for(part)
        total = total + _push(network, points, directions.to(points), weights.to(points), order)
    return total


def directions_for(terms: Mapping[MultiIndex, float]) -> tuple[Tensor, Tensor]:
    """Return directions v (n, axes) and weights with Σ_n weight_n (v_n · ∂)^k = Σ_α terms[α] ∂^α, |α| = k.

    The directions are small integer vectors; as few as the solver finds, and for the bilaplacian in two
    dimensions the three at 60 degrees, which are the least.
    """
    order = sum(next(iter(terms)))
    axes = len(next(iter(terms)))
    if axes == 2 and dict(terms) == {(4, 0): 1.0, (2, 2): 2.0, (0, 4): 1.0}:
        angles = torch.arange(3, dtype=torch.float64) * (math.pi / 3)
        return torch.stack([angles.cos(), angles.sin()], -1), torch.full((3,), 8.0 / 9.0, dtype=torch.float64)
    monomials = [b for b in itertools.product(range(order + 1), repeat=axes) if sum(b) == order]
    wanted = np.array([terms.get(b, 0.0) for b in monomials])
    candidates = [
        v
        for v in itertools.product(range(-order, order + 1), repeat=axes)
        if math.gcd(*v) == 1 and v > tuple(-c for c in v)
    ]
    candidates.sort(key=lambda v: (sum(c * c for c in v), v))
    chosen: list[tuple[int, ...]] = []
    columns: list[list[float]] = []
    for v in candidates:
        column = [_multinomial(b) * math.prod(c**k for c, k in zip(v, b, strict=True)) for b in monomials]
        if np.linalg.matrix_rank(np.array([*columns, column])) <= len(columns):
            continue
        chosen.append(v)
        columns.append(column)
        weights, *_ = np.linalg.lstsq(np.array(columns).T, wanted, rcond=None)
        if np.abs(np.array(columns).T @ weights - wanted).max() < 1e-9 * max(np.abs(wanted).max(), 1.0):
            used = np.abs(weights) > 1e-12
            return torch.tensor(chosen, dtype=torch.float64)[used], torch.from_numpy(weights[used])
    raise AssertionError  # integer directions up to the order span all monomials of that order


def _multinomial(exponents: MultiIndex) -> float:
    return math.factorial(sum(exponents)) / math.prod(map(math.factorial, exponents))


def _push(network: nn.Sequential, points: Tensor, directions: Tensor, weights: Tensor, order: int) -> Tensor:
    """Push jets x + t v through the network; the top coefficient is summed over the directions throughout."""
    value = points
    first = directions[:, None, :].expand(-1, points.shape[0], -1)
    lower = [first if k == 1 else torch.zeros_like(first) for k in range(1, order)]
    top = (weights @ directions).expand_as(points) if order == 1 else torch.zeros_like(points)
    for module in network:
        if isinstance(module, nn.Linear):
            value = module(value)
            lower = [nn.functional.linear(c, module.weight) for c in lower]
            top = nn.functional.linear(top, module.weight)
        elif isinstance(module, nn.Tanh):
            value, lower, top = _tanh(value, lower, top, weights)
        else:
            raise FieldError(
                f"Module {type(module).__name__}.", expected="Linear and Tanh.", do="use nested autodiff."
            )
    return math.factorial(order) * top.reshape(-1)


def _tanh(
    value: Tensor, lower: list[Tensor], top: Tensor, weights: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Series of tanh z from y' = s z', s = 1 - y²; the coefficient of t^k is (1/k) Σ_j j z_j s_(k-j)."""
    order = len(lower) + 1
    y0 = torch.tanh(value)
    s0 = 1.0 - y0 * y0
    y: list[Tensor] = []
    s: list[Tensor] = []  # s_k = -Σ y_i y_(k-i), for k >= 1
    for k in range(1, order):
        terms = [j * lower[j - 1] * s[k - j - 1] for j in range(1, k)]
        y.append((lower[k - 1] * s0 * k + sum(terms)) / k if terms else lower[k - 1] * s0)
        inner = [y[i - 1] * y[k - i - 1] for i in range(1, k)]
        s.append(-(2.0 * y0 * y[k - 1] + sum(inner)) if inner else -2.0 * y0 * y[k - 1])
    result = top * s0
    if order > 1:
        rest = [j * lower[j - 1] * s[order - j - 1] for j in range(1, order)]
        result = result + torch.einsum("n,npf->pf", weights, sum(rest[1:], rest[0])) / order
    return y0, y, result
