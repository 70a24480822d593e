"""`python -m chromamol.nucleus.training --data FOLDER --output WEIGHTS.npz`"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from pathlib import Path

import torch

from chromamol.nucleus.network.weights import save_weights
from chromamol.nucleus.training.fields import at_common_scale, kept_out, names_of, read_field
from chromamol.nucleus.training.fit import TrainingSettings, fit


def main(arguments: list[str] | None = None) -> int:
    """Train on the fields that are not kept out, and write the weights."""
    parser = argparse.ArgumentParser(prog="python -m chromamol.nucleus.training", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.tif and NAME_labels.tif")
    parser.add_argument("--output", type=Path, required=True, help="weights, .npz")
    parser.add_argument("--checkpoint", type=Path, help="state of the training, to go on from")
    parser.add_argument(
        "--origin", type=Path, help="checkpoint of another training, to start from its weights"
    )
    parser.add_argument("--rate", type=float, default=TrainingSettings.rate, help="highest learning rate")
    parser.add_argument("--steps", type=int, default=TrainingSettings.steps)
    parser.add_argument(
        "--until", type=int, help="stop after this step; a multiple of 100 leaves its checkpoint"
    )
    parser.add_argument("--seed", type=int, default=TrainingSettings.seed)
    parser.add_argument("--workers", type=int, default=TrainingSettings.workers)
    parser.add_argument(
        "--spare", action="store_true", help="leave a fifth out, for choices between networks"
    )
    parser.add_argument(
        "--without", nargs="*", default=[], help="beginnings of the names of fields to leave out"
    )
    parser.add_argument(
        "--shallow",
        action="store_true",
        help="leave the residual blocks as they are: they add nothing at first",
    )
    for name, text in (
        ("average", "part of the running mean of the weights that stays at each step"),
        ("faithful", "part of the crops that are hardly changed"),
        ("heaviest", "weight of the pixels in the smallest nuclei"),
    ):
        parser.add_argument(f"--{name}", type=float, default=getattr(TrainingSettings, name), help=text)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = [name for name in names_of(options.data) if not kept_out(name)]
    if options.spare:
        names = [name for name in names if not spared(name)]
    names = [name for name in names if not name.startswith(tuple(options.without))]
    fields = [at_common_scale(read_field(options.data, name)) for name in names]
    settings = TrainingSettings(
        steps=options.steps,
        rate=options.rate,
        seed=options.seed,
        workers=options.workers,
        average=options.average,
        faithful=options.faithful,
        heaviest=options.heaviest,
        deeper=not options.shallow,
    )
    start = time.monotonic()

    def report(step: int, loss: float) -> None:
        sys.stderr.write(
            f"step {step} of {settings.steps}: loss {loss:.4f}, {time.monotonic() - start:.0f} s\n"
        )

    network = fit(
        fields,
        settings,
        checkpoint=options.checkpoint,
        origin=options.origin,
        until=options.until,
        report=report,
    )
    save_weights(network, options.output)
    return 0


def spared(name: str) -> bool:
    """Whether a field of the training half is left out for choices between networks: a fifth of them."""
    return hashlib.sha256(f"{name}.tif".encode()).digest()[1] % 5 == 0


if __name__ == "__main__":
    sys.exit(main())
