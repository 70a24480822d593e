"""The largest memory while something runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

POLL_S = 0.02
"""How often the memory is looked at; a peak that is shorter can be missed."""


@contextmanager
def watched(held: Callable[[], int]) -> Iterator[list[int]]:
    """Look at `held()`, in bytes, while the block runs; the one number of the list is the largest so far, or 0."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            try:
                peak[0] = max(peak[0], held())
            except psutil.Error:  # a process that is looked at has just ended
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
