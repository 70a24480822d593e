"""A user's own differential equation: fields measured, coefficients unknown (`InverseProblem`)."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "expression": ["Expression", "Vector", "d", "div", "grad", "implicit_step", "laplacian", "pointwise"],
        "problem": ["InverseProblem"],
        "solution": ["Estimate", "Ending", "Solution"],
    },
)
