"""The doctor says what is true of this machine."""

from importlib import metadata

import torch

from chromamol import doctor
from chromamol._version import __version__
from chromamol.io.reading import OPENERS


def test_findings_are_those_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("CHROMAMOL_DATA", str(tmp_path))
    found = dict(doctor.checks())
    assert found["chromamol"].startswith(__version__)
    for package in ("torch", "tifffile", "imagecodecs"):
        assert found[package] == metadata.version(package)
    assert ("cuda:0" in found) == torch.cuda.is_available()
    assert found["cpu threads"] == str(torch.get_num_threads())
    assert str(tmp_path) in found["sample files"]
    assert found["free disk"].endswith(str(doctor.Path.cwd()))


def test_an_absent_package_is_named_as_such(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "pyarrow" else "1.0")
    assert dict(doctor.checks())["pyarrow"] == "not installed"


def test_the_readers_it_names_are_those_there_are():
    assert {".tif", ".tiff", ".lsm"} <= set(OPENERS)
    assert dict(doctor.checks())["readers"].startswith("TIFF, OME-TIFF, ImageJ TIFF, LSM")


def test_optional_readers_are_listed_with_version_or_with_what_to_install(monkeypatch):
    optional = {ending for ending in OPENERS if OPENERS[ending] is not OPENERS[".tif"]}
    assert {
        f".{formats.lower().removeprefix('ome-')}" for formats in doctor.OPTIONAL_READERS.values()
    } == optional
    monkeypatch.setattr(doctor, "installed_version", lambda name: "1.2.3" if name == "nd2" else None)
    found = dict(doctor.checks())
    assert found["reader nd2"] == "ND2: 1.2.3"
    for package in ("liffile", "czifile", "zarr"):
        assert found[f"reader {package}"].endswith("not installed: pip install chromamol[formats]")
