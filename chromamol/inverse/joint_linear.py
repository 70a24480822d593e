"""The derivative of the joint fit's residuals at one point, and the adjoint of that, as products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from chromamol.inverse.joint_model import CURVATURE_SD, LOOSE_SD, JointModel
from chromamol.inverse.joint_unknowns import Residuals, Unknowns
from chromamol.physics.free_energy import bulk_stiffness


@dataclass(frozen=True, eq=False)
class Linearisation:
    """The derivative of the residuals at one point, as products with J and Jᵀ.

    Parameters
    ----------
    model : of the residuals.
    tau : (B, 1, ...), that of every entry, which multiplies (B, n, *box).
    square : λ², (B, ...).
    pointwise : (B, 2, *box): f'(φ_h) and 1 / s², what the balances hold of the fields at the same pixel.
    rates : Γ_me and Γ_ac, 0 outside the nucleus.
    flows : what a unit of log Γ_me and of log Γ_ac adds to the exchange Γ_me φ_e - Γ_ac φ_h, (B, *box) each.
    phi_e, curvatures, seen : the point, (ℓ / s)² A φ, and what the images show of it.
    gain, softness, bright : of the images, 1 / s², and of both fields.
    rim, rough : residuals of the priors where no balance holds.
    lit : (B, 2, 2, *box): what an image says of both fields, with its weight.
    loosely : (B, 2, *box): precision of the prior where no balance holds.
    """

    model: JointModel
    tau: torch.Tensor
    square: torch.Tensor
    pointwise: torch.Tensor
    rates: tuple[torch.Tensor, torch.Tensor]
    flows: tuple[torch.Tensor, torch.Tensor]
    phi_e: torch.Tensor
    curvatures: torch.Tensor
    seen: torch.Tensor
    gain: torch.Tensor
    softness: torch.Tensor
    bright: torch.Tensor
    rim: torch.Tensor
    rough: torch.Tensor
    lit: torch.Tensor
    loosely: torch.Tensor

    @classmethod
    def at(cls, model: JointModel, x: Unknowns, tau: torch.Tensor | float) -> Linearisation:
        named = model.named_scalars(x)
        square, bright = model.square_length(x), model.bright(x)
        fields = torch.stack([x.phi_h, x.phi_e], 1)
        stiffness, softness = (
            bulk_stiffness(x.phi_h, model.phi_max),
            torch.exp(-2.0 * named["log_scale"][:, 0]),
        )
        methylation, acetylation = (model.inside * rate for rate in model.rates(x))
        gain = torch.exp(model.log_brightness(named))
        weight = (gain * model.inverse_sd).square()
        shown = bright * fields
        weights = model.per_entry(tau).expand(len(square), *(-1,) * square.ndim)
        return cls(
            model, weights, square, torch.stack([stiffness, softness.expand_as(stiffness)], 1),
            (methylation, acetylation), (methylation * x.phi_e, -(acetylation * x.phi_h)), x.phi_e,
            square[:, None] * model.curvature(fields),
            torch.einsum("cf,bf...->bc...", model.mixing, model.blurred(fields)),
            gain, softness, bright, model.unbalanced * shown / LOOSE_SD,
            model.bent * model.roughness(shown) / CURVATURE_SD,
            torch.einsum("bc...,cf,cg->bfg...", weight, model.mixing, model.mixing),
            model.unbalanced * (bright / LOOSE_SD).square(),
        )  # fmt: skip

    def entry(self, index: int) -> Linearisation:
        """Return that of one nucleus of several."""
        if len(self.square) == 1:
            return self
        return self._mapped(self.model.entry(index), lambda part: part[index : index + 1])

    def repeated(self, count: int) -> Linearisation:
        """Return that for `count` samples of every nucleus."""
        if len(self.square) == 1:
            return self
        return self._mapped(self.model.repeated(count), lambda part: part.repeat_interleave(count, 0))

    def _mapped(self, model: JointModel, function: Callable[[torch.Tensor], torch.Tensor]) -> Linearisation:
        own: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "model"}
        own = {n: tuple(map(function, a)) if isinstance(a, tuple) else function(a) for n, a in own.items()}
        return Linearisation(model, **own)

    def forward(self, d: Unknowns) -> Residuals:
        """J d."""
        parts = self.forward_fields(d), self.forward_globals(d), self.forward_calibration(d)
        total: Residuals = {}
        for part in parts:
            total = added(total, part)
        return total

    def forward_fields(self, d: Unknowns) -> Residuals:
        """J d of the fields alone."""
        return self.forward_balance(d) | self.forward_seen(d)

    def forward_balance(self, d: Unknowns) -> Residuals:
        """J d of the fields: what becomes of the balance."""
        m, phi = self.model, torch.stack([d.phi_h, d.phi_e], 1)
        exchange = self.rates[0] * d.phi_e - self.rates[1] * d.phi_h
        potential = m.potential_of(exchange)
        balance = m.curvature(phi).mul_(-self.square[:, None]).add_(m.averaged(self.pointwise * phi))
        balance[:, 0] -= potential
        balance[:, 1] += potential
        return {"balance": balance.mul_(self.balance_weight), "flux": self._flux(exchange)}

    def forward_seen(self, d: Unknowns) -> Residuals:
        """J d of the fields: what images and priors see of them."""
        m, phi = self.model, torch.stack([d.phi_h, d.phi_e], 1)
        shown = self.bright * phi
        return {
            "data": self.gain * torch.einsum("cf,bf...->bc...", m.mixing, m.blurred(phi)) * m.inverse_sd,
            "unbalanced": m.unbalanced * shown / LOOSE_SD,
            "rough": m.bent * m.roughness(shown) / CURVATURE_SD,
        }

    def forward_globals(self, d: Unknowns) -> Residuals:
        """J d of the log-rates, the outer potentials and the constants: what acts through the potential alone."""
        m, named = self.model, self.model.named_scalars(d)
        logs = m.synthesise(d.modes * m.root) + named["log_rates"]
        exchange = torch.as_tensor(sum(self.flows[which] * logs[:, which] for which in range(m.maps)))
        potential = m.potential_of(exchange).add_(m.outer_potential(d.outer))
        balance = torch.stack([-potential, potential], 1).sub_(named["constants"])
        scalars = torch.cat([d.scalars[:, : m.globals], torch.zeros_like(d.scalars[:, m.globals :])], 1)
        return {
            "balance": balance.mul_(self.balance_weight),
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
        softer = m.averaged(-2.0 * scale[:, 0] * self.softness * self.phi_e)
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
            exchange = -2.0 * scale[:, 0] * self.flows[1]
            potential = m.potential_of(exchange)
            balance = balance + torch.stack([-potential, potential], 1)
            image["flux"] = self._flux(exchange)
        return image | {"balance": balance * self.balance_weight}

    @property
    def balance_weight(self) -> torch.Tensor:
        """(B, 1, *box): from an error of the balance to its residual."""
        return self.model.balanced[:, None] / self.tau

    def _flux(self, exchange: torch.Tensor) -> torch.Tensor:
        m = self.model
        return (exchange.sum(m.dims) / m.inside.sum(m.dims) / m.flux_sd)[:, None]

    def potential_of(self, logs: torch.Tensor, which: int) -> torch.Tensor:
        """What changes `logs` of log Γ_me (0) or log Γ_ac (1), (B, n, *box), make of the potential m."""
        return self.model.potential_of(self.flows[which][:, None] * logs)

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
        return self.as_fields(self.adjoint_balance(r) + self.adjoint_seen(r))

    def adjoint_balance(self, r: Residuals) -> torch.Tensor:
        """The adjoint of `forward_balance`, (B, 2, *box)."""
        m, weight = self.model, r["balance"] * self.balance_weight
        exchange = self._pull_on_exchange(r, m.integrated_twice(weight[:, 1] - weight[:, 0]))
        pull = m.curvature(weight).mul_(-self.square[:, None]).addcmul_(self.pointwise, m.averaged(weight))
        pull[:, 0].addcmul_(self.rates[1], exchange, value=-1.0)
        pull[:, 1].addcmul_(self.rates[0], exchange)
        return pull

    def adjoint_seen(self, r: Residuals) -> torch.Tensor:
        """The adjoint of `forward_seen`, (B, 2, *box)."""
        m = self.model
        data = torch.einsum("cf,bc...->bf...", m.mixing, self.gain * (r["data"] * m.inverse_sd))
        rim = r["unbalanced"] * m.unbalanced / LOOSE_SD + m.roughness(r["rough"] * m.bent) / CURVATURE_SD
        return m.blurred(data) + self.bright * rim

    def normal_seen(self, d: Unknowns) -> torch.Tensor:
        """`adjoint_seen` of `forward_seen`, without the residuals between them."""
        m, phi = self.model, torch.stack([d.phi_h, d.phi_e], 1)
        blurred = m.blurred(phi)
        seen = self.lit[:, 0] * blurred[:, :1]
        seen = m.blurred(seen.addcmul_(self.lit[:, 1], blurred[:, 1:]))
        rough = m.roughness(self.bright * phi).mul_(m.bent)
        seen = torch.addcmul(seen, self.loosely, phi)
        return seen.addcmul_(m.roughness(rough), self.bright, value=CURVATURE_SD**-2)

    def as_fields(self, phi: torch.Tensor) -> Unknowns:
        """A direction of both fields, (B, 2, *box), and nothing else."""
        return replace(self.model.nothing(len(phi)), phi_h=phi[:, 0], phi_e=phi[:, 1])

    def adjoint_globals(self, r: Residuals) -> Unknowns:
        """Jᵀ r for the log-rates, the outer potentials and the constants, zero elsewhere; `r` may lack the priors."""
        m, weight = self.model, r["balance"] * self.balance_weight
        difference = weight[:, 1] - weight[:, 0]
        exchange = self._pull_on_exchange(r, m.integrated_twice(difference))
        log = torch.stack([self.flows[which] * exchange for which in range(m.maps)], 1)
        nothing = self.model.nothing(len(log))
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
        softer = -2.0 * (self.softness * self.phi_e * m.averaged(weight[:, 1])).sum(m.dims)
        exact = (m.scalar_sd[m.globals : m.globals + m.channels] == 0.0).to(gains)
        scale = gains @ exact - length + softer
        if m.known is not None:
            exchange = self._pull_on_exchange(r, m.integrated_twice(weight[:, 1] - weight[:, 0]))
            scale = scale - 2.0 * (self.flows[1] * exchange).sum(m.dims)
        pulls = torch.cat([gains, data.sum(m.dims), scale[:, None], length[:, None]], 1)
        pulls = pulls * m.whitening()[m.globals :] + m.scalar_residual(r["scalars"])[:, m.globals :]
        nothing = self.model.nothing(len(pulls))
        return replace(nothing, scalars=torch.cat([nothing.scalars[:, : m.globals], pulls], 1))

    def _pull_on_exchange(self, r: Residuals, potential: torch.Tensor) -> torch.Tensor:
        """What residuals say of the exchange at every pixel, given Δ⁻¹ (w_e - w_h); it matters where rates are."""
        m = self.model
        wide = (1,) * len(m.box)
        flux = (r["flux"][:, 0] / m.inside.sum(m.dims) / m.flux_sd).reshape(-1, *wide)
        return flux - m.pull_on_source(potential)

    def normal(self, d: Unknowns) -> Unknowns:
        """JᵀJ d."""
        return self.adjoint(self.forward(d))


def added(first: Residuals, second: Residuals) -> Residuals:
    """The sum of residuals of which either may lack some."""
    both = {name: first[name] + value if name in first else value for name, value in second.items()}
    return {**first, **both}
