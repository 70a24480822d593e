"""Where panels stand on a picture, in inches, for images of any shape."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes

from chromamol.report.style import WIDTH_INCHES, Picture

MARGIN = 0.15
HEAD = 0.3  # title of a panel
FOOT = 0.42  # scale bar, and a remark under it
SIDE = 0.85  # colour bar with its numbers
MAX_HEIGHT = 7.5
MIN_LEAD_HEIGHT = 2.6
MIN_MAP_HEIGHT = 0.8
MIN_CELL = 2.4  # the longest title of a panel


@dataclass(frozen=True)
class Row:
    """Panels side by side, all of one height.

    Parameters
    ----------
    aspects : width over height of each panel.
    side : room beside each for its colour bar, in inches.
    most : greatest height, in inches.
    """

    aspects: tuple[float, ...]
    side: float = SIDE
    most: float = MAX_HEIGHT

    @property
    def height(self) -> float:
        """Height of the panels, in inches, that fills the width of the picture; at most `most`."""
        free = WIDTH_INCHES - 2 * MARGIN - self.side * len(self.aspects)
        return min(self.most, free / sum(self.aspects))

    @property
    def cells(self) -> tuple[float, ...]:
        """Width of each panel with its colour bar, in inches."""
        return tuple(max(MIN_CELL, aspect * self.height + self.side) for aspect in self.aspects)


def rows_for(lead: tuple[float, ...], aspect: float, count: int) -> list[Row]:
    """Return rows of panels that fill the picture: large ones first, then maps of one shape.

    Parameters
    ----------
    lead : width over height of the large panels.
    aspect : width over height of every map.
    count : number of maps.
    """
    if (
        count == 0 and len(lead) == 1
    ):  # an image alone has no colour bar, and nothing that it could stand in the way of
        return [Row(lead, side=0.0, most=WIDTH_INCHES)]
    together = Row(lead)
    if sum(together.cells) < 0.5 * WIDTH_INCHES:  # tall and narrow: large panels would leave half of it empty
        return _chunks((*lead, *(aspect,) * count), 4)
    first = [together] if together.height >= MIN_LEAD_HEIGHT else [Row((a,)) for a in lead]
    return first + _chunks((aspect,) * count, _columns(aspect, count))


def _columns(aspect: float, count: int) -> int:
    """How many maps stand in a row: three, or two or one of flat ones."""
    fitting = (n for n in (3, 2) if n <= count and Row((aspect,) * n).height >= MIN_MAP_HEIGHT)
    return next(fitting, 1)


def _chunks(aspects: tuple[float, ...], columns: int) -> list[Row]:
    return [Row(aspects[i : i + columns]) for i in range(0, len(aspects), columns)]


def place(rows: list[Row], *, header_inches: float) -> tuple[Picture, list[Axes]]:
    """Make a picture of the rows under a header, and the axes of all panels in reading order."""
    total = header_inches + sum(HEAD + row.height + FOOT for row in rows) + MARGIN
    picture = Picture(WIDTH_INCHES, total)
    axes: list[Axes] = []
    top = total - header_inches
    for row in rows:
        left = MARGIN
        bottom = top - HEAD - row.height
        for aspect, cell in zip(row.aspects, row.cells, strict=True):
            width = aspect * row.height
            box = (left / WIDTH_INCHES, bottom / total, width / WIDTH_INCHES, row.height / total)
            axes.append(picture.add_axes(box))
            left += cell
        top = bottom - FOOT
    return picture, axes
