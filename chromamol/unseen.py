"""Pixels that were not seen: which they are, and what stands in for them where nuclei are found and measured.

Also which inputs can't have them, and what else a time-lapse does not take.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from chromamol.channels import Channels
from chromamol.errors import ImageContentError, ParameterError
from chromamol.inverse.gaps import filled
from chromamol.inverse.inference import TAKE_GAPS
from chromamol.io import Micrograph, find_labels, read_mask
from chromamol.settings import Settings
from chromamol.shapes import Mask

NAN = "nan"
"""`missing = "nan"`: the pixels that are NaN were not seen."""

OVER_TIME = ("auto", "regression")
"""Methods that a time-lapse takes: its fit is a regression."""


def close_unseen(channels: Channels, micrograph: Micrograph, settings: Settings) -> Channels:
    """Return the planes with smooth stand-ins where nothing was seen, and `seen`; as they are without `missing`.

    A pixel counts as seen when all planes hold a finite value there and the mask of missing pixels is 0.

    Raises
    ------
    ReadError, AxesError : a mask of missing pixels that is not there or does not fit.
    ImageContentError : no pixel left.
    """
    if settings.missing is None:
        return channels
    seen = np.all([np.isfinite(plane) for plane in channels.planes.values()], axis=0)
    if settings.missing != NAN:
        source = Path(settings.missing)
        if micrograph.path is not None and source.is_dir():
            source = find_labels(source, image=micrograph.path)
        seen &= ~read_mask(source, shape=micrograph.shape)
    if not seen.any():
        raise ImageContentError(f"{micrograph.name}: no pixel was seen.", expected="some finite pixels.",
                                do="check --missing: 0 stands for a pixel that was seen.")  # fmt: skip
    planes = {role: filled(plane.astype(np.float64), seen) for role, plane in channels.planes.items()}
    note = f"{channels.note}; {np.count_nonzero(~seen)} of {seen.size} pixels not seen"
    saturated = None if channels.saturated is None else channels.saturated & seen
    return replace(channels, planes=planes, seen=seen, note=note, saturated=saturated)


def unseen_of(channels: Channels, window: tuple[slice, ...], mask: Mask) -> Mask | None:
    """Return where a nucleus's crop was seen; None when all of the nucleus was."""
    if channels.seen is None or channels.seen[window][mask].all():
        return None
    return channels.seen[window]


def require_all_seen(settings: Settings, what: str) -> None:
    """Raise `ParameterError` where pixels that were not seen make no sense."""
    if settings.missing is not None:
        raise ParameterError(f"missing = {settings.missing} for {what}.", expected="a single image or stack.",
                             do="leave --missing out, or pick one time with --time.")  # fmt: skip


def require_possible_over_time(settings: Settings, what: str, *, stack: bool) -> None:
    """Raise `ParameterError` that names every setting which the inversion of a time-lapse does not take.

    Parameters
    ----------
    what : name of the film, for the message.
    stack : whether its frames are stacks, of which none is a section.
    """
    unwanted = {
        "missing": settings.missing is not None,
        "method": settings.method not in OVER_TIME,
        "photons_per_count": settings.photons_per_count is not None,
        "read_noise_counts": settings.read_noise_counts > 0.0,
        "known_acetylation_per_um2": settings.known_acetylation_per_um2 is not None,
        "section_thickness_um": settings.section_thickness_um is not None and not stack,
    }
    given = [f"{name} = {getattr(settings, name)}" for name, is_given in unwanted.items() if is_given]
    if given:
        raise ParameterError(
            f"{', '.join(given)} for {what}, a time-lapse.",
            expected=f"a method among {', '.join(OVER_TIME)}, and none of the others: they hold for single images.",
            do="leave them out for time-lapses, or pick one time with --time.",
        )


def require_takes_gaps(settings: Settings) -> None:
    """Raise `ParameterError` for an estimator that takes no gaps, or a mask that is not there."""
    if settings.missing is None:
        return
    if settings.method not in TAKE_GAPS:
        raise ParameterError(f"missing with method = '{settings.method}'.", expected=f"one of {', '.join(TAKE_GAPS)}.",
                             do="leave the method out: nuclei with gaps are then given to one of these.")  # fmt: skip
    if settings.missing != NAN and not Path(settings.missing).exists():
        raise ParameterError(f"missing = {settings.missing}.", expected="a mask image, a folder of them, or 'nan'.",
                             do="check the path.")  # fmt: skip
