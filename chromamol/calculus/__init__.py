"""Derivatives of noisy fields on pixel grids: mollifier kernels, layers, noise, widths, baselines.

This room knows nothing of chromatin; it serves any field derived from images.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "kernels": ["KERNELS", "Kernel", "PolynomialKernel", "VanishingMomentKernel", "get_kernel"],
        "layer": ["MollifierLayer", "bilaplacian", "laplacian", "mollified_derivative"],
        "local_fit": ["LocalFit", "fit_derivative"],
        "noise": ["estimate_noise_over_time", "estimate_noise_sd", "estimate_poisson_read"],
        "propagation": ["derivative_covariance", "derivative_variance", "estimate_bias"],
        "taps": ["Taps", "build_taps", "smallest_half_width", "taps_1d", "weak_taps"],
        "validity": ["differentiate", "valid_after"],
        "width": ["WidthChoice", "select_width"],
    },
)
