"""What the pictures share: quantities with unit and colours, the figure that a notebook can show."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI = 150
WIDTH_INCHES = 12.0  # 1800 pixels

OUTLINE = "#ffd000"
"""On grey images: yellow is seen by every kind of colour vision."""
MAP_OUTLINE = "#202020"
UNKNOWN = "#c9c9c9"
"""Not estimable. No colour map in use passes through grey."""
OUTSIDE = "#ffffff"
TEXT = "#202020"

ME = r"$\Gamma_\mathrm{me}$"
AC = r"$\Gamma_\mathrm{ac}$"

TITLE_SIZE = 10.5
NOTE_SIZE = 7.5


@dataclass(frozen=True)
class Quantity:
    """How a map is shown.

    Parameters
    ----------
    title : above the panel.
    unit : at the colour bar.
    colours : name of a perceptually uniform colour map that is safe for colour-blind readers.
    limited_by_valid : shown only where the mollifier's support lies inside the nucleus.
    """

    title: str
    unit: str
    colours: str
    limited_by_valid: bool = True


@dataclass(frozen=True)
class Shown:
    """What the grey image shows.

    Parameters
    ----------
    title : above the panel.
    values : what its numbers are; a remark under the panel begins with it.
    remark : ends it.
    """

    title: str
    values: str
    remark: str = ""


RAW = Shown("Image", "grey values")
"""A channel as it lies in the file."""
MARKS = Shown("Both marks", "sum of both channels, each over its own standard deviation:")
FRACTIONS = Shown(r"Total chromatin $\varphi_\mathrm{h} + \varphi_\mathrm{e}$", "volume fraction")
"""As the file has them, outside of nuclei, too."""
DENSITY = Shown("Density of localisations", "localisations per µm²:")
TOTAL = Shown(
    r"Total chromatin $\varphi_\mathrm{h} + \varphi_\mathrm{e}$", "volume fraction", "; outside unknown"
)
"""What rates were inferred from, as far as maps hold it: inside of nuclei."""
SHOWN: Mapping[str, Shown] = MappingProxyType({"channel": RAW, "marks": MARKS, "fractions": FRACTIONS})
"""By `ImageAnalysis.shown`."""


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "rate_ratio": Quantity(
            f"Rate ratio {ME} / {AC} per nucleus", "ratio (no unit)", "plasma", limited_by_valid=False
        ),
        "phi_h": Quantity(
            r"Heterochromatin $\varphi_\mathrm{h}$", "volume fraction", "viridis", limited_by_valid=False
        ),
        "phi_e": Quantity(
            r"Euchromatin $\varphi_\mathrm{e}$", "volume fraction", "viridis", limited_by_valid=False
        ),
        "gamma_me_per_um2": Quantity(f"Methylation rate {ME} / D", "µm⁻²", "plasma"),
        "gamma_me_se": Quantity(f"Standard error of {ME} / D", "µm⁻²", "magma"),
        "gamma_ac_per_um2": Quantity(f"Acetylation rate {AC} / D", "µm⁻²", "plasma"),
        "gamma_ac_se": Quantity(f"Standard error of {AC} / D", "µm⁻²", "magma"),
    }
)
"""Key of a map, as in `rates.ome.tif` -> how it is shown."""


class Picture(Figure):
    """A matplotlib figure that a notebook shows as the last value of a cell, without pyplot and its state."""

    def __init__(self, width_inches: float, height_inches: float) -> None:
        super().__init__(figsize=(width_inches, height_inches), dpi=DPI, facecolor=OUTSIDE)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        memory = io.BytesIO()
        self.savefig(memory, format="png")
        return memory.getvalue()


def drawable(text: str) -> str:
    """Return `text` with a box for each character that the font of the pictures lacks, on one line."""
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return "".join(c if font.get_char_index(ord(c)) else "□" for c in " ".join(text.split()))
