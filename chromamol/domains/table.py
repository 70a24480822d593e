"""Domains as rows of a table: one per interior domain and one per LAD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chromamol.domains.measure import Domains


def domain_rows(domains: Domains, *, offset_um: Sequence[float]) -> list[dict[str, Any]]:
    """Return the rows of `domains.csv` of one nucleus, without the names of image and nucleus.

    Parameters
    ----------
    domains : of the nucleus.
    offset_um : what must be added to a centroid to count from the image's first pixel, µm per axis.
    """
    rows = []
    for domain in (*domains.domains, *domains.lads):
        centre = [c + o for c, o in zip(domain.centroid_um, offset_um, strict=True)]
        flat = len(centre) == 2
        rows.append(
            {
                "domain": domain.label,
                "centroid_z_um": None if flat else centre[0],
                "centroid_y_um": centre[-2],
                "centroid_x_um": centre[-1],
                "area_um2": domain.size_um if flat else None,
                "volume_um3": None if flat else domain.size_um,
                "radius_um": domain.radius_um,
                "nearest_um": domain.nearest_um,
                "depth_um": domain.depth_um,
                "is_lad": domain.is_lad,
                "thickness_um": domain.thickness_um,
            }
        )
    return rows
