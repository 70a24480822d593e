import numpy as np
import pytest

from chromamol.errors import FieldError
from chromamol.nucleus.scoring import Score, match_labels, mean_average_precision, overlap_matrix


def boxes(*columns: tuple[int, int]) -> np.ndarray:
    labels = np.zeros((10, 100), dtype=np.int32)
    for name, (start, stop) in enumerate(columns, start=1):
        labels[:, start:stop] = name
    return labels


def test_same_labels_under_other_names_score_one():
    truth = boxes((0, 10), (20, 40), (50, 90))
    renamed = np.array([0, 7, 3, 12])[truth]
    assert match_labels(renamed, truth) == Score(tp=3, fp=0, fn=0)
    assert mean_average_precision(renamed, truth) == 1.0


def test_overlap_is_intersection_over_union():
    # 10 columns against 10 columns shifted by 4: 6 shared, 14 in the union.
    np.testing.assert_allclose(overlap_matrix(boxes((0, 10)), boxes((4, 14))), [[6 / 14]])


def test_threshold_decides_and_is_inclusive():
    half = boxes((0, 10)), boxes((0, 20))
    assert match_labels(*half, iou=0.5).tp == 1
    assert match_labels(*half, iou=0.51) == Score(tp=0, fp=1, fn=1)


def test_merged_nuclei_count_as_one_at_most():
    score = match_labels(boxes((0, 30)), boxes((0, 18), (18, 30)))
    assert score == Score(tp=1, fp=0, fn=1)
    assert score.f1 == pytest.approx(2 / 3)


def test_one_to_one_even_at_low_thresholds():
    assert match_labels(boxes((0, 10), (10, 20)), boxes((0, 20)), iou=0.4) == Score(tp=1, fp=1, fn=0)


def test_mean_average_precision_steps_with_the_threshold():
    # Overlap 0.7 passes .5 .55 .6 .65 .7, five of nine thresholds.
    assert mean_average_precision(boxes((0, 7)), boxes((0, 10))) == pytest.approx(5 / 9)


def test_empty_images():
    none, some = boxes(), boxes((0, 10))
    assert match_labels(none, none).f1 == 1.0
    assert match_labels(none, some) == Score(0, 0, 1)
    assert match_labels(some, none) == Score(0, 1, 0)
    assert mean_average_precision(some, none) == 0.0


def test_scores_pool_by_addition():
    assert sum([Score(1, 2, 3), Score(10, 20, 30)], Score()) == Score(11, 22, 33)


def test_three_dimensions():
    labels = np.zeros((4, 5, 6), dtype=np.int32)
    labels[1:3, 1:3, 1:3] = 5
    assert match_labels(labels, labels).f1 == 1.0


def test_shapes_must_agree():
    with pytest.raises(FieldError, match="one shape"):
        match_labels(np.zeros((3, 3), dtype=np.int32), np.zeros((3, 4), dtype=np.int32))
