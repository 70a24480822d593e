"""Shape and dtype aliases (jaxtyping). `...` stands for the one to three axes of a grid.

They are annotations only; the test run checks them
(`--jaxtyping-packages=chromamol,beartype.beartype`).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

FloatField = Float[np.ndarray, "..."]
"""Real values on a grid: (x,), (y, x) or (z, y, x)."""

Mask = Bool[np.ndarray, "..."]
"""True where a pixel counts."""

Labels = Int[np.ndarray, "..."]
"""0 = background, 1..n = nuclei."""
