"""The simulation benchmark reports what it measured, and refuses what it cannot measure."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from chromamol.benchmarks.simulation import run
from chromamol.cli import app
from chromamol.errors import DeviceError, ParameterError


def test_command_prints_a_row_per_case() -> None:
    result = CliRunner().invoke(app, ["benchmark", "simulation", "--quick", "--device", "cpu"])
    assert result.exit_code == 0
    rows = [line for line in result.stdout.splitlines() if "32 x 32" in line]
    assert len(rows) == 2


def test_no_nuclei_are_refused() -> None:
    with pytest.raises(ParameterError, match="nuclei = 0"):
        run(nuclei=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_absent_device_is_refused() -> None:
    with pytest.raises(DeviceError):
        run(device="cuda", quick=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_cuda_every_nucleus_becomes_steady() -> None:
    table = run(device="cuda", quick=True)
    assert (table["steady"] == table["nuclei"]).all()
    assert (table["peak_mb"] > 0.0).all()
