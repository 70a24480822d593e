"""chromamol: methylation and acetylation rate maps from microscope images of chromatin.

Importing the package loads nothing heavy: each name below is fetched from its module when first used.
"""

import lazy_loader as lazy

from chromamol._version import __version__

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submodules=[
        "batch",
        "calculus",
        "datasets",
        "density",
        "domains",
        "inverse",
        "io",
        "networks",
        "nucleus",
        "physics",
        "report",
        "synthetic",
    ],
    submod_attrs={
        "batch": ["infer"],
        "calculus": ["MollifierLayer", "mollified_derivative"],
        "inverse.bound": ["cramer_rao_bound"],
        "inverse.generic": ["InverseProblem"],
        "inverse.infer": ["infer_rates", "infer_rates_together"],
        "inverse.infer_over_time": ["infer_rates_over_time"],
        "io": ["read_image", "read_localizations"],
        "nucleus": ["segment_nuclei"],
        "physics.parameters": ["ChromatinParameters"],
        "physics.split": ["split_chromatin"],
        "results": ["Results"],
        "settings": ["Settings"],
        "synthetic": ["simulate_chromatin"],
    },
)
__all__ += ["__version__"]
