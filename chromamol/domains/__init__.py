"""Heterochromatin domains and LADs: radius, spacing, thickness; the closed-form rates of their geometry."""

from chromamol.domains.localized import LocalizedDomains, localized_domains
from chromamol.domains.measure import Domain, Domains, measure_domains
from chromamol.domains.two_phases import Counted, PhaseRatio, phase_ratio
from chromamol.physics.closed_form import closed_form_rates

__all__ = [
    "Counted",
    "Domain",
    "Domains",
    "LocalizedDomains",
    "PhaseRatio",
    "closed_form_rates",
    "localized_domains",
    "measure_domains",
    "phase_ratio",
]
