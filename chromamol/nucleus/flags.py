"""The one registry of quality flags: what may be doubtful about a nucleus, in a biologist's words.

A flag never removes a nucleus; it says what its numbers can't carry. Tables, the report and the documentation
read the descriptions from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from chromamol.errors import ParameterError

SEPARATOR = ";"

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        # the nucleus
        "touches_border": "The image border cuts the nucleus: area and rates are those of the visible part.",
        "too_small": "Much smaller than a nucleus or than the others of the field: debris, an apoptotic body "
        "or a fragment.",
        "too_large": "Much larger than a nucleus or than the others of the field: not split, or polyploid.",
        "out_of_focus": "The edge is much more blurred than those of the other nuclei of the field.",
        "dead": "Small, dense and bright, with no more DNA than the others: condensed chromatin as in a dying cell.",
        "mitotic": "Dense and bright, and elongated, ragged or rich in DNA: chromosomes condensed for division.",
        "saturated": "Pixels at the detector's maximum: densities are too low there.",
        # what the image can resolve
        "unresolved_domains": "Domains or their interfaces are finer than the image resolves: rates are effective "
        "ones, too large by what their errors say if the image tells its blur. The ratio of two marks stays "
        "meaningful; that of one channel is corrected for blur.",
        "ratio_blurred": "Blur is over half of the radius of the domains that one channel shows, or its correction "
        "leaves no ratio above 0: one channel does not tell the rate ratio then, it is NaN.",
        "kernel_exceeds_nucleus": "The kernel reaches the nuclear border from every pixel: no map.",
        "no_domains": "No heterochromatin domain stands out in the interior of the nucleus.",
        "lads_unresolved": "Layers at the nuclear border are too thin for so much blur, or so few localisations: "
        "thickness is NaN.",
        "levels_unresolved": "So few localisations in a domain and around it that the rate ratio is known to within "
        "20 % at best, or not given.",
        # what was assumed
        "split_constant_assumed": "One channel only: the constant that splits hetero- from euchromatin "
        "was fixed by convention.",
        "calibration_assumed": "Intensity was turned into volume fraction by an assumed scale: "
        "absolute rates hang on it.",
        "background_clipped": "Most pixels around the nucleus have exactly the lowest value: the background was "
        "subtracted, cut off or masked out, and the dark level can't be measured. Ratio and rates can be wrong by more "
        "than their errors: use the raw image, or give the dark level.",
        "scale_uncertain": "Calibration and blur alone leave the rates open by more than half of their size: compare "
        "them between nuclei that were imaged and calibrated in the same way.",
        "lossy_compression": "The file was compressed with loss (JPEG): its noise and fine structure are altered, and "
        "errors come out too small. Use the raw image.",
        "projected_maximum": "The image is a maximum along z: of each pixel the brightest plane, so that intensities "
        "are no densities. Analyse one plane, or the stack.",
        "off_centre_plane": "Other planes of the stack have more light: above or below its widest section a nucleus "
        "looks too wide, and its rate ratio comes out too high, up to three times. Analyse the brightest plane, or the "
        "stack.",
        "illumination_estimated": "Uneven illumination was estimated from the background and divided out.",
        "illumination_not_measurable": "The background does not tell the illumination: it was left as it is.",
        "localization_density": "Chromatin was taken to be proportional to the density of localisations: "
        "uneven labelling and blinking look like chromatin.",
        "section_thickness_assumed": "The image is a section or projection of a 3D nucleus whose thickness "
        "was not given: errors don't hold what a cut changes, in the rate ratio either.",
        "section_not_corrected": "Thickness, kernel or rate ratio lie outside of what the correction was computed "
        "for: only the rate ratio holds.",
        "uncalibrated_scaling": "Rates are scalings with the size and spacing of domains, not calibrated: compare "
        "them between nuclei, don't read them as rates.",
        "marks_alike": "Both marks show nearly the same pattern: one channel twice, total chromatin for a mark, or "
        "crosstalk. Don't use ratio or rates.",
        # how the inversion ended
        "methylation_not_identifiable": "The image doesn't determine the methylation rate: given as NaN.",
        "acetylation_not_identifiable": "The image doesn't determine the acetylation rate: given as NaN.",
        "partly_not_identifiable": "Parts of a rate map are known worse than within 50 %: they are NaN, "
        "and not in the mean.",
        "diffusivity_not_identifiable": "The frames show no motion beyond their noise: D is NaN, and so are rates in "
        "1/s unless a D was given. With `unsteady` they show some, but not how fast it is: every rate is NaN.",
        "negative_rate": "The data ask for a negative rate somewhere, beyond its error: the model fails there.",
        "unsteady": "No smooth rates keep this pattern at rest within its noise: it moves, or a given rate or constant "
        "is wrong. Don't read the rates as those of a steady state.",
        "not_converged": "The solver stopped before it converged: don't use the rates. Blur that the fit was not told "
        "of (--psf-sigma-um) is one reason.",
    }
)
"""Flag name -> one-line description. The order here is the order in tables."""


def _require_known(names: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(FLAGS))
    if unknown:
        raise ParameterError(
            f"Unknown quality flag: {', '.join(unknown)}.",
            expected=f"names of the registry: {', '.join(FLAGS)}.",
            do="correct the name, or add it to chromamol/nucleus/flags.py with a description.",
        )


def describe(name: str) -> str:
    """Return the one-line description of a flag.

    Raises
    ------
    ParameterError : the name is not in the registry.
    """
    _require_known([name])
    return FLAGS[name]


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return the flags without repeats, in the registry's order.

    Raises
    ------
    ParameterError : a name is not in the registry.
    """
    given = set(names)
    _require_known(given)
    return tuple(name for name in FLAGS if name in given)


def join(names: Iterable[str]) -> str:
    """Return the flags as one table cell, `"a;b"`, in the registry's order; empty for none.

    Raises
    ------
    ParameterError : a name is not in the registry.

    >>> join(["saturated", "touches_border", "saturated"])
    'touches_border;saturated'
    """
    return SEPARATOR.join(ordered(names))
