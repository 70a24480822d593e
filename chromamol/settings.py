"""Every setting of a run in one place, with the reason for its default, to and from TOML."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tomli_w

from chromamol.density.calibration import SCALES
from chromamol.density.localization_density import METHODS as DENSITIES
from chromamol.errors import ParameterError
from chromamol.io.atomic import readable
from chromamol.io.planes import require_choice
from chromamol.io.smlm.dialects import BY_NAME


@dataclass(frozen=True)
class Settings:
    """How images are read, calibrated and inverted. `None` means: measured or decided from the image.

    Parameters
    ----------
    pixel_size_um, z_step_um : in place of what the file says; rates go as 1 / length².
    chromatin_channel : DNA stain or H2B, by index or name. Several channels and none named is an error.
    heterochromatin_channel, euchromatin_channel : marks. Heterochromatin together with euchromatin or with
        chromatin gives two fields; otherwise total chromatin is split.
    z_plane : analyse a stack in 2D by one plane: an index, "middle", "sharpest" or "max". None analyses it in 3D.
        Of a time-lapse, "sharpest" is one plane for all frames, the one of their mean.
    axes, scene, time_index : which axes a file has where it does not say, which scene and which time.
    labels : label image, or folder of label images of the same stem, in place of segmentation.
    allow_pickle : read Cellpose's `_seg.npy` as labels. It is a pickle, which can run code: only for files of your own.
    localization_columns : "x=NAME,y=NAME,unit=nm" for tables of no known dialect; the unit is that of x, y and of
        columns whose names state none. For tables in camera pixels, `pixel_size_um` is the camera pixel.
    localization_dialect : "osnap", "storm_analysis", "leica", "minflux", for text that doesn't tell.
    merge_distance_um, merge_dark_frames : localisations of one molecule within this distance (None: 4 median
        precisions) and 1 + this many frames are one. 1 dark frame bridges a blink, not a return.
    density_pixel_um : pixel of the density of localisations; by their precision and number when None.
    density_method : "kernel" (a Gaussian of each localisation's precision) or "voronoi".
    segmentation_method : "auto" (the built-in network for 2D images, the classical method for stacks), "classical",
        "network", "cellpose" or "stardist". The last two must be installed, and fetch their weights at run time.
    min_area_um2 : nuclei that are found and smaller than this are not analysed. 3 µm² is a disc of 2 µm: below any
        nucleus. Outlines that are given with `labels` are all used; the record says how many are smaller.
    flat_field : image of an even sample, taken like the images, that they are divided by. One channel, or one per
        channel of the images. None divides by nothing: a flat field of another day or objective does harm.
    estimate_illumination : divide by the illumination that the background outside nuclei shows, where it does. Off,
        because background from elsewhere (haze, stray light) looks the same.
    camera_offset : intensity without light, which illumination does not scale. None takes `dark_level`, or else 0,
        with a flat field; the estimate needs it.
    dark_level : intensity without chromatin; measured beside each nucleus when None.
    chromatin_gain, heterochromatin_gain, euchromatin_gain : intensity per unit of volume fraction; by
        convention when None (`chromamol.density`).
    shared_gain : nuclei of an image have one gain and one dark level, for even illumination and staining. Off, because
        each then takes up its own brightness. The joint fit is repeated with the gain that the nuclei tell together.
    intensity_scale : how intensity becomes volume fraction where no gain is given: "coexistence" of the two phases,
        "water", or "auto", the former where the image resolves domains well enough (`chromamol.density`).
    calibration_check : repeat one nucleus of each image with gain and offset moved by 5 %, for the report. It costs
        five more regressions per image, nine where gains of two marks are tied.
    water_fraction, water_sd : of the nucleus, and how well it is known. 0.5 is the reference model's.
    gain_sd, offset_sd, phi_max_sd, interface_sd : how well gains (relative), dark level (as a volume fraction) and the
        model's constants (relative) are known, for the standard errors. None: by how each gain was found (given or
        coexistence 0.05, dense level 0.1, water by `water_sd`), 0.01 and 0.1; 0 for images of volume fractions.
    phi_max, interface_length_um : constants of the model (`ChromatinParameters`).
    split_constant : C of the one-channel split; by convention when None.
    split_constant_sd : how well C is known. 0.01 covers the convention's error on simulated patterns.
    psf_sigma_um : standard deviation of the point spread function; unknown when None.
    missing : which pixels were not seen (NaN, dust, bleached or cut away): a mask image of the image's shape, not 0
        where nothing was seen, a folder of such masks of the same stem, or "nan" for pixels that are NaN. Nuclei with
        gaps are given to the joint fit where pixels resolve the interfaces, else to the network.
    photons_per_count : detected photons per unit of intensity above the dark level, from the camera's gain. The noise
        then follows the light: √(light / photons + read noise²), Poisson in the network. Estimated, uniform, when None.
    read_noise_counts : standard deviation of the camera's read noise, in units of intensity; used with
        `photons_per_count`.
    known_acetylation_per_um2 : Γ_ac / D where it is known from elsewhere.
    frame_interval_s : time between the frames of a series, in place of what the file says. With it and two marks,
        all frames are inverted together unless `time_index` picks one.
    section_thickness_um : how much of the nucleus's depth a 2D image shows, in um (0: a thin section).
    diffusivity_um2_per_s : D, from FRAP or tracking; adds rates in 1/s to the table. Of a time-lapse, where its frames
        tell none.
    method : "auto", "regression", "joint", "network" or "domains" (`chromamol.infer_rates` says what each does).
    device : "auto", "cpu", "cuda", "cuda:N".
    jobs : images that are analysed at the same time.
    seed : of whatever is random.
    """

    pixel_size_um: float | None = None
    z_step_um: float | None = None
    chromatin_channel: int | str | None = None
    heterochromatin_channel: int | str | None = None
    euchromatin_channel: int | str | None = None
    axes: str | None = None
    scene: int | str | None = None
    time_index: int | None = None
    z_plane: int | str | None = None
    labels: str | Path | None = None
    allow_pickle: bool = False
    localization_columns: str | None = None
    localization_dialect: str | None = None
    merge_distance_um: float | None = None
    merge_dark_frames: int = 1
    density_pixel_um: float | None = None
    density_method: str = "kernel"
    segmentation_method: str = "auto"
    min_area_um2: float = 3.0
    flat_field: str | Path | None = None
    estimate_illumination: bool = False
    camera_offset: float | None = None
    dark_level: float | None = None
    chromatin_gain: float | None = None
    heterochromatin_gain: float | None = None
    euchromatin_gain: float | None = None
    shared_gain: bool = False
    intensity_scale: str = "auto"
    calibration_check: bool = True
    water_fraction: float = 0.5
    water_sd: float = 0.05
    gain_sd: float | None = None
    offset_sd: float | None = None
    phi_max: float = 0.7
    interface_length_um: float = 0.007
    phi_max_sd: float | None = None
    interface_sd: float | None = None
    split_constant: float | None = None
    split_constant_sd: float = 0.01
    psf_sigma_um: float | None = None
    missing: str | Path | None = None
    photons_per_count: float | None = None
    read_noise_counts: float = 0.0
    known_acetylation_per_um2: float | None = None
    frame_interval_s: float | None = None
    section_thickness_um: float | None = None
    diffusivity_um2_per_s: float | None = None
    method: str = "auto"
    device: str = "auto"
    jobs: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for names, holds, expected in _RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not (math.isfinite(value) and holds(value)):
                    raise _out_of_range(name, value, expected)
        if self.z_plane is not None:
            object.__setattr__(self, "z_plane", require_choice(self.z_plane))
        for name, known in _NAMED.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise _out_of_range(name, value, f"one of {', '.join(known)}")
        if self.estimate_illumination and self.camera_offset is None:
            raise ParameterError("estimate_illumination without camera_offset.",
                                 expected="the intensity without light.",
                                 do="give --set camera_offset=VALUE, or use a flat field.")  # fmt: skip

    @property
    def interface_blur_um(self) -> float:
        """Standard deviation of the Gaussian that blurs a step as much as the interface between phases does.

        The interface (φ_max / 2) (1 + tanh(φ_max x / 2ℓ)) rises like a step blurred by σ = π ℓ / (√3 φ_max).
        """
        return math.pi * self.interface_length_um / (math.sqrt(3.0) * self.phi_max)

    @property
    def expected_blur_um(self) -> float | None:
        """Blur of a border between phases: point spread function and interface, None where the former is unknown."""
        return None if self.psf_sigma_um is None else math.hypot(self.psf_sigma_um, self.interface_blur_um)

    def apparent_psf_um(self, blur_um: float) -> float:
        """Return σ of the point spread function when the border between phases has `blur_um`."""
        return math.sqrt(max(blur_um**2 - self.interface_blur_um**2, 0.0))

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Settings:
        """Return settings from names and values; an unknown name is an error, with the nearest known ones."""
        require_known(cls, values)
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | Path) -> Settings:
        """Read a settings file, for instance the `settings.toml` of an earlier run."""
        return cls.from_mapping(read_toml(path))

    def with_values(self, **values: Any) -> Settings:
        """Return a copy with some values replaced; None leaves a value as it is."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def to_toml(self) -> str:
        """Return the settings as TOML; those left to the image are listed as comments."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        # A name that is no UTF-8 is none in TOML either, and `\udcXX` is no escape there.
        values = {name: readable(v) if isinstance(v, str) else v for name, v in values.items()}
        given = tomli_w.dumps({name: value for name, value in values.items() if value is not None})
        open_ones = [name for name, value in values.items() if value is None]
        return given + "\n# Measured or decided from each image: " + ", ".join(open_ones) + "\n"


_POSITIVE = ("pixel_size_um", "z_step_um", "chromatin_gain", "heterochromatin_gain", "euchromatin_gain",
             "interface_length_um", "diffusivity_um2_per_s", "frame_interval_s", "density_pixel_um",
             "jobs", "photons_per_count", "known_acetylation_per_um2")  # fmt: skip
_NAMED = {"intensity_scale": SCALES, "density_method": DENSITIES, "localization_dialect": tuple(BY_NAME)}
"""Methods of rates and of segmentation are looked up before a run: their registries load what takes seconds."""
_FINITE = ("dark_level", "split_constant")
_SHARES = ("water_sd", "gain_sd", "offset_sd", "phi_max_sd", "interface_sd")
_NOT_NEGATIVE = (
    "camera_offset",
    "min_area_um2",
    "merge_distance_um",
    "merge_dark_frames",
    "time_index",
    "split_constant_sd",
    "section_thickness_um",
    "psf_sigma_um",
    "read_noise_counts",
    "seed",
)


_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (_POSITIVE, lambda value: value > 0.0, "a positive, finite number"),
    (_NOT_NEGATIVE, lambda value: value >= 0.0, "a finite number >= 0"),
    (_FINITE, lambda _: True, "a finite number"),
    (_SHARES, lambda value: 0.0 <= value <= 1.0, "a standard deviation between 0 and 1"),
    (("phi_max",), lambda value: 0.0 < value <= 1.0, "a volume fraction, above 0 and at most 1"),
    (("water_fraction",), lambda value: 0.0 < value < 1.0, "a fraction between 0 and 1"),
)


def require_known(kind: type, values: dict[str, Any]) -> None:
    """Raise `ParameterError` for a name that is no field of the dataclass `kind`."""
    known = [f.name for f in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ParameterError(
            f"Unknown settings: {', '.join(unknown)}.",
            expected=f"names among: {', '.join(known)}.",
            do="correct the spelling.",
        )


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the values of a TOML file; raises `ParameterError` for one that cannot be read."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ParameterError(f"Settings file {path}: {error}.", expected="a readable TOML file.",
                             do="start from the settings of a finished run.") from None  # fmt: skip


def check_types(settings: Any) -> None:
    """Bring each field of a frozen dataclass to its annotated type, or raise `ParameterError`."""
    hints = get_type_hints(type(settings))
    for each in fields(settings):
        value = _checked(each.name, getattr(settings, each.name), hints[each.name])
        object.__setattr__(settings, each.name, value)


def _checked(name: str, value: Any, hint: Any) -> Any:
    """Return `value` if it has the annotated type; whole numbers pass for floats, nothing else is converted."""
    kinds = get_args(hint) or (hint,)
    if isinstance(value, Path) and str in kinds:
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and int not in kinds and float in kinds:
        return float(value)
    if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
        return value
    wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
    raise _out_of_range(name, value, wanted)


def _out_of_range(name: str, value: Any, expected: str) -> ParameterError:
    return ParameterError(f"{name} = {value!r}.", expected=f"{expected}.", do=f"correct {name}.")
