"""Fields and rates together: the unknowns and the residual of the joint fit; its derivative is in `joint_linear`.

Unknown are φ_h and φ_e at every pixel, log Γ_me and log Γ_ac as smooth Gaussian fields, and a few numbers. The
balance is integrated twice, which makes it second order in the fields, and needs no boundary condition: the
potential is

    m = Δ⁻¹ [ -(Γ_me φ_e - Γ_ac φ_h) ]  +  Σ_j q_j u_j

on a periodic box around the nucleus, beyond whose border sources are expected to go on as mirror images
(`joint_beyond`). The u_j are potentials without sources inside (`joint_outer`), and the q_j are unknown: together they
reach every potential that obeys Δm = -(Γ_me φ_e - Γ_ac φ_h) inside, whatever happens at the wall. Residuals are

    data      g · (PSF * (a_h φ_h + a_e φ_e)) + offset - image             over σ, inside the nucleus
    balance   f(φ_h) - λ² Δφ_h - m - c_h,    φ_e / s² - λ² Δφ_e + m - c_e  over τ, where neighbours are inside, too
    prior     one whitened unknown each

The balance is written with next neighbours alone: Δ is A and all the rest is averaged by B (`stencil`).

Fields are in units in which φ_max has its expected value: with s = φ_max over that value, the true fields are s φ, the
true rates s² Γ, and what the image tells directly are g = s · gain and λ = ℓ / s. So a calibration can move along what
the image leaves open without the fields having to follow; with true fields as unknowns every step there had to be cut
to a sixteenth, and the fit ended nowhere. The prior of a gain that is not exact is that of g: its phases tell it.

Everything has a leading batch axis: nuclei (`joint_batch`), and for each as many samples as it has, one after the
other. What all entries share has it in length one, or not at all where nuclei that are fitted together have it in
common; what is too large to be repeated for every sample has it in the length of the nuclei.

References
----------
Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z (the model).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch

from chromamol.inverse.joint_beyond import MirrorImages
from chromamol.inverse.joint_unknowns import Residuals, Unknowns
from chromamol.inverse.per_nucleus import of_nuclei, times_own
from chromamol.inverse.stencil import SECOND_DIFFERENCE, averaged, compact_laplacian, cross_stencil
from chromamol.physics.free_energy import bulk_potential

MARGIN_PX = 24
"""Pixels between the nucleus and its periodic image, where the outer sources live."""

OUTSIDE_MEAN = 0.25
"""What the fields are expected to be outside the nucleus, which the data see through the PSF only."""

LOOSE_SD = 1.0
"""Prior deviation of the fields where no balance holds, there and on the rim: no information. One mean for the rim,
too, and a deviation of 0.3 told the offset and the gain what thousands of pixels ought to be."""

CURVATURE_SD = 0.04
"""Prior of ℓ²Δφ where no balance holds: no interface is much thinner than ℓ, there neither. It binds the pattern of
single pixels, which a PSF hides. Across a wall, where fields end, it does not reach: there it made maps behind the wall
1.1 to 1.25 times worse, and intervals held 83 to 91 % of the pixels of two patterns in place of 91 to 99."""

LOG_RATE_SD = 2.0
"""Prior of the mean logarithm of a rate around its first guess: a factor of seven, no information."""


@dataclass(frozen=True, eq=False)
class JointModel:
    """What the residual needs, on the padded box.

    Parameters
    ----------
    images, inverse_sd : (B, C, *box), measured fractions and 1 / σ; zero weight where nothing was measured.
    mixing : (C, 2): how much of φ_h and φ_e each channel shows.
    inside, outside, balanced : (B, *box) of 0 and 1; `balanced` where the stencil lies inside.
    unbalanced : (B, 1, *box), 1 where an image shows something but no balance holds: there the fields have a prior of
        their own. Farther out they are not unknown.
    bent : (B, 1, *box), 1 where their curvature has a prior, too: where, besides, all neighbours are unknown.
    sides : (B, 1, *box), 1 in the nucleus and -1 outside; 1 beyond an edge of the image that cuts it, where it goes on.
    expected : (B, 2, *box): what is expected of g φ_h and g φ_e where no balance holds.
    laplacian, averaging, inverse_laplacian, transfer : symbols on the half spectrum: A and B of the compact scheme
        (`stencil`), B² / A, and the point spread function.
    outer_potentials : (B, r, n), times their prior deviation, at the pixels `holding` where the balance holds.
    wall_potentials : how many of them, the first ones, are of sources behind a wall; of a single nucleus.
    holding : (B, n), flat indices of the box.
    cosines : per axis, (B, modes, box) tables of the log-rates;
    root : (B, maps, *modes) prior deviations.
    known : (B, *box) of Γ_ac in um⁻², when it is known.
    scalar_sd : prior deviation of each scalar; 0 fixes it, inf leaves it free.
    scalar_mean : (B, scalars).
    phi_max, interface : expected φ_max and ℓ; ℓ in um.
    roughness_scale : per axis, ℓ² / h².
    flux_sd : (B,), prior deviation of the mean exchange, which a closed nucleus makes zero.
    mirror : what is expected of the exchange beyond the border.
    blurs : False where the transfer is one everywhere, which saves its transforms.
    walled : False where all sides are 1.
    """

    images: torch.Tensor
    inverse_sd: torch.Tensor
    mixing: torch.Tensor
    inside: torch.Tensor
    outside: torch.Tensor
    balanced: torch.Tensor
    unbalanced: torch.Tensor
    bent: torch.Tensor
    sides: torch.Tensor
    expected: torch.Tensor
    laplacian: torch.Tensor
    averaging: torch.Tensor
    inverse_laplacian: torch.Tensor
    transfer: torch.Tensor
    outer_potentials: torch.Tensor
    wall_potentials: int
    holding: torch.Tensor
    cosines: tuple[torch.Tensor, ...]
    root: torch.Tensor
    known: torch.Tensor | None
    scalar_sd: torch.Tensor
    scalar_mean: torch.Tensor
    phi_max: float
    interface: float
    roughness_scale: tuple[float, ...]
    flux_sd: torch.Tensor
    box: tuple[int, ...]
    mirror: MirrorImages
    blurs: bool = True
    walled: bool = True

    @cached_property
    def maps(self) -> int:
        return self.root.shape[1]

    @cached_property
    def globals(self) -> int:
        """How many scalars come before the calibration: mean log-rates and constants."""
        return self.maps + 2

    @property
    def estimated(self) -> list[int]:
        """Scalars of the calibration that are fitted: ℓ, and gains of images that show φ_h, whose phases tell them."""
        shows = [self.globals + c for c in range(self.channels) if float(self.mixing[c, 0]) > 0.0]
        return self._uncertain([*shows, len(self.scalar_sd) - 1])

    @property
    def considered(self) -> list[int]:
        """Scalars that keep their expected value and lend their uncertainty to the errors.

        Offset, φ_max and the gain of euchromatin alone trade with rates and ℓ. What an image seems to say of them is
        mostly the bias of a mode: with 5 % noise and a PSF of 2 px their estimates were three to five of their own
        standard errors off.
        """
        return self._uncertain(
            [j for j in range(self.globals, len(self.scalar_sd)) if j not in self.estimated]
        )

    def _uncertain(self, indices: list[int]) -> list[int]:
        return [j for j in indices if float(self.scalar_sd[j]) > 0.0]

    @cached_property
    def channels(self) -> int:
        return self.mixing.shape[0]

    @cached_property
    def dims(self) -> tuple[int, ...]:
        return tuple(range(-len(self.box), 0))

    def to(self, dtype: torch.dtype) -> JointModel:
        """Return the model in another precision, for inner solves."""

        def cast(value: object) -> object:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                return value.to(dtype)
            if isinstance(value, MirrorImages):
                return MirrorImages(*(cast(v) for v in value))  # type: ignore[arg-type]
            return tuple(cast(v) for v in value) if isinstance(value, tuple) else value

        return replace(self, **{f.name: cast(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]

    def entry(self, index: int) -> JointModel:
        """Return the model of one nucleus of several."""
        if len(self.inside) == 1:
            return self
        one = slice(index, index + 1)
        own = {name: getattr(self, name)[one] for name in OF_EACH_NUCLEUS if getattr(self, name) is not None}
        return replace(self, **own, cosines=tuple(table[one] for table in self.cosines),
                       mirror=MirrorImages(*(part[one] for part in self.mirror)))  # fmt: skip

    def repeated(self, count: int) -> JointModel:
        """Return the model for `count` samples of every nucleus; large parts are shared by them, see above."""
        if len(self.inside) == 1:
            return self
        shared = ("outer_potentials", "holding")
        own = {
            name: getattr(self, name).repeat_interleave(count, 0)
            for name in OF_EACH_NUCLEUS
            if name not in shared and getattr(self, name) is not None
        }
        return replace(self, **own)

    def forward_transform(self, values: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfftn(values, dim=self.dims)

    def back_transform(self, values: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfftn(values, s=self.box, dim=self.dims)

    def synthesise(self, modes: torch.Tensor) -> torch.Tensor:
        """Σ c_k B_k on the box: (B, n, *modes) -> (B, n, *box)."""
        for dim, table in zip(self.dims, self.cosines, strict=True):
            modes = times_own(modes.movedim(dim, -1), table).movedim(-1, dim)
        return modes

    def analyse(self, values: torch.Tensor) -> torch.Tensor:
        """The adjoint of `synthesise`."""
        for dim, table in zip(reversed(self.dims), reversed(self.cosines), strict=True):
            values = times_own(values.movedim(dim, -1), table.mT).movedim(-1, dim)
        return values

    def nothing(self, batch: int) -> Unknowns:
        """A direction of zeros."""
        zero = self.inside.new_zeros((batch, *self.box))
        outer, modes = self.outer_potentials.shape[1], self.root.shape[1:]
        return Unknowns(zero, zero, zero.new_zeros((batch, outer)), zero.new_zeros((batch, *modes)),
                        zero.new_zeros((batch, len(self.scalar_sd))))  # fmt: skip

    def named_scalars(self, x: Unknowns) -> dict[str, torch.Tensor]:
        """The scalars of a point, each (B, ...) and broadcastable to the box; nuisances in natural units."""
        wide = (1,) * len(self.box)
        value = x.scalars * self.whitening()
        m, c = self.maps, self.channels
        cut = {"log_rates": slice(0, m), "constants": slice(m, m + 2), "log_gain": slice(m + 2, m + 2 + c),
               "offset": slice(m + 2 + c, m + 2 + 2 * c), "log_scale": slice(m + 2 + 2 * c, m + 3 + 2 * c),
               "log_interface": slice(m + 3 + 2 * c, m + 4 + 2 * c)}  # fmt: skip
        return {name: value[:, part].reshape(*value[:, part].shape, *wide) for name, part in cut.items()}

    def whitening(self) -> torch.Tensor:
        one = torch.ones_like(self.scalar_sd)
        return torch.cat([one[: self.globals], self.scalar_sd[self.globals :]])

    def rates(self, x: Unknowns) -> tuple[torch.Tensor, torch.Tensor]:
        """Γ_me / s² and Γ_ac / s² in um⁻², (B, *box)."""
        named = self.named_scalars(x)
        rate = torch.exp(self.synthesise(x.modes * self.root) + named["log_rates"])
        if self.known is None:
            return rate[:, 0], rate[:, 1]
        return rate[:, 0], self.known * torch.exp(-2.0 * named["log_scale"][:, 0])

    def bright(self, x: Unknowns) -> torch.Tensor:
        """(B, 2, ...): g of the first image that shows φ_h and of the one that shows φ_e best."""
        named = self.named_scalars(x)
        return torch.exp(self.log_brightness(named)[:, self.shown_in])

    def log_brightness(self, named: dict[str, torch.Tensor]) -> torch.Tensor:
        """log g of every image, (B, C, ...): its log-gain, to which that of s comes where the gain is exact."""
        gains = self.scalar_sd[self.globals : self.globals + self.channels]
        exact = (gains == 0.0).to(gains).reshape(-1, *(1,) * len(self.box))
        return named["log_gain"] + exact * named["log_scale"]

    @property
    def shown_in(self) -> list[int]:
        """Which image sets the scale of φ_h and of φ_e where only a prior holds them."""
        return [0, self.channels - 1]

    def square_length(self, x: Unknowns) -> torch.Tensor:
        """λ² = (ℓ / s)² in um², (B, ...)."""
        named = self.named_scalars(x)
        return self.interface**2 * torch.exp(2.0 * (named["log_interface"] - named["log_scale"])[:, 0])

    def roughness(self, phi: torch.Tensor) -> torch.Tensor:
        """ℓ² times the sum of the differences from next neighbours on the same side of the wall.

        That is the five-point Laplacian of φ (seven points in 3D) away from it; `CURVATURE_SD` bounds it.
        """

        everywhere = self._differences(phi)
        if not self.walled:
            return everywhere
        return 0.5 * (everywhere + self.sides * self._differences(self.sides * phi) - self._across * phi)

    def _differences(self, values: torch.Tensor) -> torch.Tensor:
        return cross_stencil(values, SECOND_DIFFERENCE, self.roughness_scale)

    @cached_property
    def _across(self) -> torch.Tensor:
        """What differences from neighbours behind the wall hold of a pixel itself."""
        return self.sides * self._differences(self.sides)

    def curvature(self, phi: torch.Tensor) -> torch.Tensor:
        """A φ, Δφ averaged over neighbours: what the symbol `laplacian` makes of φ."""
        return compact_laplacian(phi, [c / self.interface**2 for c in self.roughness_scale])

    def averaged(self, values: torch.Tensor) -> torch.Tensor:
        """B of `values`: what the balance takes of all that is not differentiated."""
        return averaged(values, len(self.box))

    def blurred(self, values: torch.Tensor) -> torch.Tensor:
        """PSF * values."""
        if not self.blurs:
            return values
        return self.back_transform(self.transfer * self.forward_transform(values))

    def potential_of(self, exchange: torch.Tensor) -> torch.Tensor:
        """B Δ⁻¹ [-exchange]."""
        return self.integrated_twice(self.continued(exchange)).neg_()

    def integrated_twice(self, values: torch.Tensor) -> torch.Tensor:
        """B Δ⁻¹ of what has no mean; it is its own adjoint."""
        return self.back_transform(self.forward_transform(values).mul_(self.inverse_laplacian))

    def mean_square(self, symbol: torch.Tensor) -> torch.Tensor:
        """Mean of |symbol|² over the whole spectrum: the diagonal of a convolution's square."""
        impulse = self.back_transform(symbol + 0j)
        return impulse.square().sum()

    def square_stencil_sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of `values` over the stencil of the Laplacian, each times its squared coefficient."""
        taps = self.back_transform(self.laplacian + 0j).square()
        return self.back_transform(self.forward_transform(taps) * self.forward_transform(values)).clamp_min(
            0.0
        )

    def outer_potential(self, white: torch.Tensor) -> torch.Tensor:
        """Σ_j q_j u_j: (B, r) -> (B, *box)."""
        summed = times_own(white[:, None], self.outer_potentials)[:, 0]
        everywhere = summed.new_zeros((len(summed), math.prod(self.box)))
        if len(self.holding) == 1:
            everywhere.index_copy_(1, self.holding[0], summed)
        else:
            each = of_nuclei(summed, self.holding)
            where = self.holding[:, None].expand_as(each)
            of_nuclei(everywhere, self.holding).scatter_add_(2, where, each)
        return everywhere.reshape(-1, *self.box)

    def along_outer_potentials(self, values: torch.Tensor) -> torch.Tensor:
        """The adjoint of `outer_potential`."""
        flat = values.flatten(1)
        if len(self.holding) == 1:
            held = flat.index_select(1, self.holding[0])
        else:
            each = of_nuclei(flat, self.holding)
            held = each.gather(2, self.holding[:, None].expand(-1, each.shape[1], -1)).flatten(0, 1)
        return times_own(held[:, None], self.outer_potentials.mT)[:, 0]

    def continued(self, source: torch.Tensor) -> torch.Tensor:
        """A source and its mirror images, whose mean, which a periodic box cannot hold, is taken off outside."""
        whole = self.mirror.add_to_(source.clone(memory_format=torch.contiguous_format), len(self.box))
        surplus = whole.sum(self.dims, keepdim=True) / self.outside.sum(self.dims, keepdim=True)
        return whole.addcmul_(self.outside, surplus, value=-1.0)

    def pull_on_source(self, potential: torch.Tensor) -> torch.Tensor:
        """The adjoint of `continued`."""
        mean = (self.outside * potential).sum(self.dims, keepdim=True) / self.outside.sum(
            self.dims, keepdim=True
        )
        return self.mirror.gather_((potential - mean).contiguous(), len(self.box))

    def per_entry(self, values: torch.Tensor | float) -> torch.Tensor:
        """A number, or one for each entry, as (B, 1, ...) that multiplies (B, n, *box)."""
        wide = torch.as_tensor(values, dtype=self.inside.dtype, device=self.inside.device)
        return wide.reshape(-1, 1, *(1,) * len(self.box))

    def residuals(self, x: Unknowns, tau: torch.Tensor | float) -> Residuals:
        """All residuals at a point, whitened; `tau` is one for all or one for each entry."""
        named = self.named_scalars(x)
        scale = named["log_scale"]
        square = self.square_length(x)
        methylation, acetylation = self.rates(x)
        exchange = self.inside * (methylation * x.phi_e - acetylation * x.phi_h)
        fields = torch.stack([x.phi_h, x.phi_e], 1)
        potential = self.potential_of(exchange) + self.outer_potential(x.outer)
        seen = torch.einsum("cf,bf...->bc...", self.mixing, self.blurred(fields))
        softness = torch.exp(-2.0 * scale[:, 0])
        local = torch.stack([bulk_potential(x.phi_h, self.phi_max), softness * x.phi_e], 1)
        balance = self.averaged(local) + torch.stack([-potential, potential], 1)
        balance = balance - square[:, None] * self.curvature(fields) - named["constants"]
        phi = self.bright(x) * fields
        return {
            "data": (torch.exp(self.log_brightness(named)) * seen + named["offset"] - self.images)
            * self.inverse_sd,
            "balance": balance * self.balanced[:, None] / self.per_entry(tau),
            "outer": x.outer,
            "unbalanced": self.unbalanced * (phi - self.expected) / LOOSE_SD,
            "rough": self.bent * self.roughness(phi) / CURVATURE_SD,
            "modes": x.modes,
            "scalars": self.scalar_residual(x.scalars - self.scalar_mean),
            "flux": (exchange.sum(self.dims) / self.inside.sum(self.dims) / self.flux_sd)[:, None],
        }

    def scalar_residual(self, scalars: torch.Tensor) -> torch.Tensor:
        """Whitened nuisances have unit priors; mean log-rates their own; the constants none."""
        free = self.globals
        return torch.cat([scalars[:, :free] / self.scalar_sd[:free], scalars[:, free:]], 1)


OF_EACH_NUCLEUS = ("images", "inverse_sd", "inside", "outside", "balanced", "unbalanced", "bent", "sides", "expected",
                   "outer_potentials", "holding", "root", "known", "scalar_mean", "flux_sd")  # fmt: skip
"""Parts of a model that have the batch axis; so have the tables in `cosines` and `mirror`."""
