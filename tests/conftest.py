"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chromamol import datasets
from chromamol.errors import DatasetError

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a public sample file by its name in the registry; skip the test where it cannot be had."""
    if datasets.CACHE_VARIABLE not in os.environ and SHARED_DATA.is_dir():
        monkeypatch.setenv(datasets.CACHE_VARIABLE, str(SHARED_DATA))

    def find(name: str) -> Path:
        try:
            return datasets.fetch(name)
        except DatasetError as error:
            pytest.skip(str(error))

    return find
