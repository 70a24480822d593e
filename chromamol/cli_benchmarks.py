"""`chromamol benchmark NAME`: published tables and measurements of this machine. Tables go to stdout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chromamol.console import guarded, say

benchmarks = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@benchmarks.command()
def footprint(
    image: Annotated[
        Path | None, typer.Argument(help="Image for the whole run.", show_default="hela_cells")
    ] = None,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Side of a pixel in um, in place of the file's.")
    ] = None,
    chromatin_channel: Annotated[
        str | None, typer.Option(help="DNA stain or H2B: channel index (from 0) or name.")
    ] = None,
) -> None:
    """Print the time of the start, and time and memory of a whole run."""
    given = {"--pixel-size-um": pixel_size_um, "--chromatin-channel": chromatin_channel}

    def work() -> str:
        from chromamol.benchmarks.footprint import run  # noqa: PLC0415 - --help stays fast

        options = [str(part) for option in given.items() if option[1] is not None for part in option]
        return run(image, options=tuple(options))

    print(guarded(work))


@benchmarks.command()
def derivatives(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the tables and the figure.", show_default=False)
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer fields and sizes: seconds, not minutes.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda[:N]: where time and memory are measured.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Random seed of the noise.")] = 0,
) -> None:
    """Print, write and draw the error, time and memory of derivatives of noisy images."""

    def work() -> str:
        from chromamol.benchmarks.derivatives import run  # noqa: PLC0415 - --help stays fast
        from chromamol.io import atomic_write  # noqa: PLC0415 - --help stays fast
        from chromamol.report.derivative_figures import derivative_figure  # noqa: PLC0415 - --help stays fast

        measured = run(output, quick=quick, device=device, seed=seed)
        with atomic_write(output / "derivatives.png") as temporary:
            derivative_figure(measured.accuracy, measured.cost, measured.network).savefig(temporary)
        tables = (measured.summary(), measured.cost, measured.network)
        return "\n\n".join(table.to_string(float_format="%.3g") for table in tables)

    print(guarded(work))
    say(f"tables and figure: {output}")


@benchmarks.command()
def simulation(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Small boxes: seconds, not minutes.")] = False,
    nuclei: Annotated[int, typer.Option(help="Nuclei in a batch.")] = 32,
) -> None:
    """Print how long simulated nuclei take to become steady, one by one and in a batch."""

    def work() -> str:
        from chromamol.benchmarks.footprint import machine  # noqa: PLC0415 - --help stays fast
        from chromamol.benchmarks.simulation import run  # noqa: PLC0415 - --help stays fast

        table = run(device=device, quick=quick, nuclei=None if quick else nuclei)
        return f"{table.to_string(index=False, float_format='%.3g')}\n\n{machine()}"

    print(guarded(work))


@benchmarks.command()
def together(
    truths: Annotated[
        Path,
        typer.Option(
            help="Folder that the pattern is kept in; making it takes a minute.", show_default=False
        ),
    ],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    nuclei: Annotated[
        int | None, typer.Option(help="Nuclei in the batch.", show_default="64; quick: 3")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Pixels along a side.", show_default="192; quick: 64")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few small nuclei: a minute.")] = False,
) -> None:
    """Print how long the joint fits of many nuclei take, one by one and in a batch."""

    def work() -> str:
        from chromamol.benchmarks.footprint import machine  # noqa: PLC0415 - --help stays fast
        from chromamol.benchmarks.together import run  # noqa: PLC0415 - --help stays fast

        table = run(truths=truths, device=device, nuclei=nuclei, size=size, quick=quick, progress=say)
        return f"{table.to_string(index=False, float_format='%.3g')}\n\n{machine()}"

    print(guarded(work))


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

    print(guarded(work))


@benchmarks.command()
def paper(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for tables and figure.", show_default=False)
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Few pixels, one noise, one seed: a minute.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    seconds: Annotated[
        float | None, typer.Option(help="Processor time to train each row.", show_default="60; quick: 0.5")
    ] = None,
    problem: Annotated[list[str] | None, typer.Option(help="Of the three; may be repeated.")] = None,
    architecture: Annotated[list[str] | None, typer.Option(help="Network; may be repeated.")] = None,
    noise: Annotated[list[float] | None, typer.Option(help="Noise level; may be repeated.")] = None,
) -> None:
    """Solve the equations of the mollifier-layer paper, with the layer and with automatic differentiation."""

    def work() -> str:
        from chromamol.benchmarks.footprint import machine  # noqa: PLC0415 - --help stays fast
        from chromamol.benchmarks.paper import run  # noqa: PLC0415 - --help stays fast
        from chromamol.io import atomic_write  # noqa: PLC0415 - --help stays fast
        from chromamol.report.paper_figures import paper_figure  # noqa: PLC0415 - --help stays fast

        measured = run(
            quick=quick, device=device, seconds=seconds, problems=tuple(problem or ()) or None,
            architectures=tuple(architecture or ()) or None, noise=tuple(noise or ()) or None, progress=say,
        )  # fmt: skip
        measured.write(output, machine())
        with atomic_write(output / "paper.png") as temporary:
            paper_figure(measured.rows).savefig(temporary)
        return measured.markdown(machine())

    print(guarded(work))
    say(f"tables and figure: {output}")


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
        from chromamol.io import atomic_write  # noqa: PLC0415 - --help stays fast
        from chromamol.report.recovery_figures import recovery_figure  # noqa: PLC0415 - --help stays fast

        measured = run(
            truths=truths or output / "truths", seeds=seeds, cases=_names(cases), methods=_names(methods),
            quick=quick, output=output, progress=say,
        )  # fmt: skip
        with atomic_write(output / "recovery.png") as temporary:
            recovery_figure(measured.scores).savefig(temporary)
        return measured.to_markdown()

    print(guarded(work))
    say(f"tables and figure: {output}")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


@benchmarks.command()
def heat_fem(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the tables.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two noise levels, one draw of noise.")] = False,
    seeds: Annotated[int, typer.Option(help="Draws of the noise.")] = 5,
) -> None:
    """Print how well the diffusivity map of TorchPhysics' heat equation is found, with and without noise."""

    def work() -> str:
        from chromamol.benchmarks.footprint import machine  # noqa: PLC0415 - --help stays fast
        from chromamol.benchmarks.heat_fem import markdown, run  # noqa: PLC0415 - --help stays fast

        return f"{markdown(run(output, quick=quick, seeds=seeds))}\n{machine()}"

    print(guarded(work))
