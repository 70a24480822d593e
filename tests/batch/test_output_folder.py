"""The output folder is whole or not there, and never swallows what a user had in it."""

from pathlib import Path

import pytest

from chromamol.batch.output import require_free, staged
from chromamol.errors import OutputError


def _fill(folder: Path, text: str) -> None:
    (folder / "nuclei.csv").write_text(text)
    (folder / "images").mkdir()
    (folder / "images" / text).write_text(text)


def _break_off(output: Path) -> None:
    with staged(output) as folder:
        _fill(folder, "new")
        raise RuntimeError


def test_contents_take_their_place_when_the_block_ends(tmp_path):
    with staged(tmp_path / "deep" / "out") as folder:
        _fill(folder, "new")
        assert not (tmp_path / "deep" / "out" / "nuclei.csv").exists()
    assert sorted(p.name for p in (tmp_path / "deep" / "out").iterdir()) == ["images", "nuclei.csv"]


def test_nothing_is_left_when_the_block_raises(tmp_path):
    with pytest.raises(RuntimeError):
        _break_off(tmp_path / "deep" / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_user_and_what_is_in_it_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RuntimeError):
        _break_off(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with staged(tmp_path) as folder:
        _fill(folder, "new")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_old_results_are_replaced_whole_and_only_at_the_end(tmp_path):
    _fill(tmp_path, "old")
    with pytest.raises(RuntimeError):
        _break_off(tmp_path)
    assert (tmp_path / "images" / "old").is_file()
    with staged(tmp_path) as folder:
        _fill(folder, "new")
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["new"]


def test_results_are_not_replaced_unasked(tmp_path):
    require_free(tmp_path, overwrite=False)
    _fill(tmp_path, "old")
    with pytest.raises(OutputError, match=r"already holds results \(nuclei.csv, images\).*--overwrite"):
        require_free(tmp_path, overwrite=False)
    require_free(tmp_path, overwrite=True)


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), staged(tmp_path / "file" / "out"):
        pytest.fail("lent a folder that cannot be")
    with pytest.raises(OutputError, match="is a file"):
        require_free(tmp_path / "file", overwrite=True)
