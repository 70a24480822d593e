"""Heterochromatin domains and LADs: radius, spacing, thickness; the closed-form rates of their geometry."""

from chromamol.domains.measure import Domain, Domains, measure_domains
from chromamol.physics.closed_form import closed_form_rates

__all__ = ["Domain", "Domains", "closed_form_rates", "measure_domains"]
