"""The network estimator: rates where pixels are missing, and contracts of its training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import chromamol as cm
from chromamol.errors import DeviceError, FieldError, OutputError, ParameterError
from chromamol.inverse import network as estimator
from chromamol.inverse import network_errors, network_training
from chromamol.inverse.arrays import as_fields
from chromamol.inverse.calibration import EXACT
from chromamol.inverse.from_images import two_channel_problem
from chromamol.inverse.gaps import noise_among_gaps
from chromamol.inverse.inference import _joint_problem
from chromamol.inverse.joint import first_guess
from chromamol.inverse.network import build_network_model, network_rates_of_batch
from chromamol.inverse.network_derivatives import Derivatives
from chromamol.inverse.network_errors import Linearised, errors_of_averages, log_rate_deviations
from chromamol.inverse.network_model import LAST_KAPPA
from chromamol.inverse.network_settings import NetworkSettings
from chromamol.inverse.rates import Outcome
from chromamol.inverse.regression import regress
from chromamol.physics import ChromatinModel, ChromatinParameters
from chromamol.synthetic.spaces import PeriodicBox

CPU = torch.device("cpu")
QUICK = NetworkSettings(steps=30, polish=20, error_samples=2)


@pytest.fixture(scope="module")
def crop(truth):
    """A quarter of a pattern with 5 % noise: (images, rate, settings), and a disc in its middle."""
    whole = truth("known_0")
    phi_h, phi_e = whole.noisy(0.05, 0)
    part = (slice(40, 144), slice(40, 144))
    y, x = np.mgrid[:104, :104] - 51.5
    settings = whole.settings | {"known_acetylation_per_um2": 1.0, "noise_sd": 0.035}
    return phi_h[part], phi_e[part], whole.methylation[part], settings, y**2 + x**2 < 15.0**2


@pytest.fixture(scope="module")
def small(truth):
    """A problem of 48 x 48 pixels with its regression: what training needs."""
    whole = truth("known_0")
    part = (slice(60, 108), slice(60, 108))
    images = [values[part] for values in whole.noisy(0.05, 0)]
    fields = as_fields(*images, None, whole.pixel_size_um, None)
    parameters = whole.settings["parameters"]
    (first,) = regress(
        two_channel_problem(fields, parameters, np.ones((48, 48)), 0.035, with_total=False), device=CPU
    )
    problem = _joint_problem(
        fields, parameters, np.ones((48, 48)), 0.035, 0.0, EXACT, mixing=((1.0, 0.0), (0.0, 1.0))
    )
    return problem, first


def run(small, settings, **options):
    problem, first = small
    (rates,) = network_rates_of_batch([problem], [first], settings=settings, device=CPU, seed=0, **options)
    return rates


def model_of(small, **settings):
    problem, first = small
    chosen = NetworkSettings(**({"precision": "float64"} | settings))
    guess = first_guess(problem, first)
    unit = guess.acetylation**-0.5
    return build_network_model([problem], [guess], [first], unit=unit, settings=chosen, device=CPU, seed=0)


def test_rates_around_missing_pixels_and_a_hole_that_is_marked(crop, check_errors):
    phi_h, phi_e, methylation, settings, disc = crop
    seen = np.random.default_rng(1).random(disc.shape) < 0.7
    rates = cm.infer_rates(phi_h, phi_e, seen=seen & ~disc, method="network",
                           network=NetworkSettings(steps=150, polish=20, error_samples=6), **settings)  # fmt: skip
    assert rates.outcome is Outcome.METHYLATION_GIVEN_ACETYLATION
    found = rates.methylation
    outside = found.valid & ~disc
    assert not found.valid[48:56, 48:56].any()  # made up, and so in no mean
    assert np.corrcoef(found.values[outside], methylation[outside])[0, 1] > 0.9
    middle = found.standard_error[45:60, 45:60].mean()
    assert middle > 1.5 * np.median(found.standard_error[outside])
    off = (found.values - methylation)[outside]
    check_errors(off, found.standard_error[outside], mean_square=(0.5, 4.0), covered=0.75)


def test_means_and_ratio_do_not_hang_on_the_samples_drawn(small, monkeypatch):
    """The two rates of one nucleus, with few samples, of several seeds."""
    monkeypatch.setattr(network_errors, "ITERATIONS", 20)
    problem, first = small
    problem = replace(problem, known_acetylation=None)
    fit = estimator.fit_networks([problem], [first_guess(problem, first)], [first], settings=QUICK,
                                 device=CPU, seed=0)  # fmt: skip
    found = [estimator._with_maps(first, fit, 0, QUICK, seed) for seed in (0, 1)]
    assert not np.allclose(*(r.methylation.standard_error[20:28, 20:28] for r in found), rtol=0.02)
    one, other = found
    np.testing.assert_array_equal(one.methylation.valid, other.methylation.valid)
    for name in ("methylation", "acetylation"):
        a, b = (getattr(r, name) for r in found)
        assert (a.mean, a.mean_se) == (b.mean, b.mean_se)
    assert (one.ratio, one.ratio_se) == (other.ratio, other.ratio_se)
    both = one.methylation.valid & one.acetylation.valid
    assert one.ratio == pytest.approx(
        np.average(one.methylation.values[both], weights=first.phi_e.values[both])
        / np.average(one.acetylation.values[both], weights=first.phi_h.values[both])
    )


def test_errors_of_averages_are_those_of_many_samples(small):
    model = model_of(small, precision="float32")
    weights = torch.zeros((1, 1, 48, 48))
    weights[..., 10:38, 12:36] = 1.0 / (28 * 24)
    generator = torch.Generator().manual_seed(0)
    drawn = log_rate_deviations(model, 0, samples=24, generator=generator)
    sampled = float((drawn * weights[0]).flatten(1).sum(1).square().mean().sqrt())
    # So few tell a deviation to 14 %.
    assert float(errors_of_averages(model, 0, weights)) == pytest.approx(sampled, rel=0.3)


def test_nan_is_a_pixel_that_was_not_seen(small, truth):
    whole = truth("known_0")
    part = (slice(60, 108), slice(60, 108))
    phi_h, phi_e = (values[part] for values in whole.noisy(0.05, 0))
    seen = np.random.default_rng(0).random(phi_h.shape) < 0.8
    options = whole.settings | {"method": "network", "network": QUICK, "known_acetylation_per_um2": 1.0}
    by_mask = cm.infer_rates(phi_h, phi_e, seen=seen, **options)
    phi_h[~seen] = np.nan
    by_nan = cm.infer_rates(phi_h, phi_e, **options)
    np.testing.assert_array_equal(by_nan.phi_h.values, by_mask.phi_h.values)
    np.testing.assert_array_equal(by_nan.methylation.values, by_mask.methylation.values)


def test_noise_is_found_among_gaps():
    rng = np.random.default_rng(0)
    noise = 0.03 * rng.standard_normal((80, 80))
    assert noise_among_gaps(noise, rng.random((80, 80)) < 0.5) == pytest.approx(0.03, rel=0.06)


SAVED = replace(QUICK, steps=60, polish=40, checkpoint_every=10)


@pytest.fixture(scope="module")
def uninterrupted(small):
    return run(small, SAVED)


@pytest.mark.parametrize("stopped_at", [("adam", 50), ("lbfgs", 20)])
def test_an_interrupted_run_ends_in_the_same_bits(small, uninterrupted, tmp_path, stopped_at):

    def interrupt(message):
        if (message.stage, message.step) == stopped_at:
            raise KeyboardInterrupt

    saved = replace(SAVED, checkpoint=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(small, saved, progress=interrupt)
    assert len(list(tmp_path.iterdir())) == 1
    steps = []
    resumed = run(small, saved, progress=lambda message: steps.append((message.stage, message.step)))
    assert (("adam", 50) in steps) == (stopped_at[0] == "adam")  # the last state saved is that of step 40
    np.testing.assert_array_equal(resumed.phi_h.values, uninterrupted.phi_h.values)
    np.testing.assert_array_equal(resumed.methylation.values, uninterrupted.methylation.values)
    assert resumed.diagnostics == uninterrupted.diagnostics


def test_a_checkpoint_belongs_to_one_version_of_the_package(small, monkeypatch):
    problem, first = small
    key = partial(estimator._key, [problem], [first_guess(problem, first)], QUICK, 0)
    before = key()
    assert key() == before
    monkeypatch.setattr(estimator, "__version__", "99.0")
    assert key() != before


def test_processes_that_save_one_checkpoint_write_to_files_of_their_own(tmp_path, monkeypatch):
    path, written = tmp_path / "run.pt", []

    def save(state, temporary):
        written.append(temporary)
        temporary.write_text(state["of"])
        if len(written) == 1:  # the other process saves while this one writes
            network_training._save(path, {"of": "theirs"})
        if len(written) == 3:
            raise OSError("disk full")

    monkeypatch.setattr(torch, "save", save)
    network_training._save(path, {"of": "ours"})
    assert path.read_text() == "ours"
    with pytest.raises(OutputError, match="disk full"):
        network_training._save(path, {"of": "lost"})
    assert list(tmp_path.iterdir()) == [path], "nothing half written is left"
    assert len(set(written)) == 3


def test_a_damaged_checkpoint_is_refused(small, tmp_path):
    settings = replace(QUICK, checkpoint=tmp_path)
    run(small, settings)
    (path,) = tmp_path.iterdir()
    state = torch.load(path, weights_only=True)
    for name in ("polish", "first_data", "model"):
        torch.save({key: value for key, value in state.items() if key != name}, path)
        with pytest.raises(OutputError, match=rf"incomplete.*{name}.*start anew"):
            run(small, settings)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OutputError, match="start anew"):
        run(small, settings)


def test_divergence_gives_no_number(small, monkeypatch):
    monkeypatch.setattr(network_training, "RATE_STEP", 1e4)
    rates = run(small, QUICK)
    assert rates.outcome is Outcome.DIVERGED
    assert np.isnan(rates.methylation.values).all()
    assert not rates.methylation.valid.any()


def test_out_of_memory_goes_on_with_a_smaller_batch(small, monkeypatch):
    problem, first = small
    trained = estimator.train

    def hungry(model, *arguments, **options):
        if model.seen.images.shape[0] > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return trained(model, *arguments, **options)

    monkeypatch.setattr(estimator, "train", hungry)
    said = []
    settings = replace(QUICK, steps=2, polish=0)
    settings = replace(settings, error_samples=3)  # another number than that of the nuclei of a batch
    monkeypatch.setattr(network_errors, "ITERATIONS", 3)
    rates = network_rates_of_batch([problem] * 3, [first] * 3, settings=settings, device=CPU, seed=0,
                                   progress=lambda message: said.append(str(message)))  # fmt: skip
    assert len(rates) == 3
    assert "out of memory on cpu: 2 nuclei at a time" in said
    monkeypatch.setattr(
        estimator, "train", lambda *_, **__: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError())
    )
    with pytest.raises(DeviceError, match="one nucleus"):
        run(small, settings)


def test_nuclei_of_a_batch_do_not_touch_each_other_under_adam(small):
    problem, first = small
    other = replace(problem, images=tuple(f.like(f.values[::-1].copy()) for f in problem.images))
    settings = replace(QUICK, polish=0)
    both = network_rates_of_batch([problem, other], [first] * 2, settings=settings, device=CPU, seed=0)
    alone = run(small, settings)
    np.testing.assert_allclose(both[0].phi_h.values, alone.phi_h.values, atol=2e-4)
    assert not np.allclose(both[1].phi_h.values, alone.phi_h.values, atol=0.05)
    with pytest.raises(FieldError, match="one batch"):
        network_rates_of_batch([problem, replace(problem, psf_sigma_um=0.1)], [first] * 2, settings=settings,
                               device=CPU, seed=0)  # fmt: skip


def test_three_ways_to_differentiate_give_one_residual(small):
    losses = {}
    for name in ("mollifier", "nested", "taylor"):
        model = model_of(small, architecture="mlp", derivatives=name)
        network = model.trained.network
        with torch.no_grad():  # slow features: then η leaves the field as it is
            network.layers[0].matrix.mul_(0.1)
        losses[name] = float(model(1.0).balance.detach())
    assert losses["taylor"] == pytest.approx(losses["nested"], rel=1e-8)
    assert losses["mollifier"] == pytest.approx(losses["nested"], rel=0.05)


def test_many_photons_are_gaussian_noise(small):
    model = model_of(small)
    photons = 1e6
    predicted = (model.seen.images + 1e-3).requires_grad_()
    model.seen = replace(
        model.seen, photons=torch.tensor(photons), inverse_sd=torch.full_like(model.seen.images, 1e6)
    )
    weight = model.data_weight(predicted.detach())
    (gradient,) = torch.autograd.grad(model._data(predicted).sum(), predicted)
    bright = model.seen.images > 0.2
    expected = weight**2 * (predicted.detach() - model.seen.images)
    torch.testing.assert_close(gradient[bright], expected[bright], rtol=0.02, atol=0.0)


def test_the_point_spread_function_is_in_the_data_term(small):
    sharp = model_of(small)
    blurred_problem = (replace(small[0], psf_sigma_um=2 * small[0].grid.spacing_um[0]), small[1])
    blurred = model_of(blurred_problem)
    impulse = torch.zeros(1, 2, 48, 48, dtype=torch.float64)
    impulse[0, 0, 24, 24] = 1.0
    torch.testing.assert_close(sharp.predicted(impulse), impulse)
    seen = blurred.predicted(impulse)[0, 0]
    distance = torch.arange(48, dtype=torch.float64) - 24.0
    assert float(seen.sum()) == pytest.approx(1.0)
    assert float((seen.sum(0) * distance**2).sum()) == pytest.approx(4.0, rel=0.01)


def test_what_can_not_be_done_is_refused(small, truth):
    with pytest.raises(ParameterError, match="no coordinates"):
        NetworkSettings(derivatives="nested")
    with pytest.raises(ParameterError, match="float32"):
        NetworkSettings(precision="float16")
    phi = np.full((40, 40), 0.3)
    with pytest.raises(FieldError, match="seen"):
        cm.infer_rates(phi, phi, pixel_size_um=0.04, seen=phi < 0, method="network")


def test_a_pattern_that_is_pulled_off_its_image_is_said_to_move(crop, truth):
    """The same steady pattern with its own acetylation rate, and with twice that: then it could not be at rest."""
    settings = crop[3]
    phi_h, phi_e = (values[40:144, 40:144] for values in truth("known_0").noisy(0.05, 1))
    quick = NetworkSettings(steps=60, polish=40, error_samples=2)
    flags = []
    for known in (1.0, 2.0):
        given = settings | {"known_acetylation_per_um2": known}
        rates = cm.infer_rates(phi_h, phi_e, method="network", network=quick, **given)
        flags.append("unsteady" in rates.flags)
        assert rates.outcome is Outcome.METHYLATION_GIVEN_ACETYLATION
    assert flags == [False, True]


def test_the_residual_is_the_strong_balance_tested(small):
    """Derivatives that are exact, so that nothing but the balance is left to differ."""
    model = model_of(small)
    seen = model.seen
    shape, spacing = tuple(seen.images.shape[2:]), tuple(seen.spacing)
    box = PeriodicBox.build(shape, spacing)
    y, x = (2.0 * np.pi * torch.arange(n, dtype=torch.float64) / n for n in shape)
    wave = torch.sin(x) * torch.cos(y + 0.3)[:, None]
    slopes = [torch.sin(x) * -torch.sin(y + 0.3)[:, None], torch.cos(x) * torch.cos(y + 0.3)[:, None]]
    sides = [n * h for n, h in zip(shape, spacing, strict=True)]
    slopes = [2.0 * np.pi / side * slope for side, slope in zip(sides, slopes, strict=True)]
    value = torch.stack([0.3 + 0.2 * wave, 0.25 + 0.05 * wave])[None]
    gradient = torch.stack([torch.stack([s * slope for slope in slopes]) for s in (0.2, 0.05)])[None]
    lap = box.laplacian(value)
    logs = 0.3 * torch.stack([wave, wave.flip(0)])[None, : model.trained.log_rates().shape[1]]
    found = model.residuals(Derivatives(value, gradient, lap, box.laplacian(lap)), logs)
    me, ac = model.rates(logs)
    conversion = me * value[:, 1] - ac * value[:, 0]
    physics = ChromatinModel(ChromatinParameters(seen.phi_max, seen.interface))
    strong = [
        balance.strong(value[:, i], conversion, laplacian=box.laplacian)
        for i, balance in enumerate((physics.heterochromatin, physics.euchromatin))
    ]
    torch.testing.assert_close(found, model.test(torch.stack(strong, 1)), rtol=0.0, atol=1e-9)


def test_the_errors_linearise_the_residuals_of_the_loss(small):
    model = model_of(small)
    at = Linearised.at(model, 0)
    generator = torch.Generator().manual_seed(0)
    rates = model.trained.log_rates
    shapes = ((1, 2, *model.seen.images.shape[2:]), rates.coefficients.shape, rates.mean_shift.shape)
    change = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    zeros = [torch.zeros_like(part) for part in change[1:]]
    logs = (rates.synthesise(*change[1:]) - rates.synthesise(*zeros)).detach()
    d = at.layer.of(change[0])

    def residuals(step):
        parts = ("value", "gradient", "laplacian", "bilaplacian")
        u = Derivatives(*(getattr(at.u, name) + step * getattr(d, name) for name in parts))
        return model.weighted(model.residuals(u, rates().detach() + step * logs), LAST_KAPPA)

    found = at.forward(*change)[1].detach()
    expected = (residuals(1e-5) - residuals(-1e-5)) / 2e-5
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6 * float(expected.abs().max()))
