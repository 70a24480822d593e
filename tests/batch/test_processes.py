"""Work in several processes comes back in order, and ends when it is to end."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from chromamol.batch import processes
from chromamol.batch.processes import in_order
from chromamol.errors import OutputError


@pytest.fixture
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads in place of processes, which take seconds to start."""
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda jobs, **_: ThreadPoolExecutor(jobs))


def _work(item: int, *, log: Path, failing: int = -1) -> int:
    (log / str(item)).touch()
    if item == failing:
        raise OutputError("disk full.", expected="space.", do="free some.")
    time.sleep(0.02)
    return item * item


def _begun(log: Path) -> int:
    return len(list(log.iterdir()))


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_ends_the_work_and_not_only_its_item(tmp_path, jobs):
    done = in_order(partial(_work, log=tmp_path, failing=2), range(30), jobs=jobs)
    assert [next(done), next(done)] == [0, 1]
    with pytest.raises(OutputError, match="disk full"):
        next(done)
    assert _begun(tmp_path) < 12


@pytest.mark.usefixtures("_threads")
def test_who_stops_asking_ends_the_work(tmp_path):
    done = in_order(partial(_work, log=tmp_path), range(30), jobs=2)
    assert next(done) == 0
    done.close()
    begun = _begun(tmp_path)
    assert begun < 12
    time.sleep(0.1)
    assert _begun(tmp_path) == begun, "nothing is left that goes on"


SCRIPT = """
import sys, time
from functools import partial
from pathlib import Path
from processes import in_order

def work(item, log):
    (log / str(item)).touch()
    time.sleep(60.0)

if __name__ == "__main__":
    list(in_order(partial(work, log=Path(sys.argv[1])), range(9), jobs=2))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to all of a console")
def test_ctrl_c_ends_every_process_at_once(tmp_path):
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(SCRIPT)
    log.mkdir()
    # By itself, the module is imported in a tenth of a second.
    paths = [str(Path(processes.__file__).parent), *sys.path]
    process = subprocess.Popen(
        [sys.executable, str(script), str(log)], env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while _begun(log) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30.0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGINT
    assert said.count("Traceback") == 1, said
    assert _begun(log) == 2
