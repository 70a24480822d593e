"""Read what is needed of an HDF5 file once, in a process of its own: broken bytes can send libhdf5 round in circles.

Met in a mutant of DECODE's file: a string of variable length whose heap is broken is looked for without end, inside the
library, where no error and no signal reaches it. The process is ended then; a file that it has read to the end is safe.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from chromamol.errors import ReadError

WANTED = ("locs", "meta", "data", "saveloc/loc", "itr/loc")

LEAST_SECONDS = 20.0

BYTES_PER_SECOND = 20e6
"""Far below any disk: the limit is for what never ends."""

_READ_ALL = """
import sys, h5py
def read(node):
    for name in node.attrs:
        node.attrs[name]
    if isinstance(node, h5py.Group):
        for name in node:
            read(node[name])
    elif node.shape is not None and node.ndim:
        step = max(1, int(5e7 / max(node.dtype.itemsize * node.size / max(node.shape[0], 1), 1)))
        for start in range(0, node.shape[0], step):
            node[start:start + step]
with h5py.File(sys.argv[1], "r") as file:
    list(file)
    for name in sys.argv[2:]:
        if name in file:
            read(file[name])
"""


def require_readable(path: Path) -> None:
    """Raise `ReadError` unless the tables of an HDF5 file can be read to the end in bounded time."""
    limit = LEAST_SECONDS + path.stat().st_size / BYTES_PER_SECOND
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _READ_ALL, str(path), *WANTED],
            capture_output=True, timeout=limit, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        found = f"not read to the end in {limit:.0f} s"
    else:
        if done.returncode == 0:
            return
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        found = lines[-1][:160] if lines else f"the HDF5 library ended with {done.returncode}"
    # Raised out here: no library's traceback belongs to it.
    raise ReadError(f"{path}: broken or truncated HDF5 ({found}).", expected="a complete HDF5 file.",
                    do="copy the file again from its source, or save it again.")  # fmt: skip
