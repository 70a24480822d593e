"""Lamina-associated domains (LADs): the domain material at the nuclear border, and how thick it is."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage
from scipy.spatial import cKDTree

from chromamol.shapes import FloatField, Labels, Mask

MAX_DEPTH_FRACTION = (
    0.2  # of the nuclear radius: chromatin deeper than this isn't the lamina's, however connected
)
MIN_LAYER_PIXELS = 6  # per segment and depth layer; fewer make no stable coverage


def attached_to_lamina(
    dense: Mask, depth: FloatField, *, nuclear_radius_um: float, lad_fraction: float, layer_um: float,
    piece_begins: float = 0.0,
) -> Mask:  # fmt: skip
    """Return the domain material that is connected to the outermost `lad_fraction` of the nuclear radius.

    The connection is followed no deeper than a fifth of the radius, so that a labyrinth of domains isn't all
    LAD.

    Parameters
    ----------
    layer_um : thickness of the layers that pixels are counted in.
    piece_begins : a piece lies where its layer reaches this part of its largest: at its first pixel when 0.
    """
    deepest = max(MAX_DEPTH_FRACTION, 2 * lad_fraction) * nuclear_radius_um
    parts, n = ndimage.label(dense & (depth <= deepest), structure=np.ones((3,) * dense.ndim))
    touching = np.zeros(n + 1, dtype=bool)
    if piece_begins > 0.0 and n:
        pixels = _by_layer(parts, n, depth, layer_um=layer_um)
        begins = np.argmax(pixels >= piece_begins * pixels.max(axis=1, keepdims=True), axis=1) * layer_um
        touching[1:] = begins <= lad_fraction * nuclear_radius_um
    else:
        touching[np.unique(parts[dense & (depth <= lad_fraction * nuclear_radius_um)])] = True
        touching[0] = False
    return touching[parts]


def lamina_thickness(
    lamina: Mask,
    mask: Mask,
    depth: FloatField,
    nearest: Int[np.ndarray, "axes ..."],
    *,
    spacing_um: tuple[float, ...],
    segments: int,
) -> tuple[float, float]:
    """Return the mean LAD thickness in µm, and the part of the border that LADs cover.

    Every pixel belongs to the border segment of its nearest border point. Within a segment, c(s) is the part
    of the layer at depth s that is LAD. The largest c is the covered part of the border, and ∫ c(s) ds / max
    c the thickness there; the mean over segments is weighted by the covered part. Nothing here depends on the
    curvature of the border or on where exactly the mask was drawn.

    Parameters
    ----------
    lamina : True in LADs.
    mask : True in the nucleus.
    depth : distance of each pixel to the border, µm.
    nearest : index of the nearest border point of each pixel, as `distance_transform_edt` returns it.
    """
    if not lamina.any():
        return 0.0, 0.0
    layer_um = min(spacing_um)
    # Layers between two LADs of one segment that hold none stay part of the sum only as zeros.
    layer = np.maximum(np.ceil(depth[mask] / layer_um - 0.5).astype(int) - 1, 0)
    layers = 1 + int(layer[lamina[mask]].max())
    segment = _segment_of(mask, nearest, spacing_um, segments, layer)
    shallow = layer < layers
    shape = (segments, layers)
    index = np.ravel_multi_index((segment[shallow], layer[shallow]), shape)
    total = np.bincount(index, minlength=segments * layers).reshape(shape)
    dense = np.bincount(index, weights=lamina[mask][shallow], minlength=segments * layers).reshape(shape)
    part = dense / np.maximum(total, 1)
    covered = part.max(axis=1)
    has = covered > 0
    by_segment = layer_um * part[has].sum(axis=1) / covered[has]
    mean = float(np.average(by_segment, weights=covered[has]))
    occupied = total[:, 0] > 0
    coverage = float(covered[occupied].mean()) if occupied.any() else math.nan
    return mean, coverage


def piece_thickness(pieces: Labels, count: int, depth: FloatField, *, layer_um: float) -> list[float]:
    """Return the thickness of each LAD in µm: ∫ n(s) ds / max n, n(s) its pixels at depth s.

    Parameters
    ----------
    pieces : 1..count, 0 outside.
    depth : distance of each pixel to the border, µm.
    layer_um : thickness of the layers that pixels are counted in.
    """
    where = pieces > 0
    if not count or not where.any():
        return [math.nan] * count
    pixels = _by_layer(pieces, count, depth, layer_um=layer_um)
    return [float(t) for t in layer_um * pixels.sum(axis=1) / pixels.max(axis=1)]


def _by_layer(
    pieces: Labels, count: int, depth: FloatField, *, layer_um: float
) -> Int[np.ndarray, "pieces layers"]:
    """Count the pixels of each piece at each depth."""
    where = pieces > 0
    layer = np.maximum(np.ceil(depth[where] / layer_um - 0.5).astype(int) - 1, 0)
    layers = 1 + int(layer.max())
    index = (pieces[where].astype(int) - 1) * layers + layer
    return np.bincount(index, minlength=count * layers).reshape(count, layers)


def _segment_of(
    mask: Mask,
    nearest: Int[np.ndarray, "axes ..."],
    spacing_um: tuple[float, ...],
    segments: int,
    layer: Int[np.ndarray, " pixels"],
) -> Int[np.ndarray, " pixels"]:
    """Number the border segments by direction from the nuclear centre: equal sectors."""
    step = np.array(spacing_um)
    centre = np.argwhere(mask).mean(axis=0) * step
    border = nearest[:, mask].T * step - centre
    # A small nucleus gets fewer, wider segments, or coverage would be counted on a handful of pixels.
    room = int(np.count_nonzero(layer == 0)) // MIN_LAYER_PIXELS
    directions = _directions(max(1, min(segments, room)), mask.ndim)
    length = np.maximum(np.linalg.norm(border, axis=1, keepdims=True), 1e-12)
    return cKDTree(directions).query(border / length)[1]


def _directions(n: int, ndim: int) -> Float[np.ndarray, "directions axes"]:
    """Unit vectors spread evenly over the circle, or over the sphere (Fibonacci lattice)."""
    if ndim == 2:
        angle = 2 * np.pi * (np.arange(n) + 0.5) / n
        return np.stack([np.sin(angle), np.cos(angle)], axis=1)
    height = 1 - 2 * (np.arange(n) + 0.5) / n
    turn = np.pi * (1 + math.sqrt(5)) * np.arange(n)
    around = np.sqrt(1 - height**2)
    return np.stack([height, around * np.sin(turn), around * np.cos(turn)], axis=1)
