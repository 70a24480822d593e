"""The `network` estimator: a network, or a grid, for the fields, smooth log-rates beside it, a mollified residual.

On the joint fit's problem. Needed where pixels are missing or photons are few, and to try networks of one's own; on
whole images the joint fit is nearer to the statistical limit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from chromamol._version import __version__
from chromamol.calculus.validity import valid_after
from chromamol.errors import DeviceError, FieldError
from chromamol.field import Field
from chromamol.inverse.cut_faces import is_cut
from chromamol.inverse.joint import first_guess
from chromamol.inverse.joint_maps import LARGEST_RELATIVE_ERROR
from chromamol.inverse.joint_ratio import weighted_ratio
from chromamol.inverse.joint_setup import Guess, JointProblem, first_fields
from chromamol.inverse.network_derivatives import WIDTH_PX, derivative_source
from chromamol.inverse.network_errors import errors_of_averages, log_rate_deviations, weights_of_averages
from chromamol.inverse.network_model import (
    TEST_WIDTHS,
    NetworkModel,
    Observations,
    TestAverage,
    mean_stiffness,
)
from chromamol.inverse.network_settings import NetworkSettings, Reporter, TrainingProgress
from chromamol.inverse.network_training import Training, train
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.networks import FieldsAndRates, SmoothLogRates, make_network
from chromamol.shapes import FloatField, Mask

LEAST_SEEN = 0.2
"""Share of the pixels under η that must be seen for the field there to be known."""

LARGEST_MISFIT = 1.5
"""Data term per seen value, over that of pure noise, up to which a fit can be right."""

SETTLED = 0.05
"""The log-rates may move this much, rms, in the last stage."""

UNSTEADY_AT = 3.0
"""Standard deviations by which what is left of an image may exceed noise before the pattern is taken to move."""

INTERFACE_RISE = 4.0
"""Rise of a domain's interface, in ℓ / φ_max: the finest structure that coordinate networks must carry."""


@dataclass(frozen=True, eq=False)
class NetworkFit:
    """A trained model of one or several nuclei.

    Parameters
    ----------
    problems, guesses : per nucleus.
    model, training : with the batch of nuclei first.
    unit_um : L0, the model's unit of length.
    """

    problems: tuple[JointProblem, ...]
    guesses: tuple[Guess, ...]
    model: NetworkModel
    training: Training
    unit_um: float


def network_rates(
    problem: JointProblem, first: Rates, *, settings: NetworkSettings, device: torch.device, seed: int,
    progress: Reporter | None = None,
) -> Rates:  # fmt: skip
    """Return the rate maps of one nucleus; see `network_rates_of_batch`."""
    (rates,) = network_rates_of_batch(
        [problem], [first], settings=settings, device=device, seed=seed, progress=progress
    )
    return rates


def network_rates_of_batch(
    problems: Sequence[JointProblem], firsts: Sequence[Rates], *, settings: NetworkSettings, device: torch.device,
    seed: int, progress: Reporter | None = None,
) -> list[Rates]:  # fmt: skip
    """Return both rate maps of each nucleus, or methylation where acetylation is known; not judged yet.

    Nuclei are trained side by side. When the device's memory does not hold them all, half as many are tried at a time,
    and `progress` is told. A nucleus's result depends a little on those beside it: L-BFGS has one line search for all.

    Parameters
    ----------
    problems : of one shape, pixel size, mixing, PSF and set of known rates.
    firsts : the regressions' results, which supply guesses and smoothness.
    seed : of the networks' random start and of the posterior samples.

    Raises
    ------
    FieldError : problems that differ in what they must share.
    DeviceError : one nucleus alone does not fit into the device's memory.
    OutputError : the checkpoint can't be read or written.
    """
    guesses = [first_guess(p, f) for p, f in zip(problems, firsts, strict=True)]
    _require_alike(problems)
    results: list[Rates] = []
    size, start = len(problems), 0
    while start < len(problems):
        part = slice(start, start + size)
        try:
            fit = fit_networks(
                problems[part],
                guesses[part],
                firsts[part],
                settings=settings,
                device=device,
                seed=seed,
                progress=progress,
            )
            results += [_rates(fit, index, first, settings, seed) for index, first in enumerate(firsts[part])]
            start += size
        except torch.cuda.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if size == 1:
                raise DeviceError(f"The memory of {device} does not hold one nucleus of {problems[0].grid.shape}.",
                                  expected="a smaller nucleus or network.",
                                  do="pass --device cpu, or architecture='grid'.") from error  # fmt: skip
            size = (size + 1) // 2
            if progress is not None:
                note = f"out of memory on {device}: {size} nuclei at a time"
                progress(TrainingProgress("batch", start, len(problems), math.nan, math.nan, math.nan, note))
    return results


def _require_alike(problems: Sequence[JointProblem]) -> None:
    def shared(p: JointProblem) -> tuple[Any, ...]:
        return (
            p.grid.shape,
            p.grid.spacing_um,
            p.mixing,
            p.psf_sigma_um,
            p.parameters,
            p.known_acetylation is None,
        )

    if any(shared(p) != shared(problems[0]) for p in problems):
        raise FieldError("Nuclei of different shapes or settings in one batch.",
                         expected="one shape, pixel size, mixing, PSF and set of known rates.",
                         do="pad them to one shape with a mask, or fit them one by one.")  # fmt: skip


def fit_networks(
    problems: Sequence[JointProblem], guesses: Sequence[Guess], firsts: Sequence[Rates], *,
    settings: NetworkSettings, device: torch.device, seed: int, progress: Reporter | None = None,
) -> NetworkFit:  # fmt: skip
    """Build and train the model of several nuclei; arguments as `network_rates_of_batch`."""
    unit = 1.0 / math.sqrt(float(np.mean([g.acetylation for g in guesses])))
    model = build_network_model(
        problems, guesses, firsts, unit=unit, settings=settings, device=device, seed=seed
    )
    key = _key(problems, guesses, settings, seed)
    training = train(model, settings, key=key, progress=progress)
    return NetworkFit(tuple(problems), tuple(guesses), model, training, unit)


def build_network_model(
    problems: Sequence[JointProblem], guesses: Sequence[Guess], firsts: Sequence[Rates], *, unit: float,
    settings: NetworkSettings, device: torch.device, seed: int,
) -> NetworkModel:  # fmt: skip
    """Return the untrained model; lengths in units of `unit` um."""
    problem, batch = problems[0], len(problems)
    shape, spacing = problem.grid.shape, tuple(h / unit for h in problem.grid.spacing_um)
    dtype = getattr(torch, settings.precision)

    def tensor(values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), dtype=dtype, device=device)

    starts = [_first_fields(p, f) for p, f in zip(problems, firsts, strict=True)]
    base = np.array([[field[p.mask].mean() for field in s] for s, p in zip(starts, problems, strict=True)])
    known = None
    if problem.known_acetylation is not None:
        known = tensor(np.stack([np.asarray(p.known_acetylation) * unit**2 for p in problems]))
    each = photons_of(settings, len(problem.images))
    photons = None if each is None else tensor(each).reshape(-1, *(1,) * len(shape))
    seen = Observations(
        images=tensor(np.stack([[np.where(f.mask, f.values, 0.0) for f in p.images] for p in problems])),
        inverse_sd=tensor(np.stack([[_inverse(sd, p.mask) for sd in p.noise_sd] for p in problems])),
        mixing=tensor(problem.mixing),
        balanced=tensor(np.stack([balanced_pixels(p) for p in problems])),
        known=known,
        base=tensor(base),
        spacing=spacing,
        psf=problem.psf_sigma_um / unit,
        phi_max=problem.parameters.phi_max,
        interface=problem.parameters.interface_length_um / unit,
        photons=photons,
    )  # fmt: skip
    correlation = float(np.mean([g.correlation_um for g in guesses])) / unit
    log_sd = float(np.mean([g.log_sd for g in guesses]))
    means = [[math.log(g.methylation * unit**2), math.log(g.acetylation * unit**2)] for g in guesses]
    rates = SmoothLogRates(
        shape,
        spacing,
        means=tensor(means)[:, : 1 if known is not None else 2],
        correlation=correlation,
        log_sd=log_sd,
    )
    finest = INTERFACE_RISE * seen.interface / seen.phi_max
    network = make_network(settings.architecture, shape, spacing, outputs=2, finest=max(finest, 2.0 * max(spacing)),
                           seed=seed, batch=batch, dtype=dtype, device=device)  # fmt: skip
    inside = np.broadcast_to(np.stack([p.mask for p in problems])[:, None], (batch, 2, *shape))
    model = NetworkModel(
        FieldsAndRates(network, rates), seen, derivative_source(settings.derivatives, spacing),
        TestAverage(spacing, [TEST_WIDTHS * WIDTH_PX * h for h in spacing]),
        stiffness_sd=float(np.mean([mean_stiffness(s[0][p.mask], seen.phi_max)
                                    for s, p in zip(starts, problems, strict=True)])),
        noise_sd=_noise(problems, settings),
    )  # fmt: skip
    scaled = (np.stack(starts) - base.reshape(*base.shape, *(1,) * len(shape))) / model.unit
    network.start_from(tensor(np.where(inside, scaled, 0.0)), torch.as_tensor(inside.copy(), device=device))
    return model


def balanced_pixels(problem: JointProblem) -> Mask:
    """Where the residual says something: the supports of η and ψ lie inside the nucleus, and ψ's where it was seen.

    In a hole the fields are made up, and rates that balance them would be, too.
    """
    inside = valid_after(problem.mask, (1.0 + TEST_WIDTHS) * WIDTH_PX)
    return inside & valid_after(_seen_enough(problem) | ~problem.mask, TEST_WIDTHS * WIDTH_PX)


def _seen_enough(problem: JointProblem) -> Mask:
    """Pixels of the nucleus around which enough was seen for the fields to be known."""
    seen = np.all([np.isfinite(np.broadcast_to(sd, problem.mask.shape)) for sd in problem.noise_sd], axis=0)
    if seen[problem.mask].all():
        return problem.mask
    share = ndimage.uniform_filter(seen.astype(float), size=2 * int(WIDTH_PX) - 1, mode="nearest")
    return np.asarray(problem.mask & (share >= LEAST_SEEN))


def _first_fields(problem: JointProblem, first: Rates) -> tuple[FloatField, FloatField]:
    """φ_h and φ_e to start from: the regression's split of total chromatin, else each mark denoised."""
    if len(problem.images) == 1:
        return first.phi_h.values, first.phi_e.values
    return first_fields(problem)


def _inverse(noise_sd: FloatField | float, mask: Mask) -> FloatField:
    sd = np.broadcast_to(np.asarray(noise_sd, dtype=float), mask.shape)
    return np.where(mask, 1.0 / sd, 0.0)


def _noise(problems: Sequence[JointProblem], settings: NetworkSettings) -> float:
    """Root mean square noise of the seen pixels, photon noise included."""
    variances = []
    for p in problems:
        photons = photons_of(settings, len(p.images)) or (math.inf,) * len(p.images)
        for field, sd, each in zip(p.images, p.noise_sd, photons, strict=True):
            noise = np.broadcast_to(np.asarray(sd, dtype=float), p.mask.shape)
            use = p.mask & np.isfinite(noise)
            shot = max(float(field.values[use].mean()), 0.0) / each
            variances.append(float(np.mean(noise[use] ** 2)) + shot)
    return math.sqrt(float(np.mean(variances)))


def photons_of(settings: NetworkSettings, images: int) -> tuple[float, ...] | None:
    """Return the photons per unit of volume fraction of each image, None for Gaussian noise.

    Raises
    ------
    FieldError : not one number for all or one for each.
    """
    given = settings.photons_per_fraction
    if given is None:
        return None
    each = given if isinstance(given, tuple) else (given,) * images
    if len(each) != images:
        raise FieldError(f"photons_per_fraction of {len(each)} for {images} images.",
                         expected="one number for all, or one for each.", do="leave the tuple out.")  # fmt: skip
    return each


def _key(
    problems: Sequence[JointProblem], guesses: Sequence[Guess], settings: NetworkSettings, seed: int
) -> str:
    """Return a name for version, data and settings; where a run is saved does not belong to it."""
    digest = hashlib.sha256()
    plain = replace(settings, checkpoint=None, checkpoint_every=1, error_samples=2)
    digest.update(repr((__version__, plain, seed, list(guesses))).encode())
    for p in problems:
        digest.update(repr((p.grid, p.mixing, p.psf_sigma_um, p.parameters)).encode())
        known = () if p.known_acetylation is None else (p.known_acetylation,)
        for array in (p.mask, *(f.values for f in p.images), *p.noise_sd, *known):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _rates(fit: NetworkFit, index: int, first: Rates, settings: NetworkSettings, seed: int) -> Rates:
    """Return the result of one nucleus, with the outcome that its training deserves."""
    problem, training = fit.problems[index], fit.training
    fitted = fit.model.fields(fit.model.source(fit.model.trained.network)).value[index].detach()
    phi_h, phi_e = (Field(np.where(np.isfinite(v), v, 0.0), problem.grid, "1", problem.mask)
                    for v in fitted.cpu().numpy().astype(np.float64))  # fmt: skip
    count = sum(int(np.count_nonzero(np.isfinite(np.broadcast_to(sd, problem.mask.shape)) & problem.mask))
                for sd in problem.noise_sd)  # fmt: skip
    misfit = 2.0 * float(training.terms.data[index]) / count
    # The calibration's part of errors is added for all of them at once (`with_calibration_errors_of`).
    of_noise = math.sqrt(max(first.ratio_se**2 - first.ratio_calibration_se**2, 0.0))
    result = replace(
        first, method="network", mollifier_width_um=TEST_WIDTHS * WIDTH_PX * max(problem.grid.spacing_um), flags=(),
        ratio_se=of_noise, ratio_calibration_se=0.0,
        diagnostics={"steps": float(training.steps), "misfit": misfit, "moved": float(training.moved[index]),
                     "balance": float(training.terms.balance[index])},
    )  # fmt: skip
    nothing = RateMap.unknown(problem.grid.shape)
    if bool(training.diverged[index]):
        return replace(result, methylation=nothing, acetylation=nothing, outcome=Outcome.DIVERGED,
                       flags=("not_converged",))  # fmt: skip
    result = replace(result, phi_h=phi_h, phi_e=phi_e)
    if not balanced_pixels(problem).any():
        return replace(result, methylation=nothing, acetylation=nothing, mollifier_width_um=math.nan)
    if misfit > LARGEST_MISFIT or float(training.moved[index]) > SETTLED:
        return replace(result, methylation=nothing, acetylation=nothing, outcome=Outcome.NOT_CONVERGED,
                       flags=("not_converged",))  # fmt: skip
    pull, largest = pull_on_the_fields(fit, index)
    result = replace(result, diagnostics=result.diagnostics | {"pull": pull},
                     flags=("unsteady",) if pull > largest else ())  # fmt: skip
    return _with_maps(result, fit, index, settings, seed)


@torch.no_grad()
def pull_on_the_fields(fit: NetworkFit, index: int) -> tuple[float, float]:
    """Return how far the balance pulled the fields off the images, over noise, and what noise alone explains.

    A pattern that moves has no rates that balance it, so the fit gives up the images, smoothly: what is left of them,
    averaged by ψ and in units of its own noise, then exceeds 1, rms, in one of them. Its sampling error is that of
    as many independent values as ψ leaves. Pixels that were not seen count as no difference.
    """
    model = fit.model
    u = model.fields(model.source(model.trained.network)).value
    predicted = model.predicted(u)
    left = (model.test((predicted - model.seen.images) * model.data_weight(predicted)) / model.test.gain)[
        index
    ]
    where = model.seen.balanced[index] > 0.0
    worst = float(left[:, where].square().mean(dim=1).sqrt().max())
    values = model.test.averages * float(where.sum())
    return worst, 1.0 + UNSTEADY_AT / math.sqrt(2.0 * max(values, 1.0))


def _with_maps(result: Rates, fit: NetworkFit, index: int, settings: NetworkSettings, seed: int) -> Rates:
    """Add maps, means and the ratio: errors of pixels from samples of the posterior, those of means without."""
    problem, model = fit.problems[index], fit.model
    logs = model.trained.log_rates().detach()
    values = [r[index].cpu().numpy().astype(np.float64) / fit.unit_um**2 for r in model.rates(logs)]
    generator = torch.Generator().manual_seed(seed)
    drawn = log_rate_deviations(model, index, samples=settings.error_samples, generator=generator)
    log_errors = np.sqrt(np.mean(drawn.cpu().numpy().astype(np.float64) ** 2, axis=0))
    known = valid_after(problem.mask, WIDTH_PX) & _seen_enough(problem)
    # As the joint fit has it. Few samples tell an error to a quarter, so that a limit amid the errors of a map, such as
    # a share of the prior's deviation, would draw the pixels of the means by lot.
    valid = [known & (errors <= LARGEST_RELATIVE_ERROR) for errors in log_errors]
    both = np.logical_and.reduce(valid)
    acted_on = [phi.values for phi in (result.phi_e, result.phi_h)]
    weights = torch.as_tensor(weights_of_averages(values, acted_on, valid, both)).to(logs)
    *of_means, of_ratio = errors_of_averages(model, index, weights).tolist()
    results: list[RateMap] = []
    for value, errors, where, error in zip(values, log_errors, valid, of_means, strict=False):
        if where.any():
            mean = float(value[where].mean())
            results.append(RateMap(value, value * errors, where, mean, mean * error).inside(problem.mask))
        else:
            results.append(RateMap.unknown(value.shape))
    if len(valid) < len(values):
        results.append(RateMap.given(values[1], valid[0]).inside(problem.mask))
    ratio, ratio_se = result.ratio, result.ratio_se
    if both.any() and (len(problem.images) == 1 or is_cut(problem.mask)):
        # Else the balance of the whole nucleus tells the same number, up to the wall and without rates.
        ratio = weighted_ratio((result.phi_h.values, result.phi_e.values), values, both)
        ratio_se = ratio * of_ratio
    return replace(result, methylation=results[0], acetylation=results[1], ratio=ratio, ratio_se=ratio_se,
                   outcome=Outcome.NOT_JUDGED)  # fmt: skip
