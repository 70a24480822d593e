"""Localisation tables in HDF5 (Picasso, DECODE), MATLAB files (SMAP, MINFLUX) and `.smlm` archives."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import yaml

from chromamol.errors import ReadError
from chromamol.io.smlm.hdf5_probe import require_readable
from chromamol.io.smlm.minflux import minflux_table
from chromamol.io.smlm.stated import StatedTable
from chromamol.io.source import require_memory

MAX_METADATA_BYTES = 10_000_000

_PICASSO = {"x": "x", "y": "y", "z": "z", "lpx": "precision_x", "lpy": "precision_y", "lpz": "precision_z",
            "frame": "frame", "photons": "intensity"}  # fmt: skip

_SMAP = {"xnm": "x", "ynm": "y", "znm": "z", "locprecnm": "precision", "locprecznm": "precision_z",
         "frame": "frame", "phot": "intensity", "channel": "channel"}  # fmt: skip

_SMLM = {"x": "x", "position_x": "x", "y": "y", "position_y": "y", "z": "z", "position_z": "z", "frame": "frame",
         "intensity": "intensity", "intensity_photon_": "intensity", "uncertainty": "precision",
         "uncertainty_xy": "precision", "uncertainty_z": "precision_z"}  # fmt: skip


def read_hdf5(path: Path) -> StatedTable:
    """Read Picasso (`locs`) or DECODE (`data/xyz`).

    Raises
    ------
    ReadError : another kind of HDF5.
    """
    require_readable(path)
    with h5py.File(path, "r") as file:
        if "locs" in file:
            return _picasso(file, path)
        if "data/xyz" in file:
            return _decode(file, path)
        found = ", ".join(map(str, list(file)[:6])) or "nothing"
    raise ReadError(
        f"{path}: HDF5 with {found} in it.",
        expected="'locs' of Picasso or 'data/xyz' of DECODE.",
        do="export the localisations as CSV.",
    )


def has_table(path: Path) -> bool:
    """Whether an HDF5 file (or MATLAB's of version 7.3) holds a table of a kind that is read; raises `ReadError`."""
    require_readable(path)
    with h5py.File(path, "r") as file:
        return any(name in file for name in ("locs", "data/xyz", "saveloc/loc", "itr/loc"))


def _take(dataset: Any, path: Path) -> np.ndarray:
    """Read a dataset whole, after its size was checked: a header may promise anything."""
    require_memory(int(dataset.size or 0) * dataset.dtype.itemsize, name=str(path))
    return np.asarray(dataset[...])


def _picasso(file: h5py.File, path: Path) -> StatedTable:
    """x, y and their precision in camera pixels, z in nm; the pixel is in the YAML beside the table only."""
    table = _take(file["locs"], path)
    named = table.dtype.names or ()
    if not {"x", "y"} <= set(named):
        raise ReadError(f"{path}: 'locs' with columns {', '.join(named) or 'without names'}.",
                        expected="Picasso's x and y.", do="save the localisations in Picasso again.")  # fmt: skip
    columns = {
        meaning: np.asarray(table[name], dtype=np.float64)
        for name, meaning in _PICASSO.items()
        if name in named
    }
    pixel, rule = _picasso_pixel(path)
    return StatedTable(
        columns, {"x": "px", "z": "nm", "precision_z": "nm"}, "Picasso", "by dialect", pixel, rule
    )


def _picasso_pixel(path: Path) -> tuple[tuple[float, float] | None, str]:
    beside = path.with_suffix(".yaml")
    if not beside.is_file():
        return None, f"{beside.name} is not there"
    try:
        if beside.stat().st_size > MAX_METADATA_BYTES:
            return None, f"{beside.name} is too large to be Picasso's"
        documents = list(yaml.safe_load_all(beside.read_text(encoding="utf-8", errors="replace")))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None, f"{beside.name} is broken"
    sizes = [document[key] for document in documents if isinstance(document, dict)
             for key in ("Pixelsize", "Camera.Pixelsize", "Pixelsize (nm)")
             if isinstance(document.get(key), int | float)]  # fmt: skip
    if not sizes:
        return None, f"no Pixelsize in {beside.name}"
    return (sizes[-1] * 1e-3,) * 2, f"Pixelsize {sizes[-1]:g} nm in {beside.name}"


def _decode(file: h5py.File, path: Path) -> StatedTable:
    """DECODE states unit and pixel in its metadata; z is in nm."""
    attributes = dict(file["meta"].attrs) if "meta" in file else {}
    unit = str(attributes.get("xy_unit", ""))
    size = np.ravel(np.asarray(attributes.get("px_size", ()), dtype=np.float64))
    pixel = (float(size[0]) * 1e-3, float(size[1]) * 1e-3) if size.size == 2 else None
    xyz = _take(file["data/xyz"], path)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise ReadError(f"{path}: DECODE positions of shape {xyz.shape}.", expected="(rows, 3).",
                        do="save the emitters in DECODE again.")  # fmt: skip
    columns = dict(zip("xyz", xyz.T, strict=True))
    data = file["data"]
    if "xyz_sig" in data and data["xyz_sig"].shape == xyz.shape:
        columns |= dict(
            zip(("precision_x", "precision_y", "precision_z"), _take(data["xyz_sig"], path).T, strict=True)
        )
    for name, meaning in (("frame_ix", "frame"), ("phot", "intensity")):
        if name in data and data[name].shape == (len(xyz),):
            columns[meaning] = _take(data[name], path)
    return StatedTable(columns, {"x": unit, "z": "nm", "precision_z": "nm"}, "DECODE", "xy_unit of the file", pixel,
                       "px_size of the file")  # fmt: skip


def read_mat(path: Path, *, is_hdf5: bool) -> StatedTable:
    """Read SMAP's `saveloc.loc` or MINFLUX's `itr.loc` from a MATLAB file of either kind."""
    if is_hdf5:
        require_readable(path)
        with h5py.File(path, "r") as file:
            if "saveloc/loc" in file:
                loc = file["saveloc/loc"]
                return _smap({name: np.ravel(_take(loc[name], path)) for name in _SMAP if name in loc}, path)
            if "itr/loc" in file:
                # MATLAB's axes come in reverse order out of HDF5.
                return minflux_table(_take(file["itr/loc"], path).T, path)
            raise _no_mat(path, list(file))
    content = scipy.io.loadmat(
        path, squeeze_me=True, struct_as_record=False, variable_names=["saveloc", "itr"]
    )
    loc = getattr(content.get("saveloc"), "loc", None)
    if loc is not None:
        return _smap({name: np.ravel(getattr(loc, name)) for name in _SMAP if hasattr(loc, name)}, path)
    if hasattr(content.get("itr"), "loc"):
        return minflux_table(np.asarray(content["itr"].loc), path)
    raise _no_mat(path, [name for name in content if not name.startswith("__")])


def _smap(arrays: Mapping[str, np.ndarray], path: Path) -> StatedTable:
    if not {"xnm", "ynm"} <= set(arrays) or len({array.size for array in arrays.values()}) != 1:
        raise ReadError(f"{path}: SMAP table with {', '.join(arrays) or 'no columns'}.",
                        expected="xnm and ynm, and columns of one length.",
                        do="save the localisations in SMAP again.")  # fmt: skip
    return StatedTable(
        {_SMAP[name]: array for name, array in arrays.items()}, {"x": "nm"}, "SMAP", "by dialect"
    )


def _no_mat(path: Path, found: list[str]) -> ReadError:
    return ReadError(f"{path}: MATLAB file with {', '.join(found[:6]) or 'nothing'} in it.",
                     expected="saveloc.loc of SMAP, or itr.loc of MINFLUX.",
                     do="export the localisations as CSV.")  # fmt: skip


def read_smlm(path: Path) -> StatedTable:
    """Read an archive of the SMLM format: a manifest that states columns, types and units, and binary rows."""
    with zipfile.ZipFile(path) as archive:
        if "manifest.json" not in archive.namelist():
            raise ReadError(f"{path}: a ZIP archive without manifest.json.", expected="an .smlm file.",
                            do="unpack it, and give the table in it.")  # fmt: skip
        if archive.getinfo("manifest.json").file_size > MAX_METADATA_BYTES:
            raise ReadError(f"{path}: a manifest of impossible size.", expected="an .smlm file.",
                            do="export the table again.")  # fmt: skip
        manifest = json.loads(archive.read("manifest.json"))
        tables = [entry for entry in manifest["files"] if entry["type"] == "table"]
        layout = manifest["formats"][tables[0]["format"]]
        entry = archive.getinfo(tables[0]["name"])
        require_memory(entry.file_size, name=str(path))
        rows = archive.read(entry)
    return _smlm_table(manifest, tables, layout, rows)


def _smlm_table(manifest: Any, tables: list[Any], layout: Any, rows: bytes) -> StatedTable:
    kinds = [np.dtype(kind).newbyteorder("<") for kind in layout["dtype"]]
    table = np.frombuffer(rows, dtype=np.dtype(list(zip(layout["headers"], kinds, strict=True))),
                          count=int(tables[0]["rows"]))  # fmt: skip
    units = dict(zip(layout["headers"], layout.get("units", ()), strict=False))
    # Locan keeps units in its own part of the manifest.
    units |= {part["property"]: part["unit"] for part in manifest.get("locdata_meta", {}).get("unit", [])}
    offset = tables[0].get("offset", {})
    columns = {}
    for header in layout["headers"]:
        meaning = _SMLM.get(header.lower())
        if meaning:
            columns[meaning] = table[header].astype(np.float64) + float(offset.get(header, 0))
    stated = {
        _SMLM[header.lower()]: units.get(header, "")
        for header in layout["headers"]
        if header.lower() in _SMLM
    }
    stated = {name: unit for name, unit in stated.items() if unit}
    others = (f"{len(tables) - 1} further tables in the archive left out",) if len(tables) > 1 else ()
    return StatedTable(columns, stated, "SMLM", "units of the manifest" if stated else "", notes=others)
