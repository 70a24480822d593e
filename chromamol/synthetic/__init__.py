"""Nuclei whose rates are known: the forward model, and a microscope to look at them.

Independent of the inversion: neither imports the other, so that truth cannot leak.
"""

from chromamol.synthetic.forward import SimulatedChromatin, SolverSettings, simulate_chromatin

__all__ = ["SimulatedChromatin", "SolverSettings", "simulate_chromatin"]
