"""`simulate`: the output folder of a simulation, of a field of nuclei or from an inferred nucleus."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from chromamol import provenance
from chromamol.batch.contents import Contents
from chromamol.batch.output import require_free, staged
from chromamol.errors import FieldError, ParameterError, SimulationError
from chromamol.io import atomic_write, write_channels, write_labels, write_text
from chromamol.io.counts import write_counts
from chromamol.io.thunderstorm import write_thunderstorm
from chromamol.report import draw_overview
from chromamol.report.response import ShownResponse, draw_response
from chromamol.shapes import Mask
from chromamol.simulate.field import FieldOfView, Layout, compose, expose, lay_out, localizations
from chromamol.simulate.inferred import InferredNucleus
from chromamol.simulate.nuclei import describe, draw_nucleus, simulate_nucleus
from chromamol.simulate.settings import SimulationSettings
from chromamol.synthetic.forward import SimulatedChromatin, SolverSettings
from chromamol.synthetic.localizations import SyntheticLocalizations
from chromamol.synthetic.microscope import bin_pixels
from chromamol.synthetic.perturbation import Perturbation, Response, perturb, require_time

CONTENTS = Contents(
    names=(
        "field.tif",
        "before.tif",
        "after.tif",
        "before.ome.tif",
        "after.ome.tif",
        "localizations.csv",
        "localizations_before.csv",
        "localizations_after.csv",
        "truth",
        "response.csv",
        "response.png",
        "overview.png",
        "simulation.toml",
        "provenance.json",
    ),
    inside={"truth": ("nuclei.csv", *(f"{name}_{what}" for name in ("field", "before", "after")
                                      for what in ("labels.tif", "truth.ome.tif")))},
    is_simulation=True,
)  # fmt: skip
"""Of a simulation."""

STATES = ("before", "after")
LARGEST_STEADINESS = 0.1
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Change:
    """What is changed, for how long.

    Parameters
    ----------
    perturbation : of the rates.
    text : as the user wrote it.
    time_um2 : time × D after which both are looked at; until they are steady when None.
    """

    perturbation: Perturbation
    text: str
    time_um2: float | None = None

    def __post_init__(self) -> None:
        if self.time_um2 is not None:
            require_time(self.time_um2)


def simulate(
    *, output: str | Path, settings: SimulationSettings | None = None, change: Change | None = None,
    overwrite: bool = False, progress: Progress | None = None, command: list[str] | None = None,
) -> Path:  # fmt: skip
    """Simulate a field of nuclei with known rates, write its image and its truth, and return the folder.

    Parameters
    ----------
    output : a new folder, or one without a simulation unless `overwrite`.
    settings : `SimulationSettings()` when None.
    change : with one, the same nuclei are imaged before and after it.
    progress : called with one line of text per step.
    command : the command line for the record; that of this process when None.

    Raises
    ------
    OutputError : the folder holds a simulation, or cannot be written.
    ParameterError, FieldError : settings that cannot be simulated, or rates that cannot be so changed.
    SimulationError : a change after which volume fractions fall below zero.
    """
    output, settings, say = Path(output), settings or SimulationSettings(), progress or _silent
    _require_patience(change, settings.steadiness)
    _require_rates(change, settings)
    require_free(output, overwrite=overwrite, contents=CONTENTS)
    started = provenance.now()
    nuclei, responses = _run_nuclei(settings, change, say)
    layout = lay_out(nuclei, settings)
    with staged(output, contents=CONTENTS, progress=progress) as folder:
        (folder / "truth").mkdir()
        if change is None:
            table = _write_field(folder, nuclei, layout, settings, name="field")
            _write_csv(folder / "truth" / "nuclei.csv", table)
        else:
            states = ([r.before for r in responses], [r.after for r in responses])
            tables = [
                _write_field(folder, state, layout, settings, name=name, state=number)
                for number, (name, state) in enumerate(zip(STATES, states, strict=True), start=1)
            ]
            _write_response(folder, responses, tables, change.text)
        write_text(folder / "simulation.toml", settings.to_toml())
        _write_record(folder, started, settings.device, command, change, ())
    return output


def simulate_from_results(
    nucleus: InferredNucleus, change: Change, *, output: str | Path, steadiness: float = 0.03, device: str = "cpu",
    region: Mask | None = None, overwrite: bool = False, progress: Progress | None = None,
    command: list[str] | None = None,
) -> Path:  # fmt: skip
    """Predict what a change of rates does to an inferred nucleus, write it, and return the folder.

    Parameters
    ----------
    nucleus : see `read_nucleus`.
    region : (y, x) of the image: pixels where the rates change; everywhere when None.

    Raises
    ------
    OutputError, FieldError, ParameterError, SimulationError : as `simulate`.
    """
    output, say = Path(output), progress or _silent
    _require_patience(change, steadiness)
    require_free(output, overwrite=overwrite, contents=CONTENTS)
    started = provenance.now()
    for note in nucleus.notes:
        say(note)
    here = None if region is None else _region_on(nucleus, region)
    settings = SimulationSettings(steadiness=steadiness, device=device)
    response = _respond(nucleus.state, change, settings, here, number=nucleus.number)
    with staged(output, contents=CONTENTS, progress=progress) as folder:
        for name, state in zip(STATES, (response.before, response.after), strict=True):
            write_channels(folder / f"{name}.ome.tif", _maps(state, nucleus.refinement),
                           pixel_size_um=nucleus.pixel_size_um)  # fmt: skip
        found = pd.DataFrame([{"nucleus": nucleus.number, "state": "inferred", **describe(nucleus.state)}])
        tables = [
            pd.DataFrame([{"nucleus": nucleus.number, **describe(s)}])
            for s in (response.before, response.after)
        ]
        _write_response(folder, [response], tables, change.text, found)
        _write_record(folder, started, device, command, change, nucleus.notes)
    return output


def _require_patience(change: Change | None, steadiness: float) -> None:
    """A changed rate moves the pattern at a few tenths per turnover: a run that calls that rest shows nothing."""
    if change is not None and change.time_um2 is None and steadiness > LARGEST_STEADINESS:
        raise ParameterError(
            f"steadiness = {steadiness} for a change of rates.",
            expected=f"at most {LARGEST_STEADINESS}.",
            do="leave it at 0.03, or give a time.",
        )


def _require_rates(change: Change | None, settings: SimulationSettings) -> None:
    """Refuse a change of rates that cannot be before the first nucleus is simulated, not after the last."""
    for index in range(settings.nuclei):
        _, methylation, acetylation = draw_nucleus(index, settings)
        if change is not None:
            change.perturbation.apply(methylation, acetylation)


def _run_nuclei(
    settings: SimulationSettings, change: Change | None, say: Progress
) -> tuple[list[SimulatedChromatin], list[Response]]:
    """Simulate the nuclei, and with a change what it makes of each."""
    nuclei: list[SimulatedChromatin] = []
    responses: list[Response] = []
    for number in range(1, settings.nuclei + 1):
        nuclei.append(simulate_nucleus(number - 1, settings))
        say(f"nucleus {number} of {settings.nuclei}: {nuclei[-1].outcome.value}")
        if change is not None:
            say(f"nucleus {number} of {settings.nuclei}: on with and without {change.text}")
            responses.append(_respond(nuclei[-1], change, settings, None, number=number))
    return nuclei, responses


def _respond(
    nucleus: SimulatedChromatin, change: Change, settings: SimulationSettings, region: Mask | None, *, number: int
) -> Response:  # fmt: skip
    solver = SolverSettings(steadiness=settings.steadiness, device=settings.device)
    response = perturb(nucleus, change.perturbation, region=region, time_um2=change.time_um2, settings=solver)
    _require_physical(response, f"Nucleus {number} with {change.text}", settings)
    return response


def _require_physical(response: Response, who: str, settings: SimulationSettings) -> None:
    """Only rates keep fractions above zero, the free energy has no wall there; and no camera sees less than nothing."""
    for name in ("heterochromatin", "euchromatin") if settings.marks else ("total",):
        # An inferred nucleus may itself dip below zero within its noise.
        before, after = (float(getattr(s, name)[s.mask].min()) for s in (response.before, response.after))
        if after < min(0.0, before):
            raise SimulationError(
                f"{who}: {'chromatin' if name == 'total' else name} goes down to {after:.3g}.",
                expected="volume fractions >= 0; with these rates the model has no such state.",
                do="change the rates by less, or follow the change for a (shorter) time, --time.",
            )


def _region_on(nucleus: InferredNucleus, region: Mask) -> Mask:
    if region.shape != nucleus.image_shape:
        raise FieldError(f"A region of shape {region.shape}.",
                         expected=f"{nucleus.image_shape}, (y, x) of the analysed image.",
                         do="draw the region on the image itself.")  # fmt: skip
    own = np.kron(region[nucleus.slices], np.ones((nucleus.refinement,) * 2, dtype=bool))
    if not (own & nucleus.state.mask).any():
        raise FieldError("A region without a pixel of the nucleus.", expected="a region that meets the nucleus.",
                         do="draw the region on the image itself, or choose the nucleus in it.")  # fmt: skip
    return own


def _write_field(
    folder: Path, nuclei: list[SimulatedChromatin], layout: Layout, settings: SimulationSettings, *, name: str,
    state: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Write image and truth of one state of the nuclei, by its number; return the truth as a table."""
    field = compose(nuclei, layout, settings)
    counts = expose(field, settings, seed=settings.seed, state=state)
    pixel = settings.pixel_size_um
    write_counts(
        folder / f"{name}.tif", counts, axes="CYX" if counts.ndim == 3 else "YX", pixel_size_um=pixel
    )
    write_labels(folder / "truth" / f"{name}_labels.tif", field.labels)
    write_channels(folder / "truth" / f"{name}_truth.ome.tif", field.maps, pixel_size_um=pixel)
    if settings.molecules_per_um2 > 0.0:
        ending = "" if name == "field" else f"_{name}"
        seen = localizations(field, settings, seed=settings.seed, state=state)
        _write_localizations(folder / f"localizations{ending}.csv", seen)
    table = pd.DataFrame([{"nucleus": i, **_place(field, i, pixel), **describe(n)}
                          for i, n in enumerate(nuclei, start=1)])  # fmt: skip
    if name == "field":
        _draw(folder / "overview.png", field, counts, table, settings)
    return table


def _place(field: FieldOfView, label: int, pixel_um: float) -> dict[str, Any]:
    """Where a nucleus lies in the image, as `nuclei.csv` of an analysis says it."""
    where = np.argwhere(field.labels == label)
    edges = np.array(field.labels.shape) - 1
    return {
        "centroid_y_um": float(where[:, 0].mean() * pixel_um),
        "centroid_x_um": float(where[:, 1].mean() * pixel_um),
        "area_um2": len(where) * pixel_um**2,
        "flags": "touches_border" if ((where == 0) | (where == edges)).any() else "",
    }


def _write_localizations(path: Path, table: SyntheticLocalizations) -> None:
    write_thunderstorm(
        path, x_um=table.x_um, y_um=table.y_um, z_um=table.z_um, precision_um=table.precision_um, frame=table.frame,
        photons=table.photons, background_photons=table.background_photons, psf_sigma_um=table.psf_sigma_um,
    )  # fmt: skip


def _write_response(
    folder: Path, responses: list[Response], tables: list[pd.DataFrame], title: str, *others: pd.DataFrame
) -> None:
    """Write the table of both states, and the figure."""
    parts = [t.assign(state=s) for t, s in zip(tables, STATES, strict=True)]
    table = pd.concat([*others, *parts], ignore_index=True).sort_values("nucleus", kind="stable")
    lead = ["nucleus", "state"]
    _write_csv(folder / "response.csv", table[lead + [c for c in table if c not in lead]])
    shown = [
        ShownResponse(i, r.before.heterochromatin, r.after.heterochromatin, r.before.mask)
        for i, r in zip(tables[0]["nucleus"], responses, strict=True)
    ]
    first = responses[0].before
    picture = draw_response(
        shown, table, pixel_size_um=first.pixel_size_um[-1], title=title, phi_max=first.parameters.phi_max
    )
    with atomic_write(folder / "response.png") as temporary:
        picture.savefig(temporary)


def _maps(state: SimulatedChromatin, refinement: int) -> dict[str, np.ndarray]:
    """Fields and rates on the pixels of the image; NaN outside the nucleus."""
    share = bin_pixels(state.mask.astype(float), refinement)
    maps = {"phi_h": state.heterochromatin, "phi_e": state.euchromatin, "gamma_me_per_um2": state.methylation,
            "gamma_ac_per_um2": state.acetylation}  # fmt: skip
    binned = {name: bin_pixels(values * state.mask, refinement) for name, values in maps.items()}
    return {n: np.divide(v, share, out=np.full_like(v, np.nan), where=share > 0.5) for n, v in binned.items()}


def _draw(
    path: Path, field: FieldOfView, counts: np.ndarray, table: pd.DataFrame, settings: SimulationSettings
) -> None:
    image = counts.sum(0) if counts.ndim == 3 else counts
    shown = ("phi_h", "gamma_me_per_um2", "gamma_ac_per_um2")
    maps = {name: np.where(field.labels > 0, field.maps[name], np.nan) for name in shown}
    picture = draw_overview(
        image, field.labels, maps, pixel_size_um=settings.pixel_size_um, title="Simulated nuclei and their true rates",
        channel_note="hetero- and euchromatin, added" if settings.marks else "total chromatin",
        nuclei=table,
    )  # fmt: skip
    with atomic_write(path) as temporary:
        picture.savefig(temporary)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def _write_record(
    folder: Path,
    started: Any,
    device: str,
    command: list[str] | None,
    change: Change | None,
    notes: Iterable[str],
) -> None:
    entry = provenance.record(command=command or list(sys.argv), device=device, started=started)
    entry |= {"change": None if change is None else {"rates": change.text, "time_um2": change.time_um2}}
    entry |= {"notes": list(notes)}
    write_text(folder / "provenance.json", json.dumps(entry, indent=2) + "\n")


def _silent(_: str) -> None:
    return
