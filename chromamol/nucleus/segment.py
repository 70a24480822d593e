"""Which pixels are a nucleus: the front door of all methods."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from chromamol.errors import FieldError, ImageContentError, ParameterError
from chromamol.nucleus import background as bg
from chromamol.nucleus import outline
from chromamol.nucleus.backends import find_with_cellpose, find_with_stardist
from chromamol.nucleus.classical import find_classical
from chromamol.nucleus.foreground import soft_root
from chromamol.nucleus.scale import nuclear_radius
from chromamol.nucleus.settings import SegmentationSettings
from chromamol.shapes import Labels, Mask

Image = Float32[np.ndarray, "..."]

Method = Literal["auto", "classical", "network", "cellpose", "stardist"]
METHODS: tuple[str, ...] = get_args(Method)
"""How nuclei can be found. auto: the network in 2D, the classical method in 3D."""

MAX_STRETCH = 1.05
"""The network takes pixels for squares; 5 % is less than nuclei differ."""


def segment_nuclei(
    image: np.ndarray,
    *,
    pixel_size_um: float | int | tuple[float, ...] | None = None,
    method: str = "auto",
    settings: SegmentationSettings | None = None,
) -> Labels:
    """Find the nuclei in an image of a DNA stain.

    Parameters
    ----------
    image : real (y, x) or (z, y, x) intensities of any dtype, nuclei brighter than the rest.
    pixel_size_um : pixel spacing in µm, one number or one per axis. Without it the pixels count as isotropic
        and nuclear size is taken from the image alone.
    method : "network", the built-in network, for 2D; "classical", without trained weights, for 2D and 3D;
        "auto", the former where it can be used; "cellpose" or "stardist", when they are installed. Those two
        fetch their weights at run time, the built-in ones never do.
    settings : `SegmentationSettings`; defaults when omitted.

    Returns
    -------
    int32 labels of the image's shape: 0 = background, 1..n in the order of first pixels. All zero when
    nothing stands out of the background. Nuclei cut by the border are kept.

    Raises
    ------
    FieldError : the image isn't real (y, x) or (z, y, x), or the pixel size doesn't fit its axes.
    ImageContentError : some pixels are NaN or infinite.
    ParameterError : an unknown method, one that can't take this image, or one that isn't installed.
    """
    settings = settings or SegmentationSettings()
    values = _checked(image)
    spacing, unit_um = _relative_spacing(pixel_size_um, values.ndim)
    method = _chosen(method, spacing)
    marks = bg.burned_in(image)
    nothing = np.zeros(image.shape, dtype=np.int32)
    if marks.all() or values.min() == values.max():
        return nothing
    values[marks] = np.median(values[~marks])
    radius = nuclear_radius(soft_root(values), spacing, limits=_radius_limits(unit_um, settings))
    if radius is None:
        return nothing
    labels = _find(method, values, marks, spacing, radius, settings)
    labels[marks] = 0
    smooth = ndimage.gaussian_filter(values, [settings.denoise_radii * radius / h for h in spacing])
    level, spread = bg.level_and_spread(smooth[~marks])
    share = 1.0 if method == "classical" else settings.trained_debris
    if method != "classical":
        labels = outline.drop_faint(labels, smooth, level=level, least=settings.min_contrast * spread)
    least = 0.0 if unit_um is None else settings.min_diameter_um / unit_um
    return outline.drop_debris(
        labels, smooth, level=level, spacing=spacing, min_relative_light=share * settings.min_relative_light,
        min_relative_area=share * settings.min_relative_area, min_diameter=least,
    )  # fmt: skip


def require_method(method: str) -> None:
    """Raise `ParameterError` for a method that does not exist."""
    if method not in METHODS:
        raise ParameterError(
            f"Segmentation method {method!r}.",
            expected=f"one of {', '.join(METHODS)}.",
            do="correct the name.",
        )


def _chosen(method: str, spacing: tuple[float, ...]) -> str:
    """Return the method for an image of that pixel spacing; refuse one that can't take it."""
    require_method(method)
    flat = len(spacing) == 2 and max(spacing) < MAX_STRETCH
    if method == "auto":
        return "network" if flat else "classical"
    if method not in ("classical", "cellpose") and not flat:
        raise ParameterError(
            f"Segmentation method {method!r} for {len(spacing)} axes with relative spacing {spacing}.",
            expected="(y, x) and square pixels: it was trained on these.",
            do="use classical, or auto.",
        )
    return method


def _find(
    method: str,
    values: Image,
    marks: Mask,
    spacing: tuple[float, ...],
    radius: float,
    settings: SegmentationSettings,
) -> Labels:
    if method == "cellpose":
        return find_with_cellpose(values, radius=radius, spacing=spacing)
    if method == "stardist":
        return find_with_stardist(values)
    if method == "network":
        # torch takes a second to import, which the classical method need not wait for.
        from chromamol.nucleus.network import built_in, find_with_network  # noqa: PLC0415 - see above

        return find_with_network(values, radius, network=built_in())
    return find_classical(values, marks, spacing=spacing, radius=radius, settings=settings)


def _checked(image: np.ndarray) -> Image:
    if image.ndim not in (2, 3) or not (np.issubdtype(image.dtype, np.number) or image.dtype == bool):
        raise FieldError(
            f"Image of shape {image.shape} and type {image.dtype}.",
            expected="real (y, x) or (z, y, x).",
            do="choose one channel and one time point.",
        )
    if np.iscomplexobj(image) or 0 in image.shape:
        raise FieldError(
            f"Image of shape {image.shape} and type {image.dtype}.",
            expected="real values and at least one pixel.",
            do="check how the image was read.",
        )
    bad = int(image.size - np.count_nonzero(np.isfinite(image)))
    if bad:
        raise ImageContentError(
            f"Image with {bad} NaN or infinite pixels.",
            expected="finite intensities.",
            do="replace them, or crop the image.",
        )
    # Subtracting in float64 first keeps float32 exact enough for large offsets.
    values = image.astype(np.float64)
    return (values - values.min()).astype(np.float32)


def _relative_spacing(
    pixel_size_um: float | int | tuple[float, ...] | None, ndim: int
) -> tuple[tuple[float, ...], float | None]:
    """Return the spacing in units of the finest axis, and that unit in µm."""
    if pixel_size_um is None:
        return (1.0,) * ndim, None
    sizes = pixel_size_um if isinstance(pixel_size_um, tuple) else (pixel_size_um,) * ndim
    if len(sizes) != ndim or not all(np.isfinite(s) and s > 0 for s in sizes):
        raise FieldError(
            f"Pixel size {pixel_size_um} um for an image with {ndim} axes.",
            expected="one positive number, or one for each axis.",
            do="give (z, y, x) or (y, x) spacings in um.",
        )
    unit = float(min(sizes))
    return tuple(float(s) / unit for s in sizes), unit


def _radius_limits(unit_um: float | None, settings: SegmentationSettings) -> tuple[float, float]:
    """Smallest and largest nuclear radius in units of the finest pixel spacing."""
    low, high = settings.radius_limits_um
    return (0.0, np.inf) if unit_um is None else (low / unit_um, high / unit_um)
