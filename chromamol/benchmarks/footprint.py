"""`chromamol benchmark footprint`: how long the start takes, and what a whole run needs in time and memory.

Each figure is of a process of its own, from its start to its end, as a user waits for it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from chromamol import datasets
from chromamol.benchmarks.memory import watched
from chromamol.errors import ImageContentError, ParameterError

REPEATS = 5
SAMPLE, SAMPLE_OPTIONS = "hela_cells", ("--chromatin-channel", "2")


@dataclass(frozen=True)
class Cost:
    """Of one process and its children: wall-clock time in s, peak resident memory in bytes."""

    seconds: float
    peak_bytes: int


def run(image: str | Path | None = None, *, options: tuple[str, ...] = (), repeats: int = REPEATS) -> str:
    """Measure on this machine, and return a Markdown table.

    Parameters
    ----------
    image : for the whole run; the sample "hela_cells", its channel 2, when None.
    options : further options of `chromamol infer` for that image, such as ("--pixel-size-um", "0.1").
    repeats : of the two starts, of which the median is reported. The whole run is measured once.

    Raises
    ------
    DatasetError : the sample is neither cached nor reachable.
    ParameterError : fewer than one repeat.
    ImageContentError : a measured command failed; the message has what it said.
    """
    if repeats < 1:
        raise ParameterError(f"repeats = {repeats}.", expected="a whole number >= 1.", do="use 5.")
    path = datasets.fetch(SAMPLE) if image is None else Path(image)
    options = (*SAMPLE_OPTIONS, *options) if image is None else options
    started = [measure(("-c", "import chromamol")).seconds for _ in range(repeats)]
    helped = [measure(("-m", "chromamol", "--help")).seconds for _ in range(repeats)]
    with tempfile.TemporaryDirectory() as folder:
        whole = measure(("-m", "chromamol", "infer", str(path), *options, "--output", f"{folder}/out"))
    return "\n".join(
        [
            "| what | seconds | peak memory |",
            "|---|---|---|",
            f"| `import chromamol`, median of {repeats} | {statistics.median(started):.2f} | |",
            f"| `chromamol --help`, median of {repeats} | {statistics.median(helped):.2f} | |",
            f"| `chromamol infer {path.name}`, whole run | {whole.seconds:.1f} | {whole.peak_bytes / 1e9:.2f} GB |",
            "",
            machine(),
        ]
    )


def measure(arguments: tuple[str, ...]) -> Cost:
    """Run Python with these arguments and return what it cost; `ImageContentError` if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with watched(partial(_held_by_family, process.pid)) as peak:
        said = process.communicate()[1]
        seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise ImageContentError(
            f"python {' '.join(arguments)} ended with {process.returncode}: {said.decode(errors='replace').strip()}",
            expected="a run that succeeds.", do="mend what it says, and measure again.",
        )  # fmt: skip
    return Cost(seconds, peak[0])


def _held_by_family(pid: int) -> int:
    """Bytes of a process and its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(_held(each) for each in family)


def _held(process: psutil.Process) -> int:
    """Bytes of a process, where the system tells with shared pages divided among those that share them.

    A child that has just been forked holds the pages of its parent: counted whole, it doubles them.
    """
    memory = process.memory_full_info()
    return int(getattr(memory, "pss", memory.rss))


def machine() -> str:
    """Return what the figures hang on: cores, threads, load, memory, Python."""
    cores = psutil.cpu_count(logical=True)
    threads = os.environ.get("OMP_NUM_THREADS") or f"{cores} (OMP_NUM_THREADS not set)"
    total = psutil.virtual_memory().total / 1e9
    return (
        f"{cores} cores, {threads} threads per process, {total:.0f} GB of memory, load of the last minute "
        f"{psutil.getloadavg()[0]:.1f}, Python {sys.version.split()[0]} on {sys.platform}."
    )
