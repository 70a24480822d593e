"""A physics-informed network of DeepXDE on the same problem, where that package is installed.

DeepXDE is under the LGPL, so it is neither a dependency nor a part of this package: it is imported here, and only if
it is there. The network is given an advantage over the published comparison: the balance of fourth order is split
into three of second order, with the potential as an output of its own. Its data are points, so that it knows no point
spread function. Residual weights are those that a user would start from: one.

References
----------
Lu, Meng, Mao & Karniadakis, SIAM Rev. 63, 208 (2021), doi:10.1137/19M1274067.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any

import numpy as np
import torch

from chromamol.benchmarks.recovery.patterns import PARAMETERS, PIXEL
from chromamol.benchmarks.recovery.scenes import Scene
from chromamol.benchmarks.recovery.scores import RATES, Estimate, Guess
from chromamol.physics.free_energy import bulk_potential
from chromamol.shapes import FloatField

STEPS = 5000
POINTS = 2048
"""Pixels and collocation points per step, drawn anew every `RENEWED` steps."""

RENEWED = 20
LAYERS = (64, 64, 64, 64)
LEARNING_RATE = 1e-3


def deepxde_fit(scene: Scene, *, steps: int = STEPS) -> Estimate:
    """Train the network on the noisy pixels and return exp of its last outputs as rates."""
    with contextlib.redirect_stdout(sys.stderr):  # its import and its training print
        return _fit(scene, steps)


def _fit(scene: Scene, steps: int) -> Estimate:
    os.environ.setdefault("DDE_BACKEND", "pytorch")
    dde = importlib.import_module("deepxde")
    dde.config.set_random_seed(0)
    known = None
    if scene.case.acetylation_known:
        known = float(scene.truth.acetylation.mean())
    points = np.argwhere(scene.truth.mask) * PIXEL
    low, high = points.min(0) - PIXEL, points.max(0) + PIXEL
    balance = _balance(dde, known)
    data = dde.data.PDE(
        dde.geometry.Rectangle(list(low), list(high)), balance, _observations(dde, scene, points),
        num_domain=POINTS, anchors=None,
    )  # fmt: skip
    outputs = 5 if known is None else 4
    network = dde.nn.FNN([2, *LAYERS, outputs], "tanh", "Glorot normal")
    side = float(max(high - low))
    network.apply_feature_transform(lambda x: 2.0 * (x - torch.as_tensor(low, dtype=x.dtype)) / side - 1.0)
    model = dde.Model(data, network)
    model.compile("adam", lr=LEARNING_RATE, verbose=0)
    renew = dde.callbacks.PDEPointResampler(period=RENEWED, bc_points=True)
    model.train(iterations=steps, callbacks=[renew], display_every=steps, verbose=0)
    found = model.predict(points.astype(np.float32))
    rates: dict[str, Guess] = {}
    for i, name in enumerate(RATES[: outputs - 3]):
        values = np.full(scene.truth.mask.shape, np.nan)
        values[scene.truth.mask] = np.exp(found[:, 3 + i])
        rates[name] = Guess(values)
    return Estimate(rates, f"{steps} steps", "" if scene.case.psf_px == 0.0 else "no PSF in the network")


def _balance(dde: Any, known: float | None) -> Any:
    """Three residuals of second order in (φ_h, φ_e, μ_h): μ_h itself, its balance, and the water's."""
    square = PARAMETERS.interface_length_um**2

    def laplacian(x: torch.Tensor, y: torch.Tensor, component: int) -> torch.Tensor:
        return sum(dde.grad.hessian(y, x, component=component, i=i, j=i) for i in (0, 1))

    def residuals(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        phi_h, phi_e, mu_h = (y[:, i : i + 1] for i in range(3))
        acetylation = torch.exp(y[:, 4:5]) if known is None else known
        water = phi_e - square * laplacian(x, y, 1) + mu_h
        return [
            bulk_potential(phi_h, PARAMETERS.phi_max) - square * laplacian(x, y, 0) - mu_h,
            laplacian(x, y, 2) + torch.exp(y[:, 3:4]) * phi_e - acetylation * phi_h,
            water - water.mean(),
        ]

    return residuals


def _observations(dde: Any, scene: Scene, points: FloatField) -> list[Any]:
    """The pixels of each image, a batch of them per step."""
    values = [image[scene.truth.mask][:, None] for image in scene.images]
    settings = {"batch_size": POINTS, "shuffle": True}
    if len(values) == 1:
        return [
            dde.icbc.PointSetOperatorBC(points, values[0], lambda x, y, _: y[:, 0:1] + y[:, 1:2], **settings)
        ]
    return [dde.icbc.PointSetBC(points, v, component=i, **settings) for i, v in enumerate(values)]
