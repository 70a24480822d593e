"""The normal equations of the joint fit: few numbers that act everywhere are eliminated, fields are iterated on.

With x the fields and y what acts through the potential alone (log-rates, outer potentials, constants), the normal
matrix is

    [ F   C ]
    [ Cᵀ  B ]

B is small and dense and is factorised; conjugate gradients run on its Schur complement F - C B⁻¹ Cᵀ, the operator of
fields whose potential is free to follow. On x and y together, even with B as a preconditioner, they need three to six
times the iterations, and single precision another twice (192² and 400² pixels, 5 % noise).

References
----------
Nocedal & Wright, Numerical Optimization (2006), chapter 5; Benzi, Golub & Liesen, Acta Numer. 14, 1 (2005),
doi:10.1017/S0962492904000212 (Schur complements).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from chromamol.inverse.conjugate_gradients import conjugate_gradients
from chromamol.inverse.joint_linear import Linearisation, added
from chromamol.inverse.joint_model import CURVATURE_SD, LOOSE_SD, JointModel
from chromamol.inverse.joint_unknowns import Residuals, Unknowns
from chromamol.inverse.stencil import cross_stencil

ELIMINATED_MODES = 400
"""Cosines per map, the strongest first, that are eliminated; the rest, nearly free, are iterated on with the fields."""

RIM_SHARE = 0.3
"""Of the inverse diagonal on the rim. Iterations on a nucleus of 47,000 pixels: 333 with none, 159 with a tenth, 120,
147 with all of it; 254 with all and the Fourier transform of what is balanced alone."""

_COLUMNS_PER_CHUNK, _COLUMNS_PER_CHUNK_ON_GPU = 16, 128
_PIXELS_PER_CHUNK = 16384
_COLUMNS_PER_BLOCK = 128
"""Of the symmetric product, of which only the blocks on and below the diagonal are computed."""


@dataclass(frozen=True, eq=False)
class FourierPreconditioner:
    """The operator on the fields with its coefficients averaged over the nucleus, inverted by Fourier transform.

    The potential is left out: in the Schur complement it follows the fields. On the rim of the nucleus, where no
    balance holds, a share of the inverse diagonal is added; outside the diagonal is enough.
    """

    model: JointModel
    unbalanced: torch.Tensor
    inverse: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    @classmethod
    def of(cls, at: Linearisation) -> FourierPreconditioner:
        m, tau = at.model, at.tau[:, 0]
        wide = (-1, *(1,) * len(m.box))
        weight = m.balanced / m.balanced.sum(m.dims, keepdim=True)
        stiff = (at.pointwise[:, 0].square() * weight).sum(m.dims).sqrt().reshape(wide)
        rough = -at.square.reshape(wide) * m.laplacian
        seen = (m.inverse_sd.square() * m.inside[:, None]).sum(m.dims) / m.inside.sum(m.dims)[:, None]
        lit = torch.einsum("bc,cf,cg->bfg", seen, m.mixing, m.mixing).reshape(-1, 2, 2, *wide[1:])
        power = m.transfer.square()
        n_hh = (stiff * m.averaging + rough).square() / tau**2 + lit[:, 0, 0] * power
        n_ee = (at.softness * m.averaging + rough).square() / tau**2 + lit[:, 1, 1] * power
        n_he = lit[:, 0, 1] * power
        determinant = n_hh * n_ee - n_he.square()
        share = torch.where(m.inside[:, None] > 0.0, RIM_SHARE, 1.0)
        return cls(m, share * m.unbalanced / _unbalanced_diagonal(at, lit),
                   (n_ee / determinant, n_he / determinant, n_hh / determinant))  # fmt: skip

    def repeated(self, model: JointModel, count: int) -> FourierPreconditioner:
        """Return that for `count` samples of every nucleus, whose model is given."""
        first, second, third = (part.repeat_interleave(count, 0) for part in self.inverse)
        return FourierPreconditioner(
            model, self.unbalanced.repeat_interleave(count, 0), (first, second, third)
        )

    def __call__(self, r: Unknowns) -> Unknowns:
        m = self.model
        first, second, third = self.inverse
        mode_h, mode_e = m.forward_transform(torch.stack([r.phi_h, r.phi_e]) * m.inside)
        phi_h, phi_e = m.inside * m.back_transform(
            torch.stack([first * mode_h - second * mode_e, third * mode_e - second * mode_h])
        )
        return replace(
            r, phi_h=phi_h + self.unbalanced[:, 0] * r.phi_h, phi_e=phi_e + self.unbalanced[:, 1] * r.phi_e
        )


def _unbalanced_diagonal(at: Linearisation, lit: torch.Tensor) -> torch.Tensor:
    """(B, 2, *box): of the normal operator where no balance holds: data, prior, and stencils that reach there."""
    m = at.model
    wide = (-1, 1, *(1,) * len(m.box))
    seen = torch.stack([lit[:, 0, 0], lit[:, 1, 1]], 1) * m.mean_square(m.transfer)
    stencils = m.square_stencil_sum(m.balanced)[:, None] * (at.square.reshape(wide) / at.tau) ** 2
    squares = [c**2 for c in m.roughness_scale]
    bent = (2.0 * sum(m.roughness_scale)) ** 2 * m.bent + cross_stencil(m.bent, (0.0, 1.0), squares)
    priors = at.bright.square() * (LOOSE_SD**-2 + bent * CURVATURE_SD**-2)
    return seen * m.inside[:, None] + priors + stencils


@dataclass(frozen=True, eq=False)
class GlobalBlock:
    """B: the normal operator between log-rates, outer potentials and constants, with its factor.

    Parameters
    ----------
    chosen : (B, k), indices of the cosines that take part, per map the same.
    free : (B, 1, *modes), 1 at the others.
    scale, factor : (B, P) and (B, P, P): B = diag(1/scale) L Lᵀ diag(1/scale);
        P = outer potentials + maps · (chosen + 1) + 2.
    """

    model: JointModel
    chosen: torch.Tensor
    free: torch.Tensor
    scale: torch.Tensor
    factor: torch.Tensor

    @classmethod
    def of(cls, at: Linearisation, rough: Linearisation) -> GlobalBlock:
        """`at` in float64, because B has eigenvalues from one to 10⁸; its columns from `rough`, maybe in float32."""
        m = at.model
        strength = m.root[:, 0].flatten(1)
        chosen = torch.argsort(strength, dim=1, descending=True, stable=True)[:, :ELIMINATED_MODES]
        free = torch.ones_like(strength).scatter_(1, chosen, 0.0)
        empty = strength.new_zeros((1, 0))
        block = cls(m, chosen, free.reshape(m.root[:, :1].shape), empty, empty)
        # One nucleus at a time: columns take the most memory of all, and their products fill a device by themselves.
        each = (rough.entry(i) for i in range(len(chosen)))
        matrix = torch.cat(
            [_through_the_balance(_columns(one, own)) for one, own in zip(each, chosen, strict=True)]
        )
        matrix = matrix + torch.diag_embed(block._priors().expand(len(matrix), -1))
        flux = block.pack(at.adjoint_globals({
            "balance": torch.zeros_like(at.curvatures), "flux": torch.ones_like(at.curvatures[:, 0].flatten(1)[:, :1]),
        }))  # fmt: skip
        matrix = matrix + flux[:, :, None] * flux[:, None, :]
        scale = matrix.diagonal(dim1=1, dim2=2).rsqrt()
        # A relative ridge at the rounding of the products keeps the factor definite.
        ridge = 10.0 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps
        scaled = scale[:, :, None] * matrix * scale[:, None, :]
        scaled = scaled + ridge * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        return replace(block, scale=scale, factor=torch.linalg.cholesky(scaled))

    def _priors(self) -> torch.Tensor:
        """(P,): prior precision."""
        m = self.model
        whitened = m.scalar_sd.new_ones(m.outer_potentials.shape[1] + m.maps * self.chosen.shape[1])
        return torch.cat([whitened, m.scalar_sd[: m.globals] ** -2])

    def pack(self, d: Unknowns) -> torch.Tensor:
        """(B, P): what is eliminated of a direction."""
        modes = d.modes.flatten(2)
        alike = len(self.chosen) == 1
        chosen = modes[..., self.chosen[0]] if alike else modes.gather(2, self._in_each_map(len(modes)))
        return torch.cat([d.outer, chosen.flatten(1), d.scalars[:, : self.model.globals]], 1)

    def solve(self, r: Unknowns) -> Unknowns:
        """B⁻¹ r, zero elsewhere; in float64 inside."""
        m, dtype = self.model, r.modes.dtype
        packed = self.pack(r).to(self.scale.dtype).unflatten(0, (len(self.factor), -1)) * self.scale[:, None]
        solved = torch.cholesky_solve(packed.mT, self.factor).mT * self.scale[:, None]
        solved = solved.flatten(0, 1).to(dtype)
        outer, strong, scalars = solved.split([r.outer.shape[1], m.maps * self.chosen.shape[1], m.globals], 1)
        modes, strong = torch.zeros_like(r.modes).flatten(2), strong.reshape(len(strong), m.maps, -1)
        if len(self.chosen) == 1:
            modes[..., self.chosen[0]] = strong
        else:
            modes.scatter_(2, self._in_each_map(len(modes)), strong)
        rest = torch.zeros_like(r.scalars[:, m.globals :])
        zero = torch.zeros_like(r.phi_h)
        return Unknowns(zero, zero, outer, modes.reshape(r.modes.shape), torch.cat([scalars, rest], 1))

    def _in_each_map(self, entries: int) -> torch.Tensor:
        """(N, maps, k), for the samples of every nucleus."""
        each = self.chosen.repeat_interleave(entries // len(self.chosen), 0)
        return each[:, None].expand(-1, self.model.maps, -1)


def _columns(at: Linearisation, chosen: torch.Tensor) -> torch.Tensor:
    """(1, columns, pixels): what outer potentials, cosines, mean log-rates and a constant do to the balance, over τ.

    Of a single nucleus, whose `chosen` cosines are (k,). Only where the balance holds, and in float32, which halves the
    memory: what matters is that their products are summed in float64.
    """
    m = at.model
    holding = m.holding[0]
    weight = at.balance_weight[:, 0].flatten(1)[:, None, holding]
    outer, per_map = m.outer_potentials.shape[1], len(chosen)
    count = outer + m.maps * (per_map + 1) + 1
    columns = torch.empty((1, count, weight.shape[-1]), dtype=torch.float32, device=weight.device)

    def put(start: int, potentials: torch.Tensor) -> None:
        seen = potentials.flatten(2)[..., holding] * weight
        columns[:, start : start + seen.shape[1]] = seen.to(torch.float32)

    columns[:, :outer] = (m.outer_potentials * weight).to(torch.float32)
    at_once = _COLUMNS_PER_CHUNK_ON_GPU if columns.is_cuda else _COLUMNS_PER_CHUNK
    strength = m.root[0, 0].flatten()
    one = strength.new_ones((1, 1, *m.box))
    for which in range(m.maps):
        for start in range(0, per_map, at_once):
            indices = chosen[start : start + at_once]
            unit = strength.new_zeros((len(indices), len(strength)))
            unit[torch.arange(len(indices)), indices] = strength[indices]
            logs = m.synthesise(unit.reshape(1, -1, *m.root.shape[2:]))
            put(outer + which * per_map + start, at.potential_of(logs, which))
        put(outer + m.maps * per_map + which, at.potential_of(one, which))
    columns[:, -1:] = weight.to(torch.float32)
    return columns


def _through_the_balance(columns: torch.Tensor) -> torch.Tensor:
    """(B, P, P): summed over pixels and both balances. A potential u enters them as -u and +u, a constant as -1."""
    count = columns.shape[1]
    gram = columns.new_zeros((len(columns), count, count), dtype=torch.float64)
    for part in columns.split(_PIXELS_PER_CHUNK, 2):
        exact = part.double()
        for start in range(0, count, _COLUMNS_PER_BLOCK):
            block = slice(start, start + _COLUMNS_PER_BLOCK)
            gram[:, start:, block] += exact[:, start:] @ exact[:, block].transpose(1, 2)
    gram = gram.tril() + gram.tril(-1).transpose(1, 2)
    potentials, constant = gram[:, :-1, :-1], gram[:, :-1, -1:]
    total, none = gram[:, -1:, -1:], torch.zeros_like(gram[:, -1:, -1:])
    across = constant.transpose(1, 2)
    return torch.cat([
        torch.cat([2.0 * potentials, constant, -constant], 2),
        torch.cat([across, total, none], 2),
        torch.cat([-across, none, total], 2),
    ], 1)  # fmt: skip


@dataclass(frozen=True, eq=False)
class FieldSolver:
    """Solves H x = b with the calibration held: y eliminated, conjugate gradients on the fields."""

    at: Linearisation
    block: GlobalBlock
    precondition: FourierPreconditioner
    iterations: int
    tolerance: torch.Tensor | float

    def __call__(
        self, right: Unknowns, *, floor: torch.Tensor | float = 0.0, start: torch.Tensor | None = None
    ) -> Unknowns:
        """Return H⁻¹ `right`, iterated from the fields `start`, (N, 2, *box)."""
        own = self.block.solve(right)
        remaining = self._iterated(right.map(torch.sub, self._back(self.at.forward_globals(own))))
        near = None
        if start is not None:
            near = replace(remaining.map(torch.zeros_like), phi_h=start[:, 0], phi_e=start[:, 1])
        found = conjugate_gradients(
            self.schur_complement, remaining, self.precondition,
            iterations=self.iterations, tolerance=self.tolerance, floor=floor, start=near,
        )  # fmt: skip
        return found.map(torch.add, own.map(torch.sub, self._follow(self._forward(found))))

    def schur_complement(self, d: Unknowns) -> Unknowns:
        """(F - C B⁻¹ Cᵀ) d."""
        image = self._forward(d)
        following = self.at.forward_globals(self._follow(image).map(torch.neg))
        left, seen = self._back(added(image, following)), self.at.normal_seen(d)
        return replace(left, phi_h=left.phi_h + seen[:, 0], phi_e=left.phi_e + seen[:, 1])

    def _forward(self, d: Unknowns) -> Residuals:
        """What becomes of the balance, and of the priors of what is not eliminated."""
        image = self.at.forward_balance(d)
        return added(image, self.at.forward_globals(d)) if self._some_free else image

    def _follow(self, image: Residuals) -> Unknowns:
        """B⁻¹ Jᵀ `image`."""
        return self.block.solve(self.at.adjoint_globals(image))

    def _back(self, image: Residuals) -> Unknowns:
        fields = self.at.as_fields(self.at.adjoint_balance(image))
        if not self._some_free:
            return fields
        return replace(fields, modes=self.at.adjoint_globals(image).modes * self._free)

    def _iterated(self, d: Unknowns) -> Unknowns:
        """The part of a direction that is not eliminated."""
        return Unknowns(
            d.phi_h, d.phi_e, torch.zeros_like(d.outer), d.modes * self._free, torch.zeros_like(d.scalars)
        )

    @property
    def _free(self) -> torch.Tensor:
        return self.block.free.to(self.at.square.dtype)

    @property
    def _some_free(self) -> bool:
        return self.block.chosen.shape[1] < self.block.free[0].numel()
