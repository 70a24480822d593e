"""Rates from domain geometry alone: the baseline that users of the published MATLAB analysis know."""

from __future__ import annotations

import math


def closed_form_rates(domain_radius_um: float, domain_spacing_um: float) -> tuple[float, float]:
    """Return (Γ_me / D, Γ_ac / D) in µm⁻² by the scaling of domain radius R and spacing d.

        Γ_ac / D = 1 / d²          Γ_me / Γ_ac = 1 / ((d / R)² - 1)

    A scaling, not a calibrated estimate: on simulations with known rates it errs by factors.

    Parameters
    ----------
    domain_radius_um : typical radius R of the interior domains, in µm.
    domain_spacing_um : mean distance d to the 5 nearest domains, centre to centre, in µm.

    Returns
    -------
    Both rates, or (NaN, NaN) where the formula has no meaning: R or d not positive and finite, or d <= R.

    References
    ----------
    Kant et al. 2024, Nat. Commun. 15:4338, doi 10.1038/s41467-024-48698-z; the laboratory's STORM_Analysis
    code.
    """
    radius, spacing = domain_radius_um, domain_spacing_um
    if not (math.isfinite(radius) and math.isfinite(spacing) and 0 < radius < spacing):
        return math.nan, math.nan
    acetylation = 1 / spacing**2
    return acetylation / ((spacing / radius) ** 2 - 1), acetylation
