"""`chromamol benchmark paper`: the equations of the mollifier-layer paper, with and without the layer.

Three equations x {pixel grid, Fourier MLP, PirateNet, PINNsFormer} x {mollifier, nested autodiff, Taylor mode}, at
several noises and seeds. Every row has the same loss, the same points, the same start and the same budget of processor
time, so that slow derivatives pay for themselves in steps. The published figures stand beside ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch

from chromamol.benchmarks.derivatives_cost import peak_mib
from chromamol.benchmarks.markdown import markdown_table
from chromamol.benchmarks.paper_model import FINEST, PaperModel
from chromamol.benchmarks.paper_prior import langevin_bound
from chromamol.benchmarks.problems import PROBLEMS, Problem, Truth, score
from chromamol.calculus import bilaplacian
from chromamol.calculus.baselines import Samples, Spectral
from chromamol.device import resolve_device
from chromamol.errors import FieldError, ParameterError
from chromamol.inverse.network_derivatives import DerivativeSource, derivative_source
from chromamol.inverse.network_model import LAST_KAPPA
from chromamol.inverse.network_training import (
    ANNEALED_SHARE,
    LAST_STEP,
    RATE_STEP,
    STEADY_SHARE,
    network_step,
)
from chromamol.io import write_text
from chromamol.networks import ARCHITECTURES, FieldNetwork, make_network
from chromamol.shapes import FloatField

METHODS = ("mollifier", "nested", "taylor")
PIXELS = {"langevin": 1024, "heat": 128, "reaction_diffusion": 128}
QUICK_PIXELS = {"langevin": 256, "heat": 48, "reaction_diffusion": 48}
NOISE = (0.0, 0.01, 0.05, 0.1)
SEEDS = (0, 1, 2)
LEAST_STEPS, MOST_STEPS = 1, 3000
TIMED_STEPS = 2
PROBE_SIDES = (6, 12)
MEMORY_SHARE = 0.25
NOT_RUN = "not run: too much memory or time; cost taken on from up to 144 points"
SCORES = tuple(
    f"{of}{what}" for of in ("", "field_", "derivative_") for what in ("correlation", "relative_l2")
)

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class PaperBenchmark:
    """The tables.

    Parameters
    ----------
    rows : one per problem, architecture, method, noise and seed; see `run`.
    published : figures of the source.
    conditions : pixels and budget, in words.
    """

    rows: pd.DataFrame
    published: pd.DataFrame
    conditions: str

    def summary(self) -> pd.DataFrame:
        """Median over the seeds; a note of any of them is kept."""
        keys = ["problem", "architecture", "derivatives", "noise"]
        groups = self.rows.drop(columns="seed").groupby(keys, sort=False)
        medians = groups.median(numeric_only=True).reset_index()
        return medians.assign(note=groups["note"].max().to_numpy())

    def ratios(self) -> pd.DataFrame:
        """Time per step and peak memory of automatic differentiation over the mollifier layer's."""
        keys = ["problem", "architecture"]
        cost = self.rows.groupby([*keys, "derivatives"], sort=False)[["cpu_step_ms", "peak_mib"]].median()
        ours = cost.xs("mollifier", level="derivatives")
        rows = []
        for method in METHODS[1:]:
            if method in cost.index.get_level_values("derivatives"):
                ratio = (cost.xs(method, level="derivatives") / ours).dropna().reset_index()
                rows.append(ratio.assign(compared=f"{method} / mollifier"))
        if not rows:
            return pd.DataFrame(columns=[*keys, "time", "memory", "compared"])
        return pd.concat(rows, ignore_index=True).rename(
            columns={"cpu_step_ms": "time", "peak_mib": "memory"}
        )

    def markdown(self, machine: str) -> str:
        """The tables as Markdown."""
        parts = [
            "# The equations of the mollifier-layer paper",
            f"Made by `chromamol benchmark paper`: {self.conditions} {machine}",
            "Median over the seeds; scored where the support of every kernel lies inside. "
            "Derivatives are scored as the loss sees them, averaged by ψ. Times are of the "
            "processor, per step and in all; memory is the most that torch's allocator held during a step.",
            _table(self.summary()),
            "Automatic differentiation over the mollifier layer, per step:",
            _table(self.ratios()),
            "As published (the source gives no seeds, sizes or coefficient fields; equations, orders and metrics "
            "are its own, fields are ours):",
            _table(self.published),
        ]
        return "\n\n".join(parts) + "\n"

    def write(self, output: Path, machine: str) -> None:
        """Write `paper.csv` and `paper.md`."""
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "paper.csv", self.rows.to_csv(index=False))
        write_text(output / "paper.md", self.markdown(machine))


def run(
    *, quick: bool = False, device: str = "cpu", seconds: float | None = None,
    problems: tuple[str, ...] | None = None, architectures: tuple[str, ...] | None = None,
    noise: tuple[float, ...] | None = None, seeds: tuple[int, ...] | None = None, progress: Say | None = None,
) -> PaperBenchmark:  # fmt: skip
    """Run the benchmark.

    Parameters
    ----------
    quick : few pixels, 5 % noise, one seed.
    device : "cpu", "cuda", "cuda:N" or "auto".
    seconds : processor time to train each row; 0.5 in a quick run, 60 otherwise.
    problems, architectures, noise, seeds : all, or those of a quick run, when None.
    progress : called with one line per row.

    Returns
    -------
    rows with columns problem, architecture, derivatives, noise, seed; correlation and relative_l2 of the unknown,
    field_... of the (first) observed field, derivative_... of its highest derivative, averaged by ψ; steps,
    cpu_step_ms, step_ms (wall), total_s (processor), peak_mib, and note. A row whose step would take more than a
    quarter of the free memory, or longer than the budget, is not run: its cost is taken on from few points, and its
    note says so.

    Raises
    ------
    FieldError, DeviceError : an unknown problem; a device that is not there.
    ParameterError : no time to train, a noise or a seed below 0, or what is not finite.
    """
    _check_numbers(seconds, noise or (), seeds or ())
    where = resolve_device(device)
    chosen = tuple(PROBLEMS) if problems is None else problems
    for asked, there in ((chosen, tuple(PROBLEMS)), (architectures or (), ARCHITECTURES)):
        if set(asked) - set(there):
            raise FieldError(f"{sorted(set(asked) - set(there))}.", expected=f"some of {', '.join(there)}.",
                             do="leave the argument out for all.")  # fmt: skip
    budget = seconds if seconds is not None else (0.5 if quick else 60.0)
    pixels = QUICK_PIXELS if quick else PIXELS
    rows = []
    for name in chosen:
        problem = PROBLEMS[name]
        for seed in seeds or ((0,) if quick else SEEDS):
            truth = _truth(name, pixels[name], seed)
            for level in noise or ((0.05,) if quick else NOISE):
                for architecture, method in _pairs(architectures or ARCHITECTURES):
                    row = _row(problem, truth, architecture, method, level, seed, budget, where)
                    rows.append(row)
                    if progress is not None:
                        case = f"{name}, {architecture}, {method}, noise {level:g}, seed {seed}"
                        progress(f"{case}: correlation {row['correlation']:.4f} {row['note']}")
    sizes = ", ".join(f"{pixels[n]} {'points' if n == 'langevin' else 'pixels a side'} ({n})" for n in chosen)
    conditions = f"{sizes}; {budget:g} s of processor time to train each row."
    return PaperBenchmark(pd.DataFrame(rows), _published(), conditions)


def _check_numbers(seconds: float | None, noise: tuple[float, ...], seeds: tuple[int, ...]) -> None:
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0.0):
        raise ParameterError(f"{seconds} seconds to train each row.", expected="a finite number above 0.",
                             do="leave it out for 60, or 0.5 in a quick run.")  # fmt: skip
    bad = [level for level in noise if not (math.isfinite(level) and level >= 0.0)]
    if bad:
        raise ParameterError(f"Noise {bad[0]}.", expected="finite shares of each field's standard deviation, >= 0.",
                             do="write 0.05 for 5 %.")  # fmt: skip
    if any(seed < 0 for seed in seeds):
        raise ParameterError(
            f"Seeds {seeds}.", expected="whole numbers >= 0.", do="leave them out for 0, 1 and 2."
        )


@cache
def _truth(name: str, pixels: int, seed: int) -> Truth:
    return PROBLEMS[name].truth(pixels, seed)


def _pairs(architectures: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for architecture in architectures:
        for method in METHODS[:1] if architecture == "grid" else METHODS:
            yield architecture, method


def _row(
    problem: Problem, truth: Truth, architecture: str, method: str, noise: float, seed: int, budget: float,
    device: torch.device,
) -> dict[str, object]:  # fmt: skip
    row: dict[str, object] = {
        "problem": problem.name, "architecture": architecture, "derivatives": method, "noise": noise, "seed": seed
    }  # fmt: skip
    if method != "mollifier":
        expected = _expected_cost(problem, truth, architecture, method, device)
        if expected["peak_mib"] > MEMORY_SHARE * _free_mib(device) or expected["cpu_step_ms"] > 1e3 * budget:
            return row | dict.fromkeys(SCORES, float("nan")) | {"steps": 0, **expected, "note": NOT_RUN}
    data = problem.data(truth, seed=seed, noise=noise)
    model = PaperModel(
        problem, truth, data, architecture=architecture, derivatives=method, seed=seed, device=device
    )
    memory = peak_mib(lambda: model(1.0).backward(), device=str(device))
    step = _seconds_per_step(model, device)
    steps = int(np.clip(budget / step[0], LEAST_STEPS, MOST_STEPS))
    begin = time.process_time()
    train(model, steps, own_step=network_step(architecture))
    total = time.process_time() - begin
    scores = _scores(problem, truth, model)
    cost = {
        "steps": steps,
        "cpu_step_ms": 1e3 * step[0],
        "step_ms": 1e3 * step[1],
        "total_s": total,
        "peak_mib": memory,
    }
    return row | scores | cost | {"note": _bound(problem, truth, noise)}


def _bound(problem: Problem, truth: Truth, noise: float) -> str:
    """What no unbiased estimate exceeds, where that is known: of the Langevin equation."""
    if problem.name != "langevin" or noise == 0.0:
        return ""
    bound = langevin_bound(truth.unknown, truth.spacing[0], noise * float(truth.fields["u"].std()))
    return f"bound {bound:.4f}"


def _expected_cost(
    problem: Problem, truth: Truth, architecture: str, method: str, device: torch.device
) -> dict[str, float]:
    """Cost of a step on few points, taken on to all of them: network and derivatives are pointwise."""
    axes = truth.unknown.ndim
    sizes, memory, seconds = [], [], []
    for side in PROBE_SIDES:
        shape = (side**2,) if axes == 1 else (side,) * axes
        network = make_network(
            architecture,
            shape,
            truth.spacing,
            outputs=len(problem.observed),
            finest=FINEST[problem.name],
            device=device,
        )
        source = derivative_source(method, truth.spacing, order=problem.order, outputs=1)
        step = partial(_probe, network, source)
        step()
        sizes.append(math.prod(shape))
        memory.append(peak_mib(step, device=str(device)))
        begin = time.process_time()
        step()
        seconds.append(time.process_time() - begin)
    slope, start = np.polyfit(sizes, seconds, 1)
    expected = max(start + slope * truth.unknown.size, seconds[-1])
    most = memory[-1] * truth.unknown.size / sizes[-1]
    return {"cpu_step_ms": 1e3 * expected, "step_ms": math.nan, "total_s": 0.0, "peak_mib": most}


def _probe(network: FieldNetwork, source: DerivativeSource) -> None:
    d = source(network)
    total = d.value.square().sum() + d.gradient.square().sum()
    (total + d.laplacian.square().sum() + d.bilaplacian.square().sum()).backward()


def _free_mib(device: torch.device) -> float:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return free / 2**20


def _seconds_per_step(model: PaperModel, device: torch.device) -> tuple[float, float]:
    """Processor and wall time of one loss and its gradient, the least of `TIMED_STEPS`."""
    best = [float("inf"), float("inf")]
    for _ in range(TIMED_STEPS):
        cpu, wall = time.process_time(), time.perf_counter()
        model.zero_grad()
        model(1.0).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = [min(best[0], time.process_time() - cpu), min(best[1], time.perf_counter() - wall)]
    return best[0], best[1]


def train(model: PaperModel, steps: int, *, own_step: float) -> None:
    """Adam with the schedules of the `network` estimator."""
    groups = [
        {"params": list(model.trained.network.parameters()), "lr": own_step},
        {"params": list(model.trained.log_rates.parameters()), "lr": RATE_STEP},
    ]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
    for done in range(steps):
        fall = max(0.0, done / steps - STEADY_SHARE) / (1.0 - STEADY_SHARE)
        for group, full in zip(optimiser.param_groups, (own_step, RATE_STEP), strict=True):
            group["lr"] = full * (1.0 - (1.0 - LAST_STEP) * fall)
        optimiser.zero_grad()
        model(LAST_KAPPA ** min(1.0, done / (ANNEALED_SHARE * steps))).backward()
        optimiser.step()


def _scores(problem: Problem, truth: Truth, model: PaperModel) -> dict[str, float]:
    """Correlation and relative L2 of unknown, field and highest derivative; NaN where training left the numbers."""
    u = model.fields()
    highest = {1: u.gradient[:, 0, 0], 2: u.laplacian[:, 0], 4: u.bilaplacian[:, 0]}[problem.order]
    true_highest = torch.as_tensor(highest_derivative(problem, truth)).to(highest)[None]
    found = {
        "": (model.unknown(), truth.unknown),
        "field_": (u.value[:, 0], truth.fields[problem.observed[0]]),
        "derivative_": (model.test(highest[:, None])[:, 0], model.test(true_highest)[0].double().cpu().numpy()),
    }  # fmt: skip
    scores = {}
    for prefix, (values, true) in found.items():
        inner = values.detach().double().cpu().numpy()[model.inner][0]
        wanted = true[model.inner[1:]]
        pair = score(inner, wanted) if np.isfinite(inner).all() else (float("nan"), float("nan"))
        scores[f"{prefix}correlation"], scores[f"{prefix}relative_l2"] = pair
    return scores


def highest_derivative(problem: Problem, truth: Truth) -> FloatField:
    """The highest derivative in the equation, of the truth: u_t, Δu or ΔΔφ_h."""
    if problem.order == 1:
        return truth.fields["u"] + truth.unknown
    if problem.order == 2:
        return -truth.fields["m"] / truth.unknown
    field = torch.from_numpy(np.asarray(truth.fields["phi_h"], dtype=float))
    samples = Samples(truth.unknown.shape, truth.spacing, measured=field)
    return Spectral(periodic=True)(samples, bilaplacian(2)).numpy()


def _published() -> pd.DataFrame:
    return pd.DataFrame(
        {"problem": p.name, "quantity": f.quantity, "without the layer": f.autodiff, "with it": f.mollifier,
         "source": f.source}
        for p in PROBLEMS.values()
        for f in p.published
    )  # fmt: skip


def _table(frame: pd.DataFrame) -> str:
    """A Markdown table with three significant digits, four for correlations."""

    def text(name: str, value: object) -> str:
        if isinstance(value, float):
            return f"{value:.4f}" if "correlation" in name and "." in f"{value}" else f"{value:.3g}"
        return str(value)

    head = [str(c) for c in frame.columns]
    rows = frame.itertuples(index=False)
    return markdown_table(head, ([text(c, v) for c, v in zip(head, row, strict=True)] for row in rows))
