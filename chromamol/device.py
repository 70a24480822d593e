"""Which device runs the linear algebra: asked for by name, never swapped in silence."""

from __future__ import annotations

import torch

from chromamol.errors import DeviceError


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:N".

    Raises
    ------
    DeviceError : a device that is not there, or one without float64 (fourth derivatives need it).
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(
            f"Device '{name}'.",
            expected="auto, cpu, cuda or cuda:N (others have no float64, which fourth derivatives need).",
            do="pass --device cpu, or auto to take what is there.",
        )
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"Device '{name}' on a machine with {count} CUDA devices.",
                expected="a CUDA device that is there; it is never replaced by the CPU in silence.",
                do="check the driver with `chromamol doctor`, or pass --device cpu.",
            )
    return device
