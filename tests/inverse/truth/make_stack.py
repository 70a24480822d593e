"""Makes `stack.npz`: a periodic 3D pattern of uniform rates, steady to .05; a few seconds.

Γ_ac / D = 1 um⁻², so L0 is 1 um; the interface is wide for the sake of few voxels.
"""

from pathlib import Path

import numpy as np

from chromamol.physics import ChromatinParameters
from chromamol.synthetic import SolverSettings, simulate_chromatin

PIXELS, BOX, METHYLATION, ACETYLATION, SEED = 24, 3.6, 0.8, 1.0, 0

if __name__ == "__main__":
    state = simulate_chromatin(
        METHYLATION, ACETYLATION, pixel_size_um=BOX / PIXELS, shape=(PIXELS,) * 3, seed=SEED,
        parameters=ChromatinParameters(interface_length_um=0.055), settings=SolverSettings(steadiness=0.05),
    )  # fmt: skip
    np.savez_compressed(
        Path(__file__).parent / "stack.npz", phi_h=np.float16(state.heterochromatin),
        phi_e=np.float16(state.euchromatin), gamma_me=METHYLATION, gamma_ac=ACETYLATION, box=BOX,
    )  # fmt: skip
