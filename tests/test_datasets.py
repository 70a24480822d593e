"""Sample files: found in the cache, checked, and otherwise refused with a way out; no test downloads."""

import socket
import string

import pooch
import pytest

from chromamol import datasets
from chromamol.errors import DatasetError


def test_every_record_is_complete():
    for name in datasets.names():
        record = datasets.describe(name)
        assert len(record.sha256) == 64
        assert set(record.sha256) <= set(string.hexdigits)
        assert all((record.path, record.title, record.origin, record.licence, record.citation))
        assert record.url is None or record.url.startswith("https://")


def test_the_public_example_is_found_with_its_bytes(sample):
    path = sample("hela_cells")
    assert path.name == "hela-cells.tif"
    assert pooch.file_hash(str(path)) == datasets.describe("hela_cells").sha256


def test_nuclei_of_the_data_science_bowl_come_in_pairs():
    fields = [name for name in datasets.names() if name.startswith("nuclei_dsb2018/")]
    images = {name for name in fields if not name.endswith("_labels")}
    assert len(images) == 398
    assert {f"{name}_labels" for name in images} == set(fields) - images


def test_an_unknown_name_is_refused_with_names_that_exist():
    with pytest.raises(DatasetError, match="hela_cells"):
        datasets.fetch("hela")


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(datasets.CACHE_VARIABLE, str(tmp_path))
    path = tmp_path / datasets.describe("hela_cells").path
    path.parent.mkdir()
    path.write_bytes(b"not the image")
    with pytest.raises(DatasetError, match="SHA-256"):
        datasets.fetch("hela_cells")
    assert path.exists(), "a user's file is never removed"


def test_without_a_network_the_error_names_the_file_and_the_place(tmp_path, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise OSError("no network in this test")

    monkeypatch.setenv(datasets.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(DatasetError, match=r"could not be downloaded.*hela-cells\.tif"):
        datasets.fetch("hela_cells")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_test_on_a_file_that_is_not_there_is_skipped_or_fails(
    tmp_path, monkeypatch, sample, required, outcome
):
    monkeypatch.setenv(datasets.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("CHROMAMOL_REQUIRE_DATA", required)
    with pytest.raises(outcome, match="kaggle-dsbowl-2018-dataset-fixes"):
        sample("nuclei_dsb2018/00071198d059")


def test_a_file_without_an_address_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv(datasets.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(DatasetError, match="kaggle-dsbowl-2018-dataset-fixes"):
        datasets.fetch("nuclei_dsb2018/00071198d059")
