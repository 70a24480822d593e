"""`chromamol benchmark simulation`: how long a steady nucleus takes, alone and in a batch, on a device.

The unit is the reference model: a box of 10 L0 with 256² pixels, rates 1 and 1, from droplets to
max |∂t φ| < 1e-6; and 64³ in a box of 3.75 L0.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch

from chromamol.device import resolve_device
from chromamol.errors import ParameterError
from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic import SolverSettings, simulate_chromatin_batch

REFERENCE = ChromatinParameters(interface_length_um=0.03)
BATCH = 32


@dataclass(frozen=True)
class Case:
    """One kind of nucleus: grid, box in units of L0, and how many at once."""

    shape: tuple[int, ...]
    box: float
    nuclei: int


FULL = (Case((256, 256), 10.0, 1), Case((256, 256), 10.0, BATCH), Case((64, 64, 64), 3.75, 1))
QUICK = (Case((32, 32), 1.92, 1), Case((32, 32), 1.92, 4))


def run(
    *, device: str = "auto", quick: bool = False, steadiness: float | None = None, nuclei: int | None = None
) -> pd.DataFrame:
    """Measure on a device, and return one row per case.

    Parameters
    ----------
    device : "auto", "cpu", "cuda", ...
    quick : small boxes, seconds instead of minutes.
    nuclei : in the batches; 32 when omitted, 4 in a quick run.
    steadiness : max |∂t φ| to reach; 1e-6 when omitted, 1e-2 in a quick run.

    Returns
    -------
    columns device, grid, box, nuclei, seconds, cpu_seconds, seconds_per_nucleus, peak_mb (of the CUDA device; NaN on
    the CPU), steadiness (the worst), steady (how many of the nuclei).

    Raises
    ------
    DeviceError : a device that is not there.
    ParameterError : fewer than one nucleus.
    """
    if nuclei is not None and nuclei < 1:
        raise ParameterError(f"nuclei = {nuclei}.", expected="a whole number >= 1.", do="use 32.")
    where = resolve_device(device)
    cases: tuple[Case, ...] = QUICK if quick else FULL
    target = (1e-2 if quick else 1e-6) if steadiness is None else steadiness
    if nuclei is not None:
        cases = tuple(Case(c.shape, c.box, nuclei if c.nuclei > 1 else 1) for c in cases)
    return pd.DataFrame([_measure(case, where, target) for case in cases])


def _measure(case: Case, device: torch.device, steadiness: float) -> dict[str, object]:
    def work() -> list[tuple[float, bool]]:
        nuclei = simulate_chromatin_batch(
            [1.0] * case.nuclei, [1.0] * case.nuclei, pixel_size_um=case.box / case.shape[0], shape=case.shape,
            parameters=REFERENCE, settings=SolverSettings(steadiness=steadiness, device=str(device)),
        )  # fmt: skip
        return [(n.steadiness, n.steadiness <= steadiness) for n in nuclei]

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    reached, wall, cpu = _timed(work)
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else float("nan")
    return {
        "device": str(device),
        "grid": " x ".join(map(str, case.shape)),
        "box": case.box,
        "nuclei": case.nuclei,
        "seconds": wall,
        "cpu_seconds": cpu,
        "seconds_per_nucleus": wall / case.nuclei,
        "peak_mb": peak,
        "steadiness": max(r for r, _ in reached),
        "steady": sum(s for _, s in reached),
    }


def _timed(work: Callable[[], list[tuple[float, bool]]]) -> tuple[list[tuple[float, bool]], float, float]:
    """The result, wall-clock and processor time in seconds; the work ends on the CPU, so a GPU is waited for."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu
