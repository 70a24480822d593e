"""Localisation tables written as ThunderSTORM writes them: comma-separated, quoted header, nm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from chromamol.errors import FieldError
from chromamol.io.atomic import write_text

Column = Float[np.ndarray, " rows"]
Count = Int[np.ndarray, " rows"]

NM_PER_UM = 1000.0


def write_thunderstorm(
    path: str | Path, *, x_um: Column, y_um: Column, precision_um: Column, frame: Count, photons: Column,
    background_photons: Column, psf_sigma_um: Column, z_um: Column | None = None,
) -> None:  # fmt: skip
    """Write one row per localisation, positions to 0.1 nm, the same bytes for the same numbers.

    Parameters
    ----------
    x_um, y_um, z_um : positions.
    precision_um : standard deviation of the error in the plane, column "uncertainty".
    frame : from 1.
    photons, background_photons : of the molecule, and of a pixel around it, columns "intensity" and
        "offset"; the root of the second is "bkgstd".
    psf_sigma_um : width of the fitted image, column "sigma".

    Raises
    ------
    FieldError : columns of different lengths.
    OutputError : the file cannot be written.
    """
    columns: dict[str, tuple[np.ndarray, str]] = {
        "id": (np.arange(1, len(x_um) + 1), "%d"),
        "frame": (frame, "%d"),
        "x [nm]": (NM_PER_UM * x_um, "%.1f"),
        "y [nm]": (NM_PER_UM * y_um, "%.1f"),
    }
    if z_um is not None:
        columns["z [nm]"] = (NM_PER_UM * z_um, "%.1f")
    columns |= {
        "sigma [nm]": (NM_PER_UM * psf_sigma_um, "%.0f"),
        "intensity [photon]": (photons, "%.0f"),
        "offset [photon]": (background_photons, "%.2f"),
        "bkgstd [photon]": (np.sqrt(background_photons), "%.2f"),
        "uncertainty [nm]": (NM_PER_UM * precision_um, "%.1f"),
    }
    lengths = {values.size for values, _ in columns.values()}
    if len(lengths) != 1:
        raise FieldError(f"Columns of {sorted(lengths)} rows.", expected="one length for all.",
                         do="pass columns of one table.")  # fmt: skip
    row = ",".join(form for _, form in columns.values())
    header = ",".join(f'"{name}"' for name in columns)
    cells = zip(*(values.tolist() for values, _ in columns.values()), strict=True)
    write_text(path, "\n".join([header, *(row % cell for cell in cells)]) + "\n")
