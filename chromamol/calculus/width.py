"""The width of the kernel, chosen by the data.

Narrow kernels let noise through, wide ones blur. Three published criteria choose among a geometric series of
half-widths; all judge on the pixels where even the widest kernel is valid.

- `balancing` (Lepski; Goldenshluger & Lepski 2011): the bias of a width is at least what separates it from
  every narrower one beyond their noise; minimise bias² + variance. Its margin makes it oversmooth a little.
- `risk` (the default; unbiased risk estimation, Stein 1981): compare every width with one nearly unbiased
  reference, a kernel of two orders more at the balanced width, and subtract the noise of the comparison:

      risk(w) = mean (D_w - R)² - σ² |w - r|² + σ² |w|²

- `gcv` (Craven & Wahba 1979; for mollification Murio, Mejía & Zhan 1998): leave-one-out error of the smoothed
  field. It knows no noise level and no derivative, and chooses too narrow for high orders.

References
----------
doi:10.1214/11-AOS883 (Goldenshluger & Lepski), doi:10.1214/aos/1176345632 (Stein),
doi:10.1007/BF01404567 (Craven & Wahba), doi:10.1016/S0898-1221(98)00001-7 (Murio, Mejía & Zhan).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from chromamol.calculus.kernels import Kernel, get_kernel
from chromamol.calculus.layer import Derivative, as_sums, build_filter, plain_lengths
from chromamol.calculus.noise import estimate_noise_sd
from chromamol.calculus.separable import MultiIndex
from chromamol.calculus.taps import per_axis, smallest_half_width, taps_1d
from chromamol.calculus.validity import valid_after
from chromamol.errors import FieldError, ParameterError
from chromamol.given import as_array, as_mask
from chromamol.shapes import FloatField, Mask

_STEP = 2.0**0.25
_KEPT_SHARE = 0.4  # per axis; the widest candidate leaves this share of the mask valid
_MARGIN = 1.0  # differences count as bias beyond (1 + margin) times their noise variance


@dataclass(frozen=True, eq=False)
class WidthChoice:
    """What was chosen, and from what.

    Parameters
    ----------
    width : the chosen half-width, in the unit of the spacing, the same along every axis.
    candidates : all half-widths that were tried, ascending.
    score : the criterion at each; the least is chosen.
    criterion : its name.
    noise_sd : the noise level used.
    at_limit : True if the narrowest or widest candidate won, so a better one may lie beyond.
    """

    width: float
    candidates: tuple[float, ...]
    score: tuple[float, ...]
    criterion: str
    noise_sd: float
    at_limit: bool


@dataclass(frozen=True, eq=False)
class _Trial:
    """Derivatives of the data on the common pixels, for every candidate."""

    field: FloatField
    inside: Mask
    terms: Mapping[MultiIndex, float]
    spacing: tuple[float, ...]
    kernel: Kernel
    widths: tuple[float, ...]
    noise_sd: float

    def derivative(self, width: float, kernel: Kernel, terms: Mapping[MultiIndex, float]) -> FloatField:
        operator = build_filter(
            [terms],
            spacing=self.spacing,
            width=(width,) * len(self.spacing),
            kernel=kernel,
            border="zero",
        )
        return operator.forward(torch.from_numpy(self.field))[0].numpy()[self.inside]

    def overlap(self, first: tuple[float, Kernel], second: tuple[float, Kernel]) -> float:
        """Σ w_a w_b over the pixels, by products of 1D sums; the covariance for unit noise."""
        total = 0.0
        for alpha, f in self.terms.items():
            for beta, g in self.terms.items():
                product = f * g
                for a, b, h in zip(alpha, beta, self.spacing, strict=True):
                    product *= _dot(taps_1d(first[1], a, first[0], h), taps_1d(second[1], b, second[0], h))
                total += product
        return total


def select_width(
    field: FloatField | Any,
    order: Derivative | int,
    *,
    spacing: float | tuple[float, ...],
    kernel: str | Kernel = "polynomial",
    kernel_order: int | None = None,
    criterion: str = "risk",
    noise_sd: float | None = None,
    mask: Any = None,
    candidates: tuple[float, ...] | None = None,
) -> WidthChoice:
    """Choose the half-width for a derivative of a noisy field.

    Parameters
    ----------
    field : (x,), (y, x) or (z, y, x), float; values outside `mask` are never used.
    order, spacing, kernel : as in `mollified_derivative`; `kernel_order` is the order of the kernel.
    criterion : "risk", "balancing" or "gcv"; see the module.
    noise_sd : standard deviation of the pixel noise; estimated from the field when omitted.
    mask : True where the field is known; wherever it is finite, and not masked, when omitted.
    candidates : ascending half-widths to choose from; a geometric series of ratio 2^(1/4) when omitted.

    Raises
    ------
    FieldError : a mask of another shape, NaN inside one that was given, or one so small that no width leaves valid
        pixels.
    ParameterError : an unknown criterion or a negative noise level.
    """
    if criterion not in CRITERIA or (noise_sd is not None and not noise_sd >= 0.0):
        raise ParameterError(
            f"criterion = {criterion!r}, noise_sd = {noise_sd}.",
            expected=f"one of {', '.join(CRITERIA)} and a number >= 0.",
            do="use risk, and None to estimate the noise.",
        )
    array = as_array(field, "Field")
    known = _known(array, mask)
    terms = as_sums([(order,) if isinstance(order, int) else order])[0]
    steps = per_axis(plain_lengths(spacing), array.ndim, "spacing")
    chosen = get_kernel(kernel, order=kernel_order)
    widths = _candidates(terms, steps, chosen, known) if candidates is None else tuple(candidates)
    inside = valid_after(known, [widths[-1] / h for h in steps]) if widths else np.zeros_like(known)
    if not inside.any() or len(widths) < 2:
        raise FieldError(
            f"A mask of {known.sum()} pixels for a derivative {dict(terms)}.",
            expected="room for at least two widths.",
            do="use a larger region or a lower order.",
        )
    sd = estimate_noise_sd(array, mask=known) if noise_sd is None else float(noise_sd)
    filled = np.where(known, array, array[known].mean())
    score = CRITERIA[criterion](_Trial(filled, inside, terms, steps, chosen, widths, sd))
    best = int(np.argmin(score))
    return WidthChoice(
        width=widths[best],
        candidates=widths,
        score=tuple(float(s) for s in score),
        criterion=criterion,
        noise_sd=sd,
        at_limit=best in (0, len(widths) - 1),
    )


def _known(array: FloatField, mask: Any) -> Mask:
    """Return where the field is known; NaN would make every score NaN, and the first width the best."""
    known = np.isfinite(array) if mask is None else as_mask(mask)
    if known.shape != array.shape or not np.isfinite(array[known]).all():
        raise FieldError(f"Field of shape {array.shape} with a mask of shape {known.shape}.",
                         expected="one shape, and finite values inside the mask.",
                         do="mark NaN as unknown.")  # fmt: skip
    return known


def _balancing(trial: _Trial) -> FloatField:
    pairs = [(w, trial.kernel) for w in trial.widths]
    values = [trial.derivative(w, trial.kernel, trial.terms) for w in trial.widths]
    norm = np.array([trial.overlap(p, p) for p in pairs])
    score = trial.noise_sd**2 * norm
    for i in range(1, len(pairs)):
        excess = []
        for j in range(i):
            noise = norm[i] + norm[j] - 2.0 * trial.overlap(pairs[i], pairs[j])
            distance = np.mean((values[i] - values[j]) ** 2)
            excess.append(distance - (1.0 + _MARGIN) * trial.noise_sd**2 * noise)
        score[i] += max(0.0, *excess)
    return score


def _risk(trial: _Trial) -> FloatField:
    balanced = trial.widths[int(np.argmin(_balancing(trial)))]
    sharp = get_kernel(trial.kernel, order=trial.kernel.order + 2)
    least = max(_smallest(alpha, trial.spacing, sharp) for alpha in trial.terms)
    reference = (max(balanced, least), sharp)
    target = trial.derivative(*reference, trial.terms)
    own = trial.overlap(reference, reference)
    score = []
    for w in trial.widths:
        pair = (w, trial.kernel)
        norm = trial.overlap(pair, pair)
        distance = np.mean((trial.derivative(w, trial.kernel, trial.terms) - target) ** 2)
        noise = norm + own - 2.0 * trial.overlap(pair, reference)
        score.append(max(distance - trial.noise_sd**2 * noise, 0.0) + trial.noise_sd**2 * norm)
    return np.array(score)


def _gcv(trial: _Trial) -> FloatField:
    zero = (0,) * len(trial.spacing)
    score = []
    for w in trial.widths:
        smooth = trial.derivative(w, trial.kernel, {zero: 1.0})
        centre = np.prod([_centre(taps_1d(trial.kernel, 0, w, h)) for h in trial.spacing])
        score.append(np.mean((trial.field[trial.inside] - smooth) ** 2) / (1.0 - centre) ** 2)
    return np.array(score)


CRITERIA: dict[str, Callable[[_Trial], FloatField]] = {"risk": _risk, "balancing": _balancing, "gcv": _gcv}


def _candidates(
    terms: Mapping[MultiIndex, float], spacing: tuple[float, ...], kernel: Kernel, known: Mask
) -> tuple[float, ...]:
    """From the narrowest that works to the widest that leaves enough of the mask valid."""
    width = max(*(_smallest(alpha, spacing, kernel) for alpha in terms), 1.5 * max(spacing))
    least = _KEPT_SHARE**known.ndim * known.sum()
    found: list[float] = []
    while True:
        radii = [width / h for h in spacing]
        fits = all(2 * r < n for r, n in zip(radii, known.shape, strict=True))
        if not fits or valid_after(known, radii).sum() < max(least, 1):
            return tuple(found)
        found.append(width)
        width *= _STEP


def _smallest(alpha: MultiIndex, spacing: tuple[float, ...], kernel: Kernel) -> float:
    return max(smallest_half_width(kernel, alpha, spacing=spacing))


def _dot(a: FloatField, b: FloatField) -> float:
    """Σ a b with the centres aligned."""
    cut = (max(a.size, b.size) - min(a.size, b.size)) // 2
    longer, shorter = (a, b) if a.size >= b.size else (b, a)
    return float(longer[cut : longer.size - cut] @ shorter)


def _centre(taps: FloatField) -> float:
    return float(taps[taps.size // 2])
