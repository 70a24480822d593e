"""Time and memory of derivatives, measured side by side on one device.

Times are the least of several repeats, taken in turn (method by method, then again), so that a busy machine
slows all of them alike. Peak memory is what the allocator held at most beyond the inputs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from chromamol.calculus.baselines import DerivativeMethod, NestedAutodiff, Samples, TaylorMode
from chromamol.calculus.layer import MollifierLayer, bilaplacian, laplacian
from chromamol.calculus.taps import taps_1d

Job = Callable[[], object]


def least_seconds(
    jobs: Mapping[str, Job], *, repeats: int, device: str = "cpu", budget_s: float = 15.0
) -> dict[str, float]:
    """Return the least time of each job over interleaved rounds, after one warm-up.

    At most `repeats` rounds; fewer, but at least two, once `budget_s` seconds are spent.
    """
    begin = time.perf_counter()
    for job in jobs.values():
        job()
    best = dict.fromkeys(jobs, float("inf"))
    for done in range(repeats):
        if done >= 2 and time.perf_counter() - begin > budget_s:
            break
        for name, job in jobs.items():
            _wait(device)
            start = time.perf_counter()
            job()
            _wait(device)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def peak_mib(job: Job, *, device: str = "cpu") -> float:
    """Return the most memory that a job held at once, in MiB, counted by torch's allocator."""
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        job()
        _wait(device)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        job()
    raw = record.profiler.kineto_results.events() if record.profiler is not None else []
    events = [e for e in raw if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def layer_cost(
    sizes: tuple[int, ...], supports: tuple[int, ...], *, repeats: int, device: str, batch: int = 1
) -> pd.DataFrame:
    """Three outputs (value, two second derivatives; or value, Laplacian, bilaplacian) of square fields.

    Columns: outputs, method, batch, size, support_px, forward_s, both_s (forward and backward), peak_mib,
    and forward_to_traffic: forward over the time that reading the input and writing the outputs once takes.
    """
    rows = []
    for size in sizes:
        for support in supports:
            for outputs, orders in _OUTPUTS.items():
                rows += _layer_rows(outputs, orders, size, support, repeats, device, batch)
    return pd.DataFrame(rows)


_OUTPUTS: dict[str, list[tuple[int, ...] | dict[tuple[int, ...], float]]] = {
    "value, yy, xx": [(0, 0), (2, 0), (0, 2)],
    "value, Laplacian, bilaplacian": [(0, 0), laplacian(2), bilaplacian(2)],
}


def _layer_rows(
    outputs: str, orders: list, size: int, support: int, repeats: int, device: str, batch: int
) -> list[dict[str, object]]:
    # Drawn on the CPU, whose generator is the same everywhere.
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(batch, size, size, generator=generator).to(device)
    leaf = field.clone().requires_grad_()
    width = support // 2 + 0.5
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        f"mollifier layer, {method}": MollifierLayer(
            orders=orders, spacing=1.0, width=width, method=method, check_finite=False
        )
        for method in ("direct", "fourier")
    }
    if outputs == "value, yy, xx":
        functions["autograd through conv2d"] = _Conv2d(width).to(device)
    gradient = torch.randn(batch, len(orders), size, size, generator=generator).to(device)
    jobs: dict[str, Job] = {}
    for name, function in functions.items():
        jobs[f"{name}|forward"] = partial(function, field)
        jobs[f"{name}|both"] = partial(_forward_and_backward, function, leaf, gradient)
    # Reading the input and writing the outputs moves (1 + outputs) fields; a copy of half as many does too.
    half = torch.empty((1 + len(orders)) * field.numel() // 2, device=device)
    target = torch.empty_like(half)
    jobs["copy|"] = lambda: target.copy_(half)
    seconds = least_seconds(jobs, repeats=repeats, device=device)
    return [
        {
            "outputs": outputs,
            "method": name,
            "batch": batch,
            "size": size,
            "support_px": support,
            "forward_s": seconds[f"{name}|forward"],
            "both_s": seconds[f"{name}|both"],
            "both_to_forward": seconds[f"{name}|both"] / seconds[f"{name}|forward"],
            "forward_to_traffic": seconds[f"{name}|forward"] / seconds["copy|"],
            "peak_mib": peak_mib(jobs[f"{name}|both"], device=device),
            "device": device,
        }
        for name in functions
    ]


def _forward_and_backward(function: Callable[[Tensor], Tensor], leaf: Tensor, gradient: Tensor) -> Tensor:
    return torch.autograd.grad(function(leaf), leaf, gradient)[0]


class _Conv2d(nn.Module):
    """The usual way: two passes of `conv2d` with shared factors, left to autograd."""

    def __init__(self, width: float) -> None:
        super().__init__()
        taps = [torch.from_numpy(taps_1d("polynomial", k, width, 1.0).copy()).float() for k in (0, 2)]
        self.register_buffer("rows", torch.stack(taps)[:, None, None, :])
        self.register_buffer("columns", torch.stack(taps)[:, None, :, None])
        self.radius = taps[0].numel() // 2

    def forward(self, field: Tensor) -> Tensor:
        r = self.radius
        rows, columns = self.get_buffer("rows"), self.get_buffer("columns")
        padded = nn.functional.pad(field[:, None], (r, r, r, r), mode="reflect")
        along_x = nn.functional.conv2d(padded, rows)
        smooth = nn.functional.conv2d(along_x[:, :1], columns)
        return torch.cat([smooth, nn.functional.conv2d(along_x[:, 1:], columns[:1])], dim=1)


def tanh_network(*, width: int = 64, depth: int = 4, seed: int = 0) -> nn.Sequential:
    """A coordinate network of `depth` hidden tanh layers for two coordinates."""
    sizes = [2, *[width] * depth]
    layers: list[nn.Module] = []
    # `nn.Linear` draws from the state that all share, which is put back.
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(width, 1))


class _Layer(DerivativeMethod):
    """A ready-made layer as a method: kernels are built once, as in training."""

    name = "mollifier layer"

    def __init__(self, order: Mapping[tuple[int, ...], float], spacing: float, support: int) -> None:
        width = (support // 2 + 0.5) * spacing
        self.layer = MollifierLayer(orders=[dict(order)], spacing=spacing, width=width, check_finite=False)

    def __call__(self, samples: Samples, terms: Mapping[tuple[int, ...], float]) -> Tensor:
        return self.layer(samples.values())[0]


def network_cost(size: int, *, repeats: int, device: str, support: int = 21) -> pd.DataFrame:
    """One training step (residual of order 2 or 4, loss, gradient) of a 4 x 64 tanh network on size² points.

    Columns: residual_order, method, size, step_s, peak_mib, and the ratios of both to the mollifier layer's.
    """
    network = tanh_network().to(device)
    spacing = 1.0 / size
    points = Samples((size, size), (spacing, spacing)).coordinates().to(device)
    samples = _Fixed((size, size), (spacing, spacing), function=network, points=points)
    rows: list[dict[str, object]] = []
    for order, terms in ((2, laplacian(2)), (4, bilaplacian(2))):
        methods: list[DerivativeMethod] = [_Layer(terms, spacing, support), NestedAutodiff(), TaylorMode()]
        jobs = {m.name: _step(network, samples, m, terms) for m in methods}
        seconds = least_seconds(jobs, repeats=repeats, device=device)
        peaks = {name: peak_mib(job, device=device) for name, job in jobs.items()}
        ours = methods[0].name
        rows += [
            {
                "residual_order": order,
                "method": name,
                "size": size,
                "step_s": seconds[name],
                "peak_mib": peaks[name],
                "time_ratio": seconds[name] / seconds[ours],
                "memory_ratio": peaks[name] / peaks[ours],
                "device": device,
            }
            for name in jobs
        ]
    return pd.DataFrame(rows)


@dataclass(frozen=True, eq=False)
class _Fixed(Samples):
    """Samples whose coordinates are computed once, as in training."""

    points: Tensor | None = None

    def coordinates(self) -> Tensor:
        assert self.points is not None
        return self.points.detach()


def _step(
    network: nn.Sequential, samples: Samples, method: DerivativeMethod, terms: Mapping[tuple[int, ...], float]
) -> Job:
    def job() -> None:
        loss = method(samples, terms).square().mean()
        torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)

    return job


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
