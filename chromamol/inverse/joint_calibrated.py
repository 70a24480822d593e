"""The normal equations of the joint fit with its calibration: a few numbers on which everything else depends.

References
----------
Benzi, Golub & Liesen, Acta Numer. 14, 1 (2005), doi:10.1017/S0962492904000212 (Schur complements);
Higham, Accuracy and Stability of Numerical Algorithms (2002), doi:10.1137/1.9780898718027 (iterative refinement).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_model import JointModel
from chromamol.inverse.joint_normal import FieldSolver, FourierPreconditioner, GlobalBlock
from chromamol.inverse.joint_unknowns import Unknowns


@dataclass(frozen=True, eq=False)
class NormalSolver:
    """Solves H x = b with the calibration, a few numbers on which everything else depends, eliminated as well.

    With e_j the estimated numbers of the calibration (gain, ℓ), and everything else held to them by
    W_j = e_j - H_xx⁻¹ H e_j,

        H⁻¹ b = H_xx⁻¹ b + W (Wᵀ H W)⁻¹ Wᵀ b.

    Parameters
    ----------
    exact : the linearisation of every nucleus in float64, for what is left of large numbers that nearly cancel: Wᵀ H W,
        Wᵀ b, residuals.
    rest : the solver with the calibration held, iterated in the number type of its own linearisation.
    responses, schur : the W_j, and Wᵀ H W, (B, k, k), in float64.
    """

    exact: Linearisation
    rest: FieldSolver
    responses: tuple[Unknowns, ...]
    schur: torch.Tensor

    @classmethod
    def of(
        cls,
        exact: Linearisation,
        at: Linearisation,
        *,
        iterations: int,
        tolerance: torch.Tensor | float,
        calibrate: bool,
        passes: int = 1,
        near: torch.Tensor | None = None,
    ) -> NormalSolver:
        """Factorise B, and solve for the responses.

        Parameters
        ----------
        exact, at : the linearisation in float64, for B, and the one that is iterated with.
        tolerance : of the responses, and of what is solved for unless `solving_to` another.
        passes : of the responses (`refined`).
        near : `fields_of_responses` at a point nearby, to start from.
        """
        m = at.model
        precondition = FourierPreconditioner.of(at)
        rest = FieldSolver(at, GlobalBlock.of(exact, at), precondition, iterations, tolerance)
        solver = cls(exact, rest, (), exact.square.new_zeros((len(at.square), 0, 0)))
        responses = []
        for k, j in enumerate(m.estimated if calibrate else []):
            one = unit(exact, j)
            start = None if near is None else -near[:, k].to(at.square.dtype)
            responses.append(one.map(torch.sub, solver.refined(exact.normal(one), passes, start=start)))
        if not responses:
            return solver
        images = [exact.normal(w) for w in responses]
        rows = [torch.stack([w.dot(image) for image in images], 1) for w in responses]
        return replace(solver, responses=tuple(responses), schur=torch.stack(rows, 1))

    def solving_to(self, tolerance: torch.Tensor | float) -> NormalSolver:
        """Return the same with another tolerance of the solves to come, one for all or one for each entry."""
        return replace(self, rest=replace(self.rest, tolerance=tolerance))

    @property
    def fields_of_responses(self) -> torch.Tensor | None:
        """φ_h and φ_e of the W_j, (B, k, 2, *box); None where nothing is calibrated."""
        if not self.responses:
            return None
        return torch.stack([torch.stack([w.phi_h, w.phi_e], 1) for w in self.responses], 1)

    def repeated(self, count: int) -> NormalSolver:
        """Return that for `count` samples of every nucleus, solved for to one tolerance."""
        if len(self.rest.at.square) == 1:
            return self
        at, block = self.rest.at.repeated(count), self.rest.block
        rest = FieldSolver(
            at, replace(block, free=block.free.repeat_interleave(count, 0)),
            self.rest.precondition.repeated(at.model, count), self.rest.iterations, self.rest.tolerance,
        )  # fmt: skip
        responses = tuple(w.map(lambda part: part.repeat_interleave(count, 0)) for w in self.responses)
        return NormalSolver(self.exact, rest, responses, self.schur.repeat_interleave(count, 0))

    def refined(self, right: Unknowns, passes: int, *, start: torch.Tensor | None = None) -> Unknowns:
        """Return H⁻¹ `right` in several passes, of which each solves for what the one before left, in float64."""
        found = self(right, start=start)
        if passes == 1:
            return found
        exact = self.exact.repeated(len(right.phi_h) // len(self.exact.square))
        for _ in range(passes - 1):
            found = found.map(torch.add, self(right.map(torch.sub, exact.normal(found))))
        return found

    def __call__(
        self, right: Unknowns, *, floor: torch.Tensor | float = 0.0, largest: float = math.inf,
        start: torch.Tensor | None = None,
    ) -> Unknowns:  # fmt: skip
        """Return H⁻¹ `right`, with the change of the calibration cut to a norm of `largest` (prior deviations)."""
        inner = self.rest.at.square.dtype
        found = self.rest(
            held(right, self.rest.at.model).map(lambda a: a.to(inner)), floor=floor, start=start
        )
        found = found.map(lambda a: a.to(right.phi_h.dtype))
        if not self.responses:
            return found
        pull = torch.stack([w.dot(right) for w in self.responses], 1)
        change = torch.linalg.solve(self.schur.expand(len(pull), -1, -1), pull)
        norm = change.norm(dim=1, keepdim=True)
        change = change * (largest / norm.clamp_min(1e-30)).clamp_max(1.0)
        for j, response in enumerate(self.responses):
            found = found.plus(change[:, j], response)
        return found


def unit(at: Linearisation, scalar: int) -> Unknowns:
    """A direction of one scalar alone."""
    zero = at.model.nothing(len(at.square))
    scalars = zero.scalars.clone()
    scalars[:, scalar] = 1.0
    return replace(zero, scalars=scalars)


def held(d: Unknowns, model: JointModel) -> Unknowns:
    """Return `d` without its calibration."""
    kept = model.globals
    return replace(d, scalars=torch.cat([d.scalars[:, :kept], torch.zeros_like(d.scalars[:, kept:])], 1))
