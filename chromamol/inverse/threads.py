"""One thread for matrices of some hundred rows, where more only wait for each other."""

from __future__ import annotations

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def one_thread() -> AbstractContextManager[object]:
    """Return a context with one thread for linear algebra and OpenMP; on its end the old numbers are back.

    Two threads of NumPy and of SciPy each take 3.5 times as long as one, measured in the regression. All that is
    loaded is searched each time, which takes 3 ms: what is loaded later is limited too.
    """
    return threadpool_limits(limits=1)
