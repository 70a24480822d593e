"""The rates of all nuclei of one image: those that can be fitted together are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from chromamol.calibrate import NucleusCalibration, SharedScale, calibrate_nucleus, share_scale
from chromamol.channels import Channels
from chromamol.errors import ChromamolError, OutputError
from chromamol.inverse.rates import Rates
from chromamol.io import TimeSeries
from chromamol.measured import MeasuredDomains, nucleus_domains
from chromamol.nucleus import Nucleus
from chromamol.nucleus_rates import Fractions, Report, infer_moving_nucleus, infer_nuclei, scale_told
from chromamol.settings import Settings
from chromamol.shapes import Labels
from chromamol.unseen import unseen_of

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Inferred:
    """One nucleus: how it was calibrated, its rates (per time too, from a series), and its domains."""

    nucleus: Nucleus
    found: NucleusCalibration
    rates: Rates
    per_time: dict[str, float]
    measured: MeasuredDomains


@dataclass(frozen=True, eq=False)
class ImageInference:
    """How the nuclei of one image, or of a series in `frames`, are inferred.

    Parameters
    ----------
    labels : of all nuclei, those that can't be analysed too: the dark level of a neighbour lies outside of them.
    notes : why they can't be, for the record.
    failed : their numbers.
    """

    channels: Channels
    labels: Labels
    spacing_um: tuple[float, ...]
    settings: Settings
    series: TimeSeries | None
    frames: list[Channels]
    report: Report | None
    notes: list[str] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    @property
    def analysed_labels(self) -> Labels:
        """The labels without the nuclei that can't be analysed."""
        if not self.failed:
            return self.labels
        return np.where(np.isin(self.labels, self.failed), 0, self.labels).astype(self.labels.dtype)

    def of(self, nuclei: list[Nucleus]) -> list[Inferred]:
        """Infer the rates of every nucleus.

        Where nuclei share a gain, it is that of their phases or water at first, then what their joint fits tell
        together.
        """
        shared = None
        if self.settings.shared_gain:
            shared = share_scale(self.channels, self.labels, nuclei, self.spacing_um, self.settings)
        inferred = self._each(nuclei, shared)
        if shared is None:
            return inferred
        told = scale_told([(each.found, each.rates) for each in inferred], shared)
        return inferred if told is None else self._each([each.nucleus for each in inferred], told)

    def _each(self, nuclei: list[Nucleus], shared: SharedScale | None) -> list[Inferred]:
        calibrate = partial(self._calibrated, shared=shared)
        tried = [(nucleus, self._attempted(nucleus, partial(calibrate, nucleus))) for nucleus in nuclei]
        found = [(nucleus, calibration) for nucleus, calibration in tried if calibration is not None]
        answers: list[Rates | ChromamolError | None] = [None] * len(found)
        if self.series is None:
            asked = [Fractions.of(n, own, unseen_of(self.channels, n.slices, n.mask)) for n, own in found]
            answers = [*infer_nuclei(asked, self.spacing_um, self.settings, self.report)]
        each = [
            self._attempted(nucleus, partial(self._finished, nucleus, own, answer, shared))
            for (nucleus, own), answer in zip(found, answers, strict=True)
        ]
        return [inferred for inferred in each if inferred is not None]

    def _calibrated(self, nucleus: Nucleus, shared: SharedScale | None) -> NucleusCalibration:
        return calibrate_nucleus(
            self.channels, self.labels, nucleus, self.spacing_um, self.settings, shared=shared
        )

    def _finished(
        self,
        nucleus: Nucleus,
        own: NucleusCalibration,
        rates: Rates | ChromamolError | None,
        shared: SharedScale | None,
    ) -> Inferred:
        per_time: dict[str, float] = {}
        if isinstance(rates, ChromamolError):
            raise rates
        if rates is None:
            assert self.series is not None
            rates, per_time = infer_moving_nucleus(
                self.frames, self.labels, nucleus, self.spacing_um, self.settings, self.series.interval_s,
                calibration=own.prior, shared=shared,
            )  # fmt: skip
        measured = nucleus_domains(self.channels, self.labels, nucleus, rates, self.settings,
                                   measured_blur_um=own.blur_um)  # fmt: skip
        return Inferred(nucleus, own, rates, per_time, measured)

    def _attempted(self, nucleus: Nucleus, action: Callable[[], Made]) -> Made | None:
        """One nucleus must not cost the others of its image; a folder that can't be written costs them all."""
        try:
            return action()
        except OutputError:
            raise
        except ChromamolError as error:
            self.notes.append(f"nucleus {nucleus.label}: {error}")
            self.failed.append(nucleus.label)
            return None
