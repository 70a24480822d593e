"""The tables: fixed columns and types, a safe CSV, and the same values back."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from chromamol.errors import FieldError, OutputError, ReadError
from chromamol.report.tables import (
    IMAGES_COLUMNS,
    NUCLEI_COLUMNS,
    PER_SECOND_COLUMNS,
    DetailWriter,
    read_details,
    read_images,
    read_nuclei,
    readable,
    write_tables,
)

HOSTILE = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "'=already quoted", "NA", "a,b\"c'd.tif", ""]


def images_named(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"image": names, "path": names, "status": "done"})


def test_columns_are_those_of_the_public_face_in_their_order(tmp_path: Path) -> None:
    write_tables(tmp_path, pd.DataFrame(), pd.DataFrame())
    assert (tmp_path / "nuclei.csv").read_text() == (
        "image,nucleus,centroid_y_um,centroid_x_um,area_um2,heterochromatin_fraction,domain_count,"
        "domain_radius_um,domain_spacing_um,lad_thickness_um,gamma_me_per_um2,gamma_me_se,gamma_ac_per_um2,"
        "gamma_ac_se,rate_ratio,rate_ratio_se,valid_fraction,mollifier_width_um,noise_sd,method,flags\n"
    )
    assert (tmp_path / "images.csv").read_text().startswith("image,path,sha256,status,nuclei,seconds,error,")


def test_empty_tables_keep_header_and_types(tmp_path: Path) -> None:
    write_tables(tmp_path, pd.DataFrame(), pd.DataFrame())
    nuclei, images = read_nuclei(tmp_path), read_images(tmp_path)
    parquet = pd.read_parquet(tmp_path / "nuclei.parquet")
    assert len(nuclei) == len(images) == len(parquet) == 0
    assert tuple(nuclei) == tuple(parquet) == NUCLEI_COLUMNS
    assert tuple(images) == IMAGES_COLUMNS
    assert nuclei["nucleus"].dtype == parquet["nucleus"].dtype == np.int64
    assert nuclei["rate_ratio"].dtype == parquet["rate_ratio"].dtype == np.float64


def test_numbers_come_back_bit_for_bit_and_negative_ones_stay_numbers(tmp_path: Path) -> None:
    values = [-1.0 / 3.0, 1e-300, 12345.678901234567, np.nan]
    rows = pd.DataFrame({"image": "a", "nucleus": [1, 2, 3, 4], "gamma_me_per_um2": values})
    write_tables(tmp_path, rows, images_named(["a"]))
    for table in (read_nuclei(tmp_path), pd.read_parquet(tmp_path / "nuclei.parquet")):
        np.testing.assert_array_equal(table["gamma_me_per_um2"].to_numpy(), values)
    assert "'" not in (tmp_path / "nuclei.csv").read_text()


def test_not_estimable_is_an_empty_cell(tmp_path: Path) -> None:
    rows = pd.DataFrame([{"image": "a", "nucleus": 1, "rate_ratio": np.nan, "domain_count": None}])
    write_tables(tmp_path, rows, images_named(["a"]))
    text = (tmp_path / "nuclei.csv").read_text()
    assert "nan" not in text.lower()
    assert text.splitlines()[1] == "a,1" + "," * (len(NUCLEI_COLUMNS) - 1) + "."
    assert read_nuclei(tmp_path)["domain_count"].isna().all()


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_cell_is_a_formula_and_the_name_comes_back(tmp_path: Path, name: str) -> None:
    rows = pd.DataFrame({"image": [name], "nucleus": [1]})
    write_tables(tmp_path, rows, images_named([name]))
    raw = pd.read_csv(tmp_path / "images.csv", keep_default_na=False)["image"].astype(str)[0]
    assert not raw.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert read_images(tmp_path)["image"][0] == name
    assert read_nuclei(tmp_path)["image"][0] == name
    assert pd.read_parquet(tmp_path / "nuclei.parquet")["image"][0] == name


def test_a_name_that_is_no_utf8_is_written_readably(tmp_path: Path) -> None:
    name = "caf\udce9.tif"
    assert readable(name) == r"caf\udce9.tif"
    row = {key: pd.Series([value], dtype="object") for key, value in (("path", name), ("status", "done"))}
    write_tables(tmp_path, pd.DataFrame(), pd.DataFrame({"image": ["a"], **row}))
    assert read_images(tmp_path)["path"][0] == r"caf\udce9.tif"


def test_every_standard_error_stands_behind_its_number() -> None:
    names = [*NUCLEI_COLUMNS, *PER_SECOND_COLUMNS]
    behind = [(a, b) for a, b in pairwise(names) if b.endswith("_se") and not b.endswith("_calibration_se")]
    assert len(behind) == 6
    for number, error in behind:
        assert number.removesuffix("_um2_per_s").removesuffix("_per_um2") == error.removesuffix("_se")


def test_columns_in_any_order_and_unknown_ones_behind(tmp_path: Path) -> None:
    rows = pd.DataFrame([{"my_score": 7, "gamma_ac_per_s": 0.5, "nucleus": 3, "image": "a"}])
    write_tables(tmp_path, rows, images_named(["a"]))
    assert tuple(read_nuclei(tmp_path)) == (*NUCLEI_COLUMNS, "gamma_ac_per_s", "my_score", "folder")


def test_the_last_column_says_where_the_image_lay(tmp_path: Path) -> None:
    images = pd.DataFrame({"image": ["c-a", "t-a", "c-a", "b"], "status": ["done", "done", "skipped", "done"],
                           "path": ["/data/=c/a.tif", "t/a.tif", "elsewhere/c-a", "b.tif"]})  # fmt: skip
    write_tables(tmp_path, pd.DataFrame({"image": ["c-a", "t-a", "b"], "nucleus": 1}), images)
    for table in (read_nuclei(tmp_path), pd.read_parquet(tmp_path / "nuclei.parquet")):
        assert table.columns[-1] == "folder"
        assert list(table["folder"]) == ["/data/=c", "t", "."]


def test_a_failed_image_has_zero_nuclei(tmp_path: Path) -> None:
    images = pd.DataFrame({"image": ["a"], "status": ["failed"], "error": ["two\nlines"]})
    write_tables(tmp_path, pd.DataFrame(), images)
    back = read_images(tmp_path).iloc[0]
    assert (back["nuclei"], back["error"]) == (0, "two\nlines")


def test_the_table_given_is_left_alone(tmp_path: Path) -> None:
    rows = pd.DataFrame({"image": ["=a"], "nucleus": [1]})
    before = rows.copy()
    write_tables(tmp_path, rows, images_named(["=a"]))
    pd.testing.assert_frame_equal(rows, before)


def test_rows_without_their_image_or_with_text_for_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="image"):
        write_tables(tmp_path, pd.DataFrame({"nucleus": [1]}), pd.DataFrame())
    with pytest.raises(FieldError, match="rate_ratio"):
        write_tables(
            tmp_path, pd.DataFrame({"image": ["a"], "nucleus": [1], "rate_ratio": ["x"]}), pd.DataFrame()
        )
    assert not list(tmp_path.iterdir())


def test_missing_folder_and_missing_table(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_tables(tmp_path / "none", pd.DataFrame(), pd.DataFrame())
    with pytest.raises(ReadError, match=r"nuclei\.csv"):
        read_nuclei(tmp_path)


def test_details_are_written_image_by_image_as_if_at_once(tmp_path: Path) -> None:
    images = [
        [domain("=a", 1, area_um2=0.5, is_lad=True), domain("=a", 2)],
        [],
        [domain("NA", 1, centroid_y_um=1 / 3)],
    ]
    for name, parts in (("apart", images), ("once", [[row for rows in images for row in rows]])):
        (tmp_path / name).mkdir()
        with DetailWriter(tmp_path / name) as details:
            for rows in parts:
                details.add({"domains": rows})
    apart, once = tmp_path / "apart", tmp_path / "once"
    assert (apart / "domains.csv").read_bytes() == (once / "domains.csv").read_bytes()
    frame = read_details(apart, "domains")
    assert frame["image"].tolist() == ["=a", "=a", "NA"]
    assert "'=a" in (apart / "domains.csv").read_text(), "no spreadsheet takes it for a formula"
    pd.testing.assert_frame_equal(pd.read_parquet(apart / "domains.parquet"), frame)
    assert read_details(apart, "calibration").empty
    assert not list(tmp_path.rglob(".part-*"))


def test_there_are_no_details_where_no_image_had_any(tmp_path: Path) -> None:
    with DetailWriter(tmp_path) as details:
        details.add({})
    assert not list(tmp_path.iterdir())


def domain(image: str, number: int, **values: object) -> dict[str, object]:
    return {"image": image, "nucleus": 1, "domain": number, "is_lad": False, **values}
