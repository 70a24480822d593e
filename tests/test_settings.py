"""Settings: checked when made, the same after a trip through TOML."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from chromamol.errors import ParameterError
from chromamol.settings import Settings

OTHERS = {
    "pixel_size_um": 0.05, "z_step_um": 0.3, "chromatin_channel": "DNA \"x\"", "heterochromatin_channel": 1,
    "euchromatin_channel": 0, "axes": "CYX", "scene": "Position 2", "time_index": 4, "z_plane": "sharpest",
    "labels": "masks/", "flat_field": "flat.tif", "estimate_illumination": True, "camera_offset": 99.0,
    "segmentation_method": "classical",
    "allow_pickle": True, "localization_columns": "x=X,y=Y,unit=nm", "localization_dialect": "osnap",
    "merge_distance_um": 0.05, "merge_dark_frames": 3, "density_pixel_um": 0.02, "density_method": "voronoi",
    "min_area_um2": 5.0, "dark_level": 100.0, "chromatin_gain": 1.5, "heterochromatin_gain": 2.5,
    "euchromatin_gain": 3.5, "water_fraction": 0.6, "intensity_scale": "coexistence",
    "calibration_check": False, "phi_max": 0.8, "interface_length_um": 0.01,
    "split_constant": 0.2, "split_constant_sd": 0.02, "psf_sigma_um": 0.1, "known_acetylation_per_um2": 2.0,
    "diffusivity_um2_per_s": 1e-4, "frame_interval_s": 30.0, "section_thickness_um": 0.5,
    "method": "regression", "device": "cpu", "jobs": 3, "seed": 7,
    "gain_sd": 0.02, "offset_sd": 0.003, "phi_max_sd": 0.05, "interface_sd": 0.2, "water_sd": 0.1, "shared_gain": True,
    "missing": "dust/", "photons_per_count": 0.5, "read_noise_counts": 2.0,
}  # fmt: skip


def test_a_folder_whose_name_is_no_utf8_is_written_as_readable_toml(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(Settings(labels="caf\udce9").to_toml(), encoding="utf-8")
    assert Settings.from_toml(path).labels == r"caf\udce9"


def test_every_setting_survives_toml(tmp_path):
    assert set(OTHERS) == {f.name for f in fields(Settings)}
    settings = Settings(**OTHERS)
    assert all(getattr(settings, name) != getattr(Settings(), name) for name in OTHERS)
    for each in (settings, Settings()):
        (tmp_path / "settings.toml").write_text(each.to_toml(), encoding="utf-8")
        assert Settings.from_toml(tmp_path / "settings.toml") == each


def test_what_is_left_to_the_image_is_named_in_the_file():
    comment = Settings().to_toml().splitlines()[-1]
    assert comment.startswith(
        "# Measured or decided from each image: pixel_size_um, z_step_um, chromatin_channel"
    )


def test_a_path_of_labels_is_kept_as_text():
    assert Settings(labels=Path("a") / "b.tif").labels == str(Path("a") / "b.tif")


def test_whole_numbers_pass_for_lengths_and_nothing_else_is_converted():
    # The test suite's own type checks come before those that a user meets: ask a process without them.
    bad = [{"water_fraction": "much"}, {"jobs": 1.5}, {"seed": True}, {"chromatin_channel": 1.0}]
    code = f"""
from chromamol.errors import ParameterError
from chromamol.settings import Settings
print(Settings(psf_sigma_um=1).psf_sigma_um)
for bad in {bad}:
    try:
        Settings.from_mapping(bad)
    except ParameterError as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert lines[0] == "1.0"
    assert len(lines) == 1 + len(bad)
    for line, (given,) in zip(lines[1:], (each.items() for each in bad), strict=True):
        assert line.startswith(f"{given[0]} = {given[1]!r}. Expected: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pixel_size_um", 0.0), ("pixel_size_um", float("nan")), ("z_step_um", -0.3), ("phi_max", float("inf")),
        ("interface_length_um", 0.0), ("jobs", 0), ("water_fraction", 1.0), ("water_fraction", 0.0),
        ("psf_sigma_um", -0.1), ("seed", -1), ("diffusivity_um2_per_s", 0.0), ("chromatin_gain", -1.0),
        ("phi_max", 1.5), ("known_acetylation_per_um2", 0.0), ("density_method", "histogram"),
        ("localization_dialect", "palm"), ("intensity_scale", "guess"),
        ("dark_level", float("nan")), ("dark_level", float("-inf")), ("split_constant", float("nan")),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_by_name(name, value):
    with pytest.raises(ParameterError, match=rf"{name} = .*Expected: .*Do: correct {name}"):
        Settings(**{name: value})


def test_dark_levels_and_split_constants_may_be_negative():
    """A background that was subtracted too far, and a C below the reference."""
    settings = Settings(dark_level=-3.0, split_constant=-0.1)
    assert (settings.dark_level, settings.split_constant) == (-3.0, -0.1)


def test_no_number_may_be_nan():
    for name in (name for name, value in OTHERS.items() if isinstance(value, float)):
        with pytest.raises(ParameterError, match=rf"{name} = nan"):
            Settings(**{"camera_offset": 1.0, name: float("nan")})


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match=r"Unknown settings: pixelsize\. .*pixel_size_um"):
        Settings.from_mapping({"pixelsize": 0.1})


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"pixel_size_um = ", b"unknown = 1\n"])
def test_a_settings_file_that_cannot_be_used_is_refused(tmp_path, content):
    path = tmp_path / "s.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParameterError, match=r"Expected: .* Do: "):
        Settings.from_toml(path)


def test_values_replace_and_none_leaves():
    settings = Settings(pixel_size_um=0.1, jobs=2).with_values(pixel_size_um=None, jobs=3)
    assert (settings.pixel_size_um, settings.jobs) == (0.1, 3)
