"""How much too large blur may have made the rates that a regression finds.

The reaction is read from the interfaces of domains. Blur widens them, and wider ones are not in balance: both rates
come out too large by one factor, which goes by the blur over the interface length, q = σ / ℓ, and little by anything
else:

    ln Γ(q) / Γ(0) ≈ .18 q² / (q + 1.2)

It is not taken off, since ℓ itself is hardly known and nuclei imaged alike share it: the errors reach down to where the
rates would be without it. A given Γ_ac fixes the size of Γ_me, which blur then lowers by up to 8 % (two marks), in one
channel by 3 to 12 % at a fifth of a domain radius and up to 30 % at .4: nothing is added for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from chromamol.inverse.rates import RateMap, Rates


def with_error_of_blur(
    rates: Rates, *, blurs_um: Sequence[float], interface_length_um: float, known_acetylation: bool
) -> Rates:
    """Return a regression's `rates` with what blur may have added to their size in the errors.

    That is common to all pixels, and much the same in nuclei imaged alike: it counts as the calibration's.

    Parameters
    ----------
    blurs_um : σ of the Gaussian point spread function along each axis, um; 0 where it is not known.
    """
    if known_acetylation or not all(blurs_um):
        return rates
    blur_um = math.prod(blurs_um) ** (1.0 / len(blurs_um))
    share = share_of_blur(blur_um / interface_length_um)
    methylation, acetylation = (_wider(rate, share) for rate in (rates.methylation, rates.acetylation))
    return replace(rates, methylation=methylation, acetylation=acetylation,
                   diagnostics=rates.diagnostics | {"share_of_blur": share})  # fmt: skip


def share_of_blur(per_interface: float) -> float:
    """Return which share of a rate is there by blur of σ = `per_interface` ℓ alone, 1 - Γ(0) / Γ(q)."""
    return 1.0 - math.exp(-0.18 * per_interface**2 / (per_interface + 1.2))


def _wider(rate: RateMap, share: float) -> RateMap:
    """Return a map with an error of `share` of each value in its errors."""
    return replace(
        rate,
        standard_error=np.hypot(rate.standard_error, share * rate.values),
        mean_se=math.hypot(rate.mean_se, share * rate.mean),
        calibration_se=math.hypot(rate.calibration_se, share * rate.mean),
    )
