"""Which planes of an image are analysed, and why these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from scipy import ndimage

from chromamol.density import Molecules, Shading
from chromamol.errors import AxesError
from chromamol.io import ChannelChoice, Micrograph
from chromamol.settings import Settings
from chromamol.shapes import Labels, Mask

DENSITY_CHANNELS = ("phi_h", "phi_e")
"""A file with channels of exactly these names holds volume fractions, as `rates.ome.tif` does: no calibration."""


@dataclass(frozen=True, eq=False)
class Channels:
    """The planes that are analysed, and why these.

    Parameters
    ----------
    planes : by role: "total", "heterochromatin", "euchromatin"; (y, x) or (z, y, x).
    calibrated : True when they are volume fractions already.
    note : which channel of the file was taken and why.
    outlines : labels that came with the planes; None where nuclei are still to be found.
    counting_variance : of each pixel of "total", for planes that were counted: localisations.
    numbers : index in the file by role.
    shadings : illumination that planes were divided by, by role.
    saturated : where any of the planes was at its detector's limit, as read; None where no limit is known.
    flags : that hold for every nucleus of the image.
    seen : where the pixels were measured; None for everywhere. Planes hold smooth stand-ins elsewhere.
    molecules : what "total" was counted from, and the origin of its pixels; domains are measured in them.
    sightings : the localisations themselves; the levels of both phases are their density.
    """

    planes: dict[str, np.ndarray]
    calibrated: bool
    note: str
    outlines: Labels | None = None
    counting_variance: np.ndarray | None = None
    molecules: Molecules | None = None
    sightings: Molecules | None = None
    origin_um: tuple[float, float] = (0.0, 0.0)
    numbers: dict[str, int] = field(default_factory=dict)
    shadings: dict[str, Shading] = field(default_factory=dict)
    saturated: Mask | None = None
    flags: tuple[str, ...] = ()
    seen: Mask | None = None

    @property
    def all_chromatin(self) -> np.ndarray:
        """What nuclei are found in: total chromatin, or both marks together, each at its own brightness."""
        if "total" in self.planes:
            return self.planes["total"]
        parts = [plane.astype(np.float64) for plane in self.planes.values()]
        if self.calibrated:
            return np.sum(parts, axis=0)
        return np.sum([part / max(float(np.std(part)), np.finfo(float).tiny) for part in parts], axis=0)

    @property
    def shown(self) -> str:
        """What `all_chromatin` is: "channel" of the file, "marks" added up, or "fractions" of volume."""
        if self.calibrated:
            return "fractions"
        return "channel" if "total" in self.planes or len(self.planes) == 1 else "marks"


def named_channels(settings: Settings) -> dict[str, int | str]:
    """Return the channels that the user named, by what they are for: `settings.KIND_channel`."""
    wanted = {
        "chromatin": settings.chromatin_channel,
        "heterochromatin": settings.heterochromatin_channel,
        "euchromatin": settings.euchromatin_channel,
    }
    return {kind: channel for kind, channel in wanted.items() if channel is not None}


def choose_channels(micrograph: Micrograph, settings: Settings) -> Channels:
    """Return the planes by role. A stain is never guessed from a channel's name.

    Raises
    ------
    AxesError : several channels and none named, one channel for two roles, or a combination that gives no two fields.
    """
    named = named_channels(settings)
    if not named and set(DENSITY_CHANNELS) <= set(micrograph.channel_names):
        planes = {"heterochromatin": micrograph.channel("phi_h"), "euchromatin": micrograph.channel("phi_e")}
        note = "phi_h and phi_e, by their names: volume fractions, used as they are"
        # Without `missing`: with it, NaN are pixels that were not seen.
        outlines = _outlines_of_maps(planes) if settings.missing is None else None
        if outlines is None:
            return Channels(planes, True, note, flags=micrograph.flags)
        planes = {role: np.where(outlines > 0, plane, 0.0) for role, plane in planes.items()}
        return Channels(planes, True, f"{note}; nuclei are where they are not NaN", outlines,
                        flags=micrograph.flags)  # fmt: skip
    if not named:
        choice = micrograph.choose_channel()
        return Channels({"total": _plane(micrograph, choice)}, False,
                        f"total chromatin: {choice.name}, {choice.reason}",
                        numbers={"total": _number(micrograph, choice)},
                        saturated=_saturated(micrograph, [choice]), flags=micrograph.flags)  # fmt: skip
    if set(named) not in (
        {"chromatin"},
        {"chromatin", "heterochromatin"},
        {"heterochromatin", "euchromatin"},
    ):
        raise AxesError(
            f"Channels given for {' and '.join(named)}.",
            expected="chromatin alone, heterochromatin with chromatin, or heterochromatin with euchromatin.",
            do="name the missing channel, or leave one out.",
        )
    choices = {
        "total" if kind == "chromatin" else kind: micrograph.choose_channel(channel, kind=kind)
        for kind, channel in named.items()
    }
    _require_different(micrograph, choices)
    note = "; ".join(f"{'total chromatin' if role == 'total' else role}: {choice.name}, {choice.reason}"
                     for role, choice in choices.items())  # fmt: skip
    return Channels({role: _plane(micrograph, choice) for role, choice in choices.items()}, False, note,
                    numbers={role: _number(micrograph, choice) for role, choice in choices.items()},
                    saturated=_saturated(micrograph, choices.values()), flags=micrograph.flags)  # fmt: skip


def _require_different(micrograph: Micrograph, choices: dict[str, ChannelChoice]) -> None:
    """Raise `AxesError` where one channel is to be two fields: they would be equal everywhere, whatever it shows."""
    if len({choice.index for choice in choices.values()}) == len(choices):
        return
    one = next(iter(choices.values()))
    options = " and ".join(f"--{'chromatin' if role == 'total' else role}-channel" for role in choices)
    raise AxesError(
        f"{micrograph.name}: channel {_number(micrograph, one)} ({one.name!r}) for both {options}.",
        expected="a channel of its own for each.",
        do="correct one of them; for an image of one channel name it with --chromatin-channel alone.",
    )


def _outlines_of_maps(planes: dict[str, np.ndarray]) -> Labels | None:
    """Label the nuclei of maps as `rates.ome.tif` has them, NaN outside; None for maps without NaN, or with holes.

    A hole may be anything: it is left to `missing`.
    """
    nuclear = ~np.all([np.isnan(plane) for plane in planes.values()], axis=0)
    if nuclear.all() or not nuclear.any() or not np.array_equal(ndimage.binary_fill_holes(nuclear), nuclear):
        return None
    labels, _ = ndimage.label(nuclear)
    return labels.astype(np.int32)


def _plane(micrograph: Micrograph, choice: ChannelChoice) -> np.ndarray:
    return np.ascontiguousarray(micrograph.data[choice.index])


def _saturated(micrograph: Micrograph, choices: Iterable[ChannelChoice]) -> Mask | None:
    """Where any of the channels is saturated: what follows hangs on all of them."""
    masks = (micrograph.saturated_pixels(choice.index) for choice in choices)
    known = [mask for mask in masks if mask is not None]
    return reduce(np.logical_or, known) if known else None


def _number(micrograph: Micrograph, choice: ChannelChoice) -> int:
    """Index in the file, of which some channels only may have been read."""
    return choice.index if micrograph.channel_numbers is None else micrograph.channel_numbers[choice.index]
