"""Labelled fields: where they lie, which half they belong to, and how they look to the network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32
from scipy import ndimage

from chromamol.errors import ReadError
from chromamol.io import read_image, read_labels
from chromamol.nucleus.network.model import DIAMETER, levels_of
from chromamol.nucleus.network.resize import resize, resize_labels
from chromamol.shapes import Labels

LABELS_ENDING = "_labels.tif"
FINENESS = 1.25
"""Training fields are kept at this many times the network's own scale: augmentation resamples them once more."""


@dataclass(frozen=True, eq=False)
class LabelledField:
    """One field of nuclei and its instance labels, as stored."""

    name: str
    image: np.ndarray
    labels: Labels


@dataclass(frozen=True, eq=False)
class TrainingField:
    """A field brought to a common scale: dark level 0, bright level 1, median nucleus `FINENESS` x `DIAMETER`."""

    image: Float32[np.ndarray, "y x"]
    labels: Int32[np.ndarray, "y x"]
    centres: Float32[np.ndarray, "nuclei 2"]


def kept_out(name: str) -> bool:
    """Whether a field is kept out of training and tuning: the first SHA-256 byte of "NAME.tif" is odd."""
    return bool(hashlib.sha256(f"{name}.tif".encode()).digest()[0] % 2)


def names_of(folder: Path) -> list[str]:
    """Names of the labelled fields in a folder, sorted: NAME.tif beside NAME_labels.tif."""
    names = sorted(path.name.removesuffix(LABELS_ENDING) for path in folder.glob(f"*{LABELS_ENDING}"))
    if not names:
        raise ReadError(f"{folder}: no labelled field.", expected=f"files NAME.tif and NAME{LABELS_ENDING}.",
                        do="give the folder nuclei_dsb2018 of the sample data.")  # fmt: skip
    return names


def read_field(folder: Path, name: str) -> LabelledField:
    """Read one field and its labels."""
    image = read_image(folder / f"{name}.tif").data[0]
    return LabelledField(name, image, read_labels(folder / f"{name}{LABELS_ENDING}", shape=image.shape))


def at_common_scale(field: LabelledField) -> TrainingField:
    """Rescale a field so that its median nucleus has the diameter that the network is made for."""
    areas = np.bincount(field.labels.ravel())[1:]
    diameter = float(np.sqrt(4 * np.median(areas[areas > 0]) / np.pi))
    scale = FINENESS * DIAMETER / diameter
    image = field.image.astype(np.float32)
    low, high = levels_of(image)
    relative = resize((image - low) / (high - low), scale)
    labels = resize_labels(field.labels, relative.shape)
    names = np.unique(labels)[1:]
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, names), dtype=np.float32).reshape(-1, 2)
    return TrainingField(relative, labels, centres)
