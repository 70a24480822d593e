"""Domains of a heterochromatin map: which pixels, how large, how far apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage
from scipy.spatial import cKDTree

from chromamol.domains.lamina import attached_to_lamina, lamina_thickness, piece_thickness
from chromamol.domains.resolution import OUTLINE_BLURS, edge_restored, least_size_um, tells_lads
from chromamol.errors import FieldError, ParameterError
from chromamol.field import Field
from chromamol.grid import equivalent_radius
from chromamol.shapes import FloatField, Labels, Mask

NEIGHBOURS = 5  # the published analysis averages over the 5 nearest domains
LAD_FRACTION = 0.05  # of the nuclear radius: where the published analysis looks for LADs
MIN_PIXELS = 4  # in 2D; a component smaller than 2 x 2 pixels can't be told from noise


@dataclass(frozen=True)
class Domain:
    """One domain, or one connected LAD.

    Parameters
    ----------
    label : its number in `Domains.labels`; LADs are numbered on behind the interior domains, and not in there.
    centroid_um : centre, µm, in the coordinates of the map's grid.
    size_um : area in µm² (2D) or volume in µm³ (3D).
    radius_um : radius of the disc or ball of the same size.
    depth_um : distance of the centre to the nuclear border.
    nearest_um : centre to centre of the nearest other interior domain; NaN without one, and for LADs.
    thickness_um : of a LAD along the depth; NaN for interior domains.
    """

    label: int
    centroid_um: tuple[float, ...]
    size_um: float
    radius_um: float
    depth_um: float
    nearest_um: float = math.nan
    thickness_um: float = math.nan

    @property
    def is_lad(self) -> bool:
        """Whether it is attached to the lamina."""
        return not math.isnan(self.thickness_um)


@dataclass(frozen=True, eq=False)
class Domains:
    """Heterochromatin domains of one nucleus. NaN means "not measurable".

    Parameters
    ----------
    domains : interior domains, one each.
    lads : connected pieces of domain material at the lamina, one each.
    labels : int32 on the map's grid: 1..n the interior domains, 0 the rest.
    lamina : True in lamina-associated domains (LADs).
    radius_um : median radius of the interior domains.
    spacing_um : mean centre-to-centre distance to the 5 nearest interior domains; needs 6 domains.
    lad_thickness_um : mean thickness of the LADs along the depth; 0 when nothing lies at the border, NaN where
        that can't be told.
    lad_coverage : part of the nuclear border that carries a LAD, 0..1; NaN where that can't be told.
    domain_fraction : part of the nucleus inside domains, LADs included.
    left_out : number of interior pieces that are too small for domains, though larger than noise.
    lads_unresolved : whether blur or pixels are too wide to tell LADs, or that there are none.
    """

    domains: tuple[Domain, ...]
    lads: tuple[Domain, ...]
    labels: Labels
    lamina: Mask
    radius_um: float
    spacing_um: float
    lad_thickness_um: float
    lad_coverage: float
    domain_fraction: float
    left_out: int = 0
    lads_unresolved: bool = False

    @property
    def count(self) -> int:
        """Number of interior domains."""
        return len(self.domains)

    def without_lads(self) -> Domains:
        """Return the same where thickness and coverage of LADs can't be told."""
        return replace(self, lad_thickness_um=math.nan, lad_coverage=math.nan, lads_unresolved=True)


def measure_domains(
    phi_h: Field,
    mask: Mask,
    *,
    phi_max: float,
    threshold: float | None = None,
    lad_fraction: float = LAD_FRACTION,
    border_segments: int = 50,
    min_size_um: float = 0.0,
    piece_begins: float = 0.0,
    blur_um: float = 0.0,
    chromatin: Mask | None = None,
) -> Domains:
    """Find the heterochromatin domains inside a nucleus and measure them.

    A pixel belongs to a domain above the mid-level of the two phases, `phi_max / 2`: the level that a
    symmetric interface crosses at its true place, blurred or not. Domain material that is connected to the
    outermost `lad_fraction` of the nuclear radius is lamina-associated (LAD); the rest are interior domains.

    Parameters
    ----------
    phi_h : heterochromatin volume fraction, (y, x) or (z, y, x); pixels that are not valid count as outside.
    mask : True inside the nucleus, on the same grid.
    phi_max : volume fraction of the dense phase.
    threshold : another level than `phi_max / 2`.
    lad_fraction : how near to the border a LAD begins, as a part of the nuclear radius (disc or ball of
        equal size).
    border_segments : into how many segments the border is cut for the LAD thickness.
    min_size_um : smaller interior pieces are no domains, µm² (µm³); a piece of fewer than 2 pixels per axis never is.
    piece_begins : a piece lies, for the question whether it is a LAD, where its layer along the depth reaches this
        part of its largest; above 0 where edges are ragged with noise.
    blur_um : standard deviation of the map's blur. That of the nucleus's edge is divided out, pieces below the
        resolution are no domains, and LADs that it leaves unknown are NaN (`resolution`).
    chromatin : where there is chromatin, in other nuclei too, whose blurred light reaches this one; `mask` when None.

    Raises
    ------
    FieldError : the mask doesn't fit, or is empty.
    ParameterError : a level or fraction out of range.

    References
    ----------
    Geometry as in Kant et al. 2024, Nat. Commun. 15:4338, doi 10.1038/s41467-024-48698-z.
    """
    inside = _checked(phi_h, mask, phi_max, (lad_fraction, border_segments, blur_um))
    level = phi_max / 2 if threshold is None else threshold
    spacing = phi_h.grid.spacing_um
    values = edge_restored(phi_h.values, inside, mask if chromatin is None else chromatin | mask, blur_um=blur_um,
                           spacing_um=spacing)  # fmt: skip
    dense = inside & (values > level)
    depth, nearest, radius = _depths(mask, phi_h)
    reached = lad_fraction + OUTLINE_BLURS * blur_um / radius
    lamina = attached_to_lamina(dense, depth, nuclear_radius_um=radius, lad_fraction=reached,
                                layer_um=min(spacing), piece_begins=piece_begins)  # fmt: skip
    thickness, coverage = lamina_thickness(
        lamina, mask, depth, nearest, spacing_um=spacing, segments=border_segments
    )
    fewest = MIN_PIXELS ** (mask.ndim / 2)
    least_um = max(min_size_um, least_size_um(blur_um, mask.ndim))
    least = max(fewest, least_um / phi_h.grid.pixel_volume_um)
    interior = dense & ~lamina
    left_out = _number(interior, fewest) - _number(interior, least)
    labels, domains = _pieces(interior, depth, phi_h, least=least)
    centres = np.array([d.centroid_um for d in domains]).reshape(len(domains), mask.ndim)
    domains = tuple(
        replace(d, nearest_um=n) for d, n in zip(domains, nearest_distances(centres), strict=True)
    )
    at_border, lads = _pieces(lamina, depth, phi_h, least=fewest)
    thicknesses = piece_thickness(at_border, len(lads), depth, layer_um=min(spacing))
    lads = tuple(replace(d, label=d.label + len(domains), thickness_um=t)
                 for d, t in zip(lads, thicknesses, strict=True))  # fmt: skip
    found = Domains(
        domains=domains,
        lads=lads,
        labels=labels,
        lamina=lamina,
        radius_um=float(np.median([d.radius_um for d in domains])) if domains else math.nan,
        spacing_um=mean_spacing(centres),
        lad_thickness_um=thickness,
        lad_coverage=coverage,
        domain_fraction=np.count_nonzero(dense) / np.count_nonzero(inside),
        left_out=left_out,
    )
    told = tells_lads(thickness, blur_um=blur_um, zone_um=lad_fraction * radius, spacing_um=spacing)
    return found if told else found.without_lads()


def mean_spacing(centres_um: Float[np.ndarray, "domains axes"]) -> float:
    """Return the mean over domains of the mean distance to the 5 nearest others; NaN below 6 domains."""
    if len(centres_um) <= NEIGHBOURS:
        return math.nan
    distances, _ = cKDTree(centres_um).query(centres_um, k=NEIGHBOURS + 1)
    return float(distances[:, 1:].mean())


def nearest_distances(centres_um: Float[np.ndarray, "domains axes"]) -> list[float]:
    """Return for each centre the distance to the nearest other; NaN for a single one."""
    if len(centres_um) < 2:
        return [math.nan] * len(centres_um)
    distances, _ = cKDTree(centres_um).query(centres_um, k=2)
    return [float(d) for d in distances[:, 1]]


def _depths(mask: Mask, phi_h: Field) -> tuple[FloatField, Int[np.ndarray, "axes ..."], float]:
    """Return the depth of each pixel, its nearest border point, and the radius of the nucleus.

    Depth speaks of the nuclear border; pixels at the edge of the crop count as being at the border.
    """
    depth, nearest = ndimage.distance_transform_edt(
        np.pad(mask, 1), sampling=phi_h.grid.spacing_um, return_indices=True
    )
    core = (slice(1, -1),) * mask.ndim
    radius = equivalent_radius(float(np.count_nonzero(mask)) * phi_h.grid.pixel_volume_um, mask.ndim)
    return depth[core], nearest[(slice(None), *core)] - 1, radius


def _number(dense: Mask, least: float) -> int:
    """Count the connected pieces of at least `least` pixels."""
    parts, _ = ndimage.label(dense, structure=np.ones((3,) * dense.ndim))
    return int(np.count_nonzero(np.bincount(parts.ravel())[1:] >= least))


def _pieces(
    dense: Mask, depth: FloatField, phi_h: Field, *, least: float
) -> tuple[Labels, tuple[Domain, ...]]:
    """Number the connected pieces of at least `least` pixels."""
    ndim, grid = dense.ndim, phi_h.grid
    parts, n = ndimage.label(dense, structure=np.ones((3,) * ndim))
    pixels = np.bincount(parts.ravel(), minlength=n + 1)
    names = [i for i in range(1, n + 1) if pixels[i] >= least]
    table = np.zeros(n + 1, dtype=np.int32)
    table[names] = np.arange(1, len(names) + 1)
    domains = []
    for i, centre in zip(names, ndimage.center_of_mass(dense, parts, names), strict=True):
        size = float(pixels[i]) * grid.pixel_volume_um
        where = tuple(o + c * h for o, c, h in zip(grid.origin_um, centre, grid.spacing_um, strict=True))
        here = tuple(round(c) for c in centre)
        domains.append(Domain(int(table[i]), where, size, equivalent_radius(size, ndim), float(depth[here])))
    return table[parts], tuple(domains)


def _checked(phi_h: Field, mask: Mask, phi_max: float, numbers: tuple[float, int, float]) -> Mask:
    lad_fraction, segments, blur_um = numbers
    if mask.shape != phi_h.grid.shape or mask.ndim not in (2, 3):
        raise FieldError(
            f"Nucleus mask of shape {mask.shape} on a map of shape {phi_h.grid.shape}.",
            expected="one shape for both, (y, x) or (z, y, x).",
            do="crop the mask as the map.",
        )
    if not (phi_max > 0 and 0 < lad_fraction < 1 and segments >= 1 and 0.0 <= blur_um < math.inf):
        raise ParameterError(
            f"phi_max {phi_max}, LAD fraction {lad_fraction}, {segments} border segments, blur {blur_um} um.",
            expected="phi_max > 0, a LAD fraction between 0 and 1, at least one segment, a finite blur >= 0.",
            do="correct the setting.",
        )
    inside = mask & phi_h.mask
    if not inside.any():
        raise FieldError(
            "Nucleus without a single valid pixel.",
            expected="a mask with valid pixels of the map.",
            do="check labels and map.",
        )
    return inside
