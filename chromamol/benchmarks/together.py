"""`chromamol benchmark together`: how long the joint fits of many nuclei take, one by one and in a batch, on a device.

The nuclei are one pattern of the recovery benchmark with both rates uneven, each with noise of its own (5 %): alike in
size, and each with its own number of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from chromamol.benchmarks.recovery.cases import CASES
from chromamol.benchmarks.recovery.costs import spend
from chromamol.benchmarks.recovery.scenes import Scene
from chromamol.benchmarks.recovery.truths import STANDARD_SIZE, steady_truths
from chromamol.device import resolve_device
from chromamol.errors import ChromamolError, ParameterError
from chromamol.inverse.infer import infer_rates_together
from chromamol.inverse.rates import Rates

NUCLEI, QUICK_NUCLEI = 64, 3
QUICK_SIZE = 64
ALONE = 4
"""Nuclei that are measured one by one, at most."""


def run(
    *, truths: Path, device: str = "auto", nuclei: int | None = None, size: int | None = None, quick: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:  # fmt: skip
    """Measure on a device; return a row for nuclei one by one, and one for a batch.

    Parameters
    ----------
    truths : folder that the pattern is kept in; it is made, in a minute or more, when it is not there.
    nuclei : in the batch; 64, or 3 in a quick run.
    size : pixels along a side; 192, or 64 in a quick run.

    Returns
    -------
    columns device, pixels, nuclei, at_once, seconds_per_nucleus, cpu_seconds_per_nucleus, peak_mb (of the CUDA device,
    or resident memory), converged (how many), faster (seconds per nucleus over those of the batch).

    Raises
    ------
    DeviceError : a device that is not there.
    ParameterError : fewer than two nuclei.
    """
    count = nuclei if nuclei is not None else QUICK_NUCLEI if quick else NUCLEI
    if count < 2:
        raise ParameterError(f"nuclei = {count}.", expected="a whole number >= 2.", do="use 64.")
    where = resolve_device(device)
    side = size if size is not None else QUICK_SIZE if quick else STANDARD_SIZE
    ((_, truth),) = steady_truths("both", 1, folder=truths, size=side, progress=progress)
    asked = [
        Scene.of(CASES["both_5"], truth, seed).arguments() | {"method": "joint"} for seed in range(count)
    ]
    if where.type == "cuda":
        infer_rates_together(asked[:1], device=str(where))  # the first one loads and compiles
    alone = _measured(asked[:ALONE], where, at_once=1)
    batch = _measured(asked, where, at_once=count)
    table = pd.DataFrame([alone, batch])
    return table.assign(faster=table.seconds_per_nucleus / table.seconds_per_nucleus.iloc[-1])


def _measured(asked: list[dict[str, Any]], device: torch.device, *, at_once: int) -> dict[str, object]:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    spent = spend(lambda: infer_rates_together(asked, device=str(device), at_once=at_once))
    found: list[Rates | ChromamolError] = spent.answer
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "pixels": " x ".join(map(str, np.shape(asked[0]["phi_h"]))),
        "nuclei": len(asked),
        "at_once": at_once,
        "seconds_per_nucleus": spent.wall_s / len(asked),
        "cpu_seconds_per_nucleus": spent.cpu_s / len(asked),
        "peak_mb": torch.cuda.max_memory_allocated(device) / 1e6 if on_gpu else spent.peak_mb,
        "converged": sum(isinstance(r, Rates) and "not_converged" not in r.flags for r in found),
    }
