"""The segmentation benchmark: its figures are what they are called, on fields whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest

from chromamol.benchmarks import segmentation
from chromamol.benchmarks.segmentation import LabelledImage, dice, markdown, run, simulated_field


@pytest.fixture
def two_fields(monkeypatch):
    field = simulated_field(0)
    doubled = np.where(field.labels == 1, 0, field.labels)  # one nucleus fewer than there is
    fields = [LabelledImage("field of one", field.image, field.labels, 0.1),
              LabelledImage("field of two", field.image, doubled, 0.1)]  # fmt: skip
    monkeypatch.setattr(segmentation, "_images", lambda quick: iter(fields))
    monkeypatch.setattr(segmentation, "tiled_field", lambda: field.image)


def test_rows_per_kind_and_pooled(two_fields, tmp_path):
    table = run(tmp_path / "new", methods=("classical",))
    row = table.set_index("kind").loc
    assert row["field of one"].f1 == 1.0
    assert row["field of two"].f1 == pytest.approx(2 * 8 / (2 * 8 + 1))
    assert row["all kept-out fields"].f1 == pytest.approx(2 * 17 / (2 * 17 + 1))
    assert row["all kept-out fields"].nuclei == 17
    assert row["field of one"].dice > 0.97
    assert (table["cpu_seconds_per_megapixel"] > 0).all()
    again = pd.read_csv(tmp_path / "new" / "segmentation.csv")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    assert (tmp_path / "new" / "segmentation.md").read_text().startswith("| kind | method |")


def test_dice_of_a_shifted_square_and_of_nothing():
    truth = np.zeros((20, 40), dtype=np.int32)
    truth[5:15, 5:15] = 4
    found = np.roll(truth, 2, axis=1) // 4
    assert dice(found, truth) == pytest.approx(0.8)
    assert dice(np.zeros_like(truth), truth) == 0.0
    assert math.isnan(dice(truth, np.zeros_like(truth)))


def test_markdown_has_a_line_per_row():
    text = markdown(pd.DataFrame({"kind": ["a", "b"], "f1": [0.5, 1.0]}))
    assert text.splitlines() == ["| kind | f1 |", "| --- | --- |", "| a | 0.500 |", "| b | 1.000 |"]
