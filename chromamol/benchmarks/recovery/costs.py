"""Time and memory of a call in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import psutil

POLL_S = 0.02
"""How often the memory is looked at; a peak that is shorter can be missed."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Spent(Generic[Answer]):
    """What a call returned, processor and wall-clock seconds, and the resident memory it added at its peak, MB."""

    answer: Answer
    cpu_s: float
    wall_s: float
    peak_mb: float


def spend(work: Callable[[], Answer]) -> Spent[Answer]:
    """Run `work` and measure it. The memory is that above the start, so a process that reuses memory needs less."""
    process = psutil.Process()
    start = process.memory_info().rss
    peak, ended = [start], threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    cpu, wall = time.process_time(), time.perf_counter()
    watcher.start()
    try:
        answer = work()
    finally:
        ended.set()
        watcher.join()
    return Spent(answer, time.process_time() - cpu, time.perf_counter() - wall, (peak[0] - start) / 1e6)
