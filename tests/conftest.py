"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from chromamol import datasets
from chromamol.errors import DatasetError

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
REQUIRE_DATA = "CHROMAMOL_REQUIRE_DATA"

LONGEST_FIRST = ("test_readme", "test_notebooks")
"""Modules that take minutes: at the end, one process would run them while the other waits."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the longest modules to the front; the order is otherwise as it was."""
    items.sort(key=lambda item: item.path.stem not in LONGEST_FIRST)


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a public sample file by its name in the registry; skip the test where it cannot be had.

    With `CHROMAMOL_REQUIRE_DATA=1` a file that cannot be had is a failure: where all are meant to be, none is missed.
    """
    if datasets.CACHE_VARIABLE not in os.environ and SHARED_DATA.is_dir():
        monkeypatch.setenv(datasets.CACHE_VARIABLE, str(SHARED_DATA))

    def find(name: str) -> Path:
        try:
            return datasets.fetch(name)
        except DatasetError as error:
            if os.environ.get(REQUIRE_DATA) == "1":
                pytest.fail(f"{REQUIRE_DATA}=1: {error}")
            pytest.skip(str(error))

    return find


@pytest.fixture(scope="session")
def small_field() -> Callable[..., np.ndarray]:
    """Return a maker of (96, 96) uint16 fields: nuclei of 4.8 um at 0.1 um per pixel, with dense domains."""

    def make(seed: int = 0, *, nuclei: int = 1) -> np.ndarray:
        rng = np.random.default_rng(seed)
        shape = (96, 96 * nuclei)
        y, x = np.indices(shape)
        texture = gaussian_filter(rng.standard_normal(shape), 2.5)
        domains = gaussian_filter((texture > np.quantile(texture, 0.65)).astype(float), 1.2)
        inside = ((y - 47.5) ** 2 + (x % 96 - 47.5) ** 2 < 24.0**2).astype(float)
        return rng.poisson(100 + 1200 * gaussian_filter(inside, 1.0) * (0.45 + domains)).astype(np.uint16)

    return make


@pytest.fixture(scope="session")
def check_errors() -> Callable[..., None]:
    """Return a check of standard errors from both sides: intervals that are wide enough hold any truth.

    `mean_square` is between what the mean square of z = (estimate - truth) / error lies: 1 for many independent
    values. A smooth map is a few patches, one draw of which is anywhere from a half to two. Bounds are about what was
    measured, and so near that errors twice too large or too small (a quarter, or four times of it) leave them.
    `covered` is the least share of |z| < 1.96.
    """

    def check(
        off: np.ndarray, error: np.ndarray, *, mean_square: tuple[float, float], covered: float = 0.0
    ) -> None:
        z = np.asarray(off) / np.asarray(error)
        low, high = mean_square
        assert low < np.mean(z**2) < high
        assert np.mean(np.abs(z) < 1.96) > covered

    return check


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the overview by an empty figure, for tests that are not about it: drawing is most of a small run."""
    monkeypatch.setattr("chromamol.batch.run.draw_overview", lambda *_, **__: Figure(figsize=(1, 1)))
