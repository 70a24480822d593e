"""Run over many images: each one by itself, so that memory is bounded by the image and a bad file stops nothing."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from chromamol import provenance
from chromamol.batch.output import Progress, require_free, staged, tell, unwritable
from chromamol.batch.processes import in_order
from chromamol.batch.record import ImageRecord, fault, image_row, require_some, sha256_of
from chromamol.batch.threads import single_threaded
from chromamol.channels import named_channels
from chromamol.device import resolve_device
from chromamol.errors import ChromamolError, OutputError, ParameterError
from chromamol.inverse.inference import METHODS
from chromamol.io import (
    Found,
    Localizations,
    Micrograph,
    TimeSeries,
    atomic_write,
    discover,
    find_labels,
    is_image,
    read_image,
    read_localizations,
    read_time_series,
    write_channels,
    write_labels,
    write_text,
)
from chromamol.io.pixel_size import PIXEL_SIZE_RANGE_UM, Z_STEP_RANGE_UM, require_range
from chromamol.pipeline import (
    ImageAnalysis,
    analyse_image,
    analyse_localizations,
    analyse_series,
    outline_localized_nuclei,
    outline_nuclei,
    require_analysable,
)
from chromamol.report import DENSITY, SHOWN, draw_overview, title_of, write_report, write_tables
from chromamol.report.tables import DetailWriter
from chromamol.results import Results
from chromamol.settings import Settings
from chromamol.unseen import NAN


def infer(
    paths: str | Path | Iterable[str | Path],
    *,
    output: str | Path,
    settings: Settings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    command: list[str] | None = None,
) -> Results:
    """Infer the rates of every nucleus in the images, and write the output folder.

    Parameters
    ----------
    paths : image files and folders of them.
    output : folder for the results; a new one, or one without results unless `overwrite`.
    settings : `Settings()` when None.
    progress : called with one line of text per step; silent when None.
    command : the command line for the record; that of this process when None.

    Returns
    -------
    Results : tables and maps, read from the folder. Inputs that failed are in `.images`, with the reason.

    Raises
    ------
    OutputError : the folder cannot be written, or holds results already, or what must not be replaced.
    ParameterError, PixelSizeError, DeviceError : settings that no image could be analysed with.
    ImageContentError : not one image could be analysed; the message has every reason.
    """
    settings = _settings_of(settings)
    _require_possible(settings)
    # A worker process can't call back; there, a training is silent.
    job = _analyse_and_write if settings.jobs > 1 else partial(_analyse_and_write, report=progress)
    return _run(paths, Path(output), settings, overwrite, progress, command, job)


def segment(
    paths: str | Path | Iterable[str | Path],
    *,
    output: str | Path,
    settings: Settings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    command: list[str] | None = None,
) -> Results:
    """Find the nuclei of the images and write their labels; parameters and errors as in `infer`.

    The folder has no rates: per image only `labels.tif` and `overview.png`.
    """
    settings = _settings_of(settings)
    _require_possible(settings)
    return _run(paths, Path(output), settings, overwrite, progress, command, _outline_and_write)


Job = Callable[[Found, Settings, Path], ImageRecord]


def _settings_of(given: Any) -> Settings:
    """Return the settings, `Settings()` for None."""
    if given is not None and not isinstance(given, Settings):
        raise ParameterError(f"settings of type {type(given).__name__}.", expected="chromamol.Settings, or None.",
                             do="pass settings=Settings(**values), or Settings.from_toml for a file.")  # fmt: skip
    return given or Settings()


def _paths_of(given: Any) -> list[str | Path]:
    """Return one path or several as a list.

    Raises
    ------
    ParameterError : arrays, or anything else that is no path.
    """
    paths = [given] if isinstance(given, (str, Path)) else given
    each = list(paths) if isinstance(paths, Iterable) and not hasattr(paths, "dtype") else [paths]
    for path in each:
        if not isinstance(path, (str, Path)):
            raise ParameterError(f"paths with a {type(path).__name__}.", expected="paths of images and folders.",
                                 do="write arrays to a file, or pass volume fractions to `infer_rates`.")  # fmt: skip
    return each


def _require_possible(settings: Settings) -> None:
    """Raise `ParameterError` or `PixelSizeError` for settings that would fail on every image."""
    require_analysable(settings)
    if settings.method not in METHODS:
        raise ParameterError(f"method = '{settings.method}'.", expected=f"one of {', '.join(METHODS)}.",
                             do="use --method auto.")  # fmt: skip
    if settings.pixel_size_um is not None:
        require_range("pixel size", settings.pixel_size_um, PIXEL_SIZE_RANGE_UM, option="--pixel-size-um")
    if settings.z_step_um is not None:
        require_range("z-step", settings.z_step_um, Z_STEP_RANGE_UM, option="--z-step-um")


def _run(
    paths: str | Path | Iterable[str | Path],
    output: Path,
    settings: Settings,
    overwrite: bool,
    progress: Progress | None,
    command: list[str] | None,
    job: Job,
) -> Results:
    say = progress or (lambda _: None)
    started = provenance.now()
    found = discover(_paths_of(paths))
    require_free(output, overwrite=overwrite, inputs=_read_from(found, settings))
    device = resolve_device(settings.device)
    say(
        f"chromamol {provenance.__version__}, method {settings.method}, device {device}, {provenance.PRECISION}"
    )
    with staged(output, progress=progress) as folder:
        records = []
        work = partial(_record, settings=settings, folder=folder, job=job)
        with closing(in_order(work, found, jobs=settings.jobs)) as finished, DetailWriter(folder) as details:
            for number, record in enumerate(finished, start=1):
                say(f"[{number}/{len(found)}] {record.line}")
                details.add(record.details)
                records.append(replace(record, details={}))
        require_some(records, told=progress is not None)
        nuclei = pd.DataFrame([row for record in records for row in record.nuclei])
        write_tables(folder, nuclei, pd.DataFrame([record.row for record in records]))
        write_text(folder / "settings.toml", settings.to_toml())
        run = provenance.record(command=command or sys.argv, device=str(device), started=started)
        write_text(folder / "provenance.json", json.dumps(run, indent=2) + "\n")
        _report(folder, progress)
    return Results(output)


def _report(folder: Path, progress: Progress | None) -> None:
    """Write the report; one that cannot be made is said, and costs no tables."""
    try:
        write_report(folder)
    except OutputError:
        raise  # the disk, as for everything else
    except Exception as error:  # noqa: BLE001 - hours of work, which a fault of their summary must not cost
        text = f"no report.html: {type(error).__name__}: {error}; the tables are whole, `chromamol report` tries again"
        tell(progress, text)


def _read_from(found: list[Found], settings: Settings) -> list[Path]:
    """Return every file and folder that the run reads from."""
    beside = (settings.labels, settings.flat_field, settings.missing)
    return [each.path for each in found if not each.skipped] + [Path(p) for p in beside if p is not None]


def _record(found: Found, settings: Settings, folder: Path, job: Job) -> ImageRecord:
    """Analyse one input; whatever is wrong with it becomes its record.

    Raises
    ------
    OutputError : results cannot be written, which would be the same for every other input.
    """
    start = time.perf_counter()
    if found.skipped:
        return ImageRecord(image_row(found, "skipped", notes=found.skipped))
    try:
        if found.error is not None:
            raise found.error
        with single_threaded():
            return job(found, _with_own_files(found, settings), folder)
    except OutputError:
        raise
    except ChromamolError as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001 - a fault met in one file must not cost the night's other files
        message = fault(found, error)
    if found.stem:
        shutil.rmtree(folder / "images" / found.stem, ignore_errors=True)
    seconds = time.perf_counter() - start
    return ImageRecord(
        image_row(found, "failed", error=message, seconds=seconds, sha256=sha256_of(found.path))
    )


def _analyse_and_write(
    found: Found, settings: Settings, folder: Path, *, report: Progress | None = None
) -> ImageRecord:
    start = time.perf_counter()
    content = _read_series(found, settings) or _read(found, settings)
    if isinstance(content, Localizations):
        analysis = analyse_localizations(content, settings, report=report)
    elif isinstance(content, TimeSeries):
        analysis = analyse_series(content, settings)
    else:
        analysis = analyse_image(content, settings, report=report)
    where = _image_folder(found, folder)
    write_labels(where / "labels.tif", analysis.labels)
    spacing = analysis.spacing_um
    write_channels(
        where / "rates.ome.tif",
        analysis.maps,
        pixel_size_um=spacing[-1],
        z_step_um=spacing[0] if len(spacing) == 3 else None,
        origin_um=analysis.origin_um,
    )
    return _finish(found, analysis, where, start)


def _outline_and_write(found: Found, settings: Settings, folder: Path) -> ImageRecord:
    start = time.perf_counter()
    content = _read(found, settings)
    if isinstance(content, Localizations):
        analysis = outline_localized_nuclei(content, settings)
    else:
        analysis = outline_nuclei(content, settings)
    where = _image_folder(found, folder)
    write_labels(where / "labels.tif", analysis.labels)
    return _finish(found, analysis, where, start)


def _finish(found: Found, analysis: ImageAnalysis, where: Path, start: float) -> ImageRecord:
    """Draw the overview and return the record."""
    rows = [{"image": found.stem, **row} for row in analysis.rows]
    # A z-stack is shown by its middle plane.
    plane = (analysis.image.shape[0] // 2,) if analysis.image.ndim == 3 else ()
    picture = draw_overview(
        np.asarray(analysis.image[plane]), np.asarray(analysis.labels[plane]),
        {name: values[plane] for name, values in analysis.maps.items()},
        pixel_size_um=analysis.spacing_um[-1], title=title_of(found.path.name, analysis.image.shape),
        channel_note=analysis.channel_note, nuclei=pd.DataFrame(rows),
        shown=SHOWN[analysis.shown] if is_image(found.path) else DENSITY,
    )  # fmt: skip
    with atomic_write(where / "overview.png") as temporary:
        picture.savefig(temporary)
    row = image_row(
        found, "done", nuclei=len(rows), seconds=time.perf_counter() - start, sha256=sha256_of(found.path),
        pixel_size_um=analysis.spacing_um[-1], pixel_size_note=analysis.pixel_size_note,
        channel_note=analysis.channel_note, axes_note=analysis.axes_note, notes=", ".join(analysis.notes),
        origin_y_um=analysis.origin_um[0], origin_x_um=analysis.origin_um[1],
    )  # fmt: skip
    tables = {
        "domains": analysis.domains,
        "calibration": analysis.calibration,
        "sensitivity": analysis.sensitivity,
    }
    named = {name: [{"image": found.stem, **each} for each in own] for name, own in tables.items()}
    # Outlines have no maps, and then nothing that these tables could say.
    return ImageRecord(row, rows, named if analysis.maps else {})


def _read(found: Found, settings: Settings) -> Micrograph | Localizations:
    if not is_image(found.path):
        return read_localizations(
            found.path, columns=settings.localization_columns, pixel_size_um=settings.pixel_size_um,
            dialect=settings.localization_dialect,
        )  # fmt: skip
    return read_image(
        found.path, pixel_size_um=settings.pixel_size_um, z_step_um=settings.z_step_um,
        time_index=settings.time_index, scene=settings.scene, axes=settings.axes, z_plane=settings.z_plane,
        channels=named_channels(settings) or None,
    )  # fmt: skip


def _read_series(found: Found, settings: Settings) -> TimeSeries | None:
    """Return all frames of a time-lapse, unless one was picked or there is none."""
    if settings.time_index is not None or not is_image(found.path):
        return None
    return read_time_series(
        found.path, pixel_size_um=settings.pixel_size_um, z_step_um=settings.z_step_um, scene=settings.scene,
        axes=settings.axes, frame_interval_s=settings.frame_interval_s, z_plane=settings.z_plane,
        channels=named_channels(settings) or None,
    )  # fmt: skip


def _with_own_files(found: Found, settings: Settings) -> Settings:
    """Return settings with the outlines and the mask of this input, where they name folders of them."""
    folders = {"labels": settings.labels, "missing": None if settings.missing == NAN else settings.missing}
    own = {
        name: find_labels(folder, image=found.path, stem=found.stem)
        for name, folder in folders.items()
        if folder is not None
    }
    return settings.with_values(**own)


def _image_folder(found: Found, folder: Path) -> Path:
    where = folder / "images" / found.stem
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    return where
