"""Time and memory of a call in this process."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import psutil

from chromamol.benchmarks.memory import watched

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Spent(Generic[Answer]):
    """What a call returned, processor and wall-clock seconds, and the resident memory it added at its peak, MB."""

    answer: Answer
    cpu_s: float
    wall_s: float
    peak_mb: float


def spend(work: Callable[[], Answer]) -> Spent[Answer]:
    """Run `work` and measure it. The memory is that above the start, when what earlier calls held was given back."""
    _give_memory_back()
    process = psutil.Process()
    start = process.memory_info().rss
    cpu, wall = time.process_time(), time.perf_counter()
    with watched(lambda: int(process.memory_info().rss)) as peak:
        answer = work()
    spent = time.process_time() - cpu, time.perf_counter() - wall
    return Spent(answer, *spent, (max(peak[0], start) - start) / 1e6)


def _give_memory_back() -> None:
    """Return freed memory to the system, or the next call would seem to need none (glibc only)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
