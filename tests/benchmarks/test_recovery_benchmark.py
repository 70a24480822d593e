"""The recovery benchmark: what it measures, writes, keeps and refuses."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from typer.testing import CliRunner

from chromamol.benchmarks.recovery import CASES, patterns, run
from chromamol.benchmarks.recovery.between_walls import mirrored
from chromamol.benchmarks.recovery.cases import Bar, Case
from chromamol.benchmarks.recovery.costs import spend
from chromamol.benchmarks.recovery.grid_baseline import grid_fit
from chromamol.benchmarks.recovery.methods import METHODS, missing
from chromamol.benchmarks.recovery.oracle import tuned_regression
from chromamol.benchmarks.recovery.patterns import PIXEL, STEADINESS
from chromamol.benchmarks.recovery.scenes import RIM, Scene
from chromamol.benchmarks.recovery.scores import Estimate, Guess, misses, score
from chromamol.benchmarks.recovery.table import RecoveryBenchmark
from chromamol.benchmarks.recovery.truths import Truth, load_truth, steady_truths
from chromamol.cli import app
from chromamol.domains import measure_domains
from chromamol.errors import FieldError, ParameterError, ReadError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.synthetic import SimulatedChromatin, SolverSettings, simulate_chromatin

STORED = Path(__file__).resolve().parents[1] / "inverse" / "truth" / "known_0.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small truths, cut from a stored one: making them is slow while types are checked."""
    folder = tmp_path_factory.mktemp("truths")
    with np.load(STORED) as file:
        for size in (48, 64):
            part = (slice(64, 64 + size),) * 2
            cut = {name: file[name][part] for name in ("phi_h", "phi_e", "gamma_me")}
            cut |= {"gamma_ac": file["gamma_ac"], "steadiness": file["steadiness"]}
            np.savez(folder / f"known_0_{size}px.npz", **cut)
    return folder


@pytest.fixture(scope="module")
def scene(folder):
    truth = load_truth("known", 0, folder=folder, size=48, progress=lambda _: None)
    return Scene.of(CASES["known_5"], truth, 0)


def test_command_prints_writes_and_draws(folder, tmp_path):
    arguments = ["benchmark", "recovery", "--quick", "--methods", "regression", "--cases", "known_5",
                 "--truths", str(folder), "-o", str(tmp_path)]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "| known_5 | regression | methylation | 0 |" in result.stdout
    table = pd.read_csv(tmp_path / "recovery.csv")
    assert (table.relative_l2 > table.bound).all(), "nothing is better than the bound"
    assert {"cpu_s", "wall_s", "peak_mb", "coverage", "outcome", "misses"} <= set(table.columns)
    assert (tmp_path / "recovery.png").stat().st_size > 10_000
    assert "recovery.md" in {path.name for path in tmp_path.iterdir()}


@pytest.fixture
def simulations(monkeypatch):
    """Stands in for the solvers: seeds that are odd never come to rest. Holds the shape and seed of every run."""
    made = []

    def simulated(methylation, acetylation, *, seed, mask=None, **settings):
        made.append((methylation.shape, seed))
        shape, inside = methylation.shape, np.ones(methylation.shape, bool) if mask is None else mask
        return SimulatedChromatin(
            np.full(shape, 0.3), np.full(shape, 0.2), methylation, acetylation, inside, (PIXEL,) * 2,
            patterns.PARAMETERS, steadiness=2.0 * STEADINESS if seed % 2 else 1e-5,
        )  # fmt: skip

    monkeypatch.setattr(patterns, "simulate_chromatin", simulated)
    monkeypatch.setattr(patterns, "relax_between_walls", simulated)
    return made


def test_truths_are_made_once_and_kept(tmp_path, simulations):
    told = []
    for _ in range(2):
        truth = load_truth("both", 0, folder=tmp_path / "new", size=32, progress=told.append)
    assert len(told) == 1
    assert simulations == [((16, 16), 0), ((32, 32), 0)], "on every second pixel first"
    assert truth.walls
    for rate, median in ((truth.methylation, 0.8), (truth.acetylation, 1.0)):
        assert np.log(rate).std() == pytest.approx(0.3, rel=1e-3)
        assert np.exp(np.log(rate).mean()) == pytest.approx(median, rel=1e-3)


def test_a_pattern_between_walls_rests_beside_its_mirror_images():
    """What is found in the corner of the box of twice the side is at rest in all of it, and even."""
    state = patterns.Experiment.of("both", 0, 32).relaxed(2.0 * PIXEL, 0)
    assert state.steadiness <= STEADINESS
    assert state.heterochromatin.std() > 0.1, "domains"
    whole = [
        mirrored(v) for v in (state.methylation, state.acetylation, state.heterochromatin, state.euchromatin)
    ]
    after = simulate_chromatin(
        *whole[:2], initial=tuple(whole[2:]), pixel_size_um=2.0 * PIXEL, parameters=patterns.PARAMETERS,
        settings=SolverSettings(steadiness=STEADINESS, max_steps=1),
    )  # fmt: skip
    assert after.steadiness == pytest.approx(state.steadiness, rel=1e-6), "not a step was needed"
    shifted = tuple(np.roll(v, 8, 0) for v in whole[2:])
    moved = simulate_chromatin(
        *whole[:2], initial=shifted, pixel_size_um=2.0 * PIXEL, parameters=patterns.PARAMETERS,
        settings=SolverSettings(steadiness=STEADINESS, max_steps=1),
    )  # fmt: skip
    assert moved.steadiness > STEADINESS, "the rates hold it where it is"


def test_a_walled_nucleus_is_sharpened_on_a_finer_grid(monkeypatch):
    """Each level begins where the last one rested; what is read between its pixels is a cubic through them."""
    levels = []

    def relaxed(experiment, pixel, seed, initial=None):
        y, x = (pixel * (i + 0.5) for i in np.indices(experiment.mask.shape))
        levels.append((experiment.mask.shape, pixel / PIXEL, initial))
        phi = np.where(experiment.mask, 0.4 + 0.02 * (x - 0.5) ** 3 - 0.05 * x * y**2, 0.0)
        return SimulatedChromatin(phi, 0.5 * phi, experiment.methylation, experiment.acetylation, experiment.mask,
                                  (pixel, pixel), patterns.PARAMETERS, 0.0)  # fmt: skip

    monkeypatch.setattr(patterns.Experiment, "relaxed", relaxed)
    state = patterns.simulate("walled", 0, 32)
    assert [(shape, pixel) for shape, pixel, _ in levels] == [
        ((16, 16), 2.0),
        ((32, 32), 1.0),
        ((64, 64), 0.5),
    ]
    assert [None if start is None else start[0].shape for *_, start in levels] == [None, (32, 32), (64, 64)]
    experiment = patterns.Experiment.of("walled", 0, 32)
    assert state.mask[experiment.mask].mean() > 0.9
    assert np.shape(state.methylation) == (32, 32)
    y, x = (PIXEL * (i + 0.5) for i in np.indices((32, 32)))
    expected = 0.4 + 0.02 * (x - 0.5) ** 3 - 0.05 * x * y**2
    core = ndimage.binary_erosion(state.mask, iterations=2)
    np.testing.assert_allclose(state.heterochromatin[core], expected[core], atol=1e-12)
    np.testing.assert_allclose(state.euchromatin[state.mask], 0.5 * expected[state.mask], atol=3e-5)


def test_seeds_without_a_rest_are_named_and_the_next_are_taken(tmp_path, simulations):
    for _ in range(2):
        told = []
        found = steady_truths("walled", 3, folder=tmp_path, size=32, progress=told.append)
        assert [seed for seed, _ in found] == [0, 2, 4]
        assert sum("still moves" in line for line in told) == 2
    assert ((32, 32), 1) not in simulations, "what moves on every second pixel is not made on all of them"
    assert len(simulations) == 3 * 3 + 2  # three levels of what rests, one of what does not


def test_a_run_that_was_cut_off_goes_on(folder, tmp_path, monkeypatch):
    settings = {"truths": folder, "cases": ["known_5"], "quick": True, "output": tmp_path}
    first = run(methods=["regression"], **settings).scores

    def again(scene):
        raise AssertionError("scored twice")

    monkeypatch.setitem(METHODS, "regression", again)
    monkeypatch.setitem(METHODS, "joint", lambda scene: Estimate({}, "done"))
    both = run(methods=["joint", "regression"], **settings).scores
    kept = both[both.method == "regression"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept[first.columns], first)
    assert list(both.method) == ["joint", "regression"]


def test_scores_of_another_version_of_the_code_are_made_again(folder, tmp_path, monkeypatch):
    settings = {
        "truths": folder,
        "cases": ["known_5"],
        "methods": ["regression"],
        "quick": True,
        "output": tmp_path,
    }
    for number, version in enumerate(["1.0", "1.0", "1.1"]):
        monkeypatch.setattr(
            "chromamol.benchmarks.recovery.kept.code_version", lambda version=version: version
        )
        monkeypatch.setitem(METHODS, "regression", lambda scene, number=number: Estimate({}, f"run {number}"))
        (row,) = run(**settings).scores.to_dict("records")
        assert (row["version"], row["outcome"]) == (version, f"run {number // 2 * 2}")
    assert len((tmp_path / "scores.jsonl").read_text("utf-8").splitlines()) == 2


def test_a_cube_is_seen_as_the_mean_of_its_planes_and_the_thickness_is_told():
    cube = np.random.default_rng(0).random((16, 16, 16))
    truth = Truth(cube, 1.0 - cube, np.full(cube.shape, 0.8), np.ones(cube.shape), np.ones(cube.shape, bool),
                  math.nan, pixel=0.1)  # fmt: skip
    case = Case("x", "solid", 0.0, domain_radii=1)
    scene = Scene.of(case, truth, 0)
    assert np.allclose(scene.images[0], cube[:3].mean(0))
    assert scene.arguments()["section_thickness_um"] == pytest.approx(0.3)
    assert scene.scored.sum() == 10 * 10, "a rim of 0.31 L0"
    plane = Scene.of(replace(case, domain_radii=0), truth, 0)
    assert np.array_equal(plane.images[0], cube[0])
    assert plane.arguments()["section_thickness_um"] == 0.0
    assert Scene.of(replace(case, domain_radii=None), truth, 0).arguments()["section_thickness_um"] is None


def test_a_film_is_scored_by_its_diffusivity():
    truth = Truth(np.full((3, 24, 24), 0.3), np.full((3, 24, 24), 0.2), np.full((24, 24), 0.8), np.ones((24, 24)),
                  np.ones((24, 24), bool), 1.6, frame_interval_s=0.05)  # fmt: skip
    scene = Scene.of(CASES["film_5"], truth, 0)
    assert scene.images[0].shape == (3, 24, 24)
    assert scene.arguments()["frame_interval_s"] == 0.05
    rates = {"methylation": Guess(truth.methylation), "acetylation": Guess(truth.acetylation)}
    found = Estimate(rates, "both_rates", diffusivity=1.08 * patterns.DIFFUSIVITY, diffusivity_se=0.1)
    row = score(found, scene)[0]
    assert row["diffusivity_error"] == pytest.approx(0.08)
    assert row["diffusivity_covered"] == 1.0
    assert "diffusivity_error 0.08, asked 0.05" in misses(row, scene.case.bar)


def test_larger_fields_repeat_the_periodic_pattern(scene):
    large = scene.truth.repeated(100)
    assert large.phi_h.shape == (100, 100)
    assert np.array_equal(large.phi_h[:48, :48], large.phi_h[48:96, 48:96])


def test_an_image_between_walls_is_blurred_with_its_mirror_images(scene):
    between = replace(scene.truth, walls=True)
    blurred = between.blurred(between.phi_h, 2.0)
    whole = scene.truth.blurred(mirrored(between.phi_h), 2.0)
    assert np.allclose(blurred, whole[:48, :48])
    assert not np.allclose(blurred, scene.truth.blurred(between.phi_h, 2.0), atol=1e-2)


def test_a_broken_truth_is_refused(tmp_path):
    (tmp_path / "known_0.npz").write_text("no")
    with pytest.raises(ReadError, match="made again"):
        load_truth("known", 0, folder=tmp_path, size=192, progress=lambda _: None)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_a_truth_whose_writing_was_cut_short_is_refused(tmp_path, kept):
    path = tmp_path / "known_0.npz"
    np.savez_compressed(path, phi_h=np.random.default_rng(0).random((32, 32)), steadiness=0.0)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ReadError, match="made again"):
        load_truth("known", 0, folder=tmp_path, size=192, progress=lambda _: None)


def test_scores_of_a_known_error():
    shape = (40, 40)
    rate = 1.0 + 0.3 * np.sin(np.arange(40) / 5.0)[:, None] * np.ones(shape)
    truth = Truth(np.full(shape, 0.3), np.full(shape, 0.2), rate, np.ones(shape), np.ones(shape, bool), 1.6)
    scene = Scene.of(Case("x", "known", 0.0, acetylation_known=True, bar=Bar(bias=0.05)), truth, 0)
    guess = Guess(1.1 * rate, np.full(shape, 0.06), 0.2)
    (row,) = score(Estimate({"methylation": guess}, "done"), scene)
    assert row["correlation"] == pytest.approx(1.0)
    assert row["relative_l2"] == pytest.approx(0.1)
    assert row["bias"] == pytest.approx(0.1)
    rim = round(RIM / PIXEL)
    inner = rate[rim:-rim, rim:-rim]
    assert row["coverage"] == pytest.approx(np.mean(0.1 * inner <= 1.96 * 0.06))
    assert row["mean_covered"] == 1.0
    assert misses(row, scene.case.bar) == ["bias 0.1, asked 0.05"]
    (nothing,) = score(Estimate({"methylation": Guess(np.full(shape, np.nan))}, "not_converged"), scene)
    assert nothing["scored_share"] == 0.0
    assert misses(nothing, scene.case.bar), "no answer meets no bar"


def test_blind_cases_ask_to_be_told_so():
    bar = CASES["both_5_psf8"].bar
    assert misses({"note": "", "outcome": "both_rates"}, bar)
    assert not misses({"note": "methylation_not_identifiable", "outcome": "not_identifiable"}, bar)


def test_only_a_case_with_a_bar_counts_how_often_it_was_met():
    row = {"seed": 0, "method": "joint", "rate": "methylation", "outcome": "both_rates"}
    rows = [row | {"case": case, "misses": missed}
            for case, missed in (("both_5", ""), ("both_5", "refused"), ("short_5", math.nan))]  # fmt: skip
    summary = RecoveryBenchmark(pd.DataFrame(rows), {}).summary().set_index("case")
    assert summary.bar_met["both_5"] == 1
    assert math.isnan(summary.bar_met["short_5"])
    assert not CASES["short_5"].bar.asks
    assert CASES["both_5_psf8"].bar.asks


def test_methods_without_intervals_have_no_coverage():
    (row,) = RecoveryBenchmark(pd.DataFrame([{"method": "grid", "coverage": 0.9}, {"method": "deepxde"}]), {}
                               ).coverage().to_dict("records")  # fmt: skip
    assert row["method"] == "grid"
    assert RecoveryBenchmark(pd.DataFrame([{"method": "deepxde"}]), {}).coverage().empty


@pytest.mark.parametrize(("bar", "misses"), [(Bar(bias=0.1), "refused"), (Bar(identifiable=False), "")])
def test_a_refusal_meets_the_bar_of_a_blind_case_only(folder, monkeypatch, bar, misses):
    def refuses(scene):
        raise FieldError("Nothing to see.", expected="something.", do="look elsewhere.")

    monkeypatch.setitem(METHODS, "joint", refuses)
    monkeypatch.setitem(CASES, "known_5", replace(CASES["known_5"], bar=bar))
    scores = run(truths=folder, cases=["known_5"], methods=["joint"], quick=True).scores
    assert (scores.outcome[0], scores.misses[0]) == ("refused", misses)


def test_tuning_by_the_truth_does_not_harm(scene):
    tuned, plain = (score(method(scene), scene)[0] for method in (tuned_regression, METHODS["regression"]))
    assert tuned["scored_share"] == 1.0
    # The untuned one answers on fewer pixels, which are the easier ones.
    assert tuned["relative_l2"] < 1.1 * plain["relative_l2"]


def test_grid_comparator_lowers_the_error_of_its_start_without_noise(folder):
    """Of 5 % noise its fourth differences make more error than the uniform start has, until hundreds of steps later."""
    truth = load_truth("known", 0, folder=folder, size=48, progress=lambda _: None)
    scene = Scene.of(CASES["known_0"], truth, 0)
    found = grid_fit(scene, steps=60).rates["methylation"].values
    error, uniform = (np.linalg.norm((each - truth.methylation)[scene.scored]) for each in (found, 0.8))
    assert error < 0.75 * uniform


def test_what_can_not_run_is_skipped_with_its_reason(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "LGPL" in str(missing("deepxde"))
    assert missing("joint") is None


def test_memory_and_time_are_measured_again_after_a_call():
    def work():
        return float(torch.ones(20_000_000, dtype=torch.float64).cumsum(0)[-1])

    for _ in range(2):
        spent = spend(work)
        assert spent.answer == 2e7
        assert spent.cpu_s > 0.0
        assert spent.peak_mb > 100.0, "160 MB, and 160 MB more; seen every 20 ms"


@pytest.mark.parametrize("wrong", [{"cases": ["x"]}, {"methods": ["x"]}, {"seeds": 0}])
def test_unknown_names_are_refused(folder, wrong):
    with pytest.raises(ParameterError):
        run(truths=folder, **wrong)


def test_every_case_has_a_truth_of_a_kind_that_can_be_made():
    for case in CASES.values():
        assert 0.0 <= case.noise <= 0.1
        if case.truth not in ("solid", "film"):
            assert patterns.Experiment.of(case.truth, 0, 48).methylation.shape == (48, 48)


@pytest.mark.parametrize("name", ["known_0", "both_0"])
def test_where_domains_have_eighty_nanometres_a_pixel_has_nine(name):
    with np.load(STORED.with_name(f"{name}.npz")) as file:
        phi_h = file["phi_h"].astype(float)
    whole = Field(phi_h, Grid(phi_h.shape, (PIXEL, PIXEL)), "1")
    radius = measure_domains(whole, np.ones(phi_h.shape, dtype=bool), phi_max=0.7).radius_um
    assert 80.0 * PIXEL / radius == pytest.approx(9.4, rel=0.1)
