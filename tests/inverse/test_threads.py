"""Linear algebra on one thread for a while."""

import numpy as np
import pytest
import scipy.linalg  # noqa: F401 - brings a BLAS of its own, beside NumPy's
from threadpoolctl import threadpool_info, threadpool_limits

from chromamol.inverse.threads import one_thread


def threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.mark.parametrize("before", [1, 2])
def test_there_is_one_thread_inside_and_as_many_as_before_after(before):
    with threadpool_limits(limits=before):
        found = threads()
        with one_thread():
            np.linalg.inv(np.eye(300))
            assert threads() == [1] * len(found)
        assert threads() == found
    assert len(found) >= 2
