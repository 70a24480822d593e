"""The error family of chromamol.

Every message says three things: what was given, what was expected, what to do. `ChromamolError` builds
the message from those three so that none can be left out.
"""

from __future__ import annotations


class ChromamolError(Exception):
    """Base of all errors that chromamol raises on purpose.

    Parameters
    ----------
    given : what was found, with the offending value or file.
    expected : what would have been accepted.
    do : what the user can do next.
    """

    def __init__(self, given: str, *, expected: str, do: str) -> None:
        self.given = given
        self.expected = expected
        self.do = do
        super().__init__(f"{given} Expected: {expected} Do: {do}")

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders in `infer --jobs N`; keyword-only arguments need their own way back.
        return (_rebuild, (type(self), self.given, self.expected, self.do))


def _rebuild(kind: type[ChromamolError], given: str, expected: str, do: str) -> ChromamolError:
    return kind(given, expected=expected, do=do)


class ReadError(ChromamolError):
    """A file is missing, truncated, or not what its name says."""


class AxesError(ReadError):
    """The axes or channels of an image are ambiguous or unsupported."""


class PixelSizeError(ChromamolError, ValueError):
    """A pixel size is absent or absurd. Rates go as 1 / length², so it is never guessed."""


class ImageContentError(ChromamolError, ValueError):
    """The pixels hold nothing that can be analysed: constant, NaN, or no nucleus."""


class FieldError(ChromamolError, ValueError):
    """A field or grid has the wrong shape, type, unit, or values."""


class KernelError(ChromamolError, ValueError):
    """A mollifier kernel cannot be built as asked, for instance too narrow for the derivative."""


class ParameterError(ChromamolError, ValueError):
    """A physical parameter or a setting is out of its range."""


class SimulationError(ChromamolError, RuntimeError):
    """A simulation left the range of physical states, or its steps became too small to go on."""


class SolverError(ChromamolError, ArithmeticError):
    """The equations of one nucleus can't be solved: a matrix is singular, or too large for the device's memory."""


class DeviceError(ChromamolError, RuntimeError):
    """The device that was asked for is not there."""


class OutputError(ChromamolError):
    """The output folder cannot be written, or already holds results."""


class DatasetError(ChromamolError):
    """A sample file is unknown, cannot be reached, or does not have the recorded checksum."""
