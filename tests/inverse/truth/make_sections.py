"""Remake `sections.npz`: `python tests/inverse/truth/make_sections.py` (about ten minutes).

Planes and projections of a steady 3D pattern of `chromamol.synthetic`, 48 x 48 x 48 pixels, box 3.75 L0, ℓ = 0.03 L0,
L0 = 1 um, steady to 1e-3; two of each thickness along each axis. Thicknesses in domain radii of 0.3 L0. Its seed and
box are not among those of the correction's curve.
"""

from pathlib import Path

import numpy as np

from chromamol.physics import ChromatinParameters
from chromamol.synthetic import SolverSettings, simulate_chromatin

PIXELS, BOX, METHYLATION, ACETYLATION, SEED = 48, 3.75, 0.8, 1.0, 0
RADIUS_UM = 0.3
RADII = (0, 1, 2, 4)


def sections(phi_h, phi_e, pixel_um):
    """Return by name the images of every thickness and the thickness itself."""
    stored = {}
    for radii in RADII:
        layers = max(1, round(radii * RADIUS_UM / pixel_um))
        stored[f"thickness_um_{radii}"] = layers * pixel_um if radii else 0.0
        for name, phi in (("phi_h", phi_h), ("phi_e", phi_e)):
            images = []
            for axis in range(3):
                planes = np.moveaxis(phi, axis, 0)
                starts = (0, len(planes) // 2)
                images += [planes[(s + np.arange(layers)) % len(planes)].mean(axis=0) for s in starts]
            stored[f"{name}_{radii}"] = np.float16(images)
    return stored


def save(phi_h, phi_e):
    pixel_um = BOX / PIXELS
    np.savez_compressed(
        Path(__file__).parent / "sections.npz", methylation=METHYLATION, acetylation=ACETYLATION,
        pixel_size_um=pixel_um, **sections(phi_h, phi_e, pixel_um),
    )  # fmt: skip


if __name__ == "__main__":
    state = simulate_chromatin(
        METHYLATION, ACETYLATION, pixel_size_um=BOX / PIXELS, shape=(PIXELS,) * 3, seed=SEED,
        parameters=ChromatinParameters(interface_length_um=0.03), settings=SolverSettings(steadiness=1e-3),
    )  # fmt: skip
    save(state.heterochromatin, state.euchromatin)
