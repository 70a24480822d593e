"""What `chromamol benchmark heat-fem` is compared with: the obvious method, and why a published one is not run."""

from __future__ import annotations

import importlib.util

import numpy as np

from chromamol.calculus import laplacian, mollified_derivative
from chromamol.calculus.validity import valid_after
from chromamol.errors import KernelError
from chromamol.grid import Grid
from chromamol.inverse.generic.maps import longest_waves
from chromamol.shapes import FloatField

WIDTHS_PX = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
MODES = 40
RIDGES = (1e-6, 1e-4, 1e-2, 1.0)


def two_step_error(field: FloatField, spacing: dict[str, float], truth: FloatField) -> float:
    """Return the relative L2 error of D from derivatives of smoothed data, at the width and ridge that suit it best.

    ∂u/∂t = D Δu + ∂D/∂x₁ ∂u/∂x₁ + ∂D/∂x₂ ∂u/∂x₂ holds at every sample whose support lies inside, and is linear in
    D's cosines. Width and ridge are chosen with the truth at hand, so this is the best that the method can do.
    """
    steps = tuple(spacing.values())
    basis = longest_waves(Grid(truth.shape, steps[1:]), MODES)
    values = basis.evaluate_rows(slice(None))
    slopes = [np.gradient(values, h, axis=axis) for axis, h in enumerate(steps[1:], start=1)]
    errors = []
    for pixels in WIDTHS_PX:
        width = tuple(pixels * h for h in steps)
        try:
            change, first, second, curvature = (
                mollified_derivative(field, order, spacing=steps, width=width)
                for order in ((1, 0, 0), (0, 1, 0), (0, 0, 1), _space_laplacian())
            )
        except KernelError:
            continue
        inside = valid_after(np.ones(field.shape, dtype=bool), [pixels] * 3)
        columns = values[:, None] * curvature + slopes[0][:, None] * first + slopes[1][:, None] * second
        matrix, right = columns[:, inside].T, change[inside]
        gram, cross = matrix.T @ matrix, matrix.T @ right
        for ridge in RIDGES:
            penalty = ridge * np.trace(gram) / MODES * np.diag(np.arange(MODES) > 0).astype(float)
            found = np.linalg.solve(gram + penalty, cross) @ values.reshape(MODES, -1)
            errors.append(float(np.linalg.norm(found - truth.ravel()) / np.linalg.norm(truth)))
    return min(errors)


def _space_laplacian() -> dict[tuple[int, ...], float]:
    return {(0, *order): weight for order, weight in laplacian(2).items()}


def reason_to_skip() -> str:
    """Return why the network of TorchPhysics is not part of the table."""
    there = importlib.util.find_spec("torchphysics") is not None
    found = "is installed" if there else "is not installed (its release 1.1.2 needs numpy < 2)"
    return (
        f"TorchPhysics {found}. Its own method, two networks trained with 8000 steps of Adam and 1000 of L-BFGS on "
        "15000 points, takes ten minutes on a large GPU as published, so it is not run here; "
        "docs/benchmarks/heat-fem.md says what was measured of it."
    )
