"""Training of the `network` estimator: Adam, then L-BFGS; saved, taken up again, and stopped when it diverges.

There is no randomness in it, so a run that was interrupted and taken up again ends in the same bits.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chromamol.errors import OutputError
from chromamol.inverse.network_model import LAST_KAPPA, LossTerms, NetworkModel
from chromamol.inverse.network_settings import NetworkSettings, Reporter, TrainingProgress

RATE_STEP = 0.1
"""Adam's step of the log-rates' coefficients, whose prior deviation is one."""

GRID_STEP = 0.03
"""Adam's step of a grid's numbers, in standard deviations of the field. Steps of 0.1 leave ripples in a grid which its
equation takes thousands of steps to remove (heat equation, 1500 steps: relative L2 of D .037 for .029)."""

WEIGHT_STEP = 3e-3
"""Adam's step of a coordinate network's weights."""

STEADY_SHARE, LAST_STEP = 0.3, 0.05
"""Steps stay at full size for this share of the run, and then fall to this part of it."""

ANNEALED_SHARE = 2.0 / 3.0
"""κ falls geometrically from 1 to `LAST_KAPPA` over this share of Adam's steps."""

LBFGS_ITERATIONS, LBFGS_MEMORY = 20, 20

DIVERGED_AT = 100.0
"""A data term that exceeds its start so many times has diverged."""

REPORT_EVERY = 50
"""Adam steps between two messages."""

FORMAT = 1


def network_step(architecture: str) -> float:
    """Adam's step of what stands before the layer: a pixel grid or a coordinate network."""
    return GRID_STEP if architecture == "grid" else WEIGHT_STEP


@dataclass(frozen=True, eq=False)
class Training:
    """How a run ended, per nucleus.

    Parameters
    ----------
    terms : the loss at the end.
    diverged : (B,), True where the loss was not finite or left its start far behind.
    moved : (B,), root mean square change of the log-rates over the last stage.
    steps : optimiser steps, Adam's and L-BFGS's iterations.
    """

    terms: LossTerms
    diverged: Tensor
    moved: Tensor
    steps: int


class _Run:
    """A model with its two optimisers, at some step."""

    def __init__(self, model: NetworkModel, settings: NetworkSettings, key: str) -> None:
        self.model, self.settings, self.key = model, settings, key
        network, rates = list(model.trained.network.parameters()), list(model.trained.log_rates.parameters())
        self.network_step = network_step(settings.architecture)
        self.adam = torch.optim.Adam(
            [{"params": network, "lr": self.network_step}, {"params": rates, "lr": RATE_STEP}],
            betas=(0.9, 0.99),
        )
        self.polish = torch.optim.LBFGS(
            [*network, *rates],
            max_iter=LBFGS_ITERATIONS,
            history_size=LBFGS_MEMORY,
            line_search_fn="strong_wolfe",
        )
        self.adam_done = self.polish_done = 0
        self.first_data: Tensor | None = None
        self.before: Tensor | None = None  # log-rates at the start of the last stage
        batch = model.seen.images.shape[0]
        self.diverged = torch.zeros(batch, dtype=torch.bool, device=model.seen.images.device)

    def kappa(self) -> float:
        """κ at the present Adam step."""
        share = self.adam_done / (ANNEALED_SHARE * self.settings.adam_steps)
        return float(LAST_KAPPA ** min(1.0, share))

    def backward(self, kappa: float) -> LossTerms:
        """Differentiate the sum over the nuclei that still train; the gradients of the others are zero."""
        self.adam.zero_grad()
        terms: LossTerms = self.model(kappa)
        finite = torch.isfinite(terms.total)
        if self.first_data is None:
            self.first_data = terms.data.detach().clone()
        self.diverged |= ~finite | (terms.data.detach() > DIVERGED_AT * self.first_data)
        torch.where(self.diverged, torch.zeros_like(terms.total), terms.total).sum().backward()
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        return terms

    def adam_step(self) -> LossTerms:
        share = self.adam_done / self.settings.adam_steps
        fall = max(0.0, share - STEADY_SHARE) / (1.0 - STEADY_SHARE)
        for group, full in zip(self.adam.param_groups, (self.network_step, RATE_STEP), strict=True):
            group["lr"] = full * (1.0 - (1.0 - LAST_STEP) * fall)
        terms = self.backward(self.kappa())
        self.adam.step()
        self.adam_done += 1
        return terms

    def polish_step(self) -> LossTerms:
        latest: list[LossTerms] = []

        def closure() -> Tensor:
            terms = self.backward(LAST_KAPPA)
            latest.append(terms)
            return torch.where(self.diverged, torch.zeros_like(terms.total), terms.total).sum().detach()

        self.polish.step(closure)
        self.polish_done += LBFGS_ITERATIONS
        return latest[-1]

    def state(self) -> dict[str, Any]:
        return {
            "format": FORMAT, "key": self.key, "adam_done": self.adam_done, "polish_done": self.polish_done,
            "model": self.model.trained.state_dict(), "adam": self.adam.state_dict(),
            "polish": self.polish.state_dict(), "first_data": self.first_data, "before": self.before,
            "diverged": self.diverged,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.model.trained.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        self.polish.load_state_dict(state["polish"])
        self.adam_done, self.polish_done = state["adam_done"], state["polish_done"]
        self.first_data, self.before, self.diverged = state["first_data"], state["before"], state["diverged"]


def train(
    model: NetworkModel, settings: NetworkSettings, *, key: str, progress: Reporter | None = None
) -> Training:
    """Train `model` in place.

    Parameters
    ----------
    key : of the data and the settings; a saved run of the same key in `settings.checkpoint` is taken up.
    progress : called every fifty Adam steps and after each L-BFGS step.

    Raises
    ------
    OutputError : the checkpoint can't be read or written.
    """
    run = _Run(model, settings, key)
    path = None if settings.checkpoint is None else Path(settings.checkpoint) / f"{key[:24]}.pt"
    if path is not None and path.exists():
        state = _load(path, key, model)
        try:
            run.restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise OutputError(f"{path} is incomplete: {error!r}.", expected="a state saved by an earlier run.",
                              do="remove it to start anew.") from error  # fmt: skip
    if settings.compiled:
        model.trained.network.compile()
    saved = run.adam_done + run.polish_done

    def after(stage: str, done: int, total: int, terms: LossTerms) -> None:
        nonlocal saved
        if progress is not None and (stage == "lbfgs" or done % REPORT_EVERY == 0 or done == total):
            progress(_message(model, stage, done, total, terms))
        steps = run.adam_done + run.polish_done
        if path is not None and (steps - saved >= settings.checkpoint_every or done == total):
            _save(path, run.state())
            saved = steps

    last_stage = settings.adam_steps if settings.polish else math.ceil(0.9 * settings.adam_steps)
    while run.adam_done < settings.adam_steps and not bool(run.diverged.all()):
        if run.adam_done >= last_stage and run.before is None:
            run.before = model.trained.log_rates().detach().clone()
        terms = run.adam_step()
        after("adam", run.adam_done, settings.adam_steps, terms)
    while run.polish_done < settings.polish and not bool(run.diverged.all()):
        if run.before is None:
            run.before = model.trained.log_rates().detach().clone()
        terms = run.polish_step()
        after("lbfgs", run.polish_done, settings.polish, terms)
    return _ended(run)


def _ended(run: _Run) -> Training:
    # Automatic differentiation in the coordinates needs a graph even where nothing is trained.
    terms = run.model(LAST_KAPPA)
    detached = LossTerms(terms.data.detach(), terms.balance.detach(), terms.prior.detach())
    diverged = run.diverged | ~torch.isfinite(detached.total)
    rates = run.model.trained.log_rates().detach()
    before = rates if run.before is None else run.before
    where = run.model.seen.balanced[:, None].expand_as(rates)
    count = where.flatten(1).sum(1).clamp_min(1.0)
    moved = ((rates - before).square() * where).flatten(1).sum(1).div(count).sqrt()
    return Training(detached, diverged, moved, run.adam_done + run.polish_done)


def _message(model: NetworkModel, stage: str, done: int, total: int, terms: LossTerms) -> TrainingProgress:
    count = float((model.seen.inverse_sd > 0.0).sum())
    parts = [float(part.detach().sum()) / count for part in (terms.data, terms.balance, terms.prior)]
    return TrainingProgress(stage, done, total, parts[0], parts[1], parts[2])


def _save(path: Path, state: dict[str, Any]) -> None:
    """Write beside the old state and put it in its place, so that an interruption leaves one of the two.

    Two processes that train the same at once have a temporary file each.
    """
    temporary = path.with_suffix(f".{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error}.", expected="a folder that can be written.",
                          do="choose another checkpoint folder.") from error  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _load(path: Path, key: str, model: NetworkModel) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True, map_location=model.seen.images.device)
    except Exception as error:
        raise OutputError(f"{path}: {error}", expected="a state saved by an earlier run.",
                          do="remove it to start anew.") from error  # fmt: skip
    if not isinstance(state, dict) or (state.get("format"), state.get("key")) != (FORMAT, key):
        raise OutputError(f"{path} belongs to other data or settings.", expected=f"the state of run {key[:24]}.",
                          do="remove it to start anew.")  # fmt: skip
    return state
