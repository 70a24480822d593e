"""The benchmark of batches measures both ways, and refuses what it cannot measure."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from chromamol.benchmarks.together import run
from chromamol.cli import app
from chromamol.errors import ParameterError


def test_command_prints_one_by_one_and_a_batch(tmp_path) -> None:
    arguments = ["--quick", "--device", "cpu", "--truths", str(tmp_path), "--nuclei", "2", "--size", "48"]
    result = CliRunner().invoke(app, ["benchmark", "together", *arguments])
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines() if "48 x 48" in line]
    assert [(row[4], row[5], row[9]) for row in rows] == [("2", "1", "2"), ("2", "2", "2")]


def test_a_single_nucleus_is_no_batch(tmp_path) -> None:
    with pytest.raises(ParameterError, match="nuclei = 1"):
        run(truths=tmp_path, nuclei=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_cuda_a_batch_gives_the_rates_of_the_cpu(tmp_path) -> None:
    table = run(truths=tmp_path, device="cuda", quick=True)
    assert (table["converged"] == table["nuclei"]).all()
    assert table["faster"][0] > 1.0
