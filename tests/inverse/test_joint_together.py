"""Several nuclei fitted as one batch: the same mathematics as one by one, whatever the others do."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import chromamol as cm
from chromamol.errors import FieldError, ParameterError, SolverError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse import joint, joint_solver, joint_together
from chromamol.inverse.calibration import EXACT, CalibrationPrior
from chromamol.inverse.inference import inference
from chromamol.inverse.joint_batch import own_unknowns, side_by_side, stacked_models, stacked_unknowns
from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_setup import Guess, JointProblem, build_model, own_box, start
from chromamol.inverse.joint_solver import gauss_newton_step, solve_normal
from chromamol.inverse.joint_together import Place, run_alone, run_together
from chromamol.inverse.rates import Outcome

CPU = torch.device("cpu")
TAUS = (0.05, 0.02)


def ellipse(shape, stretch):
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    return sum(stretch**i * axis**2 for i, axis in enumerate(axes)) < 0.9


def made(truth, sizes):
    """Arguments for three nuclei of other sizes, shapes, patterns and noises."""
    found = []
    for name, (y, x), noise, shape in zip(
        ("both_0", "uniform_1", "known_0"),
        ((20, 30), (60, 60), (10, 100)),
        (0.05, 0.1, 0.05),
        sizes,
        strict=True,
    ):
        state = truth(name)
        phi_h, phi_e = (phi[y : y + shape[0], x : x + shape[1]] for phi in state.noisy(noise, 0))
        found.append(state.settings | {"phi_h": phi_h, "phi_e": phi_e, "mask": ellipse(shape, 1.2)})
    return found


@pytest.fixture(scope="module")
def nuclei(truth):
    return made(truth, ((64, 72), (60, 56), (72, 60)))


@pytest.fixture(params=[(2, 0.0, EXACT), (1, 0.05, CalibrationPrior(0.1, 0.01, 0.1, 0.1))],
                ids=["two-marks", "total-blurred-uncalibrated"])  # fmt: skip
def models(request, truth):
    """Models on their common box, and a point of each."""
    channels, blur, calibration = request.param
    problems = []
    for nucleus in made(truth, ((32, 36), (30, 28), (36, 30)))[:2]:
        images = (
            (nucleus["phi_h"], nucleus["phi_e"]) if channels == 2 else (nucleus["phi_h"] + nucleus["phi_e"],)
        )
        grid = Grid(nucleus["mask"].shape, (nucleus["pixel_size_um"],) * 2)
        fields = tuple(Field(v, grid, "1", nucleus["mask"]) for v in images)
        mixing = ((1.0, 0.0), (0.0, 1.0)) if channels == 2 else ((1.0, 1.0),)
        problems.append(
            JointProblem(fields, mixing, (0.05,) * channels, blur, nucleus["parameters"], None, calibration)
        )
    box = tuple(max(sizes) for sizes in zip(*(own_box(problem) for problem in problems), strict=True))
    guesses = (Guess(0.8, 1.0, 0.4, 0.3), Guess(0.9, 1.2, 1.0, 0.3, closed=False))
    built = [build_model(p, g, box=box, device=CPU) for p, g in zip(problems, guesses, strict=True)]
    points = []
    for seed, (problem, model) in enumerate(zip(problems, built, strict=True)):
        point, generator = start(problem, model), torch.Generator().manual_seed(seed)
        noise = point.map(
            lambda part, g=generator: 0.003 * torch.randn(part.shape, generator=g, dtype=part.dtype)
        )
        points.append(point.map(torch.add, noise))
    assert len({m.root.shape for m in built}) > 1 < len({m.holding.shape for m in built})
    return built, points


def assert_same(found, expected, rtol):
    for mine, other in zip(found.parts(), expected.parts(), strict=True):
        assert mine.shape == other.shape
        if other.numel():
            assert float((mine - other).abs().max()) <= rtol * float(other.abs().max()) + 1e-14


def test_residuals_and_their_derivative_are_those_of_each_nucleus(models):
    built, points = models
    model, point = stacked_models(built), stacked_unknowns(points)
    at = Linearisation.at(model, point, torch.tensor(TAUS, dtype=torch.float64))
    residuals = model.residuals(point, torch.tensor(TAUS, dtype=torch.float64))
    together = at.adjoint(residuals)
    image = at.forward(point)
    for i, (one, own, tau) in enumerate(zip(built, points, TAUS, strict=True)):
        mine = one.residuals(own, tau)
        alone = Linearisation.at(one, own, tau)
        for name in ("data", "balance", "unbalanced", "rough", "scalars", "flux"):
            torch.testing.assert_close(residuals[name][i : i + 1], mine[name], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(image[name][i : i + 1], alone.forward(own)[name], rtol=1e-9, atol=1e-9)
        pulled = own_unknowns(together.map(lambda part, i=i: part[i : i + 1]), one)
        assert_same(pulled, alone.adjoint(mine), 1e-9)


def test_a_step_of_many_is_the_step_of_each(models):
    built, points = models
    tolerances = torch.tensor([1e-2, 1e-3], dtype=torch.float64)
    step = gauss_newton_step(stacked_models(built), stacked_unknowns(points), torch.tensor(TAUS, dtype=torch.float64),
                             tolerance=tolerances)  # fmt: skip
    for i, (one, own, tau) in enumerate(zip(built, points, TAUS, strict=True)):
        alone = gauss_newton_step(one, own, tau, tolerance=float(tolerances[i]))
        assert float(step.length[i]) == pytest.approx(float(alone.length), rel=1e-3)
        assert float(step.cost[i]) == pytest.approx(float(alone.cost), rel=1e-3)
        found = own_unknowns(step.point.map(lambda part, i=i: part[i : i + 1]), one)
        assert_same(found, alone.point, 5e-3)


def test_samples_of_many_are_solved_as_those_of_each(models, monkeypatch):
    monkeypatch.setattr(joint_solver, "ITERATIONS", 40)  # as far as each comes with them
    built, points = models
    rights = []
    for seed, one in enumerate(built):
        generator = torch.Generator().manual_seed(seed)
        rights.append(
            one.nothing(2).map(lambda part, g=generator: torch.randn(part.shape, generator=g).to(part))
        )
    groups = zip(
        stacked_unknowns(rights).split(2),
        stacked_unknowns([r.split(1)[0] for r in rights]).split(1),
        strict=True,
    )
    settings = {"tolerances": (3e-2, 1e-1), "passes": (1, 2)}
    together = solve_normal(stacked_models(built), stacked_unknowns(points), 0.02, list(groups), **settings)
    for one, own, mine, found in zip(built, points, rights, together, strict=True):
        alone = solve_normal(one, own, 0.02, [(mine, mine.split(1)[0])], **settings)[0]
        for its, expected in zip(found, alone, strict=True):
            assert_same(own_unknowns(its, one), expected, 1e-5)


def test_nuclei_together_have_the_rates_of_each(nuclei, monkeypatch):
    arguments = [nucleus | {"method": "joint"} for nucleus in nuclei[:2]]
    monkeypatch.setattr(joint, "own_box", lambda _: (96, 96))
    alone, together = (cm.infer_rates_together(arguments, device="cpu", at_once=n) for n in (1, 2))
    for one, other in zip(alone, together, strict=True):
        assert one.outcome == other.outcome == Outcome.BOTH_RATES
        assert abs(one.diagnostics["steps"] - other.diagnostics["steps"]) <= 4
        # Single precision rounds otherwise, and random signs that choose the smoothness are solved for to a percent.
        assert one.diagnostics["smoothness_um"] == pytest.approx(other.diagnostics["smoothness_um"], rel=0.2)
        for mine, its in ((one.methylation, other.methylation), (one.acetylation, other.acetylation)):
            change = np.sqrt(np.nanmean((mine.values - its.values) ** 2))
            assert change < 0.2 * np.sqrt(np.nanmean(mine.standard_error**2))
            assert abs(mine.mean - its.mean) < 0.2 * mine.mean_se
            assert its.mean_se == pytest.approx(mine.mean_se, rel=0.05)


def test_one_bad_nucleus_costs_the_others_nothing(nuclei):
    swapped = nuclei[1] | {"phi_h": np.full(nuclei[1]["phi_h"].shape, np.nan)}
    found = cm.infer_rates_together([nuclei[0] | {"method": "joint"}, swapped | {"method": "joint"},
                                     nuclei[2] | {"method": "regression"}], device="cpu", at_once=3)  # fmt: skip
    assert found[0].method == "joint"
    assert isinstance(found[1], FieldError)
    assert found[2].method == "regression"
    with pytest.raises(ParameterError, match="at_once = 0"):
        cm.infer_rates_together([], device="cpu", at_once=0)


def waiting(log, name, box, alike="same", steps=2):
    """A fit that only asks; it logs with whom it shares its answers."""
    found = yield Place(box, alike)
    for _ in range(steps):
        found = yield Asked(name)
        log.append(found)
    return name, found


class Asked:
    alike = "asked"

    def __init__(self, name):
        self.name = name
        self.model = SimpleNamespace(images=torch.zeros(1))


@pytest.fixture
def answered(monkeypatch):
    """Answers are the names of all that were asked together; batches above `limit` find no memory."""
    limit = {"most": 99}

    def computed(requests):
        if len(requests) > limit["most"]:
            raise torch.OutOfMemoryError("no memory for so many")
        return ["+".join(request.name for request in requests)] * len(requests)

    monkeypatch.setattr(joint_together, "_computed", computed)
    return limit


def test_fits_are_packed_by_kind_and_size(answered):
    log = []
    fits = [waiting(log, "a", (100, 100)), waiting(log, "b", (90, 90), "other"), waiting(log, "c", (60, 60)),
            waiting(log, "d", (95, 80), steps=3), waiting(log, "e", (50, 64))]  # fmt: skip
    ends = run_together(fits, at_once=3, device=CPU)
    assert [end[0] for end in ends] == list("abcde")
    # The third step of d is its own; c and e are less than half of the others' size.
    assert [end[1] for end in ends] == ["a+d", "b", "c+e", "d", "c+e"]
    assert run_alone(waiting(log, "f", (10, 10))) == ("f", "f")


def test_a_batch_without_memory_is_halved(answered):
    answered["most"] = 2
    ends = run_together([waiting([], name, (64, 64)) for name in "abcdef"], at_once=6, device=CPU)
    assert [end[1] for end in ends] == ["a", "b+c", "b+c", "d", "e+f", "e+f"]
    answered["most"] = 0
    with pytest.raises(SolverError, match="memory of the device"):
        run_alone(waiting([], "a", (64, 64)))


@pytest.mark.parametrize("kind", [torch.linalg.LinAlgError, np.linalg.LinAlgError])
def test_a_singular_matrix_costs_its_own_nucleus_alone(answered, kind):
    def singular():
        yield Place((64, 64), "same")
        yield Asked("s")
        raise kind("not positive definite")

    fits = [waiting([], "a", (64, 64)), singular(), waiting([], "b", (64, 64))]
    first, broken, last = run_together(fits, at_once=3, device=CPU)
    assert isinstance(broken, SolverError)
    assert "not positive definite" in str(broken)
    assert (first, last) == (("a", "a+b"), ("b", "a+b"))


def test_sizes_that_differ_are_filled_up():
    found = side_by_side([torch.ones(1, 2, 3), torch.ones(2, 3, 1)], 7)
    assert found.shape == (3, 3, 3)
    assert found[0].tolist() == [[1.0] * 3, [1.0] * 3, [7.0] * 3]
    assert found[2].tolist() == [[1.0, 7.0, 7.0]] * 3


def test_both_doors_take_the_same_arguments():
    def taken(function):
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert taken(cm.infer_rates) == taken(inference)
