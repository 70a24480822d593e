"""The samples of kinds beyond one image: marks, localisations, a stack, a film, and two conditions.

`chromamol.samples` writes them; each has a folder of its own, which `chromamol infer data_samples` leaves alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from chromamol.io.atomic import write_text
from chromamol.io.counts import write_counts
from chromamol.io.thunderstorm import write_thunderstorm
from chromamol.io.write import write_channels, write_labels
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField
from chromamol.simulate.field import compose, expose, lay_out, localizations
from chromamol.simulate.nuclei import describe, simulate_nucleus
from chromamol.simulate.settings import SimulationSettings
from chromamol.synthetic.evolve import evolve_chromatin
from chromamol.synthetic.forward import SimulatedChromatin, SolverSettings, simulate_chromatin
from chromamol.synthetic.microscope import Microscope
from chromamol.synthetic.perturbation import Perturbation
from chromamol.synthetic.rates import log_normal_rate
from chromamol.synthetic.shapes import nucleus_mask
from chromamol.synthetic.timelapse import film

TRUTH = "truth"
DECIMALS = 5
REPLICATES = 3
INHIBITOR = Perturbation(acetylation_factor=1.5)

MARKS = SimulationSettings(nuclei=2, diameter_um=6.5, marks=True, seed=11)
STORM = SimulationSettings(
    nuclei=1, diameter_um=4.0, methylation_per_um2=9.0, acetylation_per_um2=11.1, correlation_um=0.5,
    adhesion=0.03, pixel_size_um=0.02, brightness_sd=0.0, molecules_per_um2=2000.0, seed=12,
)  # fmt: skip
DISH = SimulationSettings(nuclei=4, diameter_um=6.0, spread=0.05)
DISH_SD = 0.05  # of the logarithm of the rates between dishes

STACK_CELL_UM, STACK_STEP = 0.09, 3
FILM_FRAMES, FILM_INTERVAL_S, FILM_D = 12, 600.0, 2e-4
CONFOCAL_UNIT_UM = 1.2
CONFOCAL = ChromatinParameters(interface_length_um=0.03 * CONFOCAL_UNIT_UM)


def write_marks(folder: Path) -> None:
    """Write two nuclei in two channels, hetero- and euchromatin, as a confocal would see them."""
    _write_field(folder, "two_channel", "field_marks", MARKS, maps=True)


def write_storm(folder: Path) -> None:
    """Write one nucleus as a table of localisations."""
    nucleus = [simulate_nucleus(0, STORM)]
    field = compose(nucleus, lay_out(nucleus, STORM), STORM)
    table = localizations(field, STORM, seed=STORM.seed)
    (folder / "storm").mkdir(parents=True, exist_ok=True)
    write_thunderstorm(
        folder / "storm" / "nucleus_storm.csv", x_um=table.x_um, y_um=table.y_um, precision_um=table.precision_um,
        frame=table.frame, photons=table.photons, background_photons=table.background_photons,
        psf_sigma_um=table.psf_sigma_um,
    )  # fmt: skip
    _write_truth(folder, "nucleus_storm", nucleus, field.labels, field.maps, STORM.pixel_size_um)


def write_stack(folder: Path) -> None:
    """Write one nucleus in 3D, as a confocal z-stack."""
    rng = np.random.default_rng(13)
    cell = STACK_CELL_UM
    mask = nucleus_mask(4.6, (cell,) * 3, margin=5, rng=rng)
    unit = 1.0 / CONFOCAL_UNIT_UM**2
    methylation = log_normal_rate(
        mask.shape, (cell,) * 3, mean=0.8 * unit, log_sd=0.2, correlation_um=1.6 * CONFOCAL_UNIT_UM, rng=rng
    )
    nucleus = simulate_chromatin(methylation, unit, pixel_size_um=cell, mask=mask, parameters=CONFOCAL, seed=13,
                                 settings=SolverSettings(steadiness=3e-2))  # fmt: skip
    around = [(0, 0), (8, 8), (8, 8)]
    density = np.pad(np.round(nucleus.total, DECIMALS), around)
    microscope = Microscope(
        psf_sigma_um=(0.3, 0.1, 0.1), counts_per_fraction=1500.0, read_noise=3.0, background=0.01
    )
    light = microscope.expected(density, (cell,) * 3)[1::STACK_STEP]
    counts = microscope.exposed(light, rng=np.random.default_rng(14))
    (folder / "z_stack").mkdir(parents=True, exist_ok=True)
    write_counts(folder / "z_stack" / "nucleus_stack.tif", counts, axes="ZYX", pixel_size_um=cell,
                 z_step_um=STACK_STEP * cell)  # fmt: skip
    planes = {
        name: np.pad(values * mask, around)[1::STACK_STEP].astype(np.float64)
        for name, values in _fields(nucleus).items()
    }
    write_channels(folder / TRUTH / "nucleus_stack_truth.ome.tif", _rounded(planes), pixel_size_um=cell,
                   z_step_um=STACK_STEP * cell)  # fmt: skip
    _write_table(folder / TRUTH / "nucleus_stack_nuclei.csv", [nucleus])


def write_film(folder: Path) -> None:
    """Write a nucleus after an inhibitor was added, 12 frames 10 minutes apart."""
    settings = SimulationSettings(nuclei=1, diameter_um=6.5, seed=15)
    start = simulate_nucleus(0, settings)
    methylation, acetylation = INHIBITOR.apply(start.methylation, start.acetylation)
    times = FILM_INTERVAL_S * np.arange(FILM_FRAMES)
    movie = evolve_chromatin(
        start.heterochromatin, start.euchromatin, methylation, acetylation, times=times,
        pixel_size_um=start.pixel_size_um, parameters=start.parameters, mask=start.mask, diffusivity_um2_per_s=FILM_D,
    )  # fmt: skip
    around = [(0, 0), (12, 12), (12, 12)]
    microscope = Microscope(psf_sigma_um=0.1, counts_per_fraction=1500.0, read_noise=3.0, background=0.01)
    density = np.pad(np.round(movie.total, DECIMALS), around)
    counts = film(
        density, microscope, pixel_size_um=start.pixel_size_um, bleaching=0.01, rng=np.random.default_rng(16)
    )
    pixel = start.pixel_size_um[-1]
    (folder / "time_lapse").mkdir(parents=True, exist_ok=True)
    write_counts(folder / "time_lapse" / "inhibitor_movie.tif", counts, axes="TYX", pixel_size_um=pixel,
                 frame_interval_s=FILM_INTERVAL_S)  # fmt: skip
    flat = around[1:]
    truth = {"gamma_me_per_um2": methylation, "gamma_ac_per_um2": acetylation}
    truth = {name: np.pad(values * start.mask, flat) for name, values in truth.items()}
    for index, when in ((0, "first"), (-1, "last")):
        truth[f"phi_h_{when}"] = np.pad(movie.heterochromatin[index], flat)
        truth[f"phi_e_{when}"] = np.pad(movie.euchromatin[index], flat)
    truth["mask"] = np.pad(start.mask, flat).astype(np.float64)
    write_channels(folder / TRUTH / "inhibitor_movie_truth.ome.tif", _rounded(truth), pixel_size_um=pixel)
    share = movie.heterochromatin.sum((1, 2)) / movie.total.sum((1, 2))
    rows = [f"{t:.0f},{s:.5f}" for t, s in zip(times, share, strict=True)]
    write_text(
        folder / TRUTH / "inhibitor_movie_frames.csv",
        "\n".join(["time_s,heterochromatin_fraction", *rows]) + "\n",
    )


def write_dish(folder: Path, *, condition: str, replicate: int) -> None:
    """Write one image of four nuclei: a dish of one condition. Every nucleus of the six dishes is its own."""
    treated = condition == "treated"
    factor = INHIBITOR.acetylation_factor if treated else 1.0
    dish = np.exp(DISH_SD * np.random.default_rng([40, replicate]).standard_normal(2))
    settings = DISH.with_values(
        seed=1000 * (1 + treated) + 100 * replicate,
        methylation_per_um2=DISH.methylation_per_um2 * float(dish[0]),
        acetylation_per_um2=DISH.acetylation_per_um2 * float(dish[1]) * factor,
        interface_length_um=DISH.interface_um,
    )  # fmt: skip
    name = f"{condition}_replicate{replicate}"
    _write_field(folder, f"comparison/{condition}", name, settings, maps=False)


def _write_field(folder: Path, place: str, name: str, settings: SimulationSettings, *, maps: bool) -> None:
    nuclei = [simulate_nucleus(i, settings) for i in range(settings.nuclei)]
    field = compose(nuclei, lay_out(nuclei, settings), settings)
    counts = expose(field, settings, seed=settings.seed)
    (folder / place).mkdir(parents=True, exist_ok=True)
    write_counts(folder / place / f"{name}.tif", counts, axes="CYX" if counts.ndim == 3 else "YX",
                 pixel_size_um=settings.pixel_size_um)  # fmt: skip
    _write_truth(folder, name, nuclei, field.labels, field.maps if maps else {}, settings.pixel_size_um)


def _write_truth(
    folder: Path, name: str, nuclei: list[SimulatedChromatin], labels: np.ndarray, maps: dict[str, FloatField],
    pixel_um: float,
) -> None:  # fmt: skip
    write_labels(folder / TRUTH / f"{name}_labels.tif", labels)
    if maps:
        write_channels(folder / TRUTH / f"{name}_truth.ome.tif", _rounded(maps), pixel_size_um=pixel_um)
    _write_table(folder / TRUTH / f"{name}_nuclei.csv", nuclei)


def _write_table(path: Path, nuclei: list[SimulatedChromatin]) -> None:
    rows = [{"nucleus": i, **describe(n)} for i, n in enumerate(nuclei, start=1)]
    # How far from rest a state is hangs on the last bits; that it is steady does not.
    table = pd.DataFrame(rows).drop(columns="steadiness")
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.5f"))


def _fields(nucleus: SimulatedChromatin) -> dict[str, FloatField]:
    return {"gamma_me_per_um2": nucleus.methylation, "gamma_ac_per_um2": nucleus.acetylation,
            "phi_h": nucleus.heterochromatin, "phi_e": nucleus.euchromatin,
            "mask": nucleus.mask.astype(np.float64)}  # fmt: skip


def _rounded(maps: dict[str, FloatField]) -> dict[str, FloatField]:
    return {name: np.round(values, DECIMALS) for name, values in maps.items()}


WRITERS: tuple[Callable[[Path], None], ...] = (
    write_stack,
    write_storm,
    write_film,
    write_marks,
    *(
        functools.partial(write_dish, condition=condition, replicate=replicate)
        for replicate in range(1, REPLICATES + 1)
        for condition in ("control", "treated")
    ),
)
