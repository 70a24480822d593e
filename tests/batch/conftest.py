"""Small images as microscope software writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write an ImageJ TIFF with 0.1 um pixels, or without a pixel size, below the test's folder."""

    def write_image(name: str, pixels: np.ndarray, *, calibrated: bool = True) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {"resolution": (10.0, 10.0), "metadata": {"unit": "um"}} if calibrated else {}
        tifffile.imwrite(path, pixels, imagej=True, **known)
        return path

    return write_image
