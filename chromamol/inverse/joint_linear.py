"""The derivative of the joint fit's residuals at one point, and the adjoint of that, as products."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from chromamol.inverse.joint_model import (
    CURVATURE_SD,
    OUTSIDE_MEAN,
    OUTSIDE_SD,
    JointModel,
    Residuals,
    Unknowns,
)
from chromamol.physics.free_energy import bulk_stiffness


@dataclass(frozen=True, eq=False)
class Linearisation:
    """The derivative of the residuals at one point, as products with J and Jᵀ."""

    model: JointModel
    tau: float
    stiffness: torch.Tensor
    square: torch.Tensor
    rates: tuple[torch.Tensor, torch.Tensor]
    phi: tuple[torch.Tensor, torch.Tensor]
    phi_max_slope: torch.Tensor
    curvatures: torch.Tensor
    seen: torch.Tensor
    gain: torch.Tensor
    shrunk: torch.Tensor
    balance: torch.Tensor
    rim: torch.Tensor
    rough: torch.Tensor

    @classmethod
    def at(cls, model: JointModel, x: Unknowns, tau: float) -> Linearisation:
        named = model.named_scalars(x)
        phi_max = model.phi_max * torch.exp(named["log_phi_max"][:, 0])
        square = model.interface**2 * torch.exp(2.0 * named["log_interface"][:, 0])
        mode = model.forward_transform(torch.stack([x.phi_h, x.phi_e], 1))
        seen = torch.einsum("cf,bf...->bc...", model.mixing, model.back_transform(model.transfer * mode))
        residuals = model.residuals(x, tau)
        return cls(
            model, tau, bulk_stiffness(x.phi_h, phi_max), square, model.rates(x), (x.phi_h, x.phi_e),
            phi_max * x.phi_h * (2.0 * phi_max - 3.0 * x.phi_h),
            square[:, None] * model.back_transform(model.laplacian * mode), seen, torch.exp(named["log_gain"]),
            torch.exp(-named["log_phi_max"]), residuals["balance"],
            residuals["unbalanced"] + model.unbalanced * (OUTSIDE_MEAN / OUTSIDE_SD), residuals["rough"],
        )  # fmt: skip

    def forward(self, d: Unknowns) -> Residuals:
        """J d."""
        m, named = self.model, self.model.named_scalars(d)
        logs = m.synthesise(d.modes * m.root) + named["log_rates"]
        gain_in, loss_in = self.rates[0] * self.phi[1], self.rates[1] * self.phi[0]
        exchange = self.rates[0] * d.phi_e - self.rates[1] * d.phi_h + gain_in * logs[:, 0]
        if m.maps == 2:
            exchange = exchange - loss_in * logs[:, 1]
        exchange = m.inside * exchange
        source = m.compensated(-exchange)
        mode_h, mode_e, mode_s = m.forward_transform(torch.stack([d.phi_h, d.phi_e, source]))
        potential = m.inverse_laplacian * mode_s
        curved = -self.square * m.laplacian
        local = m.back_transform(
            torch.stack([curved * mode_h - potential, curved * mode_e + potential,
                         m.transfer * mode_h, m.transfer * mode_e])
        )  # fmt: skip
        outer = m.outer_potential(d.outer)
        constants, ell = named["constants"], 2.0 * named["log_interface"]
        seen = torch.einsum("cf,fb...->bc...", m.mixing, local[2:])
        balance_h = self.stiffness * d.phi_h + local[0] - outer - constants[:, 0]
        balance_h = (
            balance_h + self.phi_max_slope * named["log_phi_max"][:, 0] - ell[:, 0] * self.curvatures[:, 0]
        )
        balance_e = d.phi_e + local[1] + outer - constants[:, 1] - ell[:, 0] * self.curvatures[:, 1]
        scale, phi = named["log_phi_max"], self.shrunk * torch.stack([d.phi_h, d.phi_e], 1)
        return {
            "data": (self.gain * (seen + self.seen * named["log_gain"]) + named["offset"]) * m.inverse_sd,
            "balance": self.shrunk**3
            * torch.stack([balance_h, balance_e], 1)
            * m.balanced[:, None]
            / self.tau
            - 3.0 * scale * self.balance,
            "outer": d.outer,
            "unbalanced": m.unbalanced * phi / OUTSIDE_SD - scale * self.rim,
            "rough": m.unbalanced * m.roughness(phi) / CURVATURE_SD - scale * self.rough,
            "modes": d.modes,
            "scalars": m.scalar_residual(d.scalars),
            "flux": (exchange.sum(m.dims) / m.inside.sum(m.dims) / m.flux_sd)[:, None],
        }

    def potential_of(self, logs: torch.Tensor, which: int) -> torch.Tensor:
        """What changes `logs` of log Γ_me (0) or log Γ_ac (1), (B, n, *box), make of the potential m."""
        m = self.model
        flow = (self.rates[0] * self.phi[1]) if which == 0 else -(self.rates[1] * self.phi[0])
        source = m.compensated(-(m.inside * flow)[:, None] * logs)
        return m.back_transform(m.inverse_laplacian * m.forward_transform(source))

    def adjoint(self, r: Residuals) -> Unknowns:
        """Jᵀ r."""
        m = self.model
        weight = self.shrunk**3 * r["balance"] * m.balanced[:, None] / self.tau
        data = r["data"] * m.inverse_sd
        lit = torch.einsum("cf,bc...->bf...", m.mixing, self.gain * data)
        mode = m.forward_transform(torch.cat([weight, lit], 1))
        local = m.back_transform(
            torch.stack([-self.square * m.laplacian * mode[:, 0] + m.transfer * mode[:, 2],
                         -self.square * m.laplacian * mode[:, 1] + m.transfer * mode[:, 3],
                         m.inverse_laplacian * (mode[:, 1] - mode[:, 0])])
        )  # fmt: skip
        outside_sum = m.outside.sum(m.dims, keepdim=True)
        source = local[2] - (m.outside * local[2]).sum(m.dims, keepdim=True) / outside_sum
        wide = (1,) * len(m.box)
        flux = (r["flux"][:, 0] / m.inside.sum(m.dims) / m.flux_sd).reshape(-1, *wide)
        exchange = m.inside * (flux - source)
        pull = r["unbalanced"] * m.unbalanced / OUTSIDE_SD
        pull = self.shrunk * (pull + m.roughness(r["rough"] * m.unbalanced) / CURVATURE_SD)
        scale = (
            3.0 * r["balance"] * self.balance + r["unbalanced"] * self.rim + r["rough"] * self.rough
        ).sum(1)
        phi_h = self.stiffness * weight[:, 0] + local[0] - self.rates[1] * exchange + pull[:, 0]
        phi_e = weight[:, 1] + local[1] + self.rates[0] * exchange + pull[:, 1]
        logs = [self.rates[0] * self.phi[1] * exchange]
        if m.maps == 2:
            logs.append(-self.rates[1] * self.phi[0] * exchange)
        log = torch.stack(logs, 1)

        def total(values: torch.Tensor) -> torch.Tensor:
            return values.sum(m.dims)

        scalars = torch.cat(
            [total(log), -total(weight), total(self.gain * self.seen * data), total(data),
             total(self.phi_max_slope * weight[:, 0] - scale)[:, None],
             -2.0 * total((self.curvatures * weight).sum(1))[:, None]], 1
        ) * m.whitening()  # fmt: skip
        return Unknowns(
            phi_h, phi_e, m.along_outer_potentials(weight[:, 1] - weight[:, 0]) + r["outer"],
            m.analyse(log) * m.root + r["modes"], scalars + m.scalar_residual(r["scalars"]),
        )  # fmt: skip

    def normal(self, d: Unknowns) -> Unknowns:
        """JᵀJ d."""
        return self.adjoint(self.forward(d))
