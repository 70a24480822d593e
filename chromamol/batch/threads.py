"""One thread for linear algebra while images are analysed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run the block with one BLAS, OpenMP and torch thread, and put the old numbers back.

    Matrices of one nucleus are small: more threads gain nothing, and on a busy machine, or with `--jobs`, they
    wait for each other. Measured on two busy cores: 8 s of work took 440 s with two threads, 11 s with one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)
