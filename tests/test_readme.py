"""What the README tells users to type works as it stands there, and what it says of the sample is true."""

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import chromamol as cm
from chromamol.cli import app
from chromamol.report.tables import NUCLEI_COLUMNS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder with the sample data in it, in which all the commands have been run in their order."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data_samples").symlink_to(ROOT / "data_samples")
    before = Path.cwd()
    os.chdir(folder)
    try:
        commands = [
            shlex.split(line, comments=True) for block in _blocks("bash") for line in block.splitlines()
        ]
        for name, *arguments in filter(None, commands):
            assert name == "chromamol", "only this package's commands are run"
            with pytest.raises(SystemExit) as stop:
                app(arguments, prog_name="chromamol")
            assert stop.value.code in (None, 0), arguments
    finally:
        os.chdir(before)
    return folder


def test_the_commands_leave_what_they_say(folder):
    assert (folder / "results" / "report.html").is_file()
    assert "gamma_me_per_s" in cm.Results(folder / "in_seconds").nuclei
    files = {
        p.relative_to(folder / "results").as_posix() for p in (folder / "results").rglob("*") if p.is_file()
    }
    assert {name.replace("images/field_confocal/", "images/NAME/") for name in files} == set(
        re.findall(r"`((?:images/NAME/)?[\w.]+\.(?:html|csv|parquet|toml|json|tif|png))`", README.split("| in the")[1]
                   .split("Columns of")[0])
    )  # fmt: skip


@pytest.mark.parametrize("number", range(len(_blocks("python"))))
def test_the_python_blocks_run(folder, monkeypatch, capsys, number):
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(compile(_blocks("python")[number], f"README block {number}", "exec"), names)
    printed = capsys.readouterr().out.strip()
    assert printed
    assert len(printed.splitlines()) < 20
    if "results" in names:
        assert "rate_ratio_se" in printed
        first = names["results"].nuclei["rate_ratio"][0]
        assert f"{first:.3f}" in printed, "pandas cuts columns out in its default width"
    if "rates" in names:
        assert names["rates"].acetylation.mean == pytest.approx(18.37, rel=0.1), (
            "as data_samples/README.md says"
        )


def test_what_is_said_of_the_sample_is_true(folder):
    found = cm.Results(folder / "results").nuclei
    truth = pd.read_csv(ROOT / "data_samples" / "truth" / "field_confocal_rates.csv", index_col="nucleus")
    labels = cm.read_image(ROOT / "data_samples" / "truth" / "field_confocal_labels.tif").channel()
    pixels = found[["centroid_y_um", "centroid_x_um"]].to_numpy() / 0.06
    true = truth.loc[[labels[tuple(np.round(p).astype(int))] for p in pixels]].reset_index(drop=True)
    whole = ~found["flags"].str.contains("touches_border")
    assert whole.sum() == 5
    assert (np.abs(found["rate_ratio"] / true["rate_ratio"] - 1.0)[whole] < 0.05).all()
    for rate in ("gamma_me_per_um2", "gamma_ac_per_um2"):
        assert 1.6 < np.median((found[rate] / true[rate])[whole]) < 2.5


def test_every_column_and_file_that_is_linked_exists():
    named = set(re.findall(r"`(\w+)`", README))
    suffixed = {"gamma_me_se", "gamma_ac_se", "rate_ratio_se", "image", "nucleus"}
    assert set(NUCLEI_COLUMNS) <= named | suffixed
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_two_commands_come_first():
    assert re.search(r"^# chromamol\n\n[^`]+?\.\n\n```\nmake demo\b.*\nmake test\b", README)
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^demo:", targets, re.MULTILINE)
    assert re.search(r"^test:", targets, re.MULTILINE)
