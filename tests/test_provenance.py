"""The record of a run names what made it."""

import json
import re
from datetime import timedelta
from importlib import metadata

from chromamol import provenance
from chromamol._version import __version__


def test_the_record_is_json_and_names_versions_device_and_times():
    started = provenance.now() - timedelta(minutes=2)
    record = provenance.record(command=["chromamol", "infer", "a b.tif"], device="cpu", started=started)
    assert json.loads(json.dumps(record)) == record
    assert record["version"] == __version__
    assert record["command_line"] == ["chromamol", "infer", "a b.tif"]
    assert record["dtype"].startswith("float64")
    assert "float32" in record["dtype"], "of networks and of the inner solves of joint fits"
    assert record["packages"]["numpy"] == metadata.version("numpy")
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record[k]) for k in ("started", "finished")
    )
    assert record["started"] < record["finished"]


def test_a_file_name_that_is_no_utf8_is_recorded_readably():
    """The report, which shows the command line, could not be written, and the whole run was lost with it."""
    started = provenance.now()
    record = provenance.record(command=["infer", "caf\udce9.tif"], device="cpu", started=started)
    assert record["command_line"] == ["infer", r"caf\udce9.tif"]


def test_a_package_that_is_not_there_has_no_version():
    assert provenance.installed_version("no-such-package-here") is None


def test_the_commit_is_a_hash_or_nothing():
    commit = provenance.git_hash()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}", commit)


def test_a_missing_git_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_hash() is None
