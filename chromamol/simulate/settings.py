"""Every setting of a simulated field of nuclei, with the reason for its default, to and from TOML."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from chromamol.errors import ParameterError
from chromamol.physics.parameters import REFERENCE_INTERFACE
from chromamol.settings import check_types, read_toml, require_known

PSF_KINDS = ("gaussian", "widefield", "confocal")

CONFOCAL_SIGMA_UM = 0.1
"""Standard deviation of the Gaussian nearest to the point spread function of a confocal of NA 1.4."""


@dataclass(frozen=True)
class SimulationSettings:
    """What nuclei, and how they are seen.

    The defaults are a confocal field of cells with large domains: L0 = 1.2 um and domains of some 0.4 um,
    as the chromocentres of mouse cells, which a confocal resolves.

    Parameters
    ----------
    nuclei : in the field.
    diameter_um, diameter_sd : geometric mean of the two axes, and its relative spread between nuclei.
    aspect : long axis over short axis.
    nucleoli : holes without chromatin in each nucleus.
    touching, cut : pairs of nuclei that touch, and nuclei that the border of the field cuts.
    methylation_per_um2, acetylation_per_um2 : median rates over D.
    spread : standard deviation of the logarithm of both rates between nuclei.
    variation, correlation_um : of methylation inside a nucleus: standard deviation of its logarithm, and
        correlation length. Acetylation is even inside a nucleus.
    interface_length_um : ℓ; 0.03 √(D / Γ_ac) of the reference model when None.
    phi_max, adhesion, water_fraction : constants of the model.
    steadiness : of the patterns; 0.03 is quiet to the eye, and fine for an image with noise.
    pixel_size_um : of the camera.
    psf : "gaussian", or the diffraction pattern of a "widefield" or "confocal" objective (needs the extra
        `optics`): NA 1.4 in oil, 405 nm excitation, 460 nm emission.
    psf_sigma_um : of the Gaussian, and of no other; 0.1, a confocal of NA 1.4, when None.
    haze : share of the light from out of focus, Gaussian only.
    counts_per_fraction, offset, read_noise : of the camera, in counts.
    background, unevenness : light from elsewhere as a volume fraction; drop of the illumination to the corners.
    brightness_sd : relative spread of DNA content and stain between nuclei.
    marks : write hetero- and euchromatin as two channels in place of total chromatin.
    molecules_per_um2 : above 0, a localisation table of total chromatin is drawn, with so many molecules per
        um^2 at volume fraction 1.
    device, seed : where the simulation runs, and of whatever is random.
    """

    nuclei: int = 4
    diameter_um: float = 7.5
    diameter_sd: float = 0.08
    aspect: float = 1.25
    nucleoli: int = 0
    touching: int = 0
    cut: int = 0
    methylation_per_um2: float = 0.6
    acetylation_per_um2: float = 0.7
    spread: float = 0.1
    variation: float = 0.2
    correlation_um: float = 2.0
    interface_length_um: float | None = None
    phi_max: float = 0.7
    adhesion: float = 0.0
    water_fraction: float = 0.5
    steadiness: float = 0.03
    pixel_size_um: float = 0.06
    psf: str = "gaussian"
    psf_sigma_um: float | None = None
    haze: float = 0.0
    counts_per_fraction: float = 1500.0
    offset: float = 100.0
    read_noise: float = 3.0
    background: float = 0.01
    unevenness: float = 0.15
    brightness_sd: float = 0.1
    marks: bool = False
    molecules_per_um2: float = 0.0
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise _refused(name, value, "a positive, finite number.")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise _refused(name, value, "a finite number >= 0.")
        if self.psf not in PSF_KINDS:
            raise _refused("psf", self.psf, f"one of {', '.join(PSF_KINDS)}.")
        self._require_used()
        if 2 * self.touching + self.cut > self.nuclei:
            raise _refused("nuclei", self.nuclei, "at least two per touching pair and one per cut nucleus.")

    @property
    def interface_um(self) -> float:
        """ℓ, given or the reference model's."""
        if self.interface_length_um is not None:
            return self.interface_length_um
        return REFERENCE_INTERFACE / math.sqrt(self.acetylation_per_um2)

    @property
    def gaussian_sigma_um(self) -> float:
        """Standard deviation of the Gaussian point spread function, given or that of a confocal."""
        return CONFOCAL_SIGMA_UM if self.psf_sigma_um is None else self.psf_sigma_um

    def _require_used(self) -> None:
        """Refuse numbers of a Gaussian beside a point spread function that has its own, which would be left out."""
        given = {"psf_sigma_um": self.psf_sigma_um is not None, "haze": self.haze > 0.0}
        unused = [name for name, is_given in given.items() if is_given]
        if self.psf != "gaussian" and unused:
            raise ParameterError(
                f"{', '.join(f'{name} = {getattr(self, name)}' for name in unused)} with psf = {self.psf!r}.",
                expected="a width and haze for a Gaussian only: that of an objective follows from its optics.",
                do=f"leave {' and '.join(unused)} out, or take psf = 'gaussian'.",
            )

    @classmethod
    def from_toml(cls, path: str | Path) -> SimulationSettings:
        """Read a settings file, for instance the `simulation.toml` of an earlier run."""
        return cls.from_mapping(read_toml(path))

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> SimulationSettings:
        """Return settings from names and values; an unknown name is an error."""
        require_known(cls, values)
        return cls(**values)

    def with_values(self, **values: Any) -> SimulationSettings:
        """Return a copy with some values replaced; None leaves a value as it is."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def to_toml(self) -> str:
        """Return the settings as TOML, with ℓ and the width of a Gaussian as they were used."""
        used: dict[str, float] = {"interface_length_um": self.interface_um}
        if self.psf == "gaussian":
            used["psf_sigma_um"] = self.gaussian_sigma_um
        values = {f.name: getattr(self, f.name) for f in fields(self)} | used
        return tomli_w.dumps({name: value for name, value in values.items() if value is not None})


_POSITIVE = ("nuclei", "diameter_um", "methylation_per_um2", "acetylation_per_um2", "correlation_um", "phi_max",
             "interface_length_um", "steadiness", "pixel_size_um", "counts_per_fraction")  # fmt: skip
_NOT_NEGATIVE = ("diameter_sd", "nucleoli", "touching", "cut", "spread", "variation", "adhesion", "psf_sigma_um",
                 "haze", "offset", "read_noise", "background", "unevenness", "brightness_sd", "molecules_per_um2",
                 "seed")  # fmt: skip


def _refused(name: str, value: Any, expected: str) -> ParameterError:
    return ParameterError(f"{name} = {value!r}.", expected=expected, do=f"correct {name}.")
