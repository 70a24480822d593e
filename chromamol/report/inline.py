"""Pictures as text inside the report, so that it is one file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from chromamol.errors import ReadError

_SMALLER: tuple[tuple[int, int], ...] = (
    (1800, 88),
    (1800, 78),
    (1400, 82),
    (1400, 70),
    (1000, 75),
    (700, 70),
)
"""Width in pixels and JPEG quality, tried in this order until a picture is small enough."""


def data_uri(path: str | Path, *, max_bytes: int) -> str:
    """Return a PNG as a `data:` address of at most about `max_bytes`.

    A larger picture becomes a JPEG, then a smaller one; the last size is taken even if it is still larger.

    Raises
    ------
    ReadError : the file is missing or no PNG.
    """
    try:
        original = Path(path).read_bytes()
        with Image.open(io.BytesIO(original), formats=["PNG"]) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError) as error:  # a broken PNG is a SyntaxError to the decoder
        raise ReadError(
            f"{path}: the picture cannot be read ({error}).",
            expected="the PNG that `chromamol infer` wrote.",
            do="run `chromamol infer` on this image again.",
        ) from error
    if len(original) <= max_bytes:
        return _address(original, "png")
    return _address(_shrunk(_on_white(picture), max_bytes), "jpeg")


def _shrunk(picture: Image.Image, max_bytes: int) -> bytes:
    jpeg, scaled = b"", picture
    for width, quality in _SMALLER:
        if width < scaled.width:
            height = round(picture.height * width / picture.width)
            scaled = picture.resize((width, height), Image.Resampling.LANCZOS)
        memory = io.BytesIO()
        scaled.save(memory, format="jpeg", quality=quality)
        jpeg = memory.getvalue()
        if len(jpeg) <= max_bytes:
            break
    return jpeg


def _on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
