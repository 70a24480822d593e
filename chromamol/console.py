"""Exit codes, messages on stderr, and errors as messages: what every command shares."""

from __future__ import annotations

import sys
from typing import Any

import typer

from chromamol.errors import ChromamolError, DeviceError, OutputError, ParameterError, PixelSizeError

DONE, NOTHING, USAGE, PARTLY = 0, 1, 2, 3
"""Exit codes: every input analysed; nothing could be analysed; wrong usage; some inputs failed."""


def guarded(work: Any) -> Any:
    """Run `work`; turn an error of the family into one message and the right exit code."""
    try:
        return work()
    except ChromamolError as error:
        say(f"error: {error}")
        # A pixel size that a file states badly is that file's failure; only the user's own arrives here.
        used_wrongly = isinstance(error, (ParameterError, DeviceError, PixelSizeError))
        refused = isinstance(error, OutputError) and "already holds" in error.given
        raise typer.Exit(USAGE if used_wrongly or refused else NOTHING) from None
    except KeyboardInterrupt:
        say("stopped; nothing was written")
        raise typer.Exit(130) from None


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
