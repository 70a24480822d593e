"""Localisation tables of single-molecule microscopes: one file per kind of container, units by dialect."""

from chromamol.io.smlm.localizations import Localizations
from chromamol.io.smlm.read import is_localization_table, read_localizations

__all__ = ["Localizations", "is_localization_table", "read_localizations"]
