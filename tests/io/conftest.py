"""Fixtures for tests of reading."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Return a writer of text files."""

    def to_file(name, text):
        (tmp_path / name).write_bytes(text.encode())
        return tmp_path / name

    return to_file
