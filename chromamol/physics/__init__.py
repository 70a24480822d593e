"""What the model says: parameters, free energy, balances."""

from chromamol.physics.conversion import Conversion
from chromamol.physics.model import ChromatinModel
from chromamol.physics.parameters import ChromatinParameters
from chromamol.physics.residuals import TestFunction

__all__ = ["ChromatinModel", "ChromatinParameters", "Conversion", "TestFunction"]
