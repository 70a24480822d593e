"""Truth fields for the inversion, made by another discretisation (see truth/make_truth.py)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from chromamol.physics import ChromatinParameters

PARAMETERS = ChromatinParameters(interface_length_um=0.03)


@dataclass(frozen=True)
class Truth:
    phi_h: np.ndarray
    phi_e: np.ndarray
    methylation: np.ndarray
    acetylation: np.ndarray
    pixel_size_um: float

    def noisy(self, share, seed):
        """φ_h and φ_e with white noise of `share` of phi_max."""
        rng = np.random.default_rng(seed)
        sd = share * PARAMETERS.phi_max
        return tuple(phi + sd * rng.standard_normal(phi.shape) for phi in (self.phi_h, self.phi_e))

    @property
    def settings(self):
        return {"pixel_size_um": self.pixel_size_um, "parameters": PARAMETERS}


@pytest.fixture(scope="session")
def truth():
    def load(name):
        with np.load(Path(__file__).parent / "truth" / f"{name}.npz") as file:
            phi_h, phi_e = file["phi_h"].astype(float), file["phi_e"].astype(float)
            rates = [np.broadcast_to(file[k].astype(float), phi_h.shape) for k in ("gamma_me", "gamma_ac")]
            return Truth(phi_h, phi_e, *rates, float(file["box"]) / len(phi_h))

    return load
