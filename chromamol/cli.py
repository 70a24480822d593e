"""The command line: thin. Progress goes to stderr."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromamol._version import __version__
from chromamol.cli_benchmarks import benchmarks
from chromamol.console import DONE, PARTLY, guarded, say
from chromamol.errors import ParameterError, ReadError
from chromamol.report.numbers import counted

if TYPE_CHECKING:
    from chromamol.results import Results
    from chromamol.settings import Settings

app = typer.Typer(
    name="chromamol",
    help="Methylation and acetylation rates from microscope images of chromatin.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes a third of the time that --help may take
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(benchmarks, name="benchmark", help="Measure: what a run needs, how good the derivatives are.")

Paths = Annotated[
    list[Path],
    typer.Argument(help="Images or localisation tables: files, or folders of them.", show_default=False),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)]
PixelSize = Annotated[float | None, typer.Option(help="Side of a pixel in um, in place of the file's.")]
ZStep = Annotated[float | None, typer.Option(help="Distance between planes in um, in place of the file's.")]
Chromatin = Annotated[
    str | None,
    typer.Option(help="DNA stain or H2B: channel index (from 0) or name.", show_default="the only channel"),
]
Heterochromatin = Annotated[str | None, typer.Option(help="Heterochromatin mark: channel index or name.")]
Euchromatin = Annotated[str | None, typer.Option(help="Euchromatin mark: channel index or name.")]
LabelsPath = Annotated[
    Path | None,
    typer.Option(
        help="Use these outlines: label image or ImageJ ROIs, or a folder of them.",
        show_default="nuclei are found",
    ),
]
FlatField = Annotated[
    Path | None, typer.Option(help="Image of an even sample that the images are divided by.")
]
Psf = Annotated[
    float | None,
    typer.Option(help="Standard deviation of the point spread function in um.", show_default="unknown"),
]
Missing = Annotated[
    str | None, typer.Option(help="Pixels not seen: mask image, folder of masks, or nan for NaN pixels.")
]
Photons = Annotated[
    float | None,
    typer.Option(
        help="Photons per unit of intensity: noise follows the light.", show_default="noise estimated"
    ),
]
Thickness = Annotated[
    float | None,
    typer.Option(help="Depth that a 2D image shows, in um; 0: thin section.", show_default="not corrected"),
]
FrameInterval = Annotated[float | None, typer.Option(help="Time between the frames of a series in s.")]
Diffusivity = Annotated[float | None, typer.Option(help="D in um^2/s: adds rates in 1/s.")]
Method = Annotated[
    str | None, typer.Option(help="auto, regression, joint, network or domains.", show_default="auto")
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Localisation tables of no known kind: x=NAME,y=NAME,frame=NAME,unit=nm. The unit is that of x, y and "
        "columns whose names state none."
    ),
]
Scene = Annotated[
    str | None, typer.Option(help="Scene, series or position of a file with several: index or name.")
]
TimeIndex = Annotated[int | None, typer.Option("--time", help="Time point of a series, from 0.")]
ZPlane = Annotated[
    str | None,
    typer.Option(
        help="Of a stack, analyse one plane in 2D: index, middle, sharpest or max.", show_default="all, in 3D"
    ),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu or cuda[:N]; an absent one is an error.", show_default="auto")
]
Jobs = Annotated[int | None, typer.Option(help="Images analysed at the same time.", show_default="1")]
Seed = Annotated[
    int | None, typer.Option(help="Random seed: the same one gives the same result.", show_default="0")
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="TOML file of settings.")]
SetValues = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, KEY=VALUE; may be repeated.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that the folder holds.")]


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit(DONE)


@app.command()
def infer(
    paths: Paths,
    output: Output,
    pixel_size_um: PixelSize = None,
    z_step_um: ZStep = None,
    scene: Scene = None,
    time_index: TimeIndex = None,
    z_plane: ZPlane = None,
    columns: Columns = None,
    chromatin_channel: Chromatin = None,
    heterochromatin_channel: Heterochromatin = None,
    euchromatin_channel: Euchromatin = None,
    labels: LabelsPath = None,
    flat_field: FlatField = None,
    missing: Missing = None,
    photons_per_count: Photons = None,
    psf_sigma_um: Psf = None,
    section_thickness_um: Thickness = None,
    frame_interval_s: FrameInterval = None,
    diffusivity_um2_per_s: Diffusivity = None,
    method: Method = None,
    device: Device = None,
    jobs: Jobs = None,
    seed: Seed = None,
    settings: SettingsFile = None,
    set_: SetValues = None,
    overwrite: Overwrite = False,
) -> None:
    """Infer methylation and acetylation rates of every nucleus in the images."""
    options = {
        "pixel_size_um": pixel_size_um,
        "z_step_um": z_step_um,
        "scene": scene,
        "time_index": time_index,
        "z_plane": z_plane,
        "localization_columns": columns,
        "chromatin_channel": chromatin_channel,
        "heterochromatin_channel": heterochromatin_channel,
        "euchromatin_channel": euchromatin_channel,
        "labels": labels,
        "flat_field": flat_field,
        "missing": missing,
        "photons_per_count": photons_per_count,
        "psf_sigma_um": psf_sigma_um,
        "section_thickness_um": section_thickness_um,
        "frame_interval_s": frame_interval_s,
        "diffusivity_um2_per_s": diffusivity_um2_per_s,
        "method": method,
        "device": device,
        "jobs": jobs,
        "seed": seed,
    }

    def work() -> Results:
        _require_an_input(paths)
        from chromamol.batch import infer as run  # noqa: PLC0415 - --help stays fast

        resolved = _resolve(settings, set_, options)
        return run(paths, output=output, settings=resolved, overwrite=overwrite, progress=say)

    _report_on(work, output)


@app.command()
def segment(
    paths: Paths,
    output: Output,
    pixel_size_um: PixelSize = None,
    z_step_um: ZStep = None,
    scene: Scene = None,
    time_index: TimeIndex = None,
    z_plane: ZPlane = None,
    columns: Columns = None,
    chromatin_channel: Chromatin = None,
    flat_field: FlatField = None,
    jobs: Jobs = None,
    settings: SettingsFile = None,
    set_: SetValues = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the nuclei of the images: masks only."""
    options = {
        "pixel_size_um": pixel_size_um,
        "z_step_um": z_step_um,
        "scene": scene,
        "time_index": time_index,
        "z_plane": z_plane,
        "localization_columns": columns,
        "chromatin_channel": chromatin_channel,
        "flat_field": flat_field,
        "jobs": jobs,
    }

    def work() -> Results:
        _require_an_input(paths)
        from chromamol.batch import segment as run  # noqa: PLC0415 - --help stays fast

        resolved = _resolve(settings, set_, options)
        return run(paths, output=output, settings=resolved, overwrite=overwrite, progress=say)

    _report_on(work, output)


@app.command()
def simulate(
    output: Output,
    nuclei: Annotated[int | None, typer.Option(help="Nuclei in the field.", show_default="4")] = None,
    diameter_um: Annotated[
        float | None, typer.Option(help="Diameter of a nucleus.", show_default="7.5")
    ] = None,
    methylation_per_um2: Annotated[
        float | None, typer.Option(help="Median methylation rate over D.", show_default="0.6")
    ] = None,
    acetylation_per_um2: Annotated[
        float | None, typer.Option(help="Median acetylation rate over D.", show_default="0.7")
    ] = None,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Pixel of the camera, in the sample.", show_default="0.06")
    ] = None,
    psf: Annotated[
        str | None, typer.Option(help="gaussian, widefield or confocal.", show_default="gaussian")
    ] = None,
    psf_sigma_um: Annotated[
        float | None,
        typer.Option(help="Standard deviation of a Gaussian point spread function.", show_default="0.1"),
    ] = None,
    perturb: Annotated[
        list[str] | None,
        typer.Option(help="Before and after, for instance acetylation=x1.5 or methylation=-0.2; repeatable."),
    ] = None,
    time: Annotated[
        float | None, typer.Option(help="Look after this time, in um^2 (time x D); else when steady.")
    ] = None,
    diffusivity_um2_per_s: Annotated[float | None, typer.Option(help="D: --time is in seconds.")] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Start from a nucleus of an output folder of infer.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image of that nucleus, as in nuclei.csv.")] = None,
    nucleus: Annotated[int | None, typer.Option(help="Number of that nucleus.")] = None,
    region: Annotated[
        Path | None, typer.Option(help="Mask of that image (TIFF, PNG, ROI): where the rates change.")
    ] = None,
    seed: Seed = None,
    settings: SettingsFile = None,
    set_: SetValues = None,
    overwrite: Overwrite = False,
) -> None:
    """Simulate nuclei with known rates as a microscope would see them, and what a changed rate does."""
    options = {
        "nuclei": nuclei,
        "diameter_um": diameter_um,
        "methylation_per_um2": methylation_per_um2,
        "acetylation_per_um2": acetylation_per_um2,
        "pixel_size_um": pixel_size_um,
        "psf": psf,
        "psf_sigma_um": psf_sigma_um,
        "seed": seed,
    }

    def work() -> Path:
        from chromamol.simulate.command import Request, run  # noqa: PLC0415 - --help stays fast

        request = Request(
            settings, dict(_assignment(text) for text in set_ or []), options, tuple(perturb or ()), time,
            diffusivity_um2_per_s, from_, image, nucleus, region,
        )  # fmt: skip
        return run(request, output=output, overwrite=overwrite, progress=say)

    say(f"written: {guarded(work)}")


@app.command()
def report(results: Annotated[Path, typer.Argument(help="Output folder of `chromamol infer`.")]) -> None:
    """Write the HTML report of an output folder again."""

    def work() -> Path:
        from chromamol.report import write_report  # noqa: PLC0415 - --help stays fast

        return write_report(results)

    say(f"report: {guarded(work)}")


@app.command()
def doctor() -> None:
    """Say what works here: versions, devices, readers, free disk."""
    from chromamol.doctor import checks  # noqa: PLC0415 - --help stays fast

    for name, finding in checks():
        print(f"{name:16} {finding}")


def _require_an_input(paths: list[Path]) -> None:
    """Raise if not one of the inputs is there: before the solver loads, which takes seconds."""
    if not any(path.exists() for path in paths):
        raise ReadError(
            f"{', '.join(map(str, paths))}: no such file or folder.",
            expected="an image, or a folder of images.",
            do="check the path and its spelling.",
        )


def _resolve(settings: Path | None, set_: list[str] | None, options: dict[str, Any]) -> Settings:
    """Return settings from file, then --set, then options: the later wins."""
    from chromamol.settings import Settings  # noqa: PLC0415 - --help stays fast

    resolved = Settings() if settings is None else Settings.from_toml(settings)
    assigned = dict(_assignment(text) for text in set_ or [])
    Settings.from_mapping(assigned)
    return resolved.with_values(**assigned).with_values(**options)


def _assignment(text: str) -> tuple[str, Any]:
    """Split KEY=VALUE; the value is TOML, or plain text where that reads as none."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ParameterError(f"--set {text}.", expected="KEY=VALUE.", do="write --set water_fraction=0.6.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def _report_on(work: Any, output: Path) -> None:
    """Run, then say where the results are; the exit code tells whether every input was analysed."""
    results = guarded(work)
    failed = int((results.images["status"] == "failed").sum())
    say(f"report: {output / 'report.html'}")
    if failed:
        say(f"{counted(failed, 'input')} failed; see images.csv for the reasons")
        raise typer.Exit(PARTLY)
