"""Broken bytes of real files, and tables that hypothesis thinks up: a result or a typed error, whatever comes."""

import mutants
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chromamol.errors import ChromamolError
from chromamol.io import Localizations, read_image, read_localizations

MUTANTS = 150


def test_mutants_of_real_files_end_in_a_result_or_a_typed_error(sample):
    sample("locan_smap_data")  # skips where there are no sample files, and finds the folder where there are
    assert len(mutants.sources()) > 5, "too few sample files to say anything"
    outcomes = mutants.run(MUTANTS)
    assert [o for o in outcomes if o.what not in ("result", "typed error")] == []
    kinds = [o.what for o in outcomes]
    assert min(kinds.count("result"), kinds.count("typed error")) > 50, (
        "both must occur, or nothing is tested"
    )
    assert max(o.peak_bytes for o in outcomes) < mutants.MEMORY_BYTES


CELL = st.one_of(
    st.floats().map(repr), st.integers().map(str), st.text(max_size=6),
    st.sampled_from(["", "nan", "1,5", '"', "x [nm]", "y [nm]", "frame", "#", "1e400", "\0", "\ufeff"]),
)  # fmt: skip
TEXT = st.builds(
    lambda separator, end, rows: end.join(separator.join(row) for row in rows),
    st.sampled_from([",", ";", "\t", " "]), st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.lists(CELL, min_size=1, max_size=6), min_size=1, max_size=6),
)  # fmt: skip
STARTS = [b"", b"II*\0", b"MM\0*", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x93NUMPY", b"{", b"MATLAB 5.0"]
ROWS = st.lists(
    st.tuples(st.integers(0, 10**6), st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=1, max_size=8
)
CALM = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@CALM
@given(text=TEXT, named=st.booleans())
def test_any_text_is_a_table_or_a_typed_error(tmp_path, text, named):
    path = tmp_path / "a.csv"
    path.write_bytes(("frame,x [nm],y [nm]\n" + text if named else text).encode("utf-8", "surrogatepass"))
    try:
        table = read_localizations(path)
    except ChromamolError as error:
        table, message = None, str(error)
    if table is None:
        assert "a.csv" in message
    else:
        assert isinstance(table, Localizations)
        assert np.isfinite(table.x_um).all()


@CALM
@given(
    content=st.binary(min_size=1, max_size=200),
    ending=st.sampled_from(["tif", "csv", "hdf5", "mat", "npy", "smlm"]),
    start=st.sampled_from(STARTS),
)
def test_any_bytes_are_an_image_a_table_or_a_typed_error(tmp_path, content, ending, start):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(start + content)
    with pytest.raises(ChromamolError, match=r"a\."):
        (read_image if ending == "tif" else read_localizations)(path)


@CALM
@given(rows=ROWS, separator=st.sampled_from([",", ";", "\t"]), decimal=st.sampled_from([".", ","]))
def test_what_was_written_is_what_is_read(tmp_path, rows, separator, decimal):
    sign = "." if decimal == separator else decimal
    lines = [separator.join(("frame", "x [nm]", "y [nm]"))]
    for frame, x, y in rows:
        lines.append(separator.join((str(frame), *(f"{value:.4f}".replace(".", sign) for value in (x, y)))))
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    table = read_localizations(path)
    expected = np.array([[x, y] for _, x, y in rows])
    np.testing.assert_allclose(table.x_um, 1e-3 * expected[:, 0], atol=1e-7)
    np.testing.assert_allclose(table.y_um, 1e-3 * expected[:, 1], atol=1e-7)
    assert table.frame.tolist() == [frame for frame, _, _ in rows]
