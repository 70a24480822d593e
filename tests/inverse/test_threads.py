"""Linear algebra on one thread for a while."""

import os
import subprocess
import sys

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


def test_libraries_that_are_loaded_later_are_limited_too():
    code = """
import os
import subprocess
import sys

import numpy as np
from threadpoolctl import threadpool_info
from chromamol.inverse.threads import one_thread
with one_thread():
    pass
import scipy.linalg
with one_thread():
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
print(len(pools), max(pool["num_threads"] for pool in pools))
"""
    told = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    said = subprocess.run([sys.executable, "-c", code], env=told, check=True, capture_output=True, text=True)
    pools, most = map(int, said.stdout.split())
    assert pools >= 2
    assert most == 1
