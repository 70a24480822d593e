"""What `chromamol simulate` was asked for becomes one of the two kinds of run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chromamol.batch.output import require_free
from chromamol.errors import ParameterError
from chromamol.io import read_mask
from chromamol.simulate.changes import parse_perturbation
from chromamol.simulate.inferred import read_nucleus
from chromamol.simulate.run import CONTENTS, Change, simulate, simulate_from_results
from chromamol.simulate.settings import SimulationSettings


@dataclass(frozen=True)
class Request:
    """The options of the command, as given.

    Parameters
    ----------
    settings : file of settings. assigned : of --set. options : named options; None where not given.
    perturb : texts of --perturb. time : in um², or in seconds with a diffusivity.
    source, image, nucleus, region : of --from, --image, --nucleus, --region.
    """

    settings: Path | None
    assigned: Mapping[str, Any]
    options: Mapping[str, Any]
    perturb: tuple[str, ...]
    time: float | None
    diffusivity_um2_per_s: float | None
    source: Path | None
    image: str | None
    nucleus: int | None
    region: Path | None


def run(request: Request, *, output: Path, overwrite: bool, progress: Callable[[str], None]) -> Path:
    """Run it, and return the folder.

    Raises
    ------
    ParameterError : options that do not go together.
    ChromamolError : as the run raises it.
    """
    resolved = (
        SimulationSettings() if request.settings is None else SimulationSettings.from_toml(request.settings)
    )
    SimulationSettings.from_mapping(dict(request.assigned))
    # All at once: a value may go with another only.
    options = {name: value for name, value in request.options.items() if value is not None}
    resolved = resolved.with_values(**{**request.assigned, **options})
    change = _change(request)
    if request.source is None:
        _refuse(request, ("image", "nucleus", "region"), "without --from")
        return simulate(
            output=output, settings=resolved, change=change, overwrite=overwrite, progress=progress
        )
    _refuse_settings(request)
    if change is None:
        raise ParameterError("--from without --perturb.", expected="a change of a rate.",
                             do="add for instance --perturb acetylation=x1.5.")  # fmt: skip
    read = [path for path in (request.source, request.region) if path is not None]
    require_free(output, overwrite=overwrite, contents=CONTENTS, inputs=read)
    found = read_nucleus(request.source, nucleus=request.nucleus, image=request.image)
    region = None if request.region is None else read_mask(request.region, shape=found.image_shape)
    return simulate_from_results(
        found, change, output=output, steadiness=resolved.steadiness, device=resolved.device, region=region,
        overwrite=overwrite, progress=progress,
    )  # fmt: skip


def _change(request: Request) -> Change | None:
    if not request.perturb:
        _refuse(request, ("time", "diffusivity_um2_per_s"), "without --perturb")
        return None
    time = request.time
    if request.diffusivity_um2_per_s is not None:
        if time is None:
            raise ParameterError("--diffusivity-um2-per-s without --time.", expected="a time in seconds.",
                                 do="add --time.")  # fmt: skip
        if not (math.isfinite(request.diffusivity_um2_per_s) and request.diffusivity_um2_per_s > 0.0):
            raise ParameterError(f"--diffusivity-um2-per-s {request.diffusivity_um2_per_s}.",
                                 expected="a positive number.",
                                 do="give D of chromatin, from FRAP or tracking.")  # fmt: skip
        time *= request.diffusivity_um2_per_s
    return Change(parse_perturbation(request.perturb), ", ".join(request.perturb), time)


def _refuse(request: Request, names: tuple[str, ...], why: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(request, name) is not None]
    if given:
        raise ParameterError(f"{', '.join(given)} {why}.", expected="options that go together.",
                             do="add what is missing, or leave them out.")  # fmt: skip


def _refuse_settings(request: Request) -> None:
    """A nucleus of a result has its own size and rates: asking for others must not pass unseen."""
    used = {"steadiness", "device", "seed"}
    given = {name for name, value in request.options.items() if value is not None} | set(request.assigned)
    if given - used:
        raise ParameterError(f"{', '.join(sorted(given - used))} with --from.",
                             expected="steadiness and device only: the nucleus has its own size and rates.",
                             do="leave them out.")  # fmt: skip
