"""chromamol: methylation and acetylation rate maps from microscope images of chromatin.

Importing the package loads nothing heavy: each name below is fetched from its module when first used.
"""

import lazy_loader as lazy

from chromamol._version import __version__

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=["calculus", "datasets", "density", "domains", "inverse", "io", "nucleus", "physics"],
    submod_attrs={
        "physics.parameters": ["ChromatinParameters"],
    },
)
__all__ += ["__version__"]
