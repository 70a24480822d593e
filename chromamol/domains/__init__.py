"""Heterochromatin domains and LADs: radius, spacing, thickness; the closed-form rates of their geometry."""

from chromamol.domains.localized import LocalizedDomains, localized_domains
from chromamol.domains.measure import Domain, Domains, measure_domains
from chromamol.physics.closed_form import closed_form_rates

__all__ = [
    "Domain",
    "Domains",
    "LocalizedDomains",
    "closed_form_rates",
    "localized_domains",
    "measure_domains",
]
