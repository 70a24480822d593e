"""The same work on many items, in one process or several."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from chromamol.errors import ParameterError

Item = TypeVar("Item")
Done = TypeVar("Done")


def in_order(
    work: Callable[[Item], Done], items: Sequence[Item], *, jobs: int
) -> Generator[Done, None, None]:
    """Yield what `work` makes of each item, in the order of the items, whatever the number of processes.

    What `work` raises ends it, and so does closing it. Of the items that wait, at most jobs + 1 are begun then: those
    that were handed over already.

    Raises
    ------
    ParameterError : a process died.
    """
    if jobs == 1 or len(items) == 1:
        for item in items:
            yield work(item)
        return
    # "spawn": forking a process that already runs BLAS threads can deadlock.
    pool = ProcessPoolExecutor(
        min(jobs, len(items)), mp_context=get_context("spawn"), initializer=_end_when_interrupted
    )
    try:
        for future in [pool.submit(work, item) for item in items]:
            yield future.result()
    except BrokenProcessPool as error:
        raise ParameterError(
            f"jobs = {jobs}: a worker process ended without an answer, most often for lack of memory.",
            expected="memory for that many images at the same time.",
            do="use fewer --jobs. In a Python script, call infer below `if __name__ == '__main__':`.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_when_interrupted() -> None:
    """Let Ctrl-C end a worker process, which would otherwise go on with the next item."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
