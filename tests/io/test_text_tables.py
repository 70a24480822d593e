"""Text tables whose names, units or signs may be misread: read right, or refused with the way out."""

import numpy as np
import pytest

from chromamol.errors import AxesError, PixelSizeError, ReadError
from chromamol.io import is_localization_table, read_localizations

R_ROWS = '"1" 5 1500.5 2500\n"2" 6 1600 2600\n'


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('"frame" "x_nm" "y_nm"\n' + R_ROWS, "row names"),
        ('"frame" "x [nm]" "y [nm]"\n' + R_ROWS, "row names"),
        (('"frame"_"x [nm]"_"y [nm]"\n' + R_ROWS.replace(" ", "_")).replace("_", "\t"), "row names"),
        ('"frame","x [nm]","y [nm]"\n' + R_ROWS.replace(" ", ","), "row names"),
        ('"","frame","x [nm]","y [nm]"\n' + R_ROWS.replace(" ", ","), ""),
        ("\tframe\tx [nm]\ty [nm]\n0\t5\t1500.5\t2500\n1\t6\t1600\t2600\n", ""),
        ("frame x [nm] y (nm)\n5 1500.5 2500\n6 1600 2600\n", ""),
        ("# frame x [nm] y [nm]\n5 1500.5 2500\n6 1600 2600\n", ""),
        ("frame,x [nm],y [nm]\n5,1500.5,2500,\n6,1600,2600,\n", ""),
        ("frame;x [nm];y [nm];\n5;1500.5;2500\n6;1600;2600\n", ""),
        ("id\tframe\tx [nm]\ty [nm]\t\n1\t5\t1500.5\t2500\t\n2\t6\t1600\t2600\t\n", ""),
        ("id\tframe\tx [nm]\ty [nm]\n1\t5\t1500.5\t2500\t\t\n2\t6\t1600\t2600\t\t\n", ""),
    ],
    ids=["R", "R, unit apart", "R, tabs", "R, commas", "R's write.csv", "index of pandas, tabs", "unit apart",
         "unit apart behind #", "trailing in rows", "trailing in header", "trailing in both", "two in rows"],
)  # fmt: skip
def test_each_cell_has_the_name_that_is_its_own(write, text, note):
    table = read_localizations(write("a.txt", text))
    assert (table.x_um.tolist(), table.y_um.tolist()) == ([1.5005, 1.6], [2.5, 2.6])
    assert table.frame.tolist() == [5, 6]
    assert note in "; ".join(table.notes)
    assert bool(table.notes) == bool(note)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frame,x [nm],y [nm]\n5,1500,5,2500,25\n6,1600,75,2600,5\n",
         r"3 names \(frame, x \[nm\], y \[nm\]\) over rows of 5 cells \('5,1500,5,2500,25'; a decimal comma between"),
        # Row numbers, or a column behind y that has no name: nothing tells which.
        ("frame,x [nm],y [nm]\n1,5,1500.5,2500\n2,6,1600,2600\n", "3 names .* over rows of 4 cells.*col.names=NA"),
        ("frame\tx [nm]\ty [nm]\n1\t5\t1500.5\t2500\n", "3 names .* over rows of 4 cells"),
        ('"frame","x [nm]","y [nm]"\n"1",5,1500,\n"2",6,1600,\n', "3 names .* over rows of 4 cells"),
        ("frame,x [nm],y [nm]\n1,5,1500.5,\n2,6,1600,2600\n", "3 names .* over rows of 4 cells"),
        ("frame x_nm y_nm z\n5 1500.5 2500\n", "4 names .* over rows of 3 cells"),
    ],
    ids=["decimal comma", "row numbers", "row numbers, tabs", "R or trailing", "cell at the end", "name at the end"],
)  # fmt: skip
def test_names_that_may_be_those_of_other_cells_are_refused(write, text, message):
    path = write("a.csv", text)
    with pytest.raises(ReadError, match=message):
        read_localizations(path)
    assert is_localization_table(path), "in a folder it fails and is not passed over"


def test_numbers_of_columns_count_cells_whatever_the_names(write):
    path = write("a.csv", "frame,x [nm],y [nm]\n1,5,1500.5,2500\n2,6,1600,2600\n")
    table = read_localizations(path, columns="frame=1,x=2,y=3,unit=nm")
    assert (table.frame.tolist(), table.x_um.tolist()) == ([5, 6], [1.5005, 1.6])
    with pytest.raises(ReadError, match=r"3 names .* over rows of 4 cells"):
        read_localizations(path, columns="frame=frame,x=2,y=3,unit=nm")


@pytest.mark.parametrize("row", ["2 6 1600 2600 9", "2 6 1600", "6 1600 2600"])
def test_a_row_of_another_length_is_refused_between_blanks_too(write, row):
    path = write("a.txt", f"id frame x_nm y_nm\n1 5 1500.5 2500\n{row}\n")
    with pytest.raises(ReadError, match=r"can't be read .*(4 fields in line 2, saw 5|row 2: 3 cells)"):
        read_localizations(path)
    whole = read_localizations(
        write("b.txt", "x_nm y_nm z\n1 2 nan\n5 6 7\n"), columns="x=x_nm,y=y_nm,unit=nm"
    )
    assert len(whole) == 2


def test_a_separator_at_the_end_makes_no_header_of_the_first_row(write):
    table = read_localizations(write("a.csv", "5,1500.5,2500,\n6,1600,2600,\n"), columns="x=1,y=2,unit=nm")
    assert table.x_um.tolist() == [1.5005, 1.6]


@pytest.mark.parametrize(
    ("header", "columns", "precision", "z", "note"),
    [
        ("X,Y,prec [nm],height [nm]", "x=X,y=Y,precision=prec [nm],z=height [nm],unit=px", 0.012, 0.12,
         "px, given by the user; precision in nm, z in nm, as the header says; camera pixel 0.1 um"),
        ("X (px),Y (px),prec [nm],height", "x=X (px),y=Y (px),precision=prec [nm],z=height,unit=px", 0.012, 12.0,
         "px, given by the user; precision in nm, as the header says; camera pixel 0.1 um"),
        ("X,Y,prec,height_um", "x=X,y=Y,precision=prec,z=height_um,unit=px", 1.2, 120.0,
         "px, given by the user; z in um, as the header says; camera pixel 0.1 um"),
        ("X,Y,prec (fit),height", "x=0,y=1,precision=2,z=3,unit=px", 1.2, 12.0, "px, given by the user; camera pixel"),
        ("X [nm],Y [nm],prec [nm],height [pixels]", "x=0,y=1,precision=2,z=3,unit=px", 0.012, 12.0,
         "px, given by the user (the header says nm); precision in nm, as the header says; camera pixel 0.1 um"),
        ("X [px],Y [px],prec [nm],height [µm]", "x=0,y=1,precision=2,z=3", 0.012, 120.0,
         "px, as the header says; camera pixel 0.1 um"),
    ],
    ids=["nm beside px", "z without a unit", "precision without a unit", "no unit in brackets", "user before header",
         "no word of the user"],
)  # fmt: skip
def test_a_column_with_a_unit_of_its_own_keeps_it(write, header, columns, precision, z, note):
    path = write("a.csv", f"{header}\n15,25,12,120\n")
    table = read_localizations(path, columns=columns, pixel_size_um=0.1)
    assert (table.x_um[0], table.y_um[0]) == pytest.approx((1.5, 2.5))
    assert (table.precision_um[0], table.z_um[0]) == pytest.approx((precision, z))
    assert table.unit_note.startswith(note)


def test_the_unit_is_that_of_the_columns_that_are_named(write):
    path = write("a.csv", "x [nm],y [nm],xc_um,yc_um,xp,yp\n1000,2000,1.5,2.5,3,4\n")
    assert read_localizations(path, columns="x=xc_um,y=yc_um").x_um.tolist() == [1.5]
    with pytest.raises(PixelSizeError, match="without a unit"):
        read_localizations(path, columns="x=xp,y=yp")


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("frame,x [nm],y [nm],channel", {}),
        ("frame,x_nm,y_nm,Probe", {}),
        ("frame x_nm y_nm Channel_Name", {}),
        ("frame,X,Y,channel", {"columns": "x=X,y=Y,unit=nm"}),
        ("frame,X,Y,which", {"columns": "x=X,y=Y,channel=which,unit=nm"}),
        ("frame,x,y,channel", {"dialect": "osnap"}),
    ],
    ids=[
        "ThunderSTORM",
        "named columns",
        "blanks",
        "named by the user",
        "and the channel",
        "dialect of the user",
    ],
)
@pytest.mark.parametrize("names", [("0", "1"), ("0.0", "1.0"), ("A488", "A647")])
def test_two_probes_are_told_apart_and_one_must_be_named(write, header, options, names):
    """Together they would make one density, recorded under the name of one."""
    text = f"{header}\n5,1500.5,2500,{names[0]}\n6,1600,2600,{names[1]}\n7,1700,2700,{names[1]}\n"
    path = write("a.csv", text.replace(",", " ") if " y_nm " in header else text)
    table = read_localizations(path, **options)
    with pytest.raises(AxesError, match=r"several channels and none named.*--chromatin-channel"):
        table.choose_channel()
    plain = names[1].removesuffix(".0")
    chosen, choice = table.choose_channel(plain)
    assert choice.reason == f"channel 1 ({plain!r}) named by the user"
    assert chosen.frame is None or chosen.frame.tolist() == [6, 7]
    assert len(chosen) == 2


def test_a_table_without_channels_is_one_channel_whatever_names_it(write):
    table = read_localizations(write("a.csv", "frame,x [nm],y [nm]\n5,1500.5,2500\n"))
    for which in (None, 0, "0"):
        chosen, choice = table.choose_channel(which)
        assert (len(chosen), choice.reason) == (1, "the only channel of the table")
    with pytest.raises(AxesError, match=r"channel 1 is not there.*0: '0' \(1 rows\).*channel=NAME"):
        table.choose_channel(1)


def test_a_column_that_is_taken_for_channels_by_mistake_is_not_listed_whole(write):
    rows = "\n".join(f"1,2,{value:.3f}" for value in np.linspace(0.0, 1.0, 200))
    table = read_localizations(write("a.csv", "x_nm,y_nm,probe\n" + rows))
    with pytest.raises(AxesError, match=r"0: '0' \(1 rows\), .* and 188 more\."):
        table.choose_channel()
    used = read_localizations(table.path, columns="x=x_nm,y=y_nm,intensity=probe,unit=nm")
    assert used.choose_channel()[1].reason == "the only channel of the table"


def _rows(separator, *rows):
    return "\n".join(separator.join(row) for row in (("frame", "x_nm", "y_nm"), *rows)) + "\n"


COMMAS = [("5", "1500,5", "2500"), ("6", "1600", "2600")]


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\n" + _rows(";", *COMMAS),
        '"SEP=;"\r\n' + _rows(";", *COMMAS).replace("\n", "\r\n"),
        "sep=\\t\n" + _rows("\t", *COMMAS),
        "sep=,\n" + _rows(",", *COMMAS[1:], ("5", '"1500,5"', "2500")),
        "sep=|\n\n# by hand\n" + _rows("|", *COMMAS),
        _rows(";", *reversed(COMMAS)),
        _rows("\t", *reversed(COMMAS)),
        _rows(" ", *reversed(COMMAS)),
        _rows(" ", *COMMAS).removeprefix("frame x_nm y_nm\n"),
    ],
    ids=["sep ;", "sep quoted", "sep tab", "sep ,", "sep |", "whole numbers first", "so with tabs", "so with blanks",
         "no header, blanks"],
)  # fmt: skip
def test_decimal_commas_and_the_line_that_names_the_separator(write, text):
    columns = None if "x_nm" in text else "x=1,y=2,frame=0,unit=nm"
    table = read_localizations(write("a.csv", text), columns=columns)
    assert dict(zip(table.frame.tolist(), table.x_um.tolist(), strict=True)) == {5: 1.5005, 6: 1.6}
    assert sorted(table.y_um.tolist()) == [2.5, 2.6]


@pytest.mark.parametrize(
    ("separator", "row", "advice"),
    [
        (";", ("5", "1,500.5", "2,500.0"), "without thousands separators"),
        (";", ("5", "1.500,5", "2.500,0"), "without thousands separators"),
        ("\t", ("5", "1'500.5", "2'500.0"), "without thousands separators"),
        (" ", ("5", "1,500.5", "2,500.0"), "without thousands separators"),
        (",", ("5", '"1,500.5"', "2.5"), "without thousands separators"),
        (";", ("5", "1,234,567", "2"), "without thousands separators"),
        (
            ",",
            ("5", '"1,500"', '"2,500"'),
            r"such as '1,500' between commas.*without commas inside of numbers",
        ),
        (",", ("5", "1,500.5", "2,500.0"), r"over rows of 5 cells .*without commas inside of numbers"),
        (",", ("5", "1500", "2500\n6", "1600,5", "2600"), r"got 4.*without commas inside of numbers"),
        (",", ("5", "1500", "2500\nend"), r"got 1: end.*Do: export the table again, or"),
        (",", ("5", "1500", "west"), r"invalid value 'west'.*--columns"),
    ],
)
def test_what_is_wrong_with_numbers_is_named(write, separator, row, advice):
    with pytest.raises(ReadError, match=advice):
        read_localizations(write("a.csv", _rows(separator, row)))
