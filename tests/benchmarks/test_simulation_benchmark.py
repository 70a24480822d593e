"""The simulation benchmark reports what it measured, and refuses what it cannot measure."""

from __future__ import annotations

from types import SimpleNamespace

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


@pytest.mark.parametrize(
    ("asked", "reached"),
    [({}, 1e-6), ({"quick": True}, 1e-2), ({"quick": True, "steadiness": 0.1}, 0.1)],
)
def test_a_quick_run_asks_for_less_rest(monkeypatch, asked, reached) -> None:
    wanted = []

    def simulated(methylation, _, *, settings, **__):
        wanted.append(settings.steadiness)
        return [SimpleNamespace(steadiness=0.0) for _ in methylation]

    monkeypatch.setattr("chromamol.benchmarks.simulation.simulate_chromatin_batch", simulated)
    run(device="cpu", nuclei=1, **asked)
    assert set(wanted) == {reached}


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
