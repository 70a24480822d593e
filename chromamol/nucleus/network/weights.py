"""The network's weights: plain arrays in one file, never a pickle."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from chromamol.errors import ReadError
from chromamol.io.atomic import atomic_write
from chromamol.nucleus.network.model import NucleusNet

WEIGHTS_FILE = "nucleus_network.npz"
"""In `chromamol/data`, float16."""


def save_weights(model: NucleusNet, path: Path) -> None:
    """Write the weights of a network without normalisation layers as float16 arrays (NumPy's `.npz`)."""
    arrays = {name: value.detach().numpy().astype(np.float16) for name, value in model.state_dict().items()}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_weights(path: Path) -> NucleusNet:
    """Read a network.

    Raises
    ------
    ReadError : no such file, no arrays in it, or those of another network.
    """
    model = NucleusNet()
    try:
        with np.load(path, allow_pickle=False) as stored:
            state = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored.files}
        model.load_state_dict(state)
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, BadZipFile) as error:
        raise ReadError(
            f"{path}: no weights of this network ({error}).",
            expected="an .npz file that `python -m chromamol.nucleus.training` wrote.",
            do="install chromamol again, or train the network.",
        ) from error
    return model.eval()


@functools.cache
def built_in() -> NucleusNet:
    """Return the network that comes with the package."""
    with resources.as_file(resources.files("chromamol") / "data" / WEIGHTS_FILE) as path:
        return load_weights(path)
