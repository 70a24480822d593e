"""A small network that finds nuclei: its weights are part of the package, nothing is ever downloaded.

Importing this package imports torch; `segment_nuclei` does so only when the network is used.
"""

from chromamol.nucleus.network.decode import DecodeSettings, decode
from chromamol.nucleus.network.find import find_with_network
from chromamol.nucleus.network.model import Maps, NucleusNet
from chromamol.nucleus.network.weights import built_in, load_weights, save_weights

__all__ = [
    "DecodeSettings",
    "Maps",
    "NucleusNet",
    "built_in",
    "decode",
    "find_with_network",
    "load_weights",
    "save_weights",
]
