"""A localisation table or an OME-Zarr goes all the way, and the record says what was used."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

import chromamol as cm
from chromamol.errors import ImageContentError
from chromamol.rendered import render_localizations


@pytest.fixture
def table(tmp_path):
    """Write a ThunderSTORM table of one nucleus, 4 um wide, 60 localisations per pixel of 40 nm."""
    rng = np.random.default_rng(1)
    texture = gaussian_filter(rng.standard_normal((160, 160)), 4.0)
    domains = gaussian_filter((texture > np.quantile(texture, 0.65)).astype(float), 1.0)
    y, x = np.indices((160, 160))
    inside = (y - 79.5) ** 2 + (x - 79.5) ** 2 < 50.0**2
    counts = rng.poisson(inside * (4.0 + 8.0 * domains))
    rows, columns = (np.repeat(axis.ravel(), counts.ravel()) + rng.random(counts.sum()) for axis in (y, x))
    frame = pd.DataFrame({"frame": rng.integers(1, 20_000, rows.size), "x [nm]": 40.0 * columns, "y [nm]": 40.0 * rows,
                          "uncertainty [nm]": 20.0})  # fmt: skip
    path = tmp_path / "in" / "cell 1.csv"
    path.parent.mkdir()
    frame.to_csv(path, index=False)
    return path


@pytest.mark.usefixtures("quick_pictures")
def test_a_localisation_table_becomes_rates_with_its_record(table, tmp_path):
    (table.parent / "notes.csv").write_text("day,who\n1,A\n")
    said = []
    results = cm.infer(table.parent, output=tmp_path / "out", settings=cm.Settings(density_pixel_um=0.04),
                       progress=said.append)  # fmt: skip
    done = results.images.set_index("image").loc["cell_1"]
    assert done["status"] == "done"
    assert "nm, by dialect" in done["pixel_size_note"]
    assert "ThunderSTORM" in done["channel_note"]
    assert "merged into" in done["channel_note"]
    assert any("density of localisations: ThunderSTORM" in line for line in said)
    assert results.images.set_index("image").loc["notes.csv", "status"] == "skipped"
    (nucleus,) = results.nuclei.to_dict("records")
    assert {"localization_density", "calibration_assumed"} <= set(nucleus["flags"].split(";"))
    assert nucleus["area_um2"] == pytest.approx(np.pi * 2.0**2, rel=0.04)
    assert nucleus["noise_sd"] > 0.0
    # The middle of the disc, 80 pixels of 40 nm from the table's zero.
    for axis in "yx":
        assert done[f"origin_{axis}_um"] > 0.0
        assert done[f"origin_{axis}_um"] + nucleus[f"centroid_{axis}_um"] == pytest.approx(3.2, abs=0.06)
    with tifffile.TiffFile(results.open("cell_1").folder / "rates.ome.tif") as tif:
        plane = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]["Plane"][0]
    assert (plane["PositionY"], plane["PositionX"]) == (done["origin_y_um"], done["origin_x_um"])


def test_segment_outlines_a_table(table, tmp_path):
    results = cm.batch.segment(table, output=tmp_path / "out", settings=cm.Settings(density_pixel_um=0.04))
    assert len(results.nuclei) == 1
    where = results.images["origin_x_um"][0] + results.nuclei["centroid_x_um"][0]
    assert where == pytest.approx(3.2, abs=0.06)


def test_of_two_probes_one_is_named_and_used(table, tmp_path):
    frame = pd.read_csv(table)[::10]
    frame["channel"] = np.arange(len(frame)) % 4 == 0
    path = tmp_path / "two probes.csv"
    frame.to_csv(path, index=False)
    settings = cm.Settings(density_pixel_um=0.04)
    with pytest.raises(ImageContentError, match="several channels and none named"):
        cm.batch.segment(path, output=tmp_path / "a", settings=settings)
    named = settings.with_values(chromatin_channel="False")
    _, channels, _ = render_localizations(cm.read_localizations(path), named)
    assert "channel 0 ('False') named by the user" in channels.note
    assert f"{np.count_nonzero(~frame['channel']):,} localisations" in channels.note


@pytest.mark.usefixtures("quick_pictures")
def test_a_table_without_a_unit_fails_alone_and_goes_with_columns(table, tmp_path):
    frame = pd.read_csv(table).rename(columns={"x [nm]": "X", "y [nm]": "Y", "uncertainty [nm]": "S"})
    path = tmp_path / "plain.txt"
    frame.to_csv(path, index=False, sep="\t")
    settings = cm.Settings(density_pixel_um=0.04)
    both = cm.infer([table, path], output=tmp_path / "a", settings=settings).images.set_index("image")
    assert both.loc["plain", "status"] == "failed"
    assert "--columns" in both.loc["plain", "error"]
    named = settings.with_values(localization_columns="x=X,y=Y,frame=frame,precision=S,unit=nm")
    one = cm.infer(path, output=tmp_path / "b", settings=named).images
    assert list(one["status"]) == ["done"]


@pytest.mark.usefixtures("quick_pictures")
def test_an_ome_zarr_of_several_times_goes_all_the_way(small_field, tmp_path):
    zarr = pytest.importorskip("zarr")
    data = np.stack([small_field(0), small_field(1)])
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=data.shape, chunks=(1, 96, 96), dtype=data.dtype)[...] = data
    axes = [{"name": "t"}, {"name": "y", "unit": "micrometer"}, {"name": "x", "unit": "micrometer"}]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 0.1, 0.1]}]}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]
    results = cm.infer(tmp_path / "a.ome.zarr", output=tmp_path / "out", settings=cm.Settings(time_index=1))
    (row,) = results.images.to_dict("records")
    assert row["status"] == "done"
    assert "time point 1 of 2" in row["axes_note"]
    assert row["image"] == "a"


@pytest.mark.usefixtures("quick_pictures")
def test_pixels_suit_the_number_of_localisations(tmp_path):
    """In pixels of the precision (4 nm) the sample has 0.05 localisations each: noise of many volume fractions."""
    sample = Path(__file__).parents[2] / "data_samples" / "storm" / "nucleus_storm.csv"
    results = cm.infer(sample, output=tmp_path / "out", settings=cm.Settings())
    (nucleus,) = results.nuclei.to_dict("records")
    assert 0.0 < nucleus["noise_sd"] < 1.0
    # The truth is .889 and .471; the density in pixels, split, told .453 ± .053.
    assert nucleus["rate_ratio"] == pytest.approx(0.889, abs=2.0 * nucleus["rate_ratio_se"])
    assert 0.06 < nucleus["rate_ratio_se"] / nucleus["rate_ratio"] < 0.35
    share = nucleus["rate_ratio"] / (1.0 + nucleus["rate_ratio"])
    assert nucleus["heterochromatin_fraction"] == pytest.approx(share)
    moved = pd.read_csv(results.folder / "sensitivity.csv").set_index("change")["rate_ratio"]
    assert moved["none"] == pytest.approx(nucleus["rate_ratio"])
    assert moved["gain +5 %"] == moved["none"], "no gain enters"
    assert moved["offset +5 %"] > moved["none"] > moved["offset -5 %"]
