"""Smoothness and strength of the joint fit's log-rates by the evidence of that fit.

The log-rates are a Gaussian process of correlation length ξ and standard deviation a, written in cosines whose prior
variances p_k follow from both. With θ = (ln a, ln ξ), D_i = ∂ ln p_k / ∂θ_i, and mean m and covariance Σ of the cosines
after the data, in units of their prior deviations, the evidence (Laplace's approximation) has

    ∂ ln p(data) / ∂θ_i = ½ Σ_k D_ik (m_k² + Σ_kk - 1),        Fisher information ½ tr(W D_i W D_j),  W = 1 - Σ.

Traces are estimated with random signs, each of which takes two linear solves.

References
----------
MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415 (the evidence);
Hutchinson, Commun. Stat. Simul. Comput. 19, 433 (1990), doi:10.1080/03610919008812866 (the traces).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from chromamol.inverse.joint_model import JointModel
from chromamol.inverse.joint_together import Fit, Solution
from chromamol.inverse.joint_unknowns import Unknowns
from chromamol.inverse.log_rate_basis import LogRateBasis
from chromamol.shapes import FloatField

PROBES, PROBE_TOLERANCE = 4, 1e-2
"""Pairs of solves for the traces. A step of ln a and ln ξ errs by .07 and .03 for it, less than the evidence leaves
open (.11 and .04 at 1 % noise); with 1e-3 it was the same to three digits."""

PRIOR_SD = 1.0
"""Of ln a and ln ξ around where the fit began: a factor of e, for data that tell nothing of them."""

LARGEST_STEP = 0.5
"""Of ln a and ln ξ at once: the evidence is no parabola."""


def in_basis(
    model: JointModel, point: Unknowns, old: LogRateBasis, new: LogRateBasis, log_sd: float
) -> tuple[JointModel, Unknowns]:
    """Return the model with another prior of the log-rates, and the same point in its terms."""

    def tensor(values: FloatField) -> torch.Tensor:
        return torch.as_tensor(values, dtype=model.root.dtype, device=model.root.device)

    written = old.projected((point.modes * model.root).cpu().numpy(), new)
    root = new.root(log_sd)
    whitened = np.divide(written, root, out=np.zeros_like(written), where=root > 0.0)
    means = tensor(written.reshape(*written.shape[:2], -1)[..., 0])
    scalars = torch.cat([point.scalars[:, : model.maps] + means, point.scalars[:, model.maps :]], 1)
    changed = replace(
        model, cosines=tuple(tensor(table)[None] for table in new.tables(model.box)),
        root=tensor(root).expand(1, model.maps, *root.shape),
    )  # fmt: skip
    return changed, replace(point, modes=tensor(whitened), scalars=scalars)


def evidence_step(
    model: JointModel, point: Unknowns, tau: float, slopes: FloatField, *, behind: FloatField,
    generator: torch.Generator, inner: torch.dtype,
) -> Fit[FloatField]:  # fmt: skip
    """Return how far to go in ln a and ln ξ: one step of Fisher's scoring, at most `LARGEST_STEP`.

    Parameters
    ----------
    point : a converged one, or nearly.
    slopes : of the basis, (2, *modes).
    behind : ln a and ln ξ now, less those at the start of the fit.
    """
    bend = torch.as_tensor(slopes, dtype=point.modes.dtype).to(point.modes.device)
    signs = torch.randint(0, 2, (PROBES, *model.root.shape[1:]), generator=generator).to(bend) * 2.0 - 1.0
    signs = signs * (model.root > 0.0)
    probes = torch.cat([signs, bend[1] * signs])
    right = replace(model.nothing(len(probes)), modes=probes)
    (found,) = yield Solution(model, point, tau, (right,), (PROBE_TOLERANCE,), (1,), inner, calibrate=False)
    determined = probes - found.modes
    first, second = determined.split(PROBES)

    def trace(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * b).sum() / PROBES

    slope = [0.5 * (d * point.modes.square()).sum() - 0.5 * trace(d * signs, first) for d in bend]
    mixed = trace(first, second)
    information = torch.stack([2.0 * trace(first, first), mixed, mixed, 0.5 * trace(first, bend[1] * second)])
    sizes, axes = torch.linalg.eigh(information.reshape(2, 2))
    # Random signs may make a trace negative that is none.
    curvature = axes * (sizes.clamp_min(0.0) + PRIOR_SD**-2) @ axes.T
    pull = torch.stack(slope).cpu().numpy() - behind / PRIOR_SD**2
    step = np.linalg.solve(curvature.cpu().numpy(), pull)
    return np.asarray(step * min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-30)))
