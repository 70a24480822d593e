"""The output folder is whole or not there, and never swallows what a user had in it."""

import json
from pathlib import Path

import pytest

from chromamol import provenance
from chromamol.batch.output import require_free, staged
from chromamol.errors import OutputError
from chromamol.simulate.run import CONTENTS as OF_SIMULATION


def _fill(folder: Path, text: str) -> None:
    """Write what a run writes, as far as it matters here."""
    (folder / "nuclei.csv").write_text(text)
    (folder / "images" / text).mkdir(parents=True)
    (folder / "images" / text / "labels.tif").write_text(text)
    record = provenance.record(command=["chromamol"], device="cpu", started=provenance.now())
    (folder / "provenance.json").write_text(json.dumps(record))


def _all_in(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def _break_off(output: Path) -> None:
    with staged(output) as folder:
        _fill(folder, "new")
        raise RuntimeError


def test_contents_take_their_place_when_the_block_ends(tmp_path):
    with staged(tmp_path / "deep" / "out") as folder:
        _fill(folder, "new")
        assert not (tmp_path / "deep" / "out" / "nuclei.csv").exists()
    assert sorted(p.name for p in (tmp_path / "deep" / "out").iterdir()) == [
        "images",
        "nuclei.csv",
        "provenance.json",
    ]


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
    assert (tmp_path / "images" / "old" / "labels.tif").is_file()
    with staged(tmp_path) as folder:
        _fill(folder, "new")
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["new"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "nuclei.csv", "provenance.json"]


def test_results_are_not_replaced_unasked(tmp_path):
    require_free(tmp_path, overwrite=False)
    _fill(tmp_path, "old")
    with pytest.raises(
        OutputError, match=r"already holds results \(nuclei.csv, provenance.json, images\).*--overwrite"
    ):
        require_free(tmp_path, overwrite=False)
    require_free(tmp_path, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_was_there_without_a_run_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "raw.tif").write_text("raw")
    with pytest.raises(OutputError, match="already holds images, without a record") as refused:
        require_free(tmp_path, overwrite=overwrite)
    assert "--overwrite" not in str(refused.value)
    _fill(tmp_path, "old")
    require_free(tmp_path / "elsewhere", overwrite=overwrite)
    with pytest.raises(OutputError, match=r"has not written: images/raw\.tif\. .* Do: move") as refused:
        require_free(tmp_path, overwrite=overwrite)
    assert "--overwrite" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["images/old/note.txt", "images/old/deep/labels.tif", "images/labels.tif", "report.html/my page"]
)
def test_a_file_of_the_user_among_results_is_named_and_kept(tmp_path, name):
    _fill(tmp_path, "old")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=rf"has not written: {name.partition('/my')[0]}\."):
        require_free(tmp_path, overwrite=True)


def test_a_link_among_results_is_not_followed(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "out").mkdir()
    _fill(tmp_path / "out", "old")
    try:
        (tmp_path / "out" / "images" / "more").symlink_to(tmp_path / "raw", target_is_directory=True)
    except OSError:
        pytest.skip("links need a right that this account does not have")
    with pytest.raises(OutputError, match=r"has not written: images.more"):
        require_free(tmp_path / "out", overwrite=True)


def test_what_file_browsers_leave_does_not_hinder(tmp_path):
    _fill(tmp_path, "old")
    for name in ("images/.DS_Store", "images/old/Thumbs.db", "images/old/._labels.tif"):
        (tmp_path / name).write_text("")
    require_free(tmp_path, overwrite=True)


def test_results_do_not_take_the_place_of_what_is_read(tmp_path):
    _fill(tmp_path, "old")
    for read in ("images/old/labels.tif", "images", "images/../images/old", "nuclei.csv"):
        with pytest.raises(OutputError, match=r"already holds what is to be read .* choose another --output"):
            require_free(tmp_path, overwrite=True, inputs=[tmp_path / "gone.tif", tmp_path / read])
    (tmp_path / "imagesque").mkdir()
    require_free(tmp_path, overwrite=True, inputs=[tmp_path, tmp_path / "raw.tif", tmp_path / "imagesque"])


def test_analysis_and_simulation_do_not_take_each_others_records_for_their_own(tmp_path):
    _fill(tmp_path, "old")
    with pytest.raises(
        OutputError, match=r"already holds provenance\.json, without a record.* a simulation made"
    ):
        require_free(tmp_path, overwrite=True, contents=OF_SIMULATION)


@pytest.mark.parametrize("failing", ["provenance.json", "images"])
@pytest.mark.parametrize("new_or_old", ["new", "old"])
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), KeyboardInterrupt()])
def test_results_that_cannot_be_replaced_stay_whole(tmp_path, monkeypatch, failing, new_or_old, error):
    _fill(tmp_path, "old")
    before, rename = _all_in(tmp_path), Path.rename

    def refuse(path: Path, target: Path) -> Path:
        is_new = path.parent.name.startswith(".chromamol-partial-")
        if path.name == failing and is_new == (new_or_old == "new"):
            monkeypatch.setattr(Path, "rename", rename)
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError
    with pytest.raises(expected) as raised, staged(tmp_path) as folder:
        _fill(folder, "new")
    kept = list(tmp_path.glob("results-*"))
    after = _all_in(tmp_path)
    assert {name: text for name, text in after.items() if not name.startswith("results-")} == before
    assert len(kept) == (expected is OutputError), (
        "an interrupted run leaves nothing, one that failed its results"
    )
    if kept:
        assert str(kept[0]) in str(raised.value)
        assert "images/new/labels.tif" in _all_in(kept[0])
    assert not list(tmp_path.glob("replaced-*")) + list(tmp_path.glob(".chromamol-*"))


def test_what_came_while_a_run_went_on_is_put_aside(tmp_path):
    said: list[str] = []
    with staged(tmp_path, progress=said.append) as folder:
        _fill(folder, "new")
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "raw.tif").write_text("mine")
    (aside,) = tmp_path.glob("replaced-*")
    assert _all_in(aside) == {"images/raw.tif": "mine"}
    assert (tmp_path / "images" / "new" / "labels.tif").is_file()
    (line,) = said
    assert line.endswith(f"put aside, into {aside.name}")


def test_a_run_that_ended_meanwhile_is_not_put_aside_in_silence(tmp_path):
    def overtaken() -> None:
        with staged(tmp_path) as later:
            _fill(later, "later")
            with staged(tmp_path) as earlier:
                _fill(earlier, "earlier")

    with pytest.warns(UserWarning, match="put aside, into replaced-"):
        overtaken()
    (aside,) = tmp_path.glob("replaced-*")
    assert "images/earlier/labels.tif" in _all_in(aside)


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), staged(tmp_path / "file" / "out"):
        pytest.fail("lent a folder that cannot be")
    with pytest.raises(OutputError, match="is a file"):
        require_free(tmp_path / "file", overwrite=True)
