"""What may stand before a mollifier layer: networks that turn coordinates, or a grid, into fields and log-rates.

This room knows nothing of chromatin. A mollifier layer takes the derivatives, so a network need not be smooth in its
coordinates: a grid of numbers will do.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "ensemble": ["Ensemble"],
        "fourier": ["FourierFeatureMLP"],
        "grid": ["MultiResolutionGrid"],
        "interface": ["CoordinateNetwork", "FieldNetwork", "pixel_coordinates"],
        "log_rates": ["FieldsAndRates", "Output", "SmoothLogRates"],
        "make": ["ARCHITECTURES", "make_network"],
        "pinnsformer": ["PINNsFormer"],
        "piratenet": ["PirateNet"],
    },
)
