"""The chromatin model as one object: its parameters, its conversions, its balances, its equation in print."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from chromamol.physics import euchromatin, heterochromatin
from chromamol.physics.conversion import Conversion
from chromamol.physics.euchromatin import EuchromatinBalance
from chromamol.physics.heterochromatin import HeterochromatinBalance
from chromamol.physics.parameters import ChromatinParameters
from chromamol.physics.water import WaterBalance

EXCHANGE = "+ Γ_me φ_e - Γ_ac φ_h"
SIGNS = str.maketrans("+-", "-+")


@dataclass(frozen=True)
class ChromatinModel:
    """Two chromatin fields, two balances.

    Parameters
    ----------
    parameters : phi_max, interface length, adhesion.
    conversions : what turns φ_e into φ_h beside methylation and acetylation (`physics.conversion`). Simulations take
        them; estimators know those two alone, and write their balances in forms of their own.
    """

    parameters: ChromatinParameters = field(default_factory=ChromatinParameters)
    conversions: tuple[Conversion, ...] = ()

    @property
    def heterochromatin(self) -> HeterochromatinBalance:
        return HeterochromatinBalance(self.parameters)

    @property
    def euchromatin(self) -> EuchromatinBalance:
        return EuchromatinBalance(self.parameters)

    @property
    def water(self) -> WaterBalance:
        return WaterBalance(self.parameters)

    @property
    def equation(self) -> str:
        """The two balances, one per line."""
        terms = " ".join([EXCHANGE, *(c.equation for c in self.conversions)])
        return f"{heterochromatin.EQUATION} {terms}\n{euchromatin.EQUATION} {terms.translate(SIGNS)}"

    def __str__(self) -> str:
        """The equation, and every parameter with value, unit and source."""
        lines = [self.equation]
        for parameter in fields(self.parameters):
            about, value = parameter.metadata, getattr(self.parameters, parameter.name)
            lines.append(f"{about['symbol']} = {value:g}{about['unit']} ({about['source']})")
        return "\n".join(lines)

    @classmethod
    def of(cls, parameters: ChromatinParameters | ChromatinModel | None) -> ChromatinModel:
        """The model that was given, or the one of these parameters without further conversions."""
        if isinstance(parameters, ChromatinModel):
            return parameters
        return cls(parameters or ChromatinParameters())
