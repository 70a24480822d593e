"""Localisation tables read as what they are: rows, units, columns, by dialect; or refused with the way out."""

import json

import h5py
import numpy as np
import pytest

import chromamol as cm
from chromamol.errors import AxesError, ChromamolError, ParameterError, PixelSizeError, ReadError
from chromamol.io import Localizations, discover, is_localization_table, read_localizations

# name: rows, dialect, unit rule, first x and y in um, precision of the first in um, first frame, z, channels
TABLE = {
    "locan_thunderstorm_data": (19, "ThunderSTORM", "nm, by dialect", (1.32011, 26.344712), 0.02293255, 2001, False, 1),
    "locan_rapidstorm_data": (14, "rapidSTORM", "nm, as the header", (9.6574, 24.5335), None, 0, False, 1),
    "locan_rapidstorm_track_data": (14, "rapidSTORM", "nm, as the header", (5.41767, 8.43985), None, 1, False, 1),
    "locan_elyra_data": (15, "Elyra", "nm, by dialect", (15.8506, 23.5021), 0.0086, 1, False, 1),
    "locan_nanoimager_data": (14, "Nanoimager", "nm, by dialect", (40.918949, 56.104691), None, 1548, True, 2),
    "locan_smlm_data": (10, "SMLM", "nm, units of the manifest", (1.65334, 8.87934), None, 0, False, 1),
    "locan_decode_data": (96, "DECODE", "px, xy_unit of the file; camera pixel 0.127 by 0.117 um",
                          (-0.14920829 * 0.127, 138.89474 * 0.117), 0.0357092, 294, True, 1),
    "locan_smap_data": (4884, "SMAP", "nm, by dialect", (1.45938574, 11.58435254), 0.03943974, 1, True, 1),
    "picasso_egfr_mols_hdf5": (4230, "Picasso", "camera pixel 0.13 um (Pixelsize 130 nm in egfr_mols.yaml)",
                               (296.68414 * 0.13, 289.74167 * 0.13), 0.00464672 * 0.13, 8909, False, 1),
    "picasso_raw_movie_locs_hdf5": (2399, "Picasso", "camera pixel 0.13 um (Pixelsize 130 nm in raw_movie_locs.yaml)",
                                    (3.325100, 3.040811), 0.00318663, 2, False, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_real_table_reads_as_what_it_is(sample, name):
    rows, dialect, rule, first, precision, frame, has_z, channels = TABLE[name]
    if name.startswith("picasso"):
        sample(name.replace("hdf5", "yaml"))
    table = cm.read_localizations(sample(name))
    assert len(table) == rows
    assert table.dialect == dialect
    assert rule in table.unit_note
    assert (table.x_um[0], table.y_um[0]) == pytest.approx(first, rel=1e-5)
    assert (table.precision_um is None) == (precision is None)
    if precision is not None:
        assert table.precision_um[0] == pytest.approx(precision, rel=1e-4)
    assert table.frame[0] == frame
    assert (table.z_um is not None) == has_z
    assert len(table.channel_names) == channels
    assert is_localization_table(table.path)


def test_an_empty_real_table_has_no_rows(sample):
    assert len(read_localizations(sample("locan_decode_data_empty"))) == 0


@pytest.mark.parametrize(("name", "axis"), [("locan_five_blobs", "y_um"), ("locan_five_blobs_3d", "z_um")])
def test_a_real_table_without_a_unit_is_refused_until_it_is_given(sample, name, axis):
    path = sample(name)
    with pytest.raises(PixelSizeError, match=r"without a unit.*--columns x=NAME,y=NAME,unit=nm"):
        read_localizations(path)
    assert not is_localization_table(path), "in a folder it is passed over"
    columns = "x=position_x,y=position_y,frame=frame,unit=nm" + (",z=position_z" if axis == "z_um" else "")
    table = read_localizations(path, columns=columns)
    assert len(table) == 50
    assert table.x_um[0] == pytest.approx(0.624 if axis == "y_um" else 0.322)
    assert getattr(table, axis)[0] == pytest.approx(0.919 if axis == "y_um" else 0.968)
    assert "given by the user" in table.unit_note


NSTORM = "\t".join(("Channel Name", "X", "Y", "Xc", "Yc", "Height", "Frame", "Valid", "Z", "Zc", "Photons",
                    "Lateral Localization Accuracy", "Xw", "Yw", "Xwc", "Ywc"))  # fmt: skip


def test_n_storm_takes_the_drift_corrected_columns(write):
    path = write("a.txt", NSTORM + "\n647\t1\t2\t3\t4\t9\t7\t1\t0\t0\t800\t11\t5\t6\t1500\t2500\n")
    table = read_localizations(path)
    assert (table.x_um[0], table.y_um[0], table.precision_um[0], table.frame[0]) == pytest.approx(
        (1.5, 2.5, 0.011, 7)
    )
    assert "xwc, ywc" in table.notes[0]
    older = NSTORM.removesuffix("\tXwc\tYwc")
    path = write("b.txt", older + "\n647\t1\t2\t3000\t4000\t9\t7\t1\t0\t0\t800\t11\t5\t6\n")
    assert read_localizations(path).x_um[0] == pytest.approx(3.0), "Xc where there is no Xwc"


def test_several_channels_need_a_choice_and_are_listed(write):
    row = "\n{}\t1\t2\t3\t4\t9\t7\t1\t0\t0\t800\t11\t5\t6\t{}\t2500"
    table = read_localizations(write("a.txt", NSTORM + row.format(647, 1500) + row.format(561, 9)))
    with pytest.raises(AxesError, match=r"0: '561' \(1 rows\), 1: '647' \(1 rows\)"):
        table.choose_channel()
    chosen, choice = table.choose_channel("647")
    assert chosen.x_um == pytest.approx([1.5])
    assert choice.index == 1
    assert table.choose_channel(0)[0].x_um == pytest.approx([0.009])


@pytest.mark.parametrize(
    ("which", "name"), [(0, "1"), (1, "2"), ("2", "2"), ("0", "1"), (2, None), ("1", None)]
)
def test_a_number_is_an_index_and_a_text_that_means_two_channels_is_refused(which, name):
    """Channels "1" and "2", as Nanoimager writes them: the text "1" is the index of the second, too."""
    zeros = np.zeros(3)
    table = Localizations(zeros, zeros, channel=np.array([0, 0, 1]), channel_names=("1", "2"))
    if name is None:
        found = "fits 2 channels" if which == "1" else "is not there"
        with pytest.raises(
            AxesError, match=rf"channel {which!r} {found}.*0: '1' \(2 rows\), 1: '2' \(1 rows\)"
        ):
            table.choose_channel(which)
    else:
        chosen, choice = table.choose_channel(which)
        assert choice.name == name
        assert len(chosen) == (2 if name == "1" else 1)


HEADER = '"id","frame","x [nm]","y [nm]","uncertainty [nm]"'


@pytest.mark.parametrize(
    "text",
    [
        HEADER + "\n1,5,1500.5,2500,10\n2,6,1600,2600,12\n",
        HEADER.replace('"', "") + "\r\n1,5,1500.5,2500,10\r\n2,6,1600,2600,12",
        '"' + HEADER.replace('"', '""') + '"\n1,5,1500.5,2500,10\n2,6,1600,2600,12\n',
        '"' + HEADER.replace('"', '""') + '"\n"1,5,1500.5,2500,10"\n"2,6,1600,2600,12"\n',
        HEADER.replace(",", ";") + "\n1;5;1500,5;2500;10\n2;6;1600,0;2600;12\n",
        HEADER.replace(",", "\t") + "\n1\t5\t1500,5\t2500\t10\n2\t6\t1600,0\t2600\t12\n",
        HEADER + '\n"1","5","1500,5","2500","10"\n"2","6","1600","2600","12"\n',
        "\ufeff" + HEADER + "\n1,5,1500.5,2500,10\n2,6,1600,2600,12\n",
        HEADER + "\n1,5,1500.5,2500,10\n3,6,,2600,12\n2,6,1600,2600,12\n",
        "# made by a script\n" + HEADER + "\n1,5,1500.5,2500,10\n2,6,1600,2600,12\n",
        "# made by a script\r" + HEADER + "\r1,5,1500.5,2500,10\r2,6,1600,2600,12\r",
        HEADER + "\r1,5,1500.5,2500,10\r2,6,1600,2600,12\n",
        HEADER.replace(",", "\t") + "\r\r\n1\t5\t1500.5\t2500\t10\r\r\n2\t6\t1600\t2600\t12",
    ],
    ids=["plain", "crlf, no end", "quoted header", "quoted rows", "decimal comma ;", "decimal comma tab",
         "decimal comma quoted", "byte order mark", "a row without x", "comment", "cr", "cr, one lf", "cr cr lf"],
)  # fmt: skip
def test_thunderstorm_however_it_was_saved(write, text):
    table = read_localizations(write("a.csv", text))
    np.testing.assert_allclose(table.x_um, [1.5005, 1.6])
    np.testing.assert_allclose(table.y_um, [2.5, 2.6])
    np.testing.assert_allclose(table.precision_um, [0.01, 0.012])
    assert table.frame.tolist() == [5, 6]
    assert table.dialect == "ThunderSTORM"


@pytest.mark.parametrize(
    ("name", "text", "options", "x"),
    [
        ("WT-H3K27me3-CtrlhFb-Rep20201118_storm-00.csv", "x,y\n100,200\n", {}, 11.7),
        ("a.csv", "x,y\n100,200\n", {"dialect": "osnap"}, 11.7),
        ("a.csv", "x,y\n100,200\n", {"dialect": "osnap", "pixel_size_um": 0.16}, 16.0),
        ("cell 1.txt", "12000 13000\n12001 13001\n", {"dialect": "storm_analysis"}, 12.0),
        ("a.ascii", "frameID,eventID,x,y\n1,1,100,200\n", {"pixel_size_um": 0.1}, 10.0),
        ("a.txt", "x\ty\tz\n1.2e-5\t3e-6\t0\n", {"dialect": "minflux"}, 12.0),
        ("a.csv", "x_um,y_um\n12,3\n", {}, 12.0),
        ("a.txt", "12000 13000\n", {"columns": {"x": "0", "y": "1", "unit": "nm"}}, 12.0),
    ],
)
def test_the_unit_is_known_by_dialect_name_header_or_word(write, name, text, options, x):
    table = read_localizations(write(name, text), **options)
    assert table.x_um[0] == pytest.approx(x)


@pytest.mark.parametrize(
    ("name", "text", "options", "error", "message"),
    [
        ("a.csv", "x,y\n1,2\n", {}, PixelSizeError, "without a unit"),
        ("a.csv", "x [furlong],y [furlong]\n1,2\n", {}, PixelSizeError, "furlong"),
        ("a.csv", "frameID,eventID,x,y\n1,1,5,6\n", {}, PixelSizeError, "camera pixels, whose size is unknown"),
        ("a.csv", "x [m],y [m]\n1,2\n100,5\n", {}, ReadError, "spread over 99,000,000 um"),
        ("a.txt", "1 2 3\n4 5 6\n", {}, ReadError, "not recognised"),
        ("a.csv", "area,mean\n1,2\n", {}, ReadError, r"not recognised as x and y \(area, mean\)"),
        ("a.csv", HEADER + "\n1,5,1500\n", {}, ReadError, r"5 names .* over rows of 3 cells"),
        ("a.csv", HEADER + "\n1,5,1,2,3\n2,6,abc,5,6\n", {}, ReadError, "can't be read"),
        ("a.csv", HEADER + "\n1,5,1,2,3\n2,6,7\n", {}, ReadError, "can't be read"),
        ("a.csv", "one column\n5\n6\n", {"columns": "x=0,y=1,unit=nm"}, ReadError, "--columns|one column"),
        ("a.csv", "a,b\n5,6\n", {"columns": "x=a,y=c,unit=nm"}, ReadError, "--columns y=c"),
        ("a.csv", "a,b\n5,6\n", {"columns": "x,y"}, ParameterError, "x=NAME,y=NAME"),
        ("a.csv", "a,b\n5,6\n", {"dialect": "palm"}, ParameterError, "osnap"),
        ("a.csv", "", {}, ReadError, "zero bytes"),
        ("a.csv", "\n\n", {}, ReadError, "no row"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_or_read_is_refused(write, name, text, options, error, message):
    with pytest.raises(error, match=message):
        read_localizations(write(name, text), **options)


@pytest.mark.parametrize("name", ["locan_rapidstorm_data", "locan_elyra_data", "locan_nanoimager_data"])
def test_a_real_table_with_the_line_ends_of_old_macintosh_programs(sample, tmp_path, name):
    path = tmp_path / sample(name).name
    path.write_bytes(sample(name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r"))
    np.testing.assert_array_equal(read_localizations(path).x_um, read_localizations(sample(name)).x_um)


def test_white_space_and_many_rows_with_such_line_ends(write):
    rows = [f"{100 + i} {200 + i}" for i in range(200_000)]
    table = read_localizations(write("a.txt", "\r".join(rows)), columns="x=0,y=1,unit=nm")
    np.testing.assert_allclose(table.x_um, 0.1 + 1e-3 * np.arange(200_000))
    commas = "x_nm,y_nm\r" + "\r".join(rows).replace(" ", ",")
    np.testing.assert_allclose(
        read_localizations(write("a.csv", commas)).y_um, 0.2 + 1e-3 * np.arange(200_000)
    )


def test_utf16_and_binary_are_named(tmp_path):
    (tmp_path / "a.csv").write_bytes("x,y\n1,2\n".encode("utf-16"))
    with pytest.raises(ReadError, match="UTF-16"):
        read_localizations(tmp_path / "a.csv")
    (tmp_path / "b.bin").write_bytes(b"M425\0\0\0\1")
    with pytest.raises(ReadError, match="binary data"):
        read_localizations(tmp_path / "b.bin")


def test_picasso_without_its_yaml_asks_for_the_pixel(tmp_path):
    path = tmp_path / "a.hdf5"
    locs = np.array(
        [(3, 10.0, 20.0, 150.0, 0.1, 0.1)], dtype=[(n, "f4") for n in ("frame", "x", "y", "z", "lpx", "lpy")]
    )
    with h5py.File(path, "w") as file:
        file["locs"] = locs
    with pytest.raises(PixelSizeError, match=r"a\.yaml is not there.*--pixel-size-um"):
        read_localizations(path)
    table = read_localizations(path, pixel_size_um=0.13)
    assert (table.x_um[0], table.z_um[0]) == pytest.approx((1.3, 0.15)), "z is in nm, whatever the pixel"
    path.with_suffix(".yaml").write_text("Frames: 5\n---\nPixelsize: 100\n")
    assert read_localizations(path).y_um[0] == pytest.approx(2.0)
    path.with_suffix(".yaml").write_text("a: [1\n")
    with pytest.raises(PixelSizeError, match="broken"):
        read_localizations(path)


def test_minflux_is_metres_last_iterations_and_traces(tmp_path):
    kind = np.dtype([("vld", "?"), ("tid", "i4"), ("itr", [("loc", "f8", 3)], (2,))])
    rows = np.zeros(3, dtype=kind)
    rows["vld"], rows["tid"] = [True, True, False], [4, 4, 5]
    rows["itr"]["loc"][:, 1] = [(1e-6, 2e-6, 0), (3e-6, 4e-6, 1e-7), (9, 9, 9)]
    np.save(tmp_path / "m.npy", rows)
    records = [
        {
            "vld": bool(row["vld"]),
            "tid": int(row["tid"]),
            "itr": [{"loc": i["loc"].tolist()} for i in row["itr"]],
        }
        for row in rows
    ]
    (tmp_path / "m.json").write_text(json.dumps(records))
    for name in ("m.npy", "m.json"):
        table = read_localizations(tmp_path / name)
        np.testing.assert_allclose(table.x_um, [1.0, 3.0])
        assert table.trace.tolist() == [4, 4]
    np.save(tmp_path / "p.npy", np.array([{"loc": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ReadError, match="NumPy array of type"):
        read_localizations(tmp_path / "p.npy")


def test_a_folder_gives_its_tables_and_says_why_others_are_passed_over(write, tmp_path):
    write("good.csv", HEADER + "\n1,5,1500.5,2500,10\n")
    write("nuclei.csv", "image,nucleus,centroid_y_um,centroid_x_um\na,1,2,3\n")
    write("README.txt", "Measured on Monday, by hand\n")
    found = {entry.path.name: entry for entry in discover([tmp_path])}
    assert found["good.csv"].is_readable
    assert "neither an image nor a localisation table" in found["nuclei.csv"].skipped
    assert found["README.txt"].skipped


@pytest.mark.parametrize(
    "name", ["locan_smap_data", "locan_decode_data", "locan_smlm_data", "picasso_raw_movie_locs_hdf5"]
)
def test_a_truncated_container_is_a_typed_error(sample, tmp_path, name):
    whole = sample(name).read_bytes()
    path = tmp_path / sample(name).name
    for kept in (0.05, 0.5, 0.95):
        path.write_bytes(whole[: int(kept * len(whole))])
        with pytest.raises(ChromamolError, match=r"Expected: .*Do: "):
            read_localizations(path, pixel_size_um=0.1)


def test_hdf5_that_sends_its_library_round_in_circles_is_ended(sample, tmp_path, monkeypatch):
    # Found among mutants: eight bytes of DECODE's empty table, after which a string of it is looked for without end.
    mutant = bytearray(sample("locan_decode_data_empty").read_bytes())
    for at, value in (
        (893, 1),
        (2072, 111),
        (2257, 255),
        (2961, 1),
        (6062, 127),
        (7164, 255),
        (8582, 255),
        (9583, 255),
    ):
        mutant[at] = value
    (tmp_path / "a.h5").write_bytes(bytes(mutant))
    monkeypatch.setattr("chromamol.io.smlm.hdf5_probe.LEAST_SECONDS", 2.0)
    with pytest.raises(ReadError, match=r"a\.h5: broken or truncated HDF5 \("):
        read_localizations(tmp_path / "a.h5")
