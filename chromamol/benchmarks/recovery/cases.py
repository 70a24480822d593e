"""The cases of the recovery benchmark as data: which truth, what is seen of it, what is known, and the bar.

The unit of length is L0, with 192 pixels over 7.5 L0: 11 nm each where that is 2.1 um. Domains have a radius of 8.1 to
8.9 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

PHI_MAX = 0.7

DOMAIN_RADIUS = 0.3
"""L0, in the reference model."""


@dataclass(frozen=True)
class Bar:
    """What an estimate of a case is held against; None where nothing is demanded.

    Parameters
    ----------
    correlation : least correlation of each map with the truth.
    relative_l2 : largest root mean square error over the root mean square of the truth.
    bias : largest relative error of each mean.
    ratio : largest relative error of the ratio of the means.
    stated_ratio : the same of the ratio that the method states beside its maps.
    diffusivity : largest relative error of D.
    median, spread : of a map of a uniform rate: largest relative error of its median and largest relative deviation.
    identifiable : False where the estimator has to say that the data don't tell.
    """

    correlation: float | None = None
    relative_l2: float | None = None
    bias: float | None = None
    ratio: float | None = None
    stated_ratio: float | None = None
    diffusivity: float | None = None
    median: float | None = None
    spread: float | None = None
    identifiable: bool = True

    @property
    def asks(self) -> bool:
        """Whether anything is demanded."""
        return self != Bar()


@dataclass(frozen=True)
class Case:
    """One experiment on one kind of truth.

    Parameters
    ----------
    name : on the command line and in the tables.
    truth : kind of truth, see `truths`.
    noise : standard deviation per pixel, as a share of φ_max.
    psf_px : standard deviation of the point spread function in pixels; the estimator is told.
    channels : 2 for φ_h and φ_e, 1 for their sum.
    acetylation_known : whether Γ_ac is given.
    gain : true scale of the images, which the estimator takes for 1 ± 10 % where it differs from None; φ_max and ℓ then
        have priors of 10 %, too, and the offset one of 0.01.
    side_px : pixels along a side, cut from the periodic truth repeated; the truth's own when None.
    domain_radii : depth of the image of a solid truth, in domain radii; 0 for a single plane, None for the truth's own.
        The estimator is told.
    methods : those that the case can be given to; all when empty.
    bar : what is demanded of the result.
    """

    name: str
    truth: str
    noise: float
    psf_px: float = 0.0
    channels: int = 2
    acetylation_known: bool = False
    gain: float | None = None
    side_px: int | None = None
    domain_radii: int | None = None
    methods: tuple[str, ...] = ()
    bar: Bar = Bar()


def _all_cases() -> dict[str, Case]:
    known = {0.0: (0.9995, 0.006), 0.01: (0.999, 0.012), 0.05: (0.997, 0.025), 0.10: (0.99, 0.05)}
    both = {0.0: (0.995, 0.02), 0.01: (0.99, 0.03), 0.05: (0.97, 0.07), 0.10: (0.93, 0.12)}
    cases = [
        Case(f"known_{100 * n:.0f}", "known", n, acetylation_known=True, bar=Bar(*bar))
        for n, bar in known.items()
    ]
    cases += [Case(f"both_{100 * n:.0f}", "both", n, bar=Bar(*bar)) for n, bar in both.items()]
    cases += [
        Case("both_5_psf2", "both", 0.05, psf_px=2.0, bar=Bar(correlation=0.96, bias=0.03)),
        Case("both_5_psf4", "both", 0.05, psf_px=4.0, bar=Bar(correlation=0.93, bias=0.10)),
        Case("both_5_psf8", "both", 0.05, psf_px=8.0, bar=Bar(identifiable=False)),
        Case("one_5_psf2", "both", 0.05, psf_px=2.0, channels=1, bar=Bar(correlation=0.93, bias=0.05)),
    ]
    cases += [
        Case(f"gain_{gain:g}_one_5_psf2", "both", 0.05, psf_px=2.0, channels=1, gain=gain,
             bar=Bar(ratio=0.05, bias=0.30))
        for gain in (0.9, 1.1)
    ]  # fmt: skip
    cases += [
        Case(f"uniform_{rate}", f"uniform_{rate}", 0.05, acetylation_known=True, bar=Bar(median=0.02, spread=0.03))
        for rate in ("0.5", "1", "1.5")
    ]  # fmt: skip
    cases += [
        Case("walled_5_psf1", "walled", 0.05, psf_px=1.0, bar=Bar(correlation=0.93)),
        Case("short_5", "short", 0.05),
        # Repeated, rates between walls would have kinks; those of `known` are periodic. Both are fitted.
        Case("both_5_400px", "known", 0.05, side_px=400, bar=Bar(relative_l2=both[0.05][1])),
    ]
    cases += [
        Case(f"section_{radii}_5", "solid", 0.05, domain_radii=radii, methods=("regression",),
             bar=Bar(stated_ratio=0.03, bias=0.15))
        for radii in (0, 1, 2, 4)
    ]  # fmt: skip
    cases += [
        Case("stack_5", "solid", 0.05, methods=("regression",), bar=Bar(bias=0.03)),
        Case("film_5", "film", 0.05, methods=("regression",), bar=Bar(*both[0.05], diffusivity=0.05)),
    ]
    return {case.name: case for case in cases}


CASES: dict[str, Case] = _all_cases()
"""By name. `short` has a correlation length of 1.0 L0, where nothing is demanded."""

QUICK_CASES = ("known_5", "both_5")
