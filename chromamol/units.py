"""Conversions at the border. Inside the package lengths are micrometres and times are seconds."""

from __future__ import annotations

# Spellings met in real files. ImageJ writes the micro sign as the six ASCII characters `\u00B5`.
_UM_PER_UNIT: dict[str, float] = {
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "micrometers": 1.0,
    "micrometres": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "å": 1e-4,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "inch": 25_400.0,
    "in": 25_400.0,
}


def um_per_unit(unit: str) -> float | None:
    """Return how many µm one `unit` is, or None if the spelling is unknown or not a length.

    >>> um_per_unit("nm")
    0.001
    >>> um_per_unit("pixel") is None
    True
    """
    return _UM_PER_UNIT.get(unit.strip().strip('"').lower())


def per_um2_to_per_s(rate_per_um2: float, diffusivity_um2_per_s: float) -> float:
    """Turn a rate over diffusivity, Γ / D in µm⁻², into Γ in s⁻¹ for a known D in µm² s⁻¹."""
    return rate_per_um2 * diffusivity_um2_per_s
