"""What the model says: parameters, free energy, balances."""

from chromamol.physics.parameters import ChromatinParameters

__all__ = ["ChromatinParameters"]
