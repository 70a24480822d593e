"""Whether two images can be the two marks of one nucleus: what they show must differ."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from chromamol.field import Field
from chromamol.inverse.joint_setup import JointProblem

ALIKE_CORRELATION, ALIKE_SLOPE = 0.85, 0.5
"""Beyond both, φ_e follows φ_h as it never does in the model, where it hardly rises in domains: relative slopes of six
patterns, with blur up to 10 pixels and noise up to 10 % of φ_max, are .02 to .08. One channel twice has .9 to 1, total
chromatin for φ_h at least 1.5, both with correlations from .89 on; half of φ_h in the channel of φ_e has up to .46.
Correlation alone does not tell: without noise it is .87 to 1 in the model."""

RIM_PX = 3
"""At the outline every channel falls to the background."""


def flags_of_marks(problem: JointProblem) -> tuple[str, ...]:
    """Return the flag that images which can't be two marks raise; total chromatin is no mark."""
    two = problem.mixing == ((1.0, 0.0), (0.0, 1.0))
    return ("marks_alike",) if two and marks_alike(*problem.images) else ()


def marks_alike(phi_h: Field, phi_e: Field) -> bool:
    """Whether both show nearly the same pattern: the relative change of one follows that of the other."""
    inside = ndimage.binary_erosion(phi_h.mask, iterations=RIM_PX, border_value=1)
    if not inside.any():
        inside = phi_h.mask
    h, e = (field.values[inside] / field.values[inside].mean() - 1.0 for field in (phi_h, phi_e))
    common, of_h, of_e = float(np.mean(h * e)), float(np.mean(h**2)), float(np.mean(e**2))
    return common > ALIKE_CORRELATION * float(np.sqrt(of_h * of_e)) and common > ALIKE_SLOPE * of_h
