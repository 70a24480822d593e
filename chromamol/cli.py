"""The command line: thin. Progress goes to stderr; the only module that prints."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromamol._version import __version__
from chromamol.errors import ChromamolError, DeviceError, OutputError, ParameterError, PixelSizeError

if TYPE_CHECKING:
    from chromamol.results import Results
    from chromamol.settings import Settings

DONE, NOTHING, USAGE, PARTLY = 0, 1, 2, 3
"""Exit codes: every input analysed; nothing could be analysed; wrong usage; some inputs failed."""

app = typer.Typer(
    name="chromamol",
    help="Methylation and acetylation rates from microscope images of chromatin.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes a third of the time that --help may take
    context_settings={"help_option_names": ["-h", "--help"]},
)

benchmarks = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(benchmarks, name="benchmark", help="Measure: what a run needs, how good the derivatives are.")

Paths = Annotated[
    list[Path],
    typer.Argument(help="Images or localisation tables: files, or folders of them.", show_default=False),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)]
PixelSize = Annotated[float | None, typer.Option(help="Side of a pixel in um, in place of the file's.")]
ZStep = Annotated[float | None, typer.Option(help="Distance between planes in um, in place of the file's.")]
Chromatin = Annotated[str | None, typer.Option(help="DNA stain or H2B: channel index (from 0) or name.")]
Heterochromatin = Annotated[str | None, typer.Option(help="Heterochromatin mark: channel index or name.")]
Euchromatin = Annotated[str | None, typer.Option(help="Euchromatin mark: channel index or name.")]
LabelsPath = Annotated[
    Path | None, typer.Option(help="Use these outlines: label image or ImageJ ROIs, or a folder of them.")
]
Psf = Annotated[float | None, typer.Option(help="Standard deviation of the point spread function in um.")]
Thickness = Annotated[float | None, typer.Option(help="Depth that a 2D image shows, in um; 0: thin section.")]
FrameInterval = Annotated[float | None, typer.Option(help="Time between the frames of a series in s.")]
Diffusivity = Annotated[float | None, typer.Option(help="D in um^2/s: adds rates in 1/s.")]
Method = Annotated[str | None, typer.Option(help="auto, regression, joint or network.")]
Columns = Annotated[
    str | None, typer.Option(help="Localisation tables of no known kind: x=NAME,y=NAME,frame=NAME,unit=nm.")
]
Scene = Annotated[
    str | None, typer.Option(help="Scene, series or position of a file with several: index or name.")
]
TimeIndex = Annotated[int | None, typer.Option("--time", help="Time point of a series, from 0.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda[:N]; an absent one is an error.")]
Jobs = Annotated[int | None, typer.Option(help="Images analysed at the same time.")]
Seed = Annotated[int | None, typer.Option(help="Of whatever is random.")]
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
    columns: Columns = None,
    chromatin_channel: Chromatin = None,
    heterochromatin_channel: Heterochromatin = None,
    euchromatin_channel: Euchromatin = None,
    labels: LabelsPath = None,
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
        "scene": int(scene) if scene is not None and scene.isdecimal() else scene,
        "time_index": time_index,
        "localization_columns": columns,
        "chromatin_channel": chromatin_channel,
        "heterochromatin_channel": heterochromatin_channel,
        "euchromatin_channel": euchromatin_channel,
        "labels": labels,
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
        from chromamol.batch import infer as run  # noqa: PLC0415 - --help stays fast

        resolved = _resolve(settings, set_, options)
        return run(paths, output=output, settings=resolved, overwrite=overwrite, progress=_say)

    _report_on(work, output)


@app.command()
def segment(
    paths: Paths,
    output: Output,
    pixel_size_um: PixelSize = None,
    z_step_um: ZStep = None,
    scene: Scene = None,
    time_index: TimeIndex = None,
    columns: Columns = None,
    chromatin_channel: Chromatin = None,
    jobs: Jobs = None,
    settings: SettingsFile = None,
    set_: SetValues = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the nuclei of the images: masks only."""
    options = {
        "pixel_size_um": pixel_size_um,
        "z_step_um": z_step_um,
        "scene": int(scene) if scene is not None and scene.isdecimal() else scene,
        "time_index": time_index,
        "localization_columns": columns,
        "chromatin_channel": chromatin_channel,
        "jobs": jobs,
    }

    def work() -> Results:
        from chromamol.batch import segment as run  # noqa: PLC0415 - --help stays fast

        resolved = _resolve(settings, set_, options)
        return run(paths, output=output, settings=resolved, overwrite=overwrite, progress=_say)

    _report_on(work, output)


@app.command()
def simulate(
    output: Output,
    nuclei: Annotated[int | None, typer.Option(help="Nuclei in the field.")] = None,
    diameter_um: Annotated[float | None, typer.Option(help="Of a nucleus.")] = None,
    methylation_per_um2: Annotated[float | None, typer.Option(help="Median rate over D.")] = None,
    acetylation_per_um2: Annotated[float | None, typer.Option(help="Median rate over D.")] = None,
    pixel_size_um: Annotated[float | None, typer.Option(help="Of the camera, in the sample.")] = None,
    psf: Annotated[str | None, typer.Option(help="gaussian, widefield or confocal.")] = None,
    psf_sigma_um: Annotated[float | None, typer.Option(help="Of a Gaussian point spread function.")] = None,
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
        Path | None, typer.Option(help="Mask TIFF of that image: where the rates change.")
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
        return run(request, output=output, overwrite=overwrite, progress=_say)

    _say(f"written: {_guarded(work)}")


@app.command()
def report(results: Annotated[Path, typer.Argument(help="Output folder of `chromamol infer`.")]) -> None:
    """Write the HTML report of an output folder again."""

    def work() -> Path:
        from chromamol.report import write_report  # noqa: PLC0415 - --help stays fast

        return write_report(results)

    _say(f"report: {_guarded(work)}")


@app.command()
def doctor() -> None:
    """Say what works here: versions, devices, readers, free disk."""
    from chromamol.doctor import checks  # noqa: PLC0415 - --help stays fast

    for name, finding in checks():
        print(f"{name:16} {finding}")


@benchmarks.command()
def footprint(
    image: Annotated[
        Path | None, typer.Argument(help="Image for the whole run.", show_default="hela_cells")
    ] = None,
    pixel_size_um: PixelSize = None,
    chromatin_channel: Chromatin = None,
) -> None:
    """Print the time of the start, and time and memory of a whole run."""
    given = {"--pixel-size-um": pixel_size_um, "--chromatin-channel": chromatin_channel}

    def work() -> str:
        from chromamol.benchmarks.footprint import run  # noqa: PLC0415 - --help stays fast

        options = [str(part) for option in given.items() if option[1] is not None for part in option]
        return run(image, options=tuple(options))

    print(_guarded(work))


@benchmarks.command()
def derivatives(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the tables and the figure.", show_default=False)
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer fields and sizes: seconds, not minutes.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda[:N]: where time and memory are measured.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
) -> None:
    """Print, write and draw the error, time and memory of derivatives of noisy images."""

    def work() -> str:
        from chromamol.benchmarks.derivatives import run  # noqa: PLC0415 - --help stays fast
        from chromamol.io import atomic_write  # noqa: PLC0415
        from chromamol.report.derivative_figures import derivative_figure  # noqa: PLC0415

        measured = run(output, quick=quick, device=device, seed=seed)
        with atomic_write(output / "derivatives.png") as temporary:
            derivative_figure(measured.accuracy, measured.cost, measured.network).savefig(temporary)
        tables = (measured.summary(), measured.cost, measured.network)
        return "\n\n".join(table.to_string(float_format="%.3g") for table in tables)

    print(_guarded(work))
    _say(f"tables and figure: {output}")


@benchmarks.command()
def simulation(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Small boxes: seconds, not minutes.")] = False,
    nuclei: Annotated[int, typer.Option(help="Nuclei in a batch.")] = 32,
) -> None:
    """Print how long simulated nuclei take to become steady, one by one and in a batch."""

    def work() -> str:
        from chromamol.benchmarks.footprint import machine  # noqa: PLC0415 - --help stays fast
        from chromamol.benchmarks.simulation import run  # noqa: PLC0415

        table = run(device=device, quick=quick, nuclei=None if quick else nuclei)
        return f"{table.to_string(index=False, float_format='%.3g')}\n\n{machine()}"

    print(_guarded(work))


@benchmarks.command()
def segmentation(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the table.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A twelfth of the fields.")] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method to score; may be repeated.", show_default="all built-in ones"),
    ] = None,
) -> None:
    """Print how well nuclei are found in labelled fields kept out of training, and how fast."""

    def work() -> str:
        from chromamol.benchmarks.segmentation import run  # noqa: PLC0415 - --help stays fast

        chosen = {"methods": method} if method else {}
        return run(output, quick=quick, **chosen).to_string(float_format="%.3f", index=False)

    print(_guarded(work))


@benchmarks.command()
def recovery(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the tables and the figure.", show_default=False)
    ],
    truths: Annotated[
        Path | None,
        typer.Option(
            help="Folder that truths are kept in: each takes minutes to make.", show_default="OUTPUT/truths"
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Truths and noises per case.", show_default="5")] = None,
    cases: Annotated[
        str | None, typer.Option(help="Cases by name, with commas between them.", show_default="all")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Methods by name, with commas between them.", show_default="all")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small field, one seed: under a minute.")] = False,
) -> None:
    """Print, write and draw how well known rates are recovered, beside the bound and other methods."""

    def work() -> str:
        from chromamol.benchmarks.recovery import run  # noqa: PLC0415 - --help stays fast
        from chromamol.io import atomic_write  # noqa: PLC0415
        from chromamol.report.recovery_figures import recovery_figure  # noqa: PLC0415

        measured = run(
            truths=truths or output / "truths", seeds=seeds, cases=_names(cases), methods=_names(methods),
            quick=quick, output=output, progress=_say,
        )  # fmt: skip
        with atomic_write(output / "recovery.png") as temporary:
            recovery_figure(measured.scores).savefig(temporary)
        return measured.to_markdown()

    print(_guarded(work))
    _say(f"tables and figure: {output}")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


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
    results = _guarded(work)
    failed = int((results.images["status"] == "failed").sum())
    _say(f"report: {output / 'report.html'}")
    if failed:
        _say(f"{failed} inputs failed; see images.csv for the reasons")
        raise typer.Exit(PARTLY)


def _guarded(work: Any) -> Any:
    """Run `work`; turn an error of the family into one message and the right exit code."""
    try:
        return work()
    except ChromamolError as error:
        _say(f"error: {error}")
        # A pixel size that a file states badly is that file's failure; only the user's own arrives here.
        used_wrongly = isinstance(error, (ParameterError, DeviceError, PixelSizeError))
        refused = isinstance(error, OutputError) and "already holds" in error.given
        raise typer.Exit(USAGE if used_wrongly or refused else NOTHING) from None
    except KeyboardInterrupt:
        _say("stopped; nothing was written")
        raise typer.Exit(130) from None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
