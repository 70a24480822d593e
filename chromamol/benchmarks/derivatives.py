"""`chromamol benchmark derivatives`: how wrong, how slow, how large, for every kernel and baseline.

Four tables: the error of every method against noise, each at the best of its settings (the oracle) and the
default kernel at the automatic width too; the automatic widths against the oracle's; time and memory of the
layer; and of one training step of a coordinate network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from chromamol.benchmarks.derivatives_cost import layer_cost, network_cost
from chromamol.benchmarks.derivatives_fields import FIELDS, PIXEL, SIZE, exact_derivative, exact_operator
from chromamol.calculus.baselines import (
    DerivativeMethod,
    FiniteDifference,
    Mollified,
    Samples,
    SavitzkyGolay,
    Spectral,
)
from chromamol.calculus.kernels import KERNELS
from chromamol.calculus.layer import bilaplacian, laplacian
from chromamol.calculus.width import CRITERIA, WidthChoice, select_width
from chromamol.errors import DeviceError, KernelError
from chromamol.io import write_text
from chromamol.shapes import FloatField

OPERATORS: dict[str, dict[tuple[int, ...], float]] = {
    "d/dx": {(0, 1): 1.0},
    "Laplacian": laplacian(2),
    "bilaplacian": bilaplacian(2),
}
NOISE = (0.0, 0.01, 0.05, 0.1)
WIDTHS_PX = tuple(float(w) for w in np.geomspace(2.5, 36.0, 14))
_MARGIN_PX = 36  # errors are judged where even the widest kernel sees no border


@dataclass(frozen=True, eq=False)
class DerivativeBenchmark:
    """The tables of the benchmark.

    Parameters
    ----------
    accuracy : field, operator, noise, method, setting, relative_error (root mean square over that of the
        truth), one row per setting; `best` marks the setting with the least error.
    widths : field, operator, noise, criterion, ratio_to_oracle.
    cost : see `layer_cost`. network : see `network_cost`.
    """

    accuracy: pd.DataFrame
    widths: pd.DataFrame
    cost: pd.DataFrame
    network: pd.DataFrame

    def write(self, output: Path) -> list[Path]:
        """Write the tables as CSV; returns the paths."""
        output.mkdir(parents=True, exist_ok=True)
        paths = []
        for name in ("accuracy", "widths", "cost", "network"):
            path = output / f"derivatives_{name}.csv"
            write_text(path, getattr(self, name).to_csv(index=False))
            paths.append(path)
        return paths

    def summary(self) -> pd.DataFrame:
        """Median relative error over the fields, each method at its best setting: one row per method."""
        best = self.accuracy[self.accuracy.best]
        table = best.pivot_table(
            index="method", columns=["operator", "noise"], values="relative_error", aggfunc="median"
        )
        return table.sort_index()


def run(
    output: Path | None = None, *, quick: bool = False, device: str = "cpu", seed: int = 0
) -> DerivativeBenchmark:
    """Run the benchmark.

    Parameters
    ----------
    output : folder for the tables; nothing is written when omitted.
    quick : two fields, two noise levels and small sizes: seconds in place of minutes.
    device : "cpu" or "cuda"; where the cost is measured. Errors are always computed on the CPU.
    seed : of the noise.

    Raises
    ------
    DeviceError : a device that is not there.
    """
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise DeviceError(
            f"Device {device!r}.", expected="cpu, or cuda on a machine that has it.", do="use cpu."
        )
    fields = ("bump", "disc, tanh interface") if quick else tuple(FIELDS)
    noise = (0.0, 0.05) if quick else NOISE
    rng = np.random.default_rng(seed)
    cases = [(f, n, _noisy(f, n, rng)) for f in fields for n in noise]
    repeats = 3 if quick else 15
    sizes = (128,) if quick else (128, 256, 512)
    costs = [layer_cost(sizes, (21,) if quick else (21, 41, 81), repeats=repeats, device=device)]
    if device != "cpu":
        costs.append(layer_cost((512,), (21, 41), repeats=repeats, device=device, batch=64))
    result = DerivativeBenchmark(
        accuracy=pd.DataFrame(
            row for case in cases for row in _errors(*case, WIDTHS_PX[1::4] if quick else WIDTHS_PX)
        ),
        widths=pd.DataFrame(row for case in cases if case[1] > 0 for row in _automatic(*case)),
        cost=pd.concat(costs, ignore_index=True),
        network=network_cost(32 if quick else 128, repeats=2 if quick else 5, device=device),
    )
    result.accuracy["best"] = _marks_best(result.accuracy)
    if output is not None:
        result.write(output)
    return result


def _noisy(field: str, noise: float, rng: np.random.Generator) -> FloatField:
    clean = exact_derivative(field, (0, 0))
    return clean + noise * np.ptp(clean) * rng.standard_normal(clean.shape)


def _methods(widths_px: tuple[float, ...]) -> Iterator[tuple[str, str, float, DerivativeMethod]]:
    """(method, setting, half-width in px, callable) for every setting that is tried."""
    for px in widths_px:
        for kernel in KERNELS:
            yield f"{kernel} kernel", f"width {px:.3g} px", px, Mollified(px * PIXEL, kernel)
        radius = max(int(px), 3)
        yield (
            "Savitzky-Golay",
            f"radius {radius} px",
            float(radius),
            SavitzkyGolay(radius, min(5, 2 * radius)),
        )
        length = px / 4.0
        yield "FFT, Gaussian low pass", f"length {length:.3g} px", px, Spectral(length * PIXEL)
    yield "FFT", "", 0.0, Spectral()
    for accuracy in (2, 4, 6):
        yield "finite difference", f"accuracy {accuracy}", 0.0, FiniteDifference(accuracy)


def _errors(
    field: str, noise: float, values: FloatField, widths_px: tuple[float, ...]
) -> Iterator[dict[str, object]]:
    samples = Samples((SIZE, SIZE), (PIXEL, PIXEL), measured=torch.from_numpy(values))
    for operator, terms in OPERATORS.items():
        truth = exact_operator(field, terms)
        for method, setting, px, function in _methods(widths_px):
            try:
                estimate = function(samples, terms).numpy()
            except KernelError:  # this support is too narrow for this derivative
                continue
            yield {
                "field": field,
                "operator": operator,
                "noise": noise,
                "method": method,
                "setting": setting,
                "width_px": px,
                "relative_error": _relative_error(estimate, truth, field),
            }


def _automatic(field: str, noise: float, values: FloatField) -> Iterator[dict[str, object]]:
    for operator, terms in OPERATORS.items():
        truth = exact_operator(field, terms)
        choices = {c: select_width(values, terms, spacing=PIXEL, criterion=c) for c in CRITERIA}
        errors = _errors_by_width(values, truth, terms, next(iter(choices.values())), field)
        for criterion, choice in choices.items():
            yield {
                "field": field,
                "operator": operator,
                "noise": noise,
                "criterion": criterion,
                "width_px": choice.width / PIXEL,
                "relative_error": errors[choice.width],
                "ratio_to_oracle": errors[choice.width] / min(errors.values()),
            }


def _errors_by_width(
    values: FloatField,
    truth: FloatField,
    terms: Mapping[tuple[int, ...], float],
    choice: WidthChoice,
    field: str,
) -> dict[float, float]:
    samples = Samples((SIZE, SIZE), (PIXEL, PIXEL), measured=torch.from_numpy(values))
    return {w: _relative_error(Mollified(w)(samples, terms).numpy(), truth, field) for w in choice.candidates}


def _relative_error(estimate: FloatField, truth: FloatField, field: str) -> float:
    inner = (slice(_MARGIN_PX, -_MARGIN_PX),) * 2
    # A derivative that is zero everywhere is measured against the field's contrast per pixel instead.
    scale = np.sqrt(np.mean(truth[inner] ** 2)) or np.ptp(exact_derivative(field, (0, 0)))
    return float(np.sqrt(np.mean((estimate[inner] - truth[inner]) ** 2)) / scale)


def _marks_best(accuracy: pd.DataFrame) -> pd.Series:
    keys = ["field", "operator", "noise", "method"]
    least = accuracy.groupby(keys)["relative_error"].transform("min")
    return accuracy["relative_error"] == least
