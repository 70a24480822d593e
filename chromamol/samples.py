"""Remake `data_samples/`: `python -m chromamol.samples [--output DIR] [--check]`.

Everything in that folder is simulated here from fixed seeds. It comes out the same bit for bit as long as the solver
takes the same steps: numbers are rounded far above the last bit of a double before they are written or drawn from.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from chromamol import more_samples
from chromamol.io.atomic import write_text
from chromamol.io.counts import write_counts
from chromamol.io.reading import checksum_of
from chromamol.io.write import write_channels, write_labels
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField
from chromamol.synthetic.forward import SimulatedChromatin, SolverSettings, simulate_chromatin
from chromamol.synthetic.levels import simulate_in_levels
from chromamol.synthetic.microscope import Microscope, nearest_cell, resample
from chromamol.synthetic.rates import log_normal_rate
from chromamol.synthetic.scene import PlacedNucleus, Scene, place, touch
from chromamol.synthetic.shapes import nucleus_mask

TRUTH = "truth"
ONE_CHANNEL = Path(
    "one_channel", "nucleus.tif"
)  # in a folder of its own: 2 um is no nucleus to the pixel-size rule
NANOSCOPE_TRUTH = f"{TRUTH}/nucleus.ome.tif"
DECIMALS = 5  # of what is written: far below the noise, far above the last bit

# The nucleus that super-resolution would see: domains of about 80 nm, ℓ = 7 nm = 0.03 L0.
NANOSCOPE_PIXEL_UM = 0.009
NANOSCOPE_UNIT_UM = 0.007 / 0.03
NANOSCOPE_DIAMETER_UM = 2.16
NOISE = 0.014  # 2 % of phi_max

# The nuclei that a confocal would see: the same model with a longer L0, domains of about 0.4 um.
CONFOCAL_PIXEL_UM = 0.06
CONFOCAL_UNIT_UM = 1.2
CONFOCAL_CELL_UM = 0.09
FIELD_SHAPE = (512, 512)

PROCESSES = 2


def simulate_nanoscope_nucleus() -> SimulatedChromatin:
    """One nucleus with a smooth log-normal Γ_me (median 0.8 Γ_ac, log sd 0.3) and a uniform Γ_ac = D / L0²."""
    rng = np.random.default_rng(20_240)
    spacing = (NANOSCOPE_PIXEL_UM,) * 2
    mask = nucleus_mask(NANOSCOPE_DIAMETER_UM, spacing, margin=8, rng=rng)
    unit = 1.0 / NANOSCOPE_UNIT_UM**2
    methylation = log_normal_rate(
        mask.shape, spacing, mean=0.8 * unit, log_sd=0.3, correlation_um=1.6 * NANOSCOPE_UNIT_UM, rng=rng
    )
    return simulate_in_levels(
        methylation, np.full(mask.shape, unit), pixel_size_um=NANOSCOPE_PIXEL_UM, mask=mask, factors=(2,),
        seed=1, settings=SolverSettings(steadiness=1e-2),
    )  # fmt: skip


def simulate_confocal_nucleus(index: int) -> SimulatedChromatin:
    """One of the nuclei of the confocal field: its own outline, size and rates."""
    rng = np.random.default_rng(30_000 + index)
    spacing = (CONFOCAL_CELL_UM,) * 2
    mask = nucleus_mask((7.0, 8.2, 6.4, 7.6)[index], spacing, rng=rng)
    unit = 1.0 / CONFOCAL_UNIT_UM**2
    methylation = log_normal_rate(
        mask.shape, spacing, mean=(0.7, 0.9, 0.8, 1.0)[index] * unit, log_sd=0.2,
        correlation_um=1.6 * CONFOCAL_UNIT_UM, rng=rng,
    )  # fmt: skip
    return simulate_chromatin(
        methylation, unit, pixel_size_um=CONFOCAL_CELL_UM, mask=mask, seed=index,
        parameters=ChromatinParameters(interface_length_um=0.03 * CONFOCAL_UNIT_UM),
        settings=SolverSettings(steadiness=3e-2),
    )  # fmt: skip


def confocal_scene(nuclei: list[SimulatedChromatin]) -> tuple[Scene, list[int]]:
    """Six nuclei in one field: 1 and 2 touch, 6 is cut by the border. Also which simulation each one is.

    Four are simulated; 5 and 6 are turned copies of 3 and 4.
    """
    pixels = (CONFOCAL_PIXEL_UM,) * 2
    masks = [nearest_cell(n.mask, n.pixel_size_um, pixels) for n in nuclei]
    densities = [resample(n.total, n.pixel_size_um, pixels) for n in nuclei]
    dna = (1.0, 0.85, 1.1, 0.95, 0.9, 1.05)  # cells differ in DNA content and stain
    turned = [(0, 0), (1, 0), (2, 0), (3, 0), (2, 1), (3, 2)]
    boxes = [(np.rot90(densities[i], k) * dna[j], np.rot90(masks[i], k)) for j, (i, k) in enumerate(turned)]
    first = (40, 30)
    corners = [first, touch(boxes[0][1], boxes[1][1], first), (40, 350), (290, 40), (340, 210), (300, 420)]
    placed = [PlacedNucleus(d, m, c) for (d, m), c in zip(boxes, corners, strict=True)]
    return place(placed, FIELD_SHAPE), [i for i, _ in turned]


def write_nanoscope(folder: Path) -> None:
    """Write one nucleus as calibrated densities and as counts of one channel, with its truth."""
    nucleus = simulate_nanoscope_nucleus()
    truth = {
        "gamma_me_per_um2": nucleus.methylation,
        "gamma_ac_per_um2": nucleus.acetylation,
        "phi_h": nucleus.heterochromatin,
        "phi_e": nucleus.euchromatin,
        "mask": nucleus.mask,
    }
    truth = {name: np.round(values * nucleus.mask.astype(float), DECIMALS) for name, values in truth.items()}
    write_channels(folder / NANOSCOPE_TRUTH, truth, pixel_size_um=NANOSCOPE_PIXEL_UM)
    expose_nanoscope(truth["phi_h"], truth["phi_e"], folder)


def expose_nanoscope(phi_h: FloatField, phi_e: FloatField, folder: Path) -> None:
    """Write what two instruments make of the nucleus: densities with 2 % noise, and camera counts."""
    rng = np.random.default_rng(1)
    seen = {
        name: np.round(values + NOISE * rng.standard_normal(values.shape), DECIMALS)
        for name, values in {"phi_h": phi_h, "phi_e": phi_e}.items()
    }
    write_channels(folder / "nucleus_two_channel.ome.tif", seen, pixel_size_um=NANOSCOPE_PIXEL_UM)
    microscope = Microscope(psf_sigma_um=0.009, counts_per_fraction=2000.0, offset=100.0, read_noise=2.0)
    counts = microscope.image(phi_h + phi_e, (NANOSCOPE_PIXEL_UM,) * 2, rng=np.random.default_rng(2))
    (folder / ONE_CHANNEL).parent.mkdir(exist_ok=True)
    write_counts(folder / ONE_CHANNEL, counts, axes="YX", pixel_size_um=NANOSCOPE_PIXEL_UM)


def write_confocal(folder: Path) -> None:
    """Write the field of nuclei, its labels, and the mean rates of each nucleus."""
    nuclei = [simulate_confocal_nucleus(i) for i in range(4)]
    scene, which = confocal_scene(nuclei)
    microscope = Microscope(
        psf_sigma_um=0.1, counts_per_fraction=1500.0, offset=100.0, read_noise=3.0, background=0.01,
        unevenness=0.15,
    )  # fmt: skip
    density = np.round(scene.density, DECIMALS)
    counts = microscope.image(density, (CONFOCAL_PIXEL_UM,) * 2, rng=np.random.default_rng(3))
    write_counts(folder / "field_confocal.tif", counts, axes="YX", pixel_size_um=CONFOCAL_PIXEL_UM)
    write_labels(folder / TRUTH / "field_confocal_labels.tif", scene.labels)
    rows = ["nucleus,gamma_me_per_um2,gamma_ac_per_um2,rate_ratio,heterochromatin_fraction"]
    for label, index in enumerate(which, start=1):
        nucleus = nuclei[index]
        inside = nucleus.mask
        me, ac = nucleus.methylation[inside].mean(), nucleus.acetylation[inside].mean()
        share = nucleus.heterochromatin[inside].sum() / nucleus.total[inside].sum()
        rows.append(f"{label},{me:.5f},{ac:.5f},{me / ac:.5f},{share:.5f}")
    write_text(folder / TRUTH / "field_confocal_rates.csv", "\n".join(rows) + "\n")


WRITERS = (write_nanoscope, write_confocal, *more_samples.WRITERS)


def remake(folder: Path) -> list[Path]:
    """Write every sample into `folder`, with its truth in `folder/truth`; return the files in order."""
    (folder / TRUTH).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        for done in [pool.submit(write, folder) for write in WRITERS]:
            done.result()
    return sorted(p for p in folder.rglob("*") if p.suffix in {".tif", ".csv"})


def _one_thread() -> None:
    """Sums are then taken in the same order on any number of cores."""
    torch.set_num_threads(1)


def differing(folder: Path, fresh: Path) -> list[str]:
    """Names of the sample files that are missing in `folder` or differ from those in `fresh`, byte by byte."""
    names = [str(p.relative_to(fresh)) for p in sorted(fresh.rglob("*")) if p.is_file()]
    same, _, _ = filecmp.cmpfiles(folder, fresh, names, shallow=False)
    return [n for n in names if n not in same]


def checksums(files: list[Path], folder: Path) -> list[str]:
    """`sha256  name` of each file, as sha256sum prints it."""
    return [f"{checksum_of(p)}  {p.relative_to(folder)}" for p in files]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chromamol.samples", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("data_samples"))
    parser.add_argument("--check", action="store_true", help="remake elsewhere and compare byte by byte")
    options = parser.parse_args(arguments)
    if not options.check:
        sys.stdout.write("\n".join(checksums(remake(options.output), options.output)) + "\n")
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        remake(Path(fresh))
        wrong = differing(options.output, Path(fresh))
    sys.stdout.write("".join(f"differs: {name}\n" for name in wrong) or "all samples are as remade\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
