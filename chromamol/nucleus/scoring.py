"""How well do two label images agree: nuclei matched by overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from chromamol.errors import FieldError
from chromamol.shapes import Labels

PRECISION_THRESHOLDS: tuple[float, ...] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


@dataclass(frozen=True)
class Score:
    """Counts of matched and unmatched nuclei. Scores add, so fields pool with `sum(scores, Score())`."""

    tp: int = 0  # true positives: found
    fp: int = 0  # false positives: predicted, not there
    fn: int = 0  # false negatives: there, not predicted

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); one when neither image holds a nucleus."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 1.0

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), the "average precision" of the Data Science Bowl 2018."""
        total = self.tp + self.fp + self.fn
        return self.tp / total if total else 1.0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.tp + other.tp,
            self.fp + other.fp,
            self.fn + other.fn,
        )


def overlap_matrix(predicted: Labels, truth: Labels) -> Float[np.ndarray, "predicted truth"]:
    """Return the intersection over union of every predicted nucleus (row) with every true one (column).

    Labels need not be consecutive; rows and columns follow rising label.

    Raises
    ------
    FieldError : the two images differ in shape.
    """
    if predicted.shape != truth.shape:
        raise FieldError(
            f"Label images of shapes {predicted.shape} and {truth.shape}.",
            expected="one shape for both.",
            do="compare labels of the same image.",
        )
    names_p, flat_p = np.unique(predicted, return_inverse=True)
    names_t, flat_t = np.unique(truth, return_inverse=True)
    pairs = np.bincount(flat_p.ravel() * len(names_t) + flat_t.ravel(), minlength=len(names_p) * len(names_t))
    shared = pairs.reshape(len(names_p), len(names_t)).astype(float)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    return (shared / union)[np.ix_(names_p > 0, names_t > 0)]


def _score(overlap: Float[np.ndarray, "predicted truth"], iou: float) -> Score:
    allowed = overlap >= iou
    rows, columns = linear_sum_assignment(np.where(allowed, -1.0 - overlap, 0.0))
    matched = int(np.count_nonzero(allowed[rows, columns]))
    return Score(matched, overlap.shape[0] - matched, overlap.shape[1] - matched)


def match_labels(predicted: Labels, truth: Labels, iou: float = 0.5) -> Score:
    """Match nuclei one to one where their intersection over union is at least `iou`.

    Parameters
    ----------
    predicted, truth : integer labels of one shape, (y, x) or (z, y, x); 0 is background.
    iou : smallest overlap that counts as found, 0..1.

    Raises
    ------
    FieldError : the two images differ in shape.
    """
    return _score(overlap_matrix(predicted, truth), iou)


def mean_average_precision(
    predicted: Labels, truth: Labels, thresholds: Sequence[float] = PRECISION_THRESHOLDS
) -> float:
    """Return TP / (TP + FP + FN) averaged over overlap thresholds, 0.5 to 0.9 by default.

    Raises
    ------
    FieldError : the two images differ in shape.

    References
    ----------
    Caicedo et al. 2019, Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl,
    Nat. Methods 16:1247, doi 10.1038/s41592-019-0612-7.
    """
    overlap = overlap_matrix(predicted, truth)
    return float(np.mean([_score(overlap, iou).average_precision for iou in thresholds]))
