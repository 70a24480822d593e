"""What the footprint benchmark says of a process is true of it; no time is judged."""

import re

import pytest
import tifffile

from chromamol.benchmarks.footprint import measure, run
from chromamol.errors import ImageContentError, ParameterError


def test_time_and_memory_are_those_of_the_process_and_its_children():
    hog = "import time; held = bytearray(150_000_000); time.sleep(0.4)"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hog!r}], check=True)"
    for code in (hog, nested):
        cost = measure(("-c", code))
        assert cost.seconds > 0.4
        assert 150e6 < cost.peak_bytes < 400e6


def test_a_failing_command_is_no_measurement():
    with pytest.raises(ImageContentError, match="ended with 3: no luck"):
        measure(("-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"))
    with pytest.raises(ParameterError, match="repeats = 0"):
        run("a.tif", repeats=0)


def test_the_table_has_every_figure(tmp_path, small_field):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, small_field())
    table = run(path, options=("--pixel-size-um", "0.1", "--set", "calibration_check=false"), repeats=1)
    assert re.search(r"\| `import chromamol`, median of 1 \| \d+\.\d\d \| \|", table)
    assert re.search(r"\| `chromamol --help`, median of 1 \| \d+\.\d\d \| \|", table)
    assert re.search(r"\| `chromamol infer a\.tif`, whole run \| \d+\.\d \| 0\.\d\d GB \|", table)
    assert re.search(r"\d+ cores, .* threads per process", table)
