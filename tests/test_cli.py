"""The contract of the command line: exit codes, one clear message per bad input, and a complete output folder."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

import chromamol as cm
from chromamol.cli import app
from chromamol.io import write_channels
from chromamol.report.tables import IMAGES_COLUMNS, MEASURED_COLUMNS, NUCLEI_COLUMNS
from chromamol.simulate.settings import SimulationSettings

COLUMNS = [
    "image", "nucleus", "centroid_y_um", "centroid_x_um", "area_um2", "heterochromatin_fraction", "domain_count",
    "domain_radius_um", "domain_spacing_um", "lad_thickness_um", "gamma_me_per_um2", "gamma_me_se",
    "gamma_ac_per_um2", "gamma_ac_se", "rate_ratio", "rate_ratio_se", "valid_fraction", "mollifier_width_um",
    "noise_sd", "method", "flags",
]  # fmt: skip
MAPS = ("phi_h", "phi_e", "gamma_me_per_um2", "gamma_me_se", "gamma_ac_per_um2", "gamma_ac_se", "valid")
AWKWARD = "=cell 'A' \"<b>1<i>\" & co.tif"


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command line in this process; an exception other than the exit fails the test."""

    def command(*arguments: object) -> Ran:
        capsys.readouterr()
        try:
            app([str(a) for a in arguments], prog_name="chromamol")
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture
def good(tmp_path, small_field) -> Path:
    """An image that can be analysed."""
    return _write(tmp_path / "good.tif", small_field())


def _write(path: Path, pixels: np.ndarray, *, calibrated: bool = True, **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"resolution": (10.0, 10.0), "metadata": {"unit": "um"}} if calibrated else {}
    tifffile.imwrite(path, pixels, imagej=True, **(known | how))
    return path


def test_a_scene_is_handed_on_as_it_was_written(run, tmp_path):
    with tifffile.TiffWriter(tmp_path / "scenes.ome.tif", ome=True) as tif:
        for index in range(3):
            tif.write(np.full((4, 5), index, np.uint8), metadata={"axes": "YX", "Name": str(index + 1)})
    command = ("infer", tmp_path / "scenes.ome.tif", "--output", tmp_path / "out", "--pixel-size-um", 0.1)
    refused = run(*command, "--scene", 2)
    assert refused.code == 1
    assert "'2' was asked for, which fits 2 of them" in refused.err
    assert "every pixel is 2" in run(*command, "--set", "scene=2").err
    assert "every pixel is 2" in run(*command, "--scene", 3).err


# --- the output folder -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_field) -> Path:
    """The folder of one run over two images, the second of an awkward name, with its report and pictures."""
    folder = tmp_path_factory.mktemp("finished")
    _write(folder / "img01.tif", small_field(0))
    _write(folder / AWKWARD, small_field(1))
    with pytest.raises(SystemExit) as stop:
        app(["infer", str(folder / "img01.tif"), str(folder / AWKWARD), "--output", str(folder / "out")])
    assert stop.value.code in (None, 0)
    return folder


def test_every_file_is_there_and_no_other(finished):
    out = finished / "out"
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    top = {"nuclei.csv", "nuclei.parquet", "images.csv", "report.html", "settings.toml", "provenance.json",
           "domains.csv", "domains.parquet", "calibration.csv", "sensitivity.csv"}  # fmt: skip
    each = {"labels.tif", "rates.ome.tif", "overview.png"}
    stems = [p.name for p in (out / "images").iterdir()]
    assert len(stems) == 2
    assert found == top | {f"images/{stem}/{name}" for stem in stems for name in each}


def test_columns_stand_in_their_order(finished):
    assert list(NUCLEI_COLUMNS) == COLUMNS
    with (finished / "out" / "nuclei.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == [*COLUMNS, *MEASURED_COLUMNS, "folder"]
    assert len(rows) == 2
    with (finished / "out" / "images.csv").open(newline="") as stream:
        assert next(csv.reader(stream))[: len(IMAGES_COLUMNS)] == list(IMAGES_COLUMNS)
    assert list(pd.read_parquet(finished / "out" / "nuclei.parquet").columns) == [
        *COLUMNS,
        *MEASURED_COLUMNS,
        "folder",
    ]


def test_maps_are_named_float32_with_their_pixel_size(finished):
    with tifffile.TiffFile(finished / "out" / "images" / "img01" / "rates.ome.tif") as file:
        assert file.is_ome
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        maps = file.asarray()
    assert [channel["Name"] for channel in pixels["Channel"]] == list(MAPS)
    assert float(pixels["PhysicalSizeX"]) == pytest.approx(0.1)
    assert float(pixels["PhysicalSizeY"]) == pytest.approx(0.1)
    assert pixels.get("PhysicalSizeXUnit", "µm") == "µm"
    assert maps.dtype == np.float32
    assert maps.shape == (7, 96, 96)
    labels = tifffile.imread(finished / "out" / "images" / "img01" / "labels.tif")
    assert labels.dtype == np.int32
    assert set(np.unique(labels)) == {0, 1}
    by_name = dict(zip(MAPS, maps, strict=True))
    assert set(np.unique(by_name["valid"])) <= {0.0, 1.0}
    assert np.isnan(by_name["phi_h"][labels == 0]).all()
    for name in ("gamma_me_per_um2", "gamma_ac_per_um2"):
        assert np.isnan(by_name[name][by_name["valid"] == 0]).all(), "not estimable is NaN, never 0"


def test_the_row_is_what_the_maps_say(finished):
    results = cm.Results(finished / "out")
    image = results.open("img01")
    row = image.nuclei.iloc[0]
    inside = image.labels == row["nucleus"]
    assert row["area_um2"] == pytest.approx(inside.sum() * 0.01)
    assert row["valid_fraction"] == pytest.approx((image.maps["valid"][inside] > 0).mean())
    assert row["gamma_me_per_um2"] == pytest.approx(np.nanmean(image.maps["gamma_me_per_um2"]), rel=1e-5)
    h, e = (np.nansum(image.maps[name]) for name in ("phi_h", "phi_e"))
    assert row["heterochromatin_fraction"] == pytest.approx(h / (h + e), rel=1e-5)
    y, x = (axis[inside].mean() * 0.1 for axis in np.indices(inside.shape))
    assert (row["centroid_y_um"], row["centroid_x_um"]) == pytest.approx((y, x), abs=0.06)


def test_provenance_and_report_say_what_ran(finished):
    record = json.loads((finished / "out" / "provenance.json").read_text())
    assert record["version"] == cm.__version__
    assert record["packages"]["torch"] == metadata.version("torch")
    assert record["started"] <= record["finished"]
    assert {"git_hash", "device", "command_line"} <= set(record)
    report = (finished / "out" / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", report), "the report works offline"
    assert report.count("data:image/png;base64") >= 2


def test_an_awkward_name_is_data_everywhere(finished):
    results = cm.Results(finished / "out")
    (stem,) = set(results.nuclei["image"]) - {"img01"}
    assert re.fullmatch(r"[\w.\-]+", stem)
    assert Path(results.images.set_index("image").loc[stem, "path"]).name == AWKWARD
    report = results.report.read_text()
    assert "<b>1<i>" not in report
    assert "&lt;b&gt;1&lt;i&gt;" in report


@pytest.mark.usefixtures("quick_pictures")
def test_the_settings_of_a_run_repeat_it(run, good, tmp_path):
    options = ["--seed", 3, "--set", "water_fraction=0.6", "--psf-sigma-um", 0.1, "--method", "regression"]
    assert run("infer", good, "--output", tmp_path / "one", *options).code == 0
    again = run("infer", good, "--output", tmp_path / "two", "--settings", tmp_path / "one" / "settings.toml")
    assert again.code == 0
    for name in ("nuclei.csv", "settings.toml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    settings = cm.Settings.from_toml(tmp_path / "two" / "settings.toml")
    assert (settings.water_fraction, settings.psf_sigma_um, settings.seed) == (0.6, 0.1, 3)
    plain = run("infer", good, "--output", tmp_path / "three")
    assert plain.code == 0
    assert (tmp_path / "three" / "nuclei.csv").read_bytes() != (tmp_path / "one" / "nuclei.csv").read_bytes()


@pytest.mark.usefixtures("quick_pictures")
def test_a_diffusivity_adds_rates_per_second_and_their_errors(run, good, tmp_path):
    assert run("infer", good, "--output", tmp_path / "out", "--diffusivity-um2-per-s", 1e-4).code == 0
    header = (tmp_path / "out" / "nuclei.csv").read_text().splitlines()[0].split(",")
    per_second = ["gamma_me_per_s", "gamma_me_per_s_se", "gamma_ac_per_s", "gamma_ac_per_s_se"]
    assert header == [*COLUMNS, *per_second, *MEASURED_COLUMNS, "folder"]


# --- exit codes --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_pictures")
def test_all_done_is_0_and_stdout_stays_empty(run, good, tmp_path):
    ran = run("infer", good, "--output", tmp_path / "out")
    assert (ran.code, ran.out) == (0, "")
    assert "device cpu" in ran.err or "device cuda" in ran.err
    assert "[1/1] good: 1 nucleus, " in ran.err
    assert str(tmp_path / "out" / "report.html") in ran.err


def _no_file(path: Path, _: np.ndarray) -> None:
    path.unlink(missing_ok=True)


def _text(path: Path, _: np.ndarray) -> None:
    path.write_text("image,nucleus\n1,2\n")


def _truncated(path: Path, pixels: np.ndarray) -> None:
    _write(path, pixels)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zero_bytes(path: Path, _: np.ndarray) -> None:
    path.write_bytes(b"")


def _zeros(path: Path, pixels: np.ndarray) -> None:
    _write(path, np.zeros_like(pixels))


def _nan(path: Path, pixels: np.ndarray) -> None:
    holed = pixels.astype(np.float32)
    holed[:2] = np.nan
    _write(path, holed)


def _three_channels(path: Path, pixels: np.ndarray) -> None:
    _write(path, np.stack([pixels] * 3), metadata={"axes": "CYX", "unit": "um"})


def _empty_field(path: Path, pixels: np.ndarray) -> None:
    _write(path, np.random.default_rng(0).poisson(100, pixels.shape).astype(np.uint16))


def _no_pixel_size(path: Path, pixels: np.ndarray) -> None:
    _write(path, pixels, calibrated=False)


def _junk_pixel_size(path: Path, pixels: np.ndarray) -> None:
    _write(path, pixels, resolution=(1e-6, 1e-6))


BAD = {
    _no_file: "no such file",
    _text: "starting with b'image,nu",
    _truncated: "truncated TIFF",
    _zero_bytes: "zero bytes",
    _zeros: "every pixel is 0",
    _nan: "192 of 9,216 pixels are NaN",
    _three_channels: "several channels and none named.*--chromatin-channel",
    _empty_field: "no nucleus",
    _no_pixel_size: "file states no pixel size.*--pixel-size-um",
    _junk_pixel_size: "file says 1,000,000 um per pixel.*--pixel-size-um",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__.strip("_"))
@pytest.mark.usefixtures("quick_pictures")
def test_a_bad_input_alone_is_1_with_one_message_and_nothing_left(run, small_field, tmp_path, make):
    bad = tmp_path / "bad.tif"
    make(bad, small_field())
    ran = run("infer", bad, "--output", tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert re.search(rf"bad\.tif.*{BAD[make]}", ran.err)
    assert re.search(r"Expected: .* Do: ", ran.err)
    assert len(re.findall(r"bad\.tif", ran.err)) == 1, "said once"
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick_pictures")
def test_bad_inputs_among_good_ones_are_3_and_the_rest_is_written(run, good, small_field, tmp_path):
    paths = []
    for number, make in enumerate(BAD):
        paths.append(tmp_path / f"bad{number}.tif")
        make(paths[-1], small_field())
    ran = run("infer", *paths[:5], good, *paths[5:], "--output", tmp_path / "out")
    assert (ran.code, ran.out) == (3, "")
    results = cm.Results(tmp_path / "out")
    status = results.images.set_index("image")["status"]
    assert status["good"] == "done"
    assert (status.drop("good") == "failed").all()
    assert len(status) == len(BAD) + 1
    errors = results.images[results.images["status"] == "failed"]["error"]
    for error, (make, message) in zip(errors, BAD.items(), strict=True):
        assert re.search(message, error), make
        assert ran.err.count(error) == 1, "each reason is said once"
    assert [p.name for p in (tmp_path / "out" / "images").iterdir()] == ["good"]
    assert set(results.nuclei["image"]) == {"good"}
    report = results.report.read_text()
    assert all(path.name in report for path in paths), "the report lists what failed"


@pytest.mark.usefixtures("quick_pictures")
def test_an_output_that_holds_results_is_2_unless_overwrite(run, good, tmp_path):
    out = tmp_path / "out"
    assert run("infer", good, "--output", out).code == 0
    before = (out / "provenance.json").read_bytes()
    ran = run("infer", good, "--output", out)
    assert ran.code == 2
    assert re.search(r"already holds results.*--overwrite", ran.err)
    assert (out / "provenance.json").read_bytes() == before
    assert run("infer", tmp_path / "gone.tif", "--output", out, "--overwrite").code == 1
    assert (out / "nuclei.csv").is_file(), "a run that failed does not cost the results of an earlier one"
    assert run("infer", good, "--output", out, "--overwrite").code == 0


def test_an_unwritable_output_is_1_and_leaves_nothing(run, good, tmp_path):
    (tmp_path / "file").write_text("mine")
    ran = run("infer", good, "--output", tmp_path / "file" / "out")
    assert (ran.code, ran.out) == (1, "")
    assert re.search(r"file.out: cannot be written.*Expected: .*Do: ", ran.err)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "good.tif"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "watter_fraction=0.5"], r"Unknown settings: watter_fraction.*water_fraction"),
        (["--set", "water_fraction"], "KEY=VALUE"),
        (["--set", "water_fraction=2.0"], r"water_fraction = 2\.0"),
        (["--method", "oracle"], r"method = 'oracle'.*auto, regression, joint"),
        (["--pixel-size-um", "65"], "65 um was given.*65 nm is 0.065"),
        (["--pixel-size-um", "0"], "pixel_size_um = 0"),
        (["--psf-sigma-um", "-1"], "psf_sigma_um = -1"),
        (["--settings", "gone.toml"], r"gone\.toml"),
        (["--labels", "gone.tif"], r"gone\.tif"),
        (["--device", "gpu"], "gpu"),
        (["--jobs", "0"], "jobs = 0"),
        (["--jobs", "two"], "two|jobs"),
        (["--no-such-option"], "no-such-option"),
    ],
)
def test_wrong_usage_is_2(run, good, tmp_path, options, message):
    ran = run("infer", good, "--output", tmp_path / "out", *options)
    assert (ran.code, ran.out) == (2, "")
    assert re.search(message, ran.err)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_2_and_never_a_silent_cpu_run(run, good, tmp_path):
    ran = run("infer", good, "--output", tmp_path / "out", "--device", "cuda")
    assert ran.code == 2
    assert "cuda" in ran.err
    assert not (tmp_path / "out").exists()


def test_missing_arguments_are_2(run, good):
    assert run("infer").code == 2
    assert run("infer", good).code == 2
    assert run("no-such-command").code == 2


# --- the other commands ------------------------------------------------------------------------------------


def test_version_help_and_doctor_answer_on_stdout(run):
    assert run("--version") == (0, f"{cm.__version__}\n", "")
    shown = run("--help")
    assert shown.code == 0
    for command in ("infer", "segment", "report", "doctor", "benchmark"):
        assert re.search(rf"^\s+{command}\b", shown.out, re.MULTILINE)
    options = run("infer", "--help").out
    for option in ("--pixel-size-um", "--z-step-um", "--chromatin-channel", "--labels", "--diffusivity-um2-per-s",
                   "--method", "--device", "--jobs", "--overwrite", "--settings", "--set", "--seed"):  # fmt: skip
        assert option in options
    found = run("doctor")
    assert (found.code, found.err) == (0, "")
    for name in ("chromamol", "torch", "free disk", "memory", "readers"):
        assert re.search(rf"^{name}\b", found.out, re.MULTILINE)


def test_help_states_the_defaults_that_hold(run):
    simulated = {"nuclei", "diameter_um", "methylation_per_um2", "acetylation_per_um2", "pixel_size_um", "psf",
                 "psf_sigma_um", "seed"}  # fmt: skip
    commands = {
        "infer": {name: getattr(cm.Settings(), name) for name in ("method", "device", "jobs", "seed")},
        "simulate": {name: getattr(SimulationSettings(), name) for name in simulated}
        | {"psf_sigma_um": SimulationSettings().gaussian_sigma_um},
    }
    for command, defaults in commands.items():
        words = " ".join(run(command, "--help").out.split())
        for name, value in defaults.items():
            option = f"--{name.replace('_', '-')} "
            said = re.search(rf"{option}<.*?(?= --|$)", words)
            assert said, option
            assert f"[default: ({value})]" in said[0], option


@pytest.mark.parametrize("command", ["infer", "segment"])
def test_a_misspelt_path_is_said_before_the_solver_loads(command, tmp_path):
    code = (
        "import sys; from chromamol.cli import app\n"
        f"try: app(['{command}', 'gone.tif', 'lost', '-o', 'out'])\n"
        "except SystemExit as stop: print(stop.code, 'torch' in sys.modules, 'pandas' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert ran.stdout.split() == ["1", "False", "False"]
    assert "gone.tif, lost: no such file or folder. Expected: " in ran.stderr
    assert not list(tmp_path.iterdir())


def test_python_m_chromamol_is_the_command():
    ran = subprocess.run(
        [sys.executable, "-m", "chromamol", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == cm.__version__


@pytest.mark.usefixtures("quick_pictures")
def test_segment_writes_masks_and_no_rates(run, good, tmp_path):
    ran = run("segment", good, "--output", tmp_path / "out")
    assert (ran.code, ran.out) == (0, "")
    assert tifffile.imread(tmp_path / "out" / "images" / "good" / "labels.tif").max() == 1
    assert not (tmp_path / "out" / "images" / "good" / "rates.ome.tif").exists()
    assert (
        run("infer", good, "--output", tmp_path / "rates", "--labels", tmp_path / "out" / "images").code == 0
    )


@pytest.mark.usefixtures("quick_pictures")
def test_report_is_written_again_as_it_was(run, good, tmp_path):
    run("infer", good, "--output", tmp_path / "out")
    page = tmp_path / "out" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert run("report", tmp_path / "out").code == 0
    assert page.read_bytes() == before
    nothing = run("report", tmp_path / "gone")
    assert (nothing.code, nothing.out) == (1, "")
    assert "gone" in nothing.err


def test_benchmarks_are_commands(run):
    shown = run("benchmark", "--help").out
    assert re.search(r"^\s+footprint\b", shown, re.MULTILINE)
    assert re.search(r"^\s+derivatives\b", shown, re.MULTILINE)
    assert run("benchmark", "no-such-table").code == 2


# --- channels and dimensions -------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_pictures")
def test_the_chromatin_channel_is_taken_by_index_or_name(run, small_field, tmp_path):
    other = np.full((96, 96), 50, np.uint16)
    other[10:20, 10:20] = 500
    path = tmp_path / "three.ome.tif"
    planes = {"AF568": other, "DNA": small_field(), "GFP": other}
    write_channels(path, planes, pixel_size_um=0.1)
    for which in ("1", "DNA", "dna"):
        assert run("infer", path, "--chromatin-channel", which, "--output", tmp_path / which).code == 0
    tables = [(tmp_path / which / "nuclei.csv").read_bytes() for which in ("1", "DNA", "dna")]
    assert tables[0] == tables[1] == tables[2]
    note = cm.Results(tmp_path / "DNA").images["channel_note"][0]
    assert note == "total chromatin: DNA, channel 1 ('DNA') named by name"
    wrong = run("infer", path, "--chromatin-channel", "DAPI", "--output", tmp_path / "out")
    assert wrong.code == 1
    assert re.search(r"'DAPI' is not among its channels.*0: 'AF568', 1: 'DNA', 2: 'GFP'", wrong.err)


def test_a_z_stack_is_analysed_in_three_dimensions(run, tmp_path):
    rng = np.random.default_rng(0)
    z, y, x = np.indices((18, 40, 40))
    inside = ((z - 8.5) * 1.5) ** 2 + (y - 19.5) ** 2 + (x - 19.5) ** 2 < 15.0**2
    texture = 0.5 + 0.4 * np.sin(z / 1.5) * np.sin(y / 2.0) * np.sin(x / 2.0)
    stack = rng.poisson(100 + 1000 * inside * texture).astype(np.uint16)
    path = tmp_path / "stack.tif"
    metadata = {"unit": "um", "spacing": 0.3, "axes": "ZYX"}
    tifffile.imwrite(path, stack, imagej=True, resolution=(5.0, 5.0), metadata=metadata)
    ran = run("infer", path, "--output", tmp_path / "out")
    assert ran.code == 0, ran.err
    image = cm.Results(tmp_path / "out").open("stack")
    assert image.labels.shape == stack.shape
    assert image.maps["gamma_me_per_um2"].shape == stack.shape
    flags = image.nuclei["flags"].iloc[0].split(";")
    assert "section_thickness_assumed" not in flags
    assert "stack, plane 9 of 0 to 17" in [text.get_text() for text in image.plot().texts]
