"""The parameters of the chromatin model, with unit and source."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from chromamol.errors import ParameterError

KANT = "Kant et al. 2024, doi:10.1038/s41467-024-48698-z"

REFERENCE_INTERFACE = 0.03
"""ℓ / L0 of the reference model, L0 = √(D / Γ_ac)."""


@dataclass(frozen=True)
class ChromatinParameters:
    """Constants of the two-field chromatin model (Kant et al. 2024).

    Parameters
    ----------
    phi_max : volume fraction of the dense heterochromatin phase, between 0 and 1. 0.7 in the source.
    interface_length_um : ℓ, the length that penalises gradients, in µm. The reference model has
        ℓ = 0.03 L0, 6 to 11 % of a domain radius; for domains of 80 nm that is 5 to 9 nm, hence the
        default of 7 nm. Lengths set the unit: with L0 = 1 µm the reference model is 0.03.
    adhesion : V_L, energy per volume fraction with which heterochromatin sticks to the lamina, as
        -V_L φ_h at the nuclear border; 0 switches it off. Dimensionless.

    Raises
    ------
    ParameterError : a value out of its range.

    References
    ----------
    Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z.
    """

    phi_max: float = field(default=0.7, metadata={"symbol": "φ_max", "unit": "", "source": KANT})
    interface_length_um: float = field(
        default=0.007,
        metadata={"symbol": "ℓ", "unit": " um", "source": f"{KANT}, scaled to domains of 80 nm"},
    )
    adhesion: float = field(default=0.0, metadata={"symbol": "V_L", "unit": "", "source": KANT})

    def __post_init__(self) -> None:
        if not 0.0 < self.phi_max <= 1.0:
            raise ParameterError(f"phi_max = {self.phi_max}.", expected="a volume fraction, 0 < phi_max <= 1.",
                                 do="use 0.7 unless you measured it.")  # fmt: skip
        if not (math.isfinite(self.interface_length_um) and self.interface_length_um > 0.0):
            raise ParameterError(f"interface_length_um = {self.interface_length_um}.",
                                 expected="a positive length in um.",
                                 do="use 0.005 to 0.009 for real nuclei, 0.03 when L0 = 1 um.")  # fmt: skip
        if not (math.isfinite(self.adhesion) and self.adhesion >= 0.0):
            raise ParameterError(f"adhesion = {self.adhesion}.", expected="a finite number >= 0.",
                                 do="use 0 for no lamina adhesion.")  # fmt: skip

    @property
    def interface_width_um(self) -> float:
        """4 ℓ / φ_max, over which φ_max / (1 + exp(-φ_max x / ℓ)), the interface, rises from 12 to 88 %."""
        return 4.0 * self.interface_length_um / self.phi_max
