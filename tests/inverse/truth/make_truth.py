"""Remake the truth fields of this folder: `python tests/inverse/truth/make_truth.py` (about ten minutes).

Steady patterns of `chromamol.synthetic`, which shares no derivative with the inversion (spectral there, mollified
here): 192 x 192 pixels, box 7.5 L0, ℓ = 0.03 L0, L0 = 1 um. Rates are uniform, or log-normal with log sd 0.3 and
correlation length 1.6 L0. `steadiness` is max |∂t φ| in units of D / L0². `walled_1` is the nucleus of the recovery
benchmark: an ellipse with a no-flux wall, sharpened on twice as many pixels along a side (some minutes more).
"""

from pathlib import Path

import numpy as np

from chromamol.benchmarks.recovery import patterns
from chromamol.physics import ChromatinParameters
from chromamol.synthetic import simulate_chromatin
from chromamol.synthetic.rates import log_normal_rate

PIXELS, BOX = 192, 7.5


def smooth_rate(rng, median):
    spacing = (BOX / PIXELS,) * 2
    return log_normal_rate((PIXELS, PIXELS), spacing, mean=median, log_sd=0.3, correlation_um=1.6, rng=rng)


def simulated(methylation, acetylation):
    return simulate_chromatin(
        methylation, acetylation, pixel_size_um=BOX / PIXELS, shape=(PIXELS, PIXELS), seed=0,
        parameters=ChromatinParameters(interface_length_um=0.03),
    )  # fmt: skip


def save(name, state, methylation, acetylation):
    np.savez_compressed(
        Path(__file__).parent / f"{name}.npz",
        phi_h=np.float32(state.heterochromatin), phi_e=np.float32(state.euchromatin),
        gamma_me=np.float32(methylation), gamma_ac=np.float32(acetylation), mask=state.mask,
        box=BOX, steadiness=state.steadiness,
    )  # fmt: skip


def save_simulated(name, *rates):
    save(name, simulated(*rates), *rates)


def save_walled(name, seed):
    state = patterns.simulate("walled", seed, PIXELS)
    save(name, state, *(np.where(state.mask, rate, 0.0) for rate in (state.methylation, state.acetylation)))


if __name__ == "__main__":
    for rate in ("0.5", "1", "1.5"):
        save_simulated(f"uniform_{rate}", float(rate), 1.0)
    save_simulated("known_0", smooth_rate(np.random.default_rng(1000), 0.8), 1.0)
    rng = np.random.default_rng(1100)
    save_simulated("both_0", smooth_rate(rng, 0.8), smooth_rate(rng, 1.0))
    save_walled("walled_1", 1)
