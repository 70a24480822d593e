"""Damped Gauss-Newton with preconditioned conjugate gradients, for a batch of joint fits in lockstep.

References
----------
Nocedal & Wright, Numerical Optimization (2006), chapters 5 and 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from chromamol.inverse.joint_model import (
    CURVATURE_SD,
    OUTSIDE_SD,
    JointModel,
    Linearisation,
    Unknowns,
    squares,
)

LARGEST_CHANGE = 0.3
"""Largest change of a volume fraction in one step: beyond it f(φ) is another function."""

HALVINGS = 6

LEAST_GAIN = 1e-7
"""Share of the cost below which r·Mr is not worth another inner iteration."""


@dataclass(frozen=True, eq=False)
class FourierPreconditioner:
    """The normal operator on the fields with its coefficients averaged over the nucleus, inverted by Fourier transform.

    On the rim and outside, where no balance holds, the diagonal is enough. Rates, outer potentials and numbers have an
    exact block of their own.
    """

    model: JointModel
    unbalanced: torch.Tensor
    inverse: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    block: GlobalBlock

    @classmethod
    def of(cls, at: Linearisation) -> FourierPreconditioner:
        m, tau = at.model, at.tau
        wide = (-1, *(1,) * len(m.box))
        weight = m.balanced / m.balanced.sum(m.dims, keepdim=True)

        def mean(values: torch.Tensor) -> torch.Tensor:
            return (values * weight).sum(m.dims).reshape(wide)

        stiff = mean(at.stiffness.square()).sqrt()
        me, ac, square = mean(at.rates[0]), mean(at.rates[1]), at.square.reshape(wide)
        minus, potential = -m.laplacian, -m.inverse_laplacian
        hh, he = stiff + square * minus + ac * potential, -me * potential
        eh, ee = -ac * potential, 1.0 + square * minus + me * potential
        seen = (m.inverse_sd.square() * m.inside[:, None]).sum(m.dims) / m.inside.sum(m.dims)[:, None]
        lit = torch.einsum("bc,cf,cg->bfg", seen, m.mixing, m.mixing).reshape(-1, 2, 2, *wide[1:])
        power = m.transfer.square()
        n_hh = (hh.square() + eh.square()) / tau**2 + lit[:, 0, 0] * power
        n_ee = (he.square() + ee.square()) / tau**2 + lit[:, 1, 1] * power
        n_he = (hh * he + eh * ee) / tau**2 + lit[:, 0, 1] * power
        determinant = n_hh * n_ee - n_he.square()
        return cls(m, m.unbalanced / _unbalanced_diagonal(at, lit),
                   (n_ee / determinant, n_he / determinant, n_hh / determinant), GlobalBlock.of(at))  # fmt: skip

    def __call__(self, r: Unknowns) -> Unknowns:
        m = self.model
        first, second, third = self.inverse
        mode_h, mode_e = m.forward_transform(torch.stack([r.phi_h, r.phi_e]) * m.balanced)
        phi_h, phi_e = m.balanced * m.back_transform(
            torch.stack([first * mode_h - second * mode_e, third * mode_e - second * mode_h])
        )
        outer, modes, scalars = self.block.solve(r.outer, r.modes, r.scalars)
        return Unknowns(phi_h + self.unbalanced[:, 0] * r.phi_h, phi_e + self.unbalanced[:, 1] * r.phi_e,
                        outer, modes, scalars)  # fmt: skip


def _unbalanced_diagonal(at: Linearisation, lit: torch.Tensor) -> torch.Tensor:
    """(B, 2, *box): of the normal operator where no balance holds: data, prior, and stencils that reach there."""
    m = at.model
    wide = (-1, 1, *(1,) * len(m.box))
    seen = torch.stack([lit[:, 0, 0], lit[:, 1, 1]], 1) * m.mean_square(m.transfer)
    stencils = (m.square_stencil_sum(m.balanced) * at.square.reshape(wide)[:, 0] ** 2 / at.tau**2)[:, None]
    twice = 2.0 * sum(m.roughness_scale)
    rough = twice**2 + 2.0 * sum(c**2 for c in m.roughness_scale)
    return seen * m.inside[:, None] + OUTSIDE_SD**-2 + rough * CURVATURE_SD**-2 + stencils


STIFF_MODES = 160
"""Cosines per map, the strongest first, whose coupling the preconditioner holds; the rest are nearly free."""

_COLUMNS_PER_CHUNK = 32


@dataclass(frozen=True, eq=False)
class GlobalBlock:
    """The normal operator between the log-rates, the outer potentials and the scalars, exact, fields held fixed.

    Parameters
    ----------
    chosen : indices of the modes that take part, per map the same.
    factor : (B, P, P) Cholesky factor; P = maps · chosen + outer potentials + scalars.
    """

    chosen: torch.Tensor
    factor: torch.Tensor

    @classmethod
    def of(cls, at: Linearisation) -> GlobalBlock:
        m = at.model
        strength = m.root[0].flatten()
        chosen = torch.argsort(strength, descending=True, stable=True)[:STIFF_MODES]
        batch, pixels = at.stiffness.shape[0], at.stiffness[0].numel()
        weight = (m.balanced / at.tau).reshape(-1, 1, pixels)
        opposite = []
        for which in range(m.maps):
            for part in chosen.split(_COLUMNS_PER_CHUNK):
                unit = torch.zeros(
                    (len(part), strength.numel()), dtype=strength.dtype, device=strength.device
                )
                unit[torch.arange(len(part)), part] = strength[part]
                logs = m.synthesise(unit.reshape(-1, *m.root.shape[1:]))
                opposite.append(at.potential_of(logs[None], which).reshape(batch, -1, pixels) * weight)
        for which in range(m.maps):
            logs = torch.ones((1, 1, *m.box), dtype=strength.dtype, device=strength.device)
            opposite.append(at.potential_of(logs, which).reshape(batch, 1, pixels) * weight)
        opposite.append(m.outer_potentials.flatten(2).expand(batch, -1, -1) * weight)
        columns = torch.cat(opposite, 1)
        balance = torch.cat([-columns, columns], 2)
        extra = cls._scalar_columns(at).reshape(batch, -1, 2 * pixels) * weight.repeat(1, 1, 2)
        balance = torch.cat([balance, extra], 1)
        matrix = balance @ balance.transpose(1, 2)
        matrix = matrix + torch.diag_embed(cls._priors(at, len(chosen), m.outer_potentials.shape[1]))
        scale = matrix.diagonal(dim1=1, dim2=2).rsqrt()
        # A relative ridge at the rounding of the products keeps the factor definite.
        ridge = 10.0 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps
        scaled = scale[:, :, None] * matrix * scale[:, None, :]
        scaled = scaled + ridge * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        return cls(chosen, torch.linalg.cholesky(scaled) / scale[:, :, None])

    @staticmethod
    def _scalar_columns(at: Linearisation) -> torch.Tensor:
        """(B, 2 + 2 C + 2, 2, *box): what the constants and nuisances do to the two balances."""
        m = at.model
        zero, one = torch.zeros_like(at.stiffness), torch.ones_like(at.stiffness)
        sd = m.scalar_sd
        columns = [torch.stack([-one, zero], 1), torch.stack([zero, -one], 1)]
        columns += [torch.stack([zero, zero], 1)] * (2 * m.channels)
        columns.append(torch.stack([sd[-2] * at.phi_max_slope, zero], 1))
        columns.append(-2.0 * sd[-1] * at.curvatures)
        return torch.stack(columns, 1)

    @staticmethod
    def _priors(at: Linearisation, chosen: int, outer: int) -> torch.Tensor:
        """(B, P): prior precision, and what the data say of gain and offset by themselves."""
        m = at.model
        sd = m.scalar_sd
        c = m.channels
        seen = (at.gain * at.seen * m.inverse_sd).square().flatten(2).sum(2)
        lit = m.inverse_sd.square().flatten(2).sum(2)
        batch = at.stiffness.shape[0]

        def wide(values: torch.Tensor) -> torch.Tensor:
            return values.expand(batch, -1)

        free = m.maps + 2
        one = torch.ones_like(sd[:1])[None]
        mean_rates, constants = wide(sd[None, : m.maps] ** -2), wide(sd[None, m.maps : free] ** -2)
        return torch.cat(
            [wide(one.repeat(1, m.maps * chosen)), mean_rates, wide(one.repeat(1, outer)), constants,
             1.0 + wide(seen) * sd[free : free + c] ** 2, 1.0 + wide(lit) * sd[free + c : free + 2 * c] ** 2,
             wide(one.repeat(1, 2))], 1
        )  # fmt: skip

    def solve(
        self, outer: torch.Tensor, modes: torch.Tensor, scalars: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch, maps = modes.shape[:2]
        flat = modes.flatten(2)
        parts = [flat[:, :, self.chosen].flatten(1), scalars[:, :maps], outer, scalars[:, maps:]]
        right = torch.cat(parts, 1)[..., None]
        solved = torch.cholesky_solve(right, self.factor.expand(batch, -1, -1))[..., 0]
        strong, means, outer, rest = solved.split([part.shape[1] for part in parts], 1)
        out = flat.clone()
        out[:, :, self.chosen] = strong.reshape(batch, maps, -1)
        return outer, out.reshape(modes.shape), torch.cat([means, rest], 1)


def conjugate_gradients(
    operator: Callable[[Unknowns], Unknowns], right: Unknowns, precondition: Callable[[Unknowns], Unknowns],
    *, iterations: int, tolerance: float, floor: torch.Tensor | float = 0.0,
) -> Unknowns:  # fmt: skip
    """Solve H x = b from x = 0 until √(r·Mr) has fallen by `tolerance`, or r·Mr to `floor`, in each entry."""
    x = right.map(torch.zeros_like)
    residual, direction = right, precondition(right)
    power = start = residual.dot(direction)
    for _ in range(iterations):
        image = operator(direction)
        step = power / direction.dot(image).clamp_min(torch.finfo(power.dtype).tiny)
        x, residual = x.plus(step, direction), residual.plus(-step, image)
        better = precondition(residual)
        following = residual.dot(better)
        if bool(
            (
                following
                <= (tolerance**2 * start).maximum(
                    torch.as_tensor(floor, dtype=start.dtype, device=start.device)
                )
            ).all()
        ):
            break
        direction = better.plus(following / power.clamp_min(torch.finfo(power.dtype).tiny), direction)
        power = following
    return x


@dataclass(frozen=True, eq=False)
class Step:
    """One Gauss-Newton step: where it led, what it cost, and how large it was.

    Parameters
    ----------
    point : after the step.
    cost, gained : half the sum of squares there, and by how much it fell, (B,).
    decreased : whether the cost fell, (B,).
    length : share of the full step that was taken, (B,).
    """

    point: Unknowns
    cost: torch.Tensor
    gained: torch.Tensor
    decreased: torch.Tensor
    length: torch.Tensor


def gauss_newton_step(
    model: JointModel, x: Unknowns, tau: float, *, iterations: int, tolerance: float,
    inner: torch.dtype = torch.float64,
) -> Step:  # fmt: skip
    """Take one damped step: cut to a change of `LARGEST_CHANGE`, then halved until the cost falls."""
    residuals = model.residuals(x, tau)
    gradient = Linearisation.at(model, x, tau).adjoint(residuals)
    right = gradient.map(lambda g: -g.to(inner))
    at = Linearisation.at(model.to(inner), x.map(lambda a: a.to(inner)), tau)
    before = 0.5 * squares(residuals)
    change = conjugate_gradients(
        at.normal, right, FourierPreconditioner.of(at), iterations=iterations, tolerance=tolerance,
        floor=(LEAST_GAIN * before).to(inner),
    )  # fmt: skip
    change = change.map(lambda a: a.to(x.phi_h.dtype))
    largest = (change.phi_h * model.balanced).abs().flatten(1).amax(1)
    length = (LARGEST_CHANGE / largest.clamp_min(1e-30)).clamp_max(1.0)
    for _ in range(HALVINGS):
        point = x.plus(length, change)
        cost = 0.5 * squares(model.residuals(point, tau))
        decreased = cost < before
        if bool(decreased.all()):
            break
        length = torch.where(decreased, length, 0.5 * length)
    stay = torch.where(decreased, length, torch.zeros_like(length))
    reached = torch.where(decreased, cost, before)
    return Step(x.plus(stay, change), reached, before - reached, decreased, stay)


def posterior_samples(
    model: JointModel, x: Unknowns, tau: float, *, count: int, iterations: int, tolerance: float,
    generator: torch.Generator, inner: torch.dtype = torch.float64,
) -> Unknowns:  # fmt: skip
    """Draw deviations from the linearised posterior of the first entry, (count, ...).

    H⁻¹ Jᵀ n with white n has the covariance H⁻¹ JᵀJ H⁻¹ = H⁻¹.

    References
    ----------
    Bardsley et al., SIAM J. Sci. Comput. 36, A1895 (2014), doi:10.1137/140964023.
    """
    at = Linearisation.at(model.to(inner), x.map(lambda a: a.to(inner)), tau)
    shapes = at.forward(x.map(lambda a: torch.zeros_like(a, dtype=inner)))
    white = {
        name: torch.randn((count, *value.shape[1:]), generator=generator, dtype=inner).to(value.device)
        for name, value in shapes.items()
    }
    deviations = conjugate_gradients(
        at.normal, at.adjoint(white), FourierPreconditioner.of(at), iterations=iterations, tolerance=tolerance
    )
    return deviations.map(lambda a: a.to(x.phi_h.dtype))
