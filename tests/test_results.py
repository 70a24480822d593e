"""Results read back from the folder: what was written, and nothing before it is asked for."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from matplotlib.text import Text

import chromamol as cm
from chromamol.errors import FieldError, ReadError


@pytest.fixture(scope="module")
def results(tmp_path_factory, small_field) -> cm.Results:
    """A run over one image with two nuclei, and one that fails."""
    folder = tmp_path_factory.mktemp("results")
    tifffile.imwrite(folder / "a.tif", small_field(nuclei=2))
    (folder / "b.tif").write_bytes(b"")
    return cm.infer(folder, output=folder / "out", settings=cm.Settings(pixel_size_um=0.1))


def test_a_folder_without_results_is_refused_at_once(tmp_path):
    with pytest.raises(ReadError, match=r"has no nuclei\.csv"):
        cm.Results(tmp_path)


def test_tables_are_those_of_the_files(results):
    assert list(results.nuclei["nucleus"]) == [1, 2]
    parquet = pd.read_parquet(results.folder / "nuclei.parquet")
    pd.testing.assert_frame_equal(results.nuclei, parquet, check_dtype=False)
    assert list(results.images["status"]) == ["done", "failed"]
    assert results.report.is_file()


def test_an_image_opens_by_its_name_with_aligned_maps_and_labels(results):
    image = results.open("a")
    assert image.source.name == "a.tif"
    assert list(image.nuclei["nucleus"]) == [1, 2]
    assert image.pixel_size_um == pytest.approx(0.1)
    assert image.labels.dtype == np.int32
    assert {m.shape for m in image.maps.values()} == {image.labels.shape}
    inside = image.labels > 0
    assert np.isfinite(image.maps["phi_h"]).sum() == inside.sum()
    assert np.isfinite(image.maps["phi_h"][inside]).all()


def test_an_image_is_described_in_a_line_without_its_table(results):
    assert re.fullmatch(
        r"ImageResult\(a, 2 nuclei, rate ratio 0\.\d+ ± 0\.\d+, of .*a\.tif\)", repr(results.open("a"))
    )


def test_only_analysed_images_open(results):
    for name in ("b", "c"):
        with pytest.raises(ReadError, match=rf"'{name}'.*one of: a\."):
            results.open(name)


def test_figures_are_of_all_nuclei_or_of_one(results):
    image = results.open("a")
    whole, single = image.plot(), image.plot(nucleus=2)
    assert len(whole.axes) >= 7
    assert single.axes
    for figure in (whole, single):
        words = [text.get_text() for text in figure.findobj(Text)]
        assert any(text.startswith("Total chromatin") for text in words)
        assert any(re.fullmatch(r"volume fraction 0 to \d\.\d+; outside unknown", text) for text in words)
        assert not any(text.startswith(("Image", "grey values")) for text in words)
    with pytest.raises(FieldError, match="Nucleus 99"):
        image.plot(nucleus=99)


def test_the_folder_may_be_moved(results, tmp_path):
    moved = results.folder.rename(tmp_path / "moved")
    try:
        assert cm.Results(str(moved)).open("a").labels.max() == 2
        assert isinstance(cm.Results(str(moved)).folder, Path)
    finally:
        moved.rename(results.folder)
