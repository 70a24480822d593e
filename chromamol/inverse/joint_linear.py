"""The derivative of the joint fit's residuals at one point, and the adjoint of that, as products."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from chromamol.inverse.joint_model import (
    CURVATURE_SD,
    LOOSE_SD,
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
    curvatures: torch.Tensor
    seen: torch.Tensor
    gain: torch.Tensor
    softness: torch.Tensor
    bright: torch.Tensor
    rim: torch.Tensor
    rough: torch.Tensor

    @classmethod
    def at(cls, model: JointModel, x: Unknowns, tau: float) -> Linearisation:
        named = model.named_scalars(x)
        square = model.square_length(x)
        mode = model.forward_transform(torch.stack([x.phi_h, x.phi_e], 1))
        seen = torch.einsum("cf,bf...->bc...", model.mixing, model.back_transform(model.transfer * mode))
        bright = model.bright(x)
        shown = bright * torch.stack([x.phi_h, x.phi_e], 1)
        return cls(
            model, tau, bulk_stiffness(x.phi_h, model.phi_max), square, model.rates(x), (x.phi_h, x.phi_e),
            square[:, None] * model.back_transform(model.laplacian * mode), seen,
            torch.exp(model.log_brightness(named)), torch.exp(-2.0 * named["log_scale"][:, 0]),
            bright, model.unbalanced * shown / LOOSE_SD, model.unbalanced * model.roughness(shown) / CURVATURE_SD,
        )  # fmt: skip

    def forward(self, d: Unknowns) -> Residuals:
        """J d."""
        parts = self.forward_fields(d), self.forward_globals(d), self.forward_calibration(d)
        total: Residuals = {}
        for part in parts:
            total = added(total, part)
        return total

    def forward_fields(self, d: Unknowns) -> Residuals:
        """J d of the fields alone."""
        m = self.model
        exchange = m.inside * (self.rates[0] * d.phi_e - self.rates[1] * d.phi_h)
        mode_h, mode_e, mode_s = m.forward_transform(
            torch.stack([d.phi_h, d.phi_e, m.compensated(-exchange)])
        )
        potential, curved = m.inverse_laplacian * mode_s, -self.square * m.laplacian
        modes = [curved * mode_h - potential, curved * mode_e + potential]
        if m.blurs:
            modes += [m.transfer * mode_h, m.transfer * mode_e]
        local = m.back_transform(torch.stack(modes))
        seen = local[2:] if m.blurs else torch.stack([d.phi_h, d.phi_e])
        balance = torch.stack([self.stiffness * d.phi_h + local[0], self.softness * d.phi_e + local[1]], 1)
        phi = self.bright * torch.stack([d.phi_h, d.phi_e], 1)
        return {
            "data": self.gain * torch.einsum("cf,fb...->bc...", m.mixing, seen) * m.inverse_sd,
            "balance": balance * self.balance_weight,
            "unbalanced": m.unbalanced * phi / LOOSE_SD,
            "rough": m.unbalanced * m.roughness(phi) / CURVATURE_SD,
            "flux": self._flux(exchange),
        }

    def forward_globals(self, d: Unknowns) -> Residuals:
        """J d of the log-rates, the outer potentials and the constants: what acts through the potential alone."""
        m, named = self.model, self.model.named_scalars(d)
        logs = m.synthesise(d.modes * m.root) + named["log_rates"]
        exchange = (torch.stack([self.flow(which) for which in range(m.maps)], 1) * logs).sum(1)
        potential = self._potential(exchange) + m.outer_potential(d.outer)
        balance = torch.stack([-potential, potential], 1) - named["constants"]
        scalars = torch.cat([d.scalars[:, : m.globals], torch.zeros_like(d.scalars[:, m.globals :])], 1)
        return {
            "balance": balance * self.balance_weight,
            "outer": d.outer,
            "modes": d.modes,
            "scalars": m.scalar_residual(scalars),
            "flux": self._flux(exchange),
        }

    def forward_calibration(self, d: Unknowns) -> Residuals:
        """J d of gains, offsets, φ_max and ℓ."""
        m, named = self.model, self.model.named_scalars(d)
        scale, length = named["log_scale"], named["log_interface"] - named["log_scale"]
        balance = -2.0 * length * self.curvatures
        softer = -2.0 * scale[:, 0] * self.softness * self.phi[1]
        balance = torch.stack([balance[:, 0], balance[:, 1] + softer], 1)
        scalars = torch.cat([torch.zeros_like(d.scalars[:, : m.globals]), d.scalars[:, m.globals :]], 1)
        brighter = m.log_brightness(named)
        image = {
            "data": (self.gain * self.seen * brighter + named["offset"]) * m.inverse_sd,
            "unbalanced": brighter[:, m.shown_in] * self.rim,
            "rough": brighter[:, m.shown_in] * self.rough,
            "scalars": m.scalar_residual(scalars),
        }
        if m.known is not None:
            exchange = -2.0 * scale[:, 0] * self.flow(1)
            potential = self._potential(exchange)
            balance = balance + torch.stack([-potential, potential], 1)
            image["flux"] = self._flux(exchange)
        return image | {"balance": balance * self.balance_weight}

    def _potential(self, exchange: torch.Tensor) -> torch.Tensor:
        m = self.model
        return m.back_transform(m.inverse_laplacian * m.forward_transform(m.compensated(-exchange)))

    @property
    def balance_weight(self) -> torch.Tensor:
        """(B, 1, *box): from an error of the balance to its residual."""
        return self.model.balanced[:, None] / self.tau

    def _flux(self, exchange: torch.Tensor) -> torch.Tensor:
        m = self.model
        return (exchange.sum(m.dims) / m.inside.sum(m.dims) / m.flux_sd)[:, None]

    def flow(self, which: int) -> torch.Tensor:
        """What a unit of log Γ_me (0) or log Γ_ac (1) adds to the exchange Γ_me φ_e - Γ_ac φ_h, (B, *box)."""
        flow = self.rates[0] * self.phi[1] if which == 0 else -(self.rates[1] * self.phi[0])
        return self.model.inside * flow

    def potential_of(self, logs: torch.Tensor, which: int) -> torch.Tensor:
        """What changes `logs` of log Γ_me (0) or log Γ_ac (1), (B, n, *box), make of the potential m."""
        return self._potential(self.flow(which)[:, None] * logs)

    def adjoint(self, r: Residuals) -> Unknowns:
        """Jᵀ r."""
        fields, others, calibration = (
            self.adjoint_fields(r),
            self.adjoint_globals(r),
            self.adjoint_calibration(r),
        )
        return fields.map(torch.add, others.map(torch.add, calibration))

    def adjoint_fields(self, r: Residuals) -> Unknowns:
        """Jᵀ r for the fields, zero elsewhere."""
        m, weight = self.model, r["balance"] * self.balance_weight
        lit = torch.einsum("cf,bc...->bf...", m.mixing, self.gain * (r["data"] * m.inverse_sd))
        mode = m.forward_transform(torch.cat([weight, lit], 1) if m.blurs else weight)
        curved = -self.square * m.laplacian
        pulled = [curved * mode[:, 0], curved * mode[:, 1]]
        if m.blurs:
            pulled = [p + m.transfer * mode[:, 2 + i] for i, p in enumerate(pulled)]
        local = m.back_transform(torch.stack([*pulled, m.inverse_laplacian * (mode[:, 1] - mode[:, 0])]))
        exchange = self._pull_on_exchange(r, local[2])
        pull = r["unbalanced"] * m.unbalanced / LOOSE_SD
        pull = self.bright * (pull + m.roughness(r["rough"] * m.unbalanced) / CURVATURE_SD)
        pull = pull if m.blurs else pull + lit
        phi_h = self.stiffness * weight[:, 0] + local[0] - self.rates[1] * exchange + pull[:, 0]
        phi_e = self.softness * weight[:, 1] + local[1] + self.rates[0] * exchange + pull[:, 1]
        nothing = self.nothing(len(phi_h))
        return replace(nothing, phi_h=phi_h, phi_e=phi_e)

    def adjoint_globals(self, r: Residuals) -> Unknowns:
        """Jᵀ r for the log-rates, the outer potentials and the constants, zero elsewhere; `r` may lack the priors."""
        m, weight = self.model, r["balance"] * self.balance_weight
        difference = weight[:, 1] - weight[:, 0]
        exchange = self._pull_on_exchange(r, self._adjoint_potential(difference))
        log = torch.stack([self.flow(which) * exchange for which in range(m.maps)], 1)
        nothing = self.nothing(len(log))
        scalars = torch.cat([log.sum(m.dims), -weight.sum(m.dims), nothing.scalars[:, m.globals :]], 1)
        found = replace(nothing, outer=m.along_outer_potentials(difference), modes=m.analyse(log) * m.root,
                        scalars=scalars)  # fmt: skip
        if "modes" not in r:
            return found
        priors = m.scalar_residual(r["scalars"])[:, : m.globals]
        priors = torch.cat([priors, nothing.scalars[:, m.globals :]], 1)
        return replace(found, outer=found.outer + r["outer"], modes=found.modes + r["modes"],
                       scalars=found.scalars + priors)  # fmt: skip

    def adjoint_calibration(self, r: Residuals) -> Unknowns:
        """Jᵀ r for gains, offsets, φ_max and ℓ, zero elsewhere."""
        m, weight = self.model, r["balance"] * self.balance_weight
        data = r["data"] * m.inverse_sd
        gains = (self.gain * self.seen * data).sum(m.dims)
        rim = (r["unbalanced"] * self.rim + r["rough"] * self.rough).sum(m.dims)
        gains = gains.index_add(1, torch.tensor(m.shown_in, device=gains.device), rim)
        length = -2.0 * (self.curvatures * weight).sum(m.dims).sum(1)
        softer = -2.0 * (self.softness * self.phi[1] * weight[:, 1]).sum(m.dims)
        exact = (m.scalar_sd[m.globals : m.globals + m.channels] == 0.0).to(gains)
        scale = gains @ exact - length + softer
        if m.known is not None:
            exchange = self._pull_on_exchange(r, self._adjoint_potential(weight[:, 1] - weight[:, 0]))
            scale = scale - 2.0 * (self.flow(1) * exchange).sum(m.dims)
        pulls = torch.cat([gains, data.sum(m.dims), scale[:, None], length[:, None]], 1)
        pulls = pulls * m.whitening()[m.globals :] + m.scalar_residual(r["scalars"])[:, m.globals :]
        nothing = self.nothing(len(pulls))
        return replace(nothing, scalars=torch.cat([nothing.scalars[:, : m.globals], pulls], 1))

    def _adjoint_potential(self, values: torch.Tensor) -> torch.Tensor:
        m = self.model
        return m.back_transform(m.inverse_laplacian * m.forward_transform(values))

    def _pull_on_exchange(self, r: Residuals, potential: torch.Tensor) -> torch.Tensor:
        """What residuals say of the exchange at every pixel, given K (w_e - w_h)."""
        m = self.model
        outside_sum = m.outside.sum(m.dims, keepdim=True)
        source = potential - (m.outside * potential).sum(m.dims, keepdim=True) / outside_sum
        wide = (1,) * len(m.box)
        flux = (r["flux"][:, 0] / m.inside.sum(m.dims) / m.flux_sd).reshape(-1, *wide)
        return m.inside * (flux - source)

    def nothing(self, batch: int) -> Unknowns:
        """A direction of zeros."""
        m = self.model
        zero = self.stiffness.new_zeros((batch, *m.box))
        return Unknowns(zero, zero, zero.new_zeros((batch, m.outer_potentials.shape[1])),
                        zero.new_zeros((batch, *m.root.shape)), zero.new_zeros((batch, len(m.scalar_sd))))  # fmt: skip

    def normal(self, d: Unknowns) -> Unknowns:
        """JᵀJ d."""
        return self.adjoint(self.forward(d))


def added(first: Residuals, second: Residuals) -> Residuals:
    """The sum of residuals of which either may lack some."""
    both = {name: first[name] + value if name in first else value for name, value in second.items()}
    return {**first, **both}
