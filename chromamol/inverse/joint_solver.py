"""Damped Gauss-Newton with preconditioned conjugate gradients, for a batch of joint fits in lockstep.

References
----------
Nocedal & Wright, Numerical Optimization (2006), chapters 5 and 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_model import (
    CURVATURE_SD,
    OUTSIDE_SD,
    JointModel,
    Unknowns,
    squares,
)

LARGEST_CHANGE = 0.3
"""Largest change of a volume fraction in one step: beyond it f(φ) is another function."""

HALVINGS = 6

LARGEST_RECALIBRATION = 0.5
"""Largest change of the calibration in one step, in prior deviations: rates follow the third power of a gain of which
they know little, and a full first step led to fractions far below zero."""

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
    """The normal operator between log-rates, outer potentials and constants, exact, fields and calibration held.

    Parameters
    ----------
    chosen : indices of the modes that take part, per map the same.
    factor : (B, P, P) Cholesky factor; P = maps · (chosen + 1) + outer potentials + 2.
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
        flat, zero = weight.expand(batch, -1, -1), torch.zeros_like(weight).expand(batch, -1, -1)
        constants = torch.cat([torch.cat([-flat, zero], 2), torch.cat([zero, -flat], 2)], 1)
        balance = torch.cat([balance, constants], 1)
        matrix = balance @ balance.transpose(1, 2)
        matrix = matrix + torch.diag_embed(cls._priors(at, len(chosen), m.outer_potentials.shape[1]))
        scale = matrix.diagonal(dim1=1, dim2=2).rsqrt()
        # A relative ridge at the rounding of the products keeps the factor definite.
        ridge = 10.0 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps
        scaled = scale[:, :, None] * matrix * scale[:, None, :]
        scaled = scaled + ridge * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        return cls(chosen, torch.linalg.cholesky(scaled) / scale[:, :, None])

    @staticmethod
    def _priors(at: Linearisation, chosen: int, outer: int) -> torch.Tensor:
        """(B, P): prior precision."""
        m = at.model
        one = torch.ones_like(m.scalar_sd[:1])
        means, constants = m.scalar_sd[: m.maps] ** -2, m.scalar_sd[m.maps : m.maps + 2] ** -2
        prior = torch.cat([one.repeat(m.maps * chosen), means, one.repeat(outer), constants])
        return prior.expand(at.stiffness.shape[0], -1)

    def solve(
        self, outer: torch.Tensor, modes: torch.Tensor, scalars: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch, maps = modes.shape[:2]
        flat = modes.flatten(2)
        free = maps + 2
        parts = [flat[:, :, self.chosen].flatten(1), scalars[:, :maps], outer, scalars[:, maps:free]]
        right = torch.cat(parts, 1)[..., None]
        solved = torch.cholesky_solve(right, self.factor.expand(batch, -1, -1))[..., 0]
        strong, means, outer, constants = solved.split([part.shape[1] for part in parts], 1)
        out = flat.clone()
        out[:, :, self.chosen] = strong.reshape(batch, maps, -1)
        held = torch.zeros_like(scalars[:, free:])
        return outer, out.reshape(modes.shape), torch.cat([means, constants, held], 1)


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


def held(d: Unknowns, model: JointModel) -> Unknowns:
    """Return `d` without its calibration."""
    kept = model.maps + 2
    return replace(d, scalars=torch.cat([d.scalars[:, :kept], torch.zeros_like(d.scalars[:, kept:])], 1))


@dataclass(frozen=True, eq=False)
class NormalSolver:
    """Solves H x = b with the calibration eliminated: a few numbers on which everything else depends.

    With e_j the free numbers of the calibration (gain, offset, φ_max, ℓ), and everything else held to them by
    W_j = e_j - H_xx⁻¹ H e_j,

        H⁻¹ b = H_xx⁻¹ b + W (Wᵀ H W)⁻¹ Wᵀ b.

    Conjugate gradients on all unknowns together need several times the iterations.

    Parameters
    ----------
    responses, schur : the W_j, and Wᵀ H W, (B, k, k).
    """

    at: Linearisation
    precondition: FourierPreconditioner
    iterations: int
    tolerance: float
    responses: tuple[Unknowns, ...]
    schur: torch.Tensor

    @classmethod
    def of(cls, at: Linearisation, *, iterations: int, tolerance: float, calibrate: bool) -> NormalSolver:
        m = at.model
        precondition = FourierPreconditioner.of(at)
        kept = m.maps + 2
        free = [kept + int(i) for i in torch.nonzero(m.scalar_sd[kept:])] if calibrate else []
        plain = cls(at, precondition, iterations, tolerance, (), m.scalar_sd.new_zeros((1, 0, 0)))
        zero = _nothing(at)
        responses = []
        for j in free:
            unit = zero.scalars.clone()
            unit[:, j] = 1.0
            one = replace(zero, scalars=unit)
            answer = plain(at.normal(one))
            responses.append(one.map(torch.sub, answer))
        images = [at.normal(w) for w in responses]
        rows = [torch.stack([w.dot(image) for image in images], 1) for w in responses]
        schur = torch.stack(rows, 1) if rows else plain.schur
        return cls(at, precondition, iterations, tolerance, tuple(responses), schur)

    def __call__(
        self, right: Unknowns, *, floor: torch.Tensor | float = 0.0, largest: float = math.inf
    ) -> Unknowns:
        """Return H⁻¹ `right`, with the change of the calibration cut to a norm of `largest` (prior deviations)."""
        m = self.at.model
        found = conjugate_gradients(
            lambda d: held(self.at.normal(d), m), held(right, m), self.precondition,
            iterations=self.iterations, tolerance=self.tolerance, floor=floor,
        )  # fmt: skip
        if not self.responses:
            return found
        pull = torch.stack([w.dot(right) for w in self.responses], 1)
        change = torch.linalg.solve(self.schur.expand(len(pull), -1, -1), pull)
        norm = change.norm(dim=1, keepdim=True)
        change = change * (largest / norm.clamp_min(1e-30)).clamp_max(1.0)
        for j, response in enumerate(self.responses):
            found = found.plus(change[:, j], response)
        return found


def _nothing(at: Linearisation) -> Unknowns:
    """Return a direction of zeros, with the batch of `at`."""
    m, batch = at.model, at.stiffness.shape[0]
    zero = torch.zeros_like(at.stiffness)
    outer, modes = m.outer_potentials.shape[1], m.root.shape
    return Unknowns(zero, zero, zero.new_zeros((batch, outer)), zero.new_zeros((batch, *modes)),
                    zero.new_zeros((batch, len(m.scalar_sd))))  # fmt: skip


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
    inner: torch.dtype = torch.float64, calibrate: bool = True,
) -> Step:  # fmt: skip
    """Take one damped step: cut to a change of `LARGEST_CHANGE`, then halved until the cost falls.

    Without `calibrate` the calibration stays as it is.
    """
    residuals = model.residuals(x, tau)
    gradient = Linearisation.at(model, x, tau).adjoint(residuals)
    right = gradient.map(lambda g: -g.to(inner))
    at = Linearisation.at(model.to(inner), x.map(lambda a: a.to(inner)), tau)
    before = 0.5 * squares(residuals)
    solver = NormalSolver.of(at, iterations=iterations, tolerance=tolerance, calibrate=calibrate)
    change = solver(right, floor=(LEAST_GAIN * before).to(inner), largest=LARGEST_RECALIBRATION)
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
    solver = NormalSolver.of(at, iterations=iterations, tolerance=tolerance, calibrate=True)
    return solver(at.adjoint(white)).map(lambda a: a.to(x.phi_h.dtype))
