"""How well nuclei are found: labelled fields that no method was tuned or trained on, and simulated ones.

The fields are those of the 2018 Data Science Bowl whose name has an odd first SHA-256 byte
(`chromamol.nucleus.training.fields.kept_out`), a crowded field, a stack of an embryo, and simulated nuclei.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from chromamol import datasets
from chromamol.benchmarks.markdown import markdown_table
from chromamol.io import atomic_write, read_image, read_labels
from chromamol.nucleus import match_labels, segment_nuclei
from chromamol.nucleus.scoring import PRECISION_THRESHOLDS, Score
from chromamol.nucleus.training.fields import kept_out
from chromamol.shapes import Labels
from chromamol.synthetic.microscope import Microscope
from chromamol.synthetic.scene import PlacedNucleus, place
from chromamol.synthetic.shapes import nucleus_mask

FIELDS = "nuclei_dsb2018/"
LABELS = "_labels"
QUICK = 12
"""Every how many-th field is scored in the quick mode."""
SIMULATED_PIXEL_UM = 0.1
TIMED_SIDE = 1024


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image with its true labels; the kind groups rows of the table."""

    kind: str
    image: np.ndarray
    labels: Labels
    pixel_size_um: float | None = None


def run(output: Path | None = None, *, quick: bool = False, methods: Sequence[str] = ("classical", "network"),
        ) -> pd.DataFrame:  # fmt: skip
    """Score the methods and return one row per kind of image and method, "all" for the kept-out half together.

    Parameters
    ----------
    output : folder for `segmentation.csv` and `segmentation.md`, made if needed.
    quick : every `QUICK`-th field.
    methods : names that `segment_nuclei` takes. In 3D only the classical method is scored.

    Raises
    ------
    DatasetError : sample files that are not there and can't be downloaded.
    """
    rows = [row for method in methods for row in _score(method, quick)]
    table = pd.DataFrame(rows).sort_values(["kind", "method"], ignore_index=True)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        with atomic_write(output / "segmentation.csv") as temporary:
            table.to_csv(temporary, index=False)
        with atomic_write(output / "segmentation.md") as temporary:
            temporary.write_text(markdown(table), encoding="utf-8")
    return table


def markdown(scores: pd.DataFrame) -> str:
    """Return the table in Markdown, three digits."""
    rows = scores.to_numpy().tolist()
    cells = ([f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in rows)
    return markdown_table(list(scores.columns), cells) + "\n"


def _score(method: str, quick: bool) -> Iterator[dict[str, object]]:
    pooled: dict[str, list[tuple[list[Score], float, float, int]]] = {}
    for each in _images(quick):
        if each.image.ndim == 3 and method != "classical":
            continue
        start = time.process_time()
        found = segment_nuclei(each.image, pixel_size_um=each.pixel_size_um, method=method)
        seconds = time.process_time() - start
        scores = [match_labels(found, each.labels, iou=iou) for iou in PRECISION_THRESHOLDS]
        entry = (scores, seconds, dice(found, each.labels), each.image.size)
        pooled.setdefault(each.kind, []).append(entry)
        if each.kind.startswith("field "):
            pooled.setdefault("all kept-out fields", []).append(entry)
    for kind, entries in pooled.items():
        sums = [sum((e[0][i] for e in entries), Score()) for i in range(len(PRECISION_THRESHOLDS))]
        yield {
            "kind": kind, "method": method, "images": len(entries), "nuclei": sums[0].tp + sums[0].fn,
            "f1": sums[0].f1, "mean_average_precision": float(np.mean([s.average_precision for s in sums])),
            "dice": float(np.mean([e[2] for e in entries])),
            "cpu_seconds_per_megapixel": sum(e[1] for e in entries) / sum(e[3] for e in entries) * 1e6,
        }  # fmt: skip
    field = tiled_field()
    segment_nuclei(field[:64, :64], method=method)  # imports and weights are not what is timed
    start = time.process_time()
    segment_nuclei(field, method=method)
    yield {"kind": f"{TIMED_SIDE} x {TIMED_SIDE} pixels", "method": method, "images": 1,
           "cpu_seconds_per_megapixel": (time.process_time() - start) / field.size * 1e6}  # fmt: skip


def dice(found: Labels, truth: Labels) -> float:
    """Mean over the true nuclei of 2 |A ∩ B| / (|A| + |B|) with the found nucleus that overlaps most; 0 for none."""
    values = []
    for label in np.unique(truth)[1:]:
        own = truth == label
        shared = np.bincount(found[own], minlength=2)
        shared[0] = 0
        best = int(np.argmax(shared))
        other = np.count_nonzero(found == best) if shared[best] else 0
        values.append(2 * shared[best] / (np.count_nonzero(own) + other))
    return float(np.mean(values)) if values else math.nan


def tiled_field() -> np.ndarray:
    """Return a crowded field of 1024 x 1024 pixels, to measure time with."""
    image = read_image(datasets.fetch("stardist_img2d")).data[0]
    times = [math.ceil(TIMED_SIDE / n) for n in image.shape]
    return np.tile(image, times)[:TIMED_SIDE, :TIMED_SIDE]


def _images(quick: bool) -> Iterator[LabelledImage]:
    names = [
        n.removeprefix(FIELDS) for n in datasets.names() if n.startswith(FIELDS) and not n.endswith(LABELS)
    ]
    for name in [n for n in names if kept_out(n)][:: QUICK if quick else 1]:
        image = read_image(datasets.fetch(FIELDS + name)).data[0]
        kind = f"field of {image.shape[0]} x {image.shape[1]} pixels"
        labels = read_labels(datasets.fetch(FIELDS + name + LABELS), shape=image.shape)
        yield LabelledImage(kind, image, labels)
    image = read_image(datasets.fetch("stardist_img2d")).data[0]
    yield LabelledImage(
        "stardist_img2d", image, read_labels(datasets.fetch("stardist_mask2d"), shape=image.shape)
    )
    stack = read_image(datasets.fetch("qcanet_16_cell_stage"), axes="ZYX").data[0]
    # The file of labels is a mask; no two of its nuclei touch, so its parts are the nuclei.
    mask = read_image(datasets.fetch("qcanet_16_cell_stage_labels"), axes="ZYX").data[0]
    yield LabelledImage("qcanet, 16 cells, 3D", stack, ndimage.label(mask > 0)[0].astype(np.int32))
    for seed in range(2 if quick else 6):
        yield simulated_field(seed)


def simulated_field(seed: int) -> LabelledImage:
    """Return nine isolated nuclei with chromatin domains, as a confocal microscope shows them."""
    rng = np.random.default_rng(seed)
    spacing = (SIMULATED_PIXEL_UM,) * 2
    nuclei = []
    for number in range(9):
        mask = nucleus_mask(rng.uniform(7.0, 12.0), spacing, rng=rng)
        grain = ndimage.gaussian_filter(rng.standard_normal(mask.shape), 0.25 / SIMULATED_PIXEL_UM)
        dense = grain > np.quantile(grain, 0.7)
        density = (
            mask * (0.3 + 0.35 * ndimage.gaussian_filter(dense.astype(float), 1.0)) * rng.uniform(0.7, 1.3)
        )
        corner = tuple(
            int(170 * i + (170 - n) / 2) for i, n in zip(divmod(number, 3), mask.shape, strict=True)
        )
        nuclei.append(PlacedNucleus(density, mask, corner))
    scene = place(nuclei, (512, 512))
    microscope = Microscope(psf_sigma_um=0.12, counts_per_fraction=600.0, background=0.02, unevenness=0.2)
    image = microscope.image(scene.density, spacing, rng=rng)
    return LabelledImage("simulated, isolated nuclei", image, scene.labels, SIMULATED_PIXEL_UM)
