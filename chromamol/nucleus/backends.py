"""Cellpose and StarDist, when they are installed. They are no dependencies, and fetch their weights at run time."""

from __future__ import annotations

import importlib
import math
import warnings
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float32

from chromamol.errors import ParameterError
from chromamol.shapes import Labels

Image = Float32[np.ndarray, "..."]

STARDIST_MODEL = "2D_versatile_fluo"


class FetchesWeights(UserWarning):
    """A back end is about to look for its weights, and to download them if this machine doesn't hold them."""


def find_with_cellpose(values: Image, *, radius: float, spacing: tuple[float, ...]) -> Labels:
    """Label nuclei with Cellpose, whichever version is installed: its newest model, or "nuclei" before version 4.

    Parameters
    ----------
    values : (y, x) or (z, y, x).
    radius : typical nuclear radius, in units of `spacing`.
    spacing : pixel spacing along each axis; z may be coarser.

    Raises
    ------
    ParameterError : Cellpose isn't installed.

    References
    ----------
    Stringer et al. 2021, doi 10.1038/s41592-020-01018-x.
    """
    models = _required("cellpose.models", "cellpose")
    _say_so("Cellpose", "~/.cellpose/models")
    model = _cellpose_model(models)
    stack: dict[str, Any] = {}
    if values.ndim == 3:
        stack = {"do_3D": True, "z_axis": 0, "anisotropy": spacing[0] / spacing[-1]}
    labels = model.eval(values, diameter=2 * radius / spacing[-1], **stack)[0]
    return np.asarray(labels).astype(np.int32)


def _cellpose_model(models: ModuleType) -> Any:
    # Version 4 replaced the class `Cellpose`, and with it the choice of a model by its name.
    if hasattr(models, "Cellpose"):
        return models.Cellpose(gpu=False, model_type="nuclei")
    return models.CellposeModel(gpu=False)


def find_with_stardist(values: Image) -> Labels:
    """Label nuclei of a (y, x) image with StarDist's model for fluorescence.

    Raises
    ------
    ParameterError : StarDist or TensorFlow isn't installed.

    References
    ----------
    Schmidt et al. 2018, doi 10.1007/978-3-030-00934-2_30.
    """
    models = _required("stardist.models", "stardist tensorflow")
    _say_so("StarDist", "~/.keras/models")
    model = models.StarDist2D.from_pretrained(STARDIST_MODEL)
    low, high = np.percentile(values, [1, 99.8])
    relative = (values - low) / max(float(high - low), math.ulp(float(high)))
    labels, _ = model.predict_instances(relative)
    return np.asarray(labels).astype(np.int32)


def _required(module: str, packages: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ParameterError(
            f"Segmentation method {packages.split(maxsplit=1)[0]!r}, but {module} cannot be imported ({error}).",
            expected="the package, which is no part of chromamol.",
            do=f"pip install {packages}, or use the methods network or classical, which need nothing more.",
        ) from error


def _say_so(name: str, folder: str) -> None:
    warnings.warn(
        f"{name} looks for its weights in {folder} and downloads them if they are not there.",
        FetchesWeights,
        stacklevel=4,
    )
