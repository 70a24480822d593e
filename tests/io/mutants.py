"""Real files with broken bytes: each must end in a result or a typed error, in bounded time and memory.

Mutants are read in a process of their own, whose memory is limited and which is ended when one takes too long.

    python tests/io/mutants.py 2000      # writes a table of outcomes
"""

from __future__ import annotations

import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from chromamol import datasets
from chromamol.errors import ChromamolError

MEMORY_BYTES = 2_000_000_000

SECONDS_PER_MUTANT = 60.0

HEADER_BYTES = 4096

IMAGES = ("hela_cells", "bbbc022_u2os", "speckles_hoechst", "speckles_h2ax", "stardist_img2d",
          "qcanet_16_cell_stage", "nuclei_dsb2018/00071198d059")  # fmt: skip
LABELS = {"stardist_mask2d": (512, 512), "nuclei_dsb2018/00071198d059_labels": (256, 256)}
TABLES = (
    "locan_thunderstorm_data", "locan_rapidstorm_data", "locan_rapidstorm_track_data", "locan_elyra_data",
    "locan_nanoimager_data", "locan_smlm_data", "locan_decode_data", "locan_decode_data_empty", "locan_smap_data",
    "picasso_egfr_mols_hdf5", "picasso_raw_movie_locs_hdf5", "picasso_egfr_mols_yaml",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant: "result", "typed error", or the fault in words; and the peak memory so far."""

    name: str
    seed: int
    what: str
    seconds: float
    peak_bytes: int


def sources() -> dict[str, Path]:
    """Return the real files that are in the cache folder, by name; nothing is downloaded."""
    paths = {
        name: datasets.cache_folder() / datasets.describe(name).path for name in (*IMAGES, *LABELS, *TABLES)
    }
    return {name: path for name, path in paths.items() if path.is_file()}


def mutate(whole: bytes, seed: int) -> bytes:
    """Change some bytes, cut the end, or repeat, remove or insert a stretch; mostly in the header."""
    rng = random.Random(seed)
    mutant = bytearray(whole)

    def place() -> int:
        reach = len(mutant) if rng.random() < 0.4 else min(HEADER_BYTES, len(mutant))
        return rng.randrange(max(reach, 1))

    kind = rng.random()
    if kind < 0.1:
        return bytes(mutant[: place()])
    if kind < 0.2:
        start, length = place(), rng.randrange(1, 64)
        mutant[start : start + length] = b"" if rng.random() < 0.5 else mutant[start : start + length] * 2
        return bytes(mutant)
    if kind < 0.3:
        start = place()
        mutant[start:start] = rng.choice(
            (b"\0", b"\n", b",", b'"', b";", b"-1", b"1e309", b"nan", b"\xff\xfe")
        )
        return bytes(mutant)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        at = place()
        mutant[at] = rng.choice((0, 1, 127, 255, mutant[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))
    return bytes(mutant)


def read_as(name: str, path: Path) -> None:
    """Read a file in the way that its kind is read."""
    from chromamol.io import read_image, read_labels, read_localizations  # noqa: PLC0415 - in the limited process only

    if name in IMAGES:
        read_image(path)
    elif name in LABELS:
        read_labels(path, shape=LABELS[name])
    else:
        read_localizations(path.with_suffix(".hdf5") if path.suffix == ".yaml" else path)


def _judge(name: str, path: Path) -> str:
    try:
        read_as(name, path)
    except ChromamolError as error:
        return "typed error" if str(path.stem) in str(error) else f"an error that names no file: {error}"
    except BaseException:  # noqa: BLE001 - the point is to catch whatever comes
        return traceback.format_exc(limit=-3)
    return "result"


def _serve(connection: Connection, folder: Path) -> None:
    import chromamol.io  # noqa: F401, PLC0415 - loaded before the limit is set

    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES, in_use + MEMORY_BYTES))
    while (job := connection.recv()) is not None:
        name, source, seed = job
        path = folder / source.name
        path.write_bytes(mutate(source.read_bytes(), seed))
        if name.startswith("picasso"):  # table and YAML belong together, and one of them is whole
            beside = source.with_suffix(".yaml" if source.suffix == ".hdf5" else ".hdf5")
            shutil.copyfile(beside, folder / beside.name)
        start = time.perf_counter()
        what = _judge(name, path)
        # Not `ru_maxrss`: a process that starts from a large one inherits that one's peak.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        peak = 1024 * int(status["VmHWM"].split()[0])
        connection.send(Outcome(name, seed, what, time.perf_counter() - start, peak))


def run(count: int, *, seed: int = 0) -> list[Outcome]:
    """Read `count` mutants, spread evenly over the real files."""
    files = list(sources().items())
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        worker, connection = _start(Path(folder))
        for number in range(count):
            name, source = files[number % len(files)]
            job = (name, source, seed * 1_000_003 + number)
            connection.send(job)
            try:
                answered = connection.poll(SECONDS_PER_MUTANT)
                outcome = (
                    connection.recv() if answered else Outcome(name, job[2], "a hang", SECONDS_PER_MUTANT, 0)
                )
            except EOFError:
                answered, outcome = False, Outcome(name, job[2], f"a crash, exit {worker.exitcode}", 0.0, 0)
            outcomes.append(outcome)
            if not answered:
                worker.kill()
                worker, connection = _start(Path(folder))
        connection.send(None)
        worker.join()
    return outcomes


def _start(folder: Path):
    here, there = get_context("spawn").Pipe()
    worker = get_context("spawn").Process(target=_serve, args=(there, folder))
    worker.start()
    there.close()
    return worker, here


def summary(outcomes: list[Outcome]) -> str:
    """Return a table of outcomes by file, then the faults with the seeds that make them."""
    fine = ("result", "typed error")
    lines = []
    for name in sorted({o.name for o in outcomes}):
        kinds = Counter(o.what if o.what in fine else "FAULT" for o in outcomes if o.name == name)
        lines.append(f"{name:40} {dict(kinds)}")
    seconds = np.array([o.seconds for o in outcomes])
    faults = [o for o in outcomes if o.what not in fine]
    peak = max(o.peak_bytes for o in outcomes) / 1e9
    lines.append(
        f"{len(outcomes)} mutants, {len(faults)} faults, slowest {seconds.max():.2f} s, peak {peak:.2f} GB"
    )
    return "\n".join(lines + [f"--- {fault.name} seed {fault.seed}\n{fault.what}" for fault in faults])


if __name__ == "__main__":
    sys.stdout.write(summary(run(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)) + "\n")
