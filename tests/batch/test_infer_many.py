"""Many inputs: each by itself, in their order, with the same numbers whatever the number of processes."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import chromamol as cm
from chromamol.batch import run
from chromamol.errors import ImageContentError, OutputError, ParameterError, PixelSizeError
from chromamol.nucleus.flags import SEPARATOR
from chromamol.report.tables import NUCLEI_COLUMNS


def test_two_processes_give_the_same_tables_as_one(write, small_field, tmp_path):
    for name in ("b", "a"):
        write(f"in/{name}.tif", small_field(ord(name)))
    (tmp_path / "in" / "c.tif").write_bytes(b"no image")
    one, two = (
        cm.infer(
            tmp_path / "in", output=tmp_path / str(n), settings=cm.Settings(jobs=n, calibration_check=False)
        )
        for n in (1, 2)
    )
    assert (one.folder / "nuclei.csv").read_bytes() == (two.folder / "nuclei.csv").read_bytes()
    pd.testing.assert_frame_equal(one.images.drop(columns="seconds"), two.images.drop(columns="seconds"))
    assert list(one.images["image"]) == ["a", "b", "c"]
    for kind in ("rates.ome.tif", "labels.tif"):
        assert (one.open("a").folder / kind).read_bytes() == (two.open("a").folder / kind).read_bytes()


@pytest.mark.usefixtures("quick_pictures")
def test_the_order_of_the_inputs_does_not_change_a_nucleus(write, small_field, tmp_path):
    paths = [write(f"{name}.tif", small_field(seed)) for seed, name in enumerate("ab")]
    plain = cm.Settings(calibration_check=False)
    forth = cm.infer(paths, output=tmp_path / "forth", settings=plain).nuclei
    back = cm.infer(paths[::-1], output=tmp_path / "back", settings=plain).nuclei
    assert list(back["image"]) == ["b", "a"]
    pd.testing.assert_frame_equal(forth, back.sort_values("image", ignore_index=True))


@pytest.mark.usefixtures("quick_pictures")
def test_two_files_of_one_stem_keep_their_own_results(write, small_field, tmp_path):
    write("control/img01.tif", small_field(0))
    write("treated/img01.tif", small_field(1))
    results = cm.infer([tmp_path / "control", tmp_path / "treated"], output=tmp_path / "out")
    assert list(results.images["image"]) == ["control-img01", "treated-img01"]
    for name in ("control", "treated"):
        opened = results.open(f"{name}-img01")
        assert opened.source == tmp_path / name / "img01.tif"
        assert np.isfinite(opened.maps["phi_h"]).sum() == (opened.labels > 0).sum()
    assert results.nuclei.groupby("image").size().to_dict() == {"control-img01": 1, "treated-img01": 1}


@pytest.mark.usefixtures("quick_pictures")
def test_an_unforeseen_error_fails_its_input_and_nothing_else(write, small_field, tmp_path, monkeypatch):
    paths = [write(f"{name}.tif", small_field()) for name in "ab"]
    from chromamol.batch import run  # noqa: PLC0415

    real = run.draw_overview

    def draw(*args, title, **settings):
        if title == "a.tif":
            raise KeyError("colour")
        return real(*args, title=title, **settings)

    monkeypatch.setattr(run, "draw_overview", draw)
    results = cm.infer(paths, output=tmp_path / "out")
    assert list(results.images["status"]) == ["failed", "done"]
    assert "a.tif: KeyError in test_infer_many.py" in results.images["error"][0]
    assert [p.name for p in (tmp_path / "out" / "images").iterdir()] == ["b"]


@pytest.mark.usefixtures("quick_pictures")
def test_a_full_disk_ends_the_run_and_leaves_nothing(write, small_field, tmp_path, monkeypatch):
    def full(*_args, **_settings):
        raise OutputError("disk full.", expected="space.", do="free some.")

    monkeypatch.setattr("chromamol.batch.run.write_channels", full)
    with pytest.raises(OutputError, match="disk full"):
        cm.infer([write(f"{name}.tif", small_field()) for name in "ab"], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"method": "oracle"}, ParameterError),
        ({"pixel_size_um": 65.0}, PixelSizeError),
        ({"z_step_um": 300.0}, PixelSizeError),
        ({"labels": "nowhere.tif"}, ParameterError),
    ],
)
def test_settings_that_no_image_could_pass_are_refused_before_any_is_read(tmp_path, settings, error):
    with pytest.raises(error, match=r"Expected: .* Do: "):
        cm.infer(tmp_path / "not looked at.tif", output=tmp_path / "out", settings=cm.Settings(**settings))
    assert not (tmp_path / "out").exists()


def test_what_python_users_hand_over_by_mistake_is_refused_by_name(small_field):
    with pytest.raises(ParameterError, match=r"type dict.*Settings\(\*\*"):
        run._settings_of({"jobs": 1})
    assert run._settings_of(None) == cm.Settings()
    for paths in (small_field(), [small_field()], 3):
        with pytest.raises(ParameterError, match="infer_rates"):
            run._paths_of(paths)
    assert run._paths_of("a.tif") == ["a.tif"]
    assert run._paths_of(path for path in ("a.tif", "b.tif")) == ["a.tif", "b.tif"]


def test_nothing_analysed_raises_with_every_reason(write, tmp_path):
    dark = write("dark.tif", np.zeros((64, 64), np.uint16))
    with pytest.raises(
        ImageContentError, match=r"every input failed \(2\).*dark\.tif.*every pixel is 0.*gone\.tif: no such"
    ):
        cm.infer([dark, tmp_path / "gone.tif"], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick_pictures")
def test_masks_of_the_user_are_used_as_they_are(write, small_field, tmp_path):
    image = write("a.tif", small_field(nuclei=2))
    labels = np.zeros((96, 192), np.uint16)
    labels[28:68, 28:68], labels[28:68, 124:164] = 7, 40
    write("masks/a_cp_masks.tif", labels)
    for given in (tmp_path / "masks", tmp_path / "masks" / "a_cp_masks.tif"):
        results = cm.infer(
            image, output=tmp_path / given.name / "out", settings=cm.Settings(labels=str(given))
        )
        assert list(results.nuclei["nucleus"]) == [7, 40]
        np.testing.assert_array_equal(results.open("a").labels, labels)
        assert results.images["notes"][0].startswith(f"outlines from {tmp_path / 'masks' / 'a_cp_masks.tif'}")
        np.testing.assert_allclose(results.nuclei["area_um2"], 16.0)


@pytest.mark.usefixtures("quick_pictures")
def test_outlines_of_a_run_are_used_for_the_images_that_they_were_made_of(write, small_field, tmp_path):
    one, other = (write(f"{name}/img.tif", small_field(seed)) for seed, name in enumerate(["a", "b"]))
    both = cm.batch.segment([one, other], output=tmp_path / "both")
    masks = tmp_path / "masks"
    write("masks/img.tif", np.zeros((96, 96), np.uint8))
    settings = cm.Settings(labels=tmp_path / "both" / "images", missing=masks, method="auto")
    with pytest.raises(ImageContentError, match=r"0 label files for img\.tif.*a-img_labels\.tif"):
        cm.batch.segment([one, other], output=tmp_path / "none", settings=settings)
    settings = cm.Settings(labels=tmp_path / "both" / "images")
    again = cm.batch.segment([other, one], output=tmp_path / "again", settings=settings)
    for name in ("a-img", "b-img"):
        np.testing.assert_array_equal(again.open(name).labels, both.open(name).labels)
        note = again.images.set_index("image").loc[name, "notes"]
        assert note == f"outlines from {tmp_path / 'both' / 'images' / name / 'labels.tif'}"
    cm.batch.segment(one, output=tmp_path / "single")
    settings = cm.Settings(labels=tmp_path / "single" / "images")
    results = cm.batch.segment([one, other], output=tmp_path / "half", settings=settings)
    assert list(results.images["status"]) == ["done", "failed"]
    assert "no file of the same content" in results.images["error"][1]


@pytest.mark.usefixtures("quick_pictures")
def test_a_diffusivity_adds_rates_per_second(write, small_field, tmp_path):
    image = write("a.tif", small_field())
    row = cm.infer(
        image, output=tmp_path / "out", settings=cm.Settings(diffusivity_um2_per_s=2.0)
    ).nuclei.iloc[0]
    assert list(row.index[len(NUCLEI_COLUMNS) :][:2]) == ["gamma_me_per_s", "gamma_me_per_s_se"]
    for rate in ("gamma_me", "gamma_ac"):
        assert row[f"{rate}_per_s"] == pytest.approx(2.0 * row[f"{rate}_per_um2"], nan_ok=True)
        assert row[f"{rate}_per_s_se"] == pytest.approx(2.0 * row[f"{rate}_se"], nan_ok=True)


@pytest.mark.usefixtures("quick_pictures")
def test_volume_fractions_need_no_channel_and_no_calibration(small_field, tmp_path):
    from chromamol.io import write_channels  # noqa: PLC0415

    counts = small_field().astype(float)
    phi_h = np.clip((counts - 100) / 2400, 0.0, 0.7)
    inside = phi_h > 0.1
    path = tmp_path / "two.ome.tif"
    write_channels(path, {"phi_h": phi_h * inside, "phi_e": 0.2 * inside}, pixel_size_um=0.1)
    results = cm.infer(path, output=tmp_path / "out")
    assert "phi_h and phi_e, by their names" in results.images["channel_note"][0]
    flags = results.nuclei["flags"][0].split(SEPARATOR)
    assert not {"calibration_assumed", "split_constant_assumed"} & set(flags)
    where = results.open("two").labels > 0
    np.testing.assert_allclose(
        results.open("two").maps["phi_h"][where], phi_h[where] * inside[where], atol=1e-6
    )


def test_the_sum_of_two_marks_is_not_drawn_as_a_channel(write, small_field, tmp_path, monkeypatch):
    """Both over their standard deviations, 1.64 to 12.7 were called grey values."""
    drawn = []

    def draw(*_, shown, **__):
        drawn.append(shown.title)
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(run, "draw_overview", draw)
    image = write("marks.tif", np.stack([small_field(), small_field()]))
    marks = cm.Settings(heterochromatin_channel=0, euchromatin_channel=1)
    for settings in (marks, cm.Settings(chromatin_channel=0)):
        cm.batch.segment(image, output=tmp_path / "out", settings=settings, overwrite=True)
    assert drawn == ["Both marks", "Image"]


def test_segment_writes_the_same_outlines_as_infer(write, small_field, tmp_path):
    image = write("a.tif", small_field(nuclei=2))
    outlines = cm.batch.segment(image, output=tmp_path / "outlines")
    rates = cm.infer(image, output=tmp_path / "rates")
    np.testing.assert_array_equal(outlines.open("a").labels, rates.open("a").labels)
    assert sorted(p.name for p in outlines.open("a").folder.iterdir()) == ["labels.tif", "overview.png"]
    np.testing.assert_allclose(outlines.nuclei["area_um2"], rates.nuclei["area_um2"])
    assert outlines.nuclei["gamma_me_per_um2"].isna().all()


@pytest.mark.usefixtures("quick_pictures")
def test_raw_images_below_the_output_are_never_replaced(write, small_field, tmp_path, monkeypatch):
    raw = write("exp/images/raw.tif", small_field())
    monkeypatch.chdir(tmp_path / "exp")
    for given, overwrite in (
        ("images", False),
        ("images", True),
        (raw, True),
        (tmp_path / "other.tif", True),
    ):
        with pytest.raises(OutputError, match=r"already holds .*choose another --output") as refused:
            cm.batch.segment(given, output=".", overwrite=overwrite)
        assert "--overwrite" not in str(refused.value)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.tif")] == [raw.relative_to(tmp_path)]
    assert list(cm.batch.segment("images", output="results").images["status"]) == ["done"]


@pytest.mark.usefixtures("quick_pictures")
def test_outlines_that_a_run_reads_are_not_replaced_by_it(write, small_field, tmp_path):
    image, out = write("in/a.tif", small_field()), tmp_path / "out"
    cm.batch.segment(image, output=out)
    for labels in (out / "images", out / "images" / "a" / "labels.tif"):
        for name in ("labels", "missing", "flat_field"):
            with pytest.raises(OutputError, match="already holds what is to be read"):
                cm.infer(image, output=out, settings=cm.Settings(**{name: str(labels)}), overwrite=True)
    assert cm.Results(out).open("a").labels.max() == 1


@pytest.mark.usefixtures("quick_pictures")
def test_results_inside_the_folder_of_the_images_are_no_inputs(write, small_field, tmp_path):
    write("a.tif", small_field())
    for output in (tmp_path / "results", tmp_path):
        for overwrite in (False, True):
            results = cm.batch.segment(tmp_path, output=output, overwrite=overwrite)
            done = results.images["status"] == "done"
            assert list(results.images["image"][done]) == ["a"]
            assert set(results.images["status"]) <= {"done", "skipped"}


@pytest.mark.usefixtures("quick_pictures")
def test_a_report_that_cannot_be_made_costs_no_tables(write, small_field, tmp_path, monkeypatch):
    def fail(_folder):
        raise UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "surrogates not allowed")

    monkeypatch.setattr(run, "write_report", fail)
    image, lines = write("in/a.tif", small_field()), []
    cm.batch.segment(image, output=tmp_path / "one", progress=lines.append)
    assert lines[-1].startswith("no report.html: UnicodeEncodeError")
    with pytest.warns(UserWarning, match=r"no report\.html"):
        results = cm.batch.segment(image, output=tmp_path / "two")
    assert len(results.nuclei) == 1
    assert not (results.folder / "report.html").exists()


@pytest.mark.usefixtures("quick_pictures")
def test_a_name_that_is_no_utf8_costs_no_report(write, small_field, tmp_path):
    name = "caf\udce9.tif"
    image = write("in/a.tif", small_field()).rename(tmp_path / name)
    results = cm.batch.segment(image, output=tmp_path / "out", command=["segment", name])
    assert r"caf\udce9.tif" in (results.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("quick_pictures")
def test_an_interrupted_run_costs_no_earlier_results(write, small_field, tmp_path, monkeypatch):
    out = cm.batch.segment(write("in/a.tif", small_field()), output=tmp_path / "out").folder
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def interrupt(*_args, **_settings):
        raise KeyboardInterrupt

    write("in/b.tif", small_field(1))
    for stage in ("_outline_and_write", "write_labels", "draw_overview", "write_report"):
        with monkeypatch.context() as patch:
            patch.setattr(f"chromamol.batch.run.{stage}", interrupt)
            with pytest.raises(KeyboardInterrupt):
                cm.batch.segment(tmp_path / "in", output=out, overwrite=True)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
