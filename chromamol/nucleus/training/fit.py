"""The training loop: reproducible from a seed, goes on where it was cut off."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from chromamol.errors import ParameterError
from chromamol.io.atomic import atomic_write
from chromamol.nucleus.network.model import NucleusNet, inputs_of
from chromamol.nucleus.training.augment import variant
from chromamol.nucleus.training.fields import TrainingField
from chromamol.nucleus.training.targets import HEAVIEST, loss_of, targets_of


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training.

    Parameters
    ----------
    steps : batches.
    batch : crops in a batch.
    rate : highest learning rate, reached after `warm_up` steps and let down to 0 along a cosine.
    decay : weight decay.
    faithful : part of the crops that are turned and mirrored, but hardly changed otherwise.
    heaviest : weight of the pixels in the smallest nuclei.
    deeper : also train the residual blocks, which add nothing before.
    average : part of the running mean of the weights that stays at each step; the mean is what is kept.
    workers : processes that make crops.
    bfloat16 : convolutions in bfloat16, twice as fast where the processor has it.
    """

    steps: int = 5000
    batch: int = 16
    rate: float = 2e-3
    warm_up: int = 100
    decay: float = 1e-4
    average: float = 0.998
    seed: int = 0
    workers: int = 0
    bfloat16: bool = True
    faithful: float = 0.0
    heaviest: float = HEAVIEST
    deeper: bool = True


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Crop number i of a training is the same on every machine, for any number of workers."""

    def __init__(self, fields: Sequence[TrainingField], settings: TrainingSettings, start: int) -> None:
        self.fields = fields
        self.settings = settings
        self.start = start * settings.batch
        # Between one vote per field and one per nucleus: crowded fields say more, but not everything.
        shares = np.sqrt([1 + len(field.centres) for field in fields])
        self.shares = shares / shares.sum()

    def __len__(self) -> int:
        return self.settings.steps * self.settings.batch - self.start

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.settings.seed, self.start + index])
        field = self.fields[rng.choice(len(self.fields), p=self.shares)]
        image, labels, inside = variant(field, rng, faithful=self.settings.faithful)
        return torch.from_numpy(inputs_of(image)), torch.from_numpy(
            targets_of(labels, inside, heaviest=self.settings.heaviest)
        )


def fit(
    fields: Sequence[TrainingField],
    settings: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    origin: Path | None = None,
    until: int | None = None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    every: int = 100,
) -> NucleusNet:
    """Train a network and return it without normalisation layers.

    Parameters
    ----------
    fields : fields at the common scale.
    checkpoint : file in which the state is kept; a training of the same settings goes on from it.
    origin : checkpoint of another training, whose weights this one starts from.
    until : stop after this step of the schedule.
    report : called every `every` steps with the step and the mean loss since the last call.

    Raises
    ------
    ParameterError : the checkpoint belongs to other settings, or the loss is no longer finite.
    """
    torch.manual_seed(settings.seed)
    model = NucleusNet(norm=True).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub
    if origin is not None:
        model.load_state_dict(torch.load(origin, weights_only=True)["mean"])
    model.deeper.requires_grad_(settings.deeper)
    mean = NucleusNet(norm=True)
    mean.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, weight_decay=settings.decay)
    parts = {"model": model, "mean": mean, "optimizer": optimizer}
    start = _resume(checkpoint, parts, settings)
    loader = DataLoader(
        Crops(fields, settings, start), batch_size=settings.batch, num_workers=settings.workers,
        worker_init_fn=_one_thread,
    )  # fmt: skip
    losses: list[float] = []
    for step, (images, targets) in enumerate(loader, start=start):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * _schedule(step, settings)
        model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.bfloat16):
            output = model(images.to(memory_format=torch.channels_last))
        loss = loss_of(output.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        _follow(mean, model, min(settings.average, (1 + step) / (10 + step)))
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise ParameterError(f"Loss {losses[-1]} at step {step}.", expected="a finite loss.",
                                 do="lower the learning rate.")  # fmt: skip
        if (step + 1) % every == 0:
            report(step + 1, float(np.mean(losses)))
            losses.clear()
            _keep(checkpoint, parts, settings, step + 1)
        if step + 1 == until:
            break
    return mean.eval().folded()


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _schedule(step: int, settings: TrainingSettings) -> float:
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    share = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def _follow(mean: NucleusNet, model: NucleusNet, keep: float) -> None:
    """Move the running mean of weights and normalisation statistics towards the present ones."""
    for kept, new in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - keep)
        else:
            kept.copy_(new)


def _keep(path: Path | None, parts: dict[str, Any], settings: TrainingSettings, step: int) -> None:
    if path is not None:
        state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
        with atomic_write(path) as temporary:
            torch.save({**state, "step": step, "settings": asdict(settings)}, temporary)


def _resume(path: Path | None, parts: dict[str, Any], settings: TrainingSettings) -> int:
    """Load a checkpoint, if there is one, and return the number of steps done."""
    if path is None or not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["settings"] != asdict(settings):
        raise ParameterError(f"{path} belongs to a training with {state['settings']}.",
                             expected=f"{asdict(settings)}.", do="use another --checkpoint.")  # fmt: skip
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])
