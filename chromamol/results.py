"""Results of a run, read back from its folder when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chromamol.errors import ReadError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, init=False)
class Results:
    """The output folder of `chromamol.infer`.

    Parameters
    ----------
    folder : the folder. Nothing is read before it is used.

    Raises
    ------
    ReadError : the folder holds no results.
    """

    folder: Path

    def __init__(self, folder: str | Path) -> None:
        object.__setattr__(self, "folder", Path(folder))
        if not (self.folder / "nuclei.csv").is_file():
            raise ReadError(f"{self.folder} has no nuclei.csv.", expected="the output folder of `chromamol infer`.",
                            do="check the path.")  # fmt: skip

    @cached_property
    def nuclei(self) -> pd.DataFrame:
        """One row per nucleus, as `nuclei.csv`.

        The flags are `nuclei["flags"]`, and `row["flags"]` of a row: `.flags` is pandas' own.
        """
        from chromamol.report import read_nuclei  # noqa: PLC0415 - pandas loads when it is used

        return read_nuclei(self.folder)

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row per input, as `images.csv`: status, error, pixel size, channel."""
        from chromamol.report import read_images  # noqa: PLC0415 - pandas loads when it is used

        return read_images(self.folder)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def open(self, image: str) -> ImageResult:
        """Return the maps of one image by its name in the tables.

        Raises
        ------
        ReadError : no image of that name was analysed.
        """
        done = self.images[self.images["status"] == "done"].set_index("image")
        if image not in done.index:
            raise ReadError(f"No result for image '{image}'.", expected=f"one of: {', '.join(done.index)}.",
                            do="take a name from results.images.")  # fmt: skip
        row = done.loc[image]
        return ImageResult(self.folder / "images" / image, self.nuclei[self.nuclei["image"] == image],
                           Path(str(row["path"])), str(row["channel_note"]))  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class ImageResult:
    """Labels, maps and rows of one image.

    Parameters
    ----------
    folder : its folder under `images/`.
    nuclei : its rows of `nuclei.csv`.
    source : the image file.
    channel_note : which channel was analysed and why.
    """

    folder: Path
    nuclei: pd.DataFrame
    source: Path
    channel_note: str

    def __repr__(self) -> str:
        from chromamol.report.numbers import counted  # noqa: PLC0415 - the report's words load when used
        from chromamol.report.summary import ratio_summary  # noqa: PLC0415

        nuclei = counted(len(self.nuclei), "nucleus")
        ratio = f", rate ratio {ratio_summary(self.nuclei).number}" if len(self.nuclei) else ""
        return f"ImageResult({self.folder.name}, {nuclei}{ratio}, of {self.source})"

    @cached_property
    def labels(self) -> np.ndarray:
        """int32, 0 = background, else the number of the nucleus; (y, x) or (z, y, x)."""
        from chromamol.io import read_image  # noqa: PLC0415 - tifffile loads when it is used

        return read_image(self.folder / "labels.tif").channel()

    @cached_property
    def maps(self) -> dict[str, np.ndarray]:
        """float32 maps by name, as in `rates.ome.tif`; NaN where not estimable."""
        maps = self._rates_file
        return {name: maps.data[i] for i, name in enumerate(maps.channel_names)}

    @property
    def pixel_size_um(self) -> float:
        """Side of a pixel, um."""
        return float(self._rates_file.spacing_um[-1])

    @cached_property
    def _rates_file(self):  # type: ignore[no-untyped-def]  # the class would have to be imported with tifffile
        from chromamol.io import read_image  # noqa: PLC0415 - tifffile loads when it is used

        return read_image(self.folder / "rates.ome.tif")

    def plot(self, *, nucleus: int | None = None) -> Figure:
        """Return a figure of all nuclei, or of one: total chromatin with outlines, and the maps.

        Of a z-stack the middle plane is shown. The image itself, which may be gone, is in `overview.png`.
        """
        from chromamol.report import (  # noqa: PLC0415 - matplotlib loads when used
            TOTAL,
            draw_nucleus,
            draw_overview,
            title_of,
        )

        plane = (self.labels.shape[0] // 2,) if self.labels.ndim == 3 else ()
        maps = {name: values[plane] for name, values in self.maps.items()}
        image = np.nan_to_num(maps["phi_h"] + maps["phi_e"])
        labels, title = self.labels[plane], title_of(self.folder.name, self.labels.shape)
        if nucleus is not None:
            return draw_nucleus(image, labels, maps, nucleus=nucleus, pixel_size_um=self.pixel_size_um,
                                title=title, nuclei=self.nuclei, shown=TOTAL)  # fmt: skip
        return draw_overview(image, labels, maps, pixel_size_um=self.pixel_size_um, title=title,
                             channel_note=self.channel_note, nuclei=self.nuclei, shown=TOTAL)  # fmt: skip
