"""Nuclei whose rates are known: the forward model, and a microscope to look at them.

Independent of the inversion: neither imports the other, so that truth cannot leak.
"""

from chromamol.synthetic.evolve import ChromatinMovie, EvolutionOutcome, EvolutionSettings, evolve_chromatin
from chromamol.synthetic.forward import (
    SimulatedChromatin,
    SolverSettings,
    simulate_chromatin,
    simulate_chromatin_batch,
)

__all__ = [
    "ChromatinMovie",
    "EvolutionOutcome",
    "EvolutionSettings",
    "SimulatedChromatin",
    "SolverSettings",
    "evolve_chromatin",
    "simulate_chromatin",
    "simulate_chromatin_batch",
]
