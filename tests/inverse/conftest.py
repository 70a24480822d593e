"""Truth fields for the inversion, made by another discretisation (see truth/make_truth.py)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.calibration import EXACT
from chromamol.inverse.joint_setup import JointProblem
from chromamol.physics import ChromatinParameters

PARAMETERS = ChromatinParameters(interface_length_um=0.03)


@dataclass(frozen=True)
class Truth:
    phi_h: np.ndarray
    phi_e: np.ndarray
    methylation: np.ndarray
    acetylation: np.ndarray
    pixel_size_um: float
    mask: np.ndarray

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
            mask = file["mask"] if "mask" in file else np.ones(phi_h.shape, bool)
            return Truth(phi_h, phi_e, *rates, float(file["box"]) / len(phi_h), mask)

    return load


@pytest.fixture(scope="session")
def small_problem(truth):
    """A disc of 72 pixels of the pattern `both_0` at 5 % noise, as the joint fit takes it."""

    def make(*, channels=2, blur_um=0.0, calibration=EXACT, known=None):
        state = truth("both_0")
        phi_h, phi_e = (phi[60:132, 60:132] for phi in state.noisy(0.05, 0))
        y, x = np.mgrid[-1:1:72j, -1:1:72j]
        grid = Grid(phi_h.shape, (state.pixel_size_um,) * 2)
        images = (phi_h, phi_e) if channels == 2 else (phi_h + phi_e,)
        mixing = ((1.0, 0.0), (0.0, 1.0)) if channels == 2 else ((1.0, 1.0),)
        fields = tuple(Field(v, grid, "1", y**2 + x**2 < 0.9) for v in images)
        return JointProblem(fields, mixing, (0.035,) * channels, blur_um, PARAMETERS, known, calibration)

    return make
