"""`simulate`: what is written is what was simulated, and what cannot be simulated is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile

import chromamol as cm
from chromamol.cli import app
from chromamol.errors import AxesError, FieldError, OutputError, ParameterError, ReadError, SimulationError
from chromamol.io import read_image, write_channels, write_labels
from chromamol.report import write_tables
from chromamol.settings import Settings
from chromamol.simulate import SimulationSettings, command, parse_perturbation, read_nucleus, run
from chromamol.simulate.field import FieldOfView, expose, localizations
from chromamol.simulate.nuclei import simulate_nucleus
from chromamol.simulate.run import CONTENTS as OF_SIMULATION
from chromamol.simulate.run import Change, simulate, simulate_from_results
from chromamol.synthetic.perturbation import Perturbation, Response

SMALL = SimulationSettings(nuclei=2, diameter_um=3.0, touching=1, steadiness=0.5, seed=3)
LESS = Change(Perturbation(acetylation_factor=1.5), "acetylation=x1.5")


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SMALL.with_values(molecules_per_um2=200.0)
    return simulate(output=tmp_path_factory.mktemp("field"), settings=settings)


def test_the_image_can_be_analysed_as_it_is(field: Path) -> None:
    image = read_image(field / "field.tif")
    assert image.pixel_size_um == pytest.approx(0.06)
    labels = tifffile.imread(field / "truth" / "field_labels.tif")
    assert labels.shape == image.shape
    counts = image.channel().astype(float)
    assert counts[labels > 0].mean() > 4.0 * counts[labels == 0].mean()


def test_the_truth_table_says_what_the_truth_maps_show(field: Path) -> None:
    maps = read_image(field / "truth" / "field_truth.ome.tif")
    labels = tifffile.imread(field / "truth" / "field_labels.tif")
    table = pd.read_csv(field / "truth" / "nuclei.csv").set_index("nucleus")
    assert list(table.index) == [1, 2]
    for number, row in table.iterrows():
        inside = labels == number
        assert inside.sum() * 0.06**2 == pytest.approx(row["area_um2"])
        h, e = (maps.channel(name)[inside].sum() for name in ("phi_h", "phi_e"))
        assert h / (h + e) == pytest.approx(row["heterochromatin_fraction"], rel=0.02)
        for rate in ("gamma_me_per_um2", "gamma_ac_per_um2"):
            assert maps.channel(rate)[inside].mean() == pytest.approx(row[rate], rel=0.02)
    assert np.isnan(maps.channel("gamma_me_per_um2")[labels == 0]).all()


def test_no_state_of_a_field_shares_its_noise_with_another_seed() -> None:
    settings = SMALL.with_values(molecules_per_um2=200.0)
    level = np.full((32, 32), 0.3)
    view = FieldOfView(level, level, np.ones((16, 16), dtype=np.int32), {})
    cases = [(seed, state) for seed in (3, 4, 5) for state in (0, 1, 2)]
    images = [expose(view, settings, seed=seed, state=state) for seed, state in cases]
    tables = [localizations(view, settings, seed=seed, state=state).x_um for seed, state in cases]
    assert len({image.tobytes() for image in images}) == len({x.tobytes() for x in tables}) == len(cases)


def test_localisations_lie_in_the_nuclei(field: Path) -> None:
    table = pd.read_csv(field / "localizations.csv")
    labels = tifffile.imread(field / "truth" / "field_labels.tif")
    where = (table[["y [nm]", "x [nm]"]].to_numpy() / 60.0).astype(int).clip(0, len(labels) - 1)
    assert (labels[tuple(where.T)] > 0).mean() > 0.97
    assert len(table) > 200.0


def test_settings_repeat_the_run(field: Path, tmp_path: Path) -> None:
    again = simulate(output=tmp_path, settings=SimulationSettings.from_toml(field / "simulation.toml"))
    for name in ("field.tif", "localizations.csv", "truth/field_truth.ome.tif"):
        assert (again / name).read_bytes() == (field / name).read_bytes()


def test_nucleoli_are_simulated_to_the_end(tmp_path: Path) -> None:
    settings = SMALL.with_values(nuclei=1, touching=0, nucleoli=1, steadiness=5.0)
    folder = simulate(output=tmp_path, settings=settings)
    maps = read_image(folder / "truth" / "field_truth.ome.tif")
    assert np.nanmin(maps.channel("phi_h")) == 0.0


def test_results_are_not_replaced_unasked(field: Path) -> None:
    with pytest.raises(OutputError, match="already holds"):
        simulate(output=field, settings=SMALL)


def test_a_nucleus_does_not_depend_on_the_others() -> None:
    few, many = (simulate_nucleus(1, SMALL.with_values(nuclei=n, steadiness=5.0)) for n in (2, 5))
    np.testing.assert_array_equal(few.heterochromatin, many.heterochromatin)


def test_before_and_after_an_inhibitor(tmp_path: Path) -> None:
    settings = SMALL.with_values(touching=0, nuclei=1, marks=True, steadiness=0.1)
    folder = simulate(output=tmp_path, settings=settings, change=LESS)
    table = pd.read_csv(folder / "response.csv").set_index("state")
    before, after = table.loc["before"], table.loc["after"]
    assert after["gamma_ac_per_um2"] / before["gamma_ac_per_um2"] == pytest.approx(1.5, rel=1e-5)
    assert after["heterochromatin_fraction"] < before["heterochromatin_fraction"] - 0.03
    assert read_image(folder / "after.tif").data.shape[0] == 2
    assert (folder / "response.png").stat().st_size > 10_000


def test_a_stop_too_early_to_see_the_change_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="steadiness"):
        simulate(output=tmp_path, settings=SMALL, change=LESS)


@pytest.mark.parametrize("seconds", [float("nan"), -1.0, 0.0])
def test_a_time_that_is_none_is_refused_as_it_is_given(seconds: float) -> None:
    with pytest.raises(ParameterError, match="time_um2"):
        Change(LESS.perturbation, LESS.text, seconds)


def test_a_shift_too_low_is_refused_before_a_nucleus_is_simulated(tmp_path: Path) -> None:
    said: list[str] = []
    settings = SMALL.with_values(steadiness=0.1)
    for text in ("acetylation=-5", "methylation=+1e9"):
        change = Change(parse_perturbation([text]), text)
        with pytest.raises(FieldError, match="rate would"):
            simulate(output=tmp_path / "o", settings=settings, change=change, progress=said.append)
    assert said == []
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("marks", "name"), [(False, "chromatin"), (True, "heterochromatin")])
def test_a_change_that_leaves_less_than_nothing_says_which_nucleus(
    marks: bool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As acetylation=x0 does, in 20 s: at rest, total chromatin falls to -0.005 between the domains."""
    settings = SMALL.with_values(steadiness=0.1, marks=marks)
    state = simulate_nucleus(0, settings.with_values(steadiness=5.0))
    response = Response(state, replace(state, heterochromatin=state.heterochromatin - state.mask))
    monkeypatch.setattr(run, "simulate_nucleus", lambda *_: state)
    monkeypatch.setattr(run, "perturb", lambda *_, **__: response)
    said: list[str] = []
    with pytest.raises(SimulationError, match=f"Nucleus 1 with acetylation=x1.5: {name} goes down to -0."):
        simulate(output=tmp_path / "o", settings=settings, change=LESS, progress=said.append)
    assert said[-1] == "nucleus 1 of 2: on with and without acetylation=x1.5"


# --- from a result -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `infer` writes it, of one nucleus whose rate maps end before its border."""
    folder = tmp_path_factory.mktemp("results")
    nucleus = simulate_nucleus(0, SMALL)
    mask, pixel = nucleus.mask, nucleus.pixel_size_um[-1]
    valid = mask & (np.hypot(*(np.indices(mask.shape) - np.array(mask.shape).reshape(2, 1, 1) / 2)) < 12)
    methylation = np.where(valid, nucleus.methylation, np.nan)
    middle = tuple(np.argwhere(valid)[len(np.argwhere(valid)) // 2])
    methylation[middle] = -0.1
    maps = {
        "phi_h": np.where(mask, nucleus.heterochromatin, np.nan),
        "phi_e": np.where(mask, nucleus.euchromatin, np.nan),
        "gamma_me_per_um2": methylation,
        "gamma_ac_per_um2": np.where(valid, nucleus.acetylation, np.nan),
    }
    where = folder / "images" / "a"
    where.mkdir(parents=True)
    write_channels(where / "rates.ome.tif", maps, pixel_size_um=pixel)
    write_labels(where / "labels.tif", mask.astype(np.int32))
    rows = [
        {"image": "a", "nucleus": 1, "gamma_me_per_um2": 0.6, "gamma_ac_per_um2": 0.7, "flags": ""},
        {"image": "a", "nucleus": 2, "gamma_me_per_um2": 0.6, "gamma_ac_per_um2": np.nan, "flags": ""},
    ]
    images = pd.DataFrame([{"image": "a", "path": "a.tif", "status": "done", "nuclei": 2}])
    write_tables(folder, pd.DataFrame(rows), images)
    length = nucleus.parameters.interface_length_um
    (folder / "settings.toml").write_text(Settings(interface_length_um=length).to_toml(), encoding="utf-8")
    return folder


def test_where_a_rate_map_ends_its_mean_stands_and_that_is_said(results: Path) -> None:
    found = read_nucleus(results, nucleus=1)
    assert found.refinement == 1
    inside = found.state.mask
    assert np.isfinite(found.state.methylation[inside]).all()
    assert (found.state.acetylation[inside] == np.float64(0.7)).mean() > 0.3
    assert found.state.methylation[inside].min() == 0.0
    notes = " ".join(found.notes)
    assert "its mean 0.6 um^-2 stands there" in notes
    assert "below zero" in notes


def _with_row(results: Path, folder: Path, **values: object) -> Path:
    """A copy of the results with another row of its first nucleus."""
    copy = shutil.copytree(results, folder / "results")
    table = cm.Results(copy).nuclei.assign(**values)
    write_tables(copy, table[table["nucleus"] == 1], cm.Results(copy).images)
    return copy


def test_the_maps_are_brought_to_the_ratio_of_the_table(results: Path, tmp_path: Path) -> None:
    """The ratio sets the heterochromatin, and the maps of an image have another one than the balance."""
    before = read_nucleus(results, nucleus=1)
    assert "nuclei.csv tells no rate_ratio" in " ".join(before.notes)
    found = read_nucleus(_with_row(results, tmp_path, rate_ratio=0.7, flags="saturated;ratio_blurred"))
    state, inside = found.state, found.state.mask
    made = np.average(state.methylation[inside], weights=state.euchromatin[inside])
    lost = np.average(state.acetylation[inside], weights=state.heterochromatin[inside])
    assert made / lost == pytest.approx(0.7, rel=1e-3)
    np.testing.assert_array_equal(state.acetylation, before.state.acetylation)
    factor = state.methylation[inside].mean() / before.state.methylation[inside].mean()
    np.testing.assert_allclose(state.methylation, factor * before.state.methylation, rtol=1e-12)
    notes = " ".join(found.notes)
    assert f"methylation was multiplied by {factor:.4g}: the rate_ratio of nuclei.csv is 0.7" in notes
    assert "flagged saturated: Pixels at the detector's maximum" in notes
    assert "flagged ratio_blurred: " in notes


def test_maps_that_have_the_ratio_stay(results: Path, tmp_path: Path) -> None:
    state = read_nucleus(results, nucleus=1).state
    inside = state.mask
    own = np.average(state.methylation[inside], weights=state.euchromatin[inside])
    own /= np.average(state.acetylation[inside], weights=state.heterochromatin[inside])
    found = read_nucleus(_with_row(results, tmp_path, rate_ratio=1.0005 * own))
    np.testing.assert_array_equal(found.state.methylation, state.methylation)
    assert "rate_ratio" not in " ".join(found.notes)


def test_a_prediction_from_a_result_has_table_maps_and_figure(results: Path, tmp_path: Path) -> None:
    found = read_nucleus(results, nucleus=1)
    change = Change(LESS.perturbation, LESS.text, time_um2=0.1)
    folder = simulate_from_results(found, change, output=tmp_path)
    table = pd.read_csv(folder / "response.csv").set_index("state")
    assert list(table.index) == ["inferred", "before", "after"]
    assert set(table["nucleus"]) == {found.number}
    assert table["heterochromatin_fraction"]["after"] < table["heterochromatin_fraction"]["before"]
    before, after = (read_image(folder / f"{name}.ome.tif") for name in ("before", "after"))
    inside = np.isfinite(before.channel("phi_h"))
    ratio = after.channel("gamma_ac_per_um2")[inside] / before.channel("gamma_ac_per_um2")[inside]
    np.testing.assert_allclose(ratio, 1.5, rtol=1e-5)
    totals = [m.channel("phi_h")[inside].sum() + m.channel("phi_e")[inside].sum() for m in (before, after)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)


def test_a_region_changes_only_itself(results: Path, tmp_path: Path) -> None:
    found = read_nucleus(results, nucleus=1)
    shape = cm.Results(results).open("a").labels.shape
    region = np.zeros(shape, dtype=bool)
    region[: shape[0] // 2] = True
    change = Change(LESS.perturbation, LESS.text, time_um2=0.01)
    folder = simulate_from_results(found, change, output=tmp_path, region=region)
    before, after = (
        read_image(folder / f"{n}.ome.tif").channel("gamma_ac_per_um2") for n in ("before", "after")
    )
    ratio = after / before
    here = region[found.slices]
    np.testing.assert_allclose(ratio[here & np.isfinite(ratio)], 1.5, rtol=1e-5)
    np.testing.assert_allclose(ratio[~here & np.isfinite(ratio)], 1.0, rtol=1e-5)
    with pytest.raises(FieldError, match="meets the nucleus"):
        simulate_from_results(found, change, output=tmp_path / "b", region=np.zeros(shape, dtype=bool))
    twice = np.kron(region, np.ones((2, 2), dtype=bool))
    with pytest.raises(FieldError, match="of the analysed image"):
        simulate_from_results(found, change, output=tmp_path / "b", region=twice)


def test_a_region_is_read_as_a_mask_of_the_image(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = np.zeros(cm.Results(results).open("a").labels.shape, dtype=bool)
    region[: len(region) // 2] = True
    asked: list[np.ndarray] = []

    def keep(*_: object, region: np.ndarray, **__: object) -> Path:
        asked.append(region)
        return tmp_path

    monkeypatch.setattr(command, "simulate_from_results", keep)

    def read(name: str) -> None:
        wanted = command.Request(
            None, {}, {}, ("acetylation=x2",), None, None, results, None, 1, tmp_path / name
        )
        command.run(wanted, output=tmp_path / "o", overwrite=False, progress=str)

    tifffile.imwrite(tmp_path / "bits.tif", region, bitspersample=1)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(255 * region.astype(np.uint8)))
    for name in ("bits.tif", "a.png"):
        read(name)
        np.testing.assert_array_equal(asked.pop(), region)
    tifffile.imwrite(tmp_path / "twice.tif", np.kron(region, np.ones((2, 2), dtype=np.uint8)))
    tifffile.imwrite(tmp_path / "rgb.tif", np.stack([255 * region.astype(np.uint8)] * 3, axis=-1))
    for name in ("twice.tif", "rgb.tif"):
        with pytest.raises(AxesError, match=r"without resizing or cropping, with one value per pixel"):
            read(name)


def test_what_cannot_be_started_from_is_refused(results: Path) -> None:
    with pytest.raises(ReadError, match="2 nuclei fit"):
        read_nucleus(results)
    with pytest.raises(ReadError, match="0 nuclei fit"):
        read_nucleus(results, nucleus=7)


# --- words -------------------------------------------------------------------------------------------------


def test_changes_are_read_as_written() -> None:
    assert parse_perturbation(["acetylation=x1.5"]) == Perturbation(acetylation_factor=1.5)
    both = parse_perturbation(["methylation = *0.5", "methylation=-0.2", "acetylation=+1e-1"])
    assert both == Perturbation(0.5, 1.0, -0.2, 0.1)


@pytest.mark.parametrize(
    "text", ["acetylation", "acetylation=1.5", "demethylation=x2", "acetylation=xtwo", "acetylation=x-1"]
)
def test_other_changes_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"write for instance --perturb acetylation=x1\.5"):
        parse_perturbation([text])
    with pytest.raises(ParameterError, match="changed already"):
        parse_perturbation(["acetylation=x1.5", "acetylation=x2"])


@pytest.mark.parametrize(
    "bad", [{"nuclei": 0}, {"psf": "magic"}, {"nuclei": 1, "touching": 1}, {"methylation_per_um2": -1.0},
            {"read_noise": float("nan")}, {"psf": "confocal", "haze": 0.1}],
)  # fmt: skip
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        SimulationSettings.from_mapping(bad)


def test_only_a_gaussian_has_a_width_of_its_own_and_records_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {}
    for kind in ("gaussian", "confocal"):
        files[kind] = tmp_path / f"{kind}.toml"
        files[kind].write_text(SimulationSettings(psf=kind).to_toml())
        assert SimulationSettings.from_toml(files[kind]).psf == kind
    assert SimulationSettings.from_toml(files["gaussian"]).psf_sigma_um == 0.1
    assert "psf_sigma_um" not in files["confocal"].read_text()
    seen: list[SimulationSettings] = []

    def keep(*, settings: SimulationSettings, **_: object) -> Path:
        seen.append(settings)
        return tmp_path

    monkeypatch.setattr(command, "simulate", keep)
    asked = command.Request(files["confocal"], {"psf_sigma_um": 0.3}, {"psf": "gaussian", "seed": None},
                            (), None, None, None, None, None, None)  # fmt: skip
    command.run(asked, output=tmp_path / "o", overwrite=False, progress=str)
    assert (seen[0].psf, seen[0].psf_sigma_um) == ("gaussian", 0.3), "an option and --set count together"


def test_a_nucleus_with_too_many_cells_is_refused_before_it_is_simulated() -> None:
    with pytest.raises(ParameterError, match="cells"):
        simulate_nucleus(0, SimulationSettings(diameter_um=20.0, acetylation_per_um2=100.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--time", "1"], "without --perturb"),
        (["--nucleus", "1"], "without --from"),
        (["--perturb", "acetylation=x2", "--diffusivity-um2-per-s", "1"], "without --time"),
        (["--set", "colour=1"], "Unknown settings"),
        (["--psf", "confocal", "--psf-sigma-um", "0.1"], "psf_sigma_um = 0.1 with psf = 'confocal'"),
        (["--from", "nowhere", "--nuclei", "2", "--perturb", "acetylation=x2"], "with --from"),
        (["--from", "nowhere"], "--from without --perturb"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        app(["simulate", "--output", str(tmp_path / "o"), *options], prog_name="chromamol")
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_what_a_simulation_has_not_written_is_not_replaced(field: Path, tmp_path: Path) -> None:
    for name in ("truth/mine.tif", "before.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=r"already holds before\.tif, truth, without a record"):
        simulate(output=tmp_path, settings=SMALL, overwrite=True)
    copy = shutil.copytree(field, tmp_path / "copy")
    assert OF_SIMULATION.foreign_to(copy) == []
    (copy / "truth" / "mine.tif").write_text("mine")
    with pytest.raises(OutputError, match=r"has not written: truth.mine\.tif"):
        simulate(output=copy, settings=SMALL, overwrite=True)


def test_a_simulation_does_not_replace_what_it_starts_from(
    field: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(field, tmp_path / "copy")
    region = copy / "truth" / "field_labels.tif"
    asked = ["--from", str(tmp_path), "--region", str(region), "--perturb", "acetylation=x2", "--overwrite"]
    with pytest.raises(SystemExit) as stop:
        app(["simulate", "-o", str(copy), *asked], prog_name="chromamol")
    assert stop.value.code == 2
    assert "already holds what is to be read" in capsys.readouterr().err
    assert region.is_file()


def test_the_command_writes_a_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "simulate",
        "-o",
        str(tmp_path / "o"),
        "--nuclei",
        "1",
        "--diameter-um",
        "3",
        "--set",
        "steadiness=0.5",
    ]
    with pytest.raises(SystemExit) as stop:
        app(arguments, prog_name="chromamol")
    assert stop.value.code in (None, 0)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "nucleus 1 of 1" in shown.err
    assert (tmp_path / "o" / "overview.png").is_file()
