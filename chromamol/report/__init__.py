"""What users see: tables, pictures and the report. The only place that imports matplotlib.

It takes plain arrays and tables, and computes no physics.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "html": ["write_report"],
        "overview": ["draw_nucleus", "draw_overview", "title_of"],
        "style": ["DENSITY", "SHOWN", "TOTAL"],
        "tables": ["IMAGES_COLUMNS", "NUCLEI_COLUMNS", "read_images", "read_nuclei", "write_tables"],
    },
)
