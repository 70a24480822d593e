"""Synthetic nuclei with known rates as files, and what happens to them when a rate changes."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "changes": ["parse_perturbation"],
        "inferred": ["read_nucleus"],
        "run": ["simulate", "simulate_from_results"],
        "settings": ["SimulationSettings"],
    },
)
