"""How far the numbers of a run can be trusted, in plain sentences that depend on what was found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from chromamol.nucleus.flags import SEPARATOR

OVER_TIME = "time-lapse regression"
"""Method of nuclei whose frames were inverted together."""


@dataclass(frozen=True)
class Statement:
    """One thing to know, and why."""

    heading: str
    text: str


_RATIO = Statement(
    "The rate ratio is the robust number",
    "Over a whole nucleus as much chromatin is methylated as is acetylated. So the mean Γme over the mean Γac, "
    "each weighted by the chromatin that it acts on, equals the mean heterochromatin fraction over the mean "
    "euchromatin fraction. That needs no derivative of the image, and D cancels. One plane has a ratio of its own, "
    "which scatters around that of the nucleus. Blur leaves that of two marks alone; that of one stain, which blur "
    "lowers, is corrected for it, with the correction in its error, or unknown (“ratio blurred”). It does depend "
    "on how intensity became volume fraction.",
)
_OUTLINES = Statement(
    "Only outlines were made",
    "`chromamol segment` finds the nuclei; `chromamol infer` gives rates. Look at the pictures: an outline "
    "that is wrong makes the rates of its nucleus wrong.",
)
_STEADY = Statement(
    "The pattern is taken as steady",
    "A single image has no clock. The rates are those at which the pattern would stay as it is; a nucleus "
    "that is changing (mitosis, a drug just added, dying) breaks this assumption.",
)
_MOVING = Statement(
    "A time-lapse is inverted with its change",
    "All frames are taken together, and the balance holds how the pattern changes between them: it need not be at "
    "rest. The rates are taken as constant over the film, and the nucleus as staying in place.",
)
_ERRORS = Statement(
    "Error bars are one standard error",
    "They carry the noise of the pixels through the fit, how well the constant of a split channel is known, how "
    "well gains, dark levels and the constants of the model are, and what the blur that an image shows adds to "
    "rates by regression. The part of calibration and blur stands in nuclei.csv as ..._calibration_se: it is "
    "common to nuclei that share one gain and one microscope, and does not count when these are compared. A "
    "nucleus whose gain was found from itself has part of it for its own: in simulated fields such rates scatter "
    "up to 1.6 times as much as the rest of the error says. The part of a split channel's constant, some 10 % of "
    "the ratio and the larger part of its error, is not in that column; it is a convention that nuclei share too, "
    "mostly but not wholly. Error bars do not contain a wrong pixel size (rates go as 1 / length²), domains that "
    "blur hides altogether, or a nucleus that the model does not describe. Differences between conditions "
    "need replicates, not many nuclei of one dish.",
)
_NAN = Statement(
    "“Not estimable” is not zero",
    "Where the image does not determine a number it is left out: an empty cell in nuclei.csv, NaN in "
    "rates.ome.tif, grey in the pictures. The flags say why.",
)
_OVER_D = Statement(
    "Rates are given over the diffusivity D",
    "A single image determines only Γ / D, in µm⁻². Rates in s⁻¹ need the diffusivity of chromatin, measured "
    "for instance by FRAP or particle tracking, given as a setting.",
)
_PER_SECOND = Statement(
    "Rates in s⁻¹ rest on the diffusivity that was given",
    "An image determines only Γ / D, in µm⁻². The columns in s⁻¹ are these times the D of the settings, and "
    "are as wrong as that D is.",
)
_OWN_PER_SECOND = Statement(
    "Rates in s⁻¹ rest on the diffusivity that the frames tell",
    "The motion of the pattern tells D together with the rates. Its error is part of the errors in s⁻¹, and stands "
    "beside it in nuclei.csv.",
)
_NO_CLOCK = Statement(
    "A time-lapse tells no diffusivity",
    "In nuclei with the flag “diffusivity not identifiable” the frames do not tell how fast the pattern moves. They "
    "determine only Γ / D, in µm⁻², or no rate where the pattern is unsteady as well.",
)
_SPLIT = Statement(
    "One channel was split into hetero- and euchromatin",
    "Total chromatin was split by the balance of the model, which leaves one constant per nucleus free. It "
    "was fixed by convention from the dark level between domains. The ratio and both rates move with it; the "
    "shape of the maps hardly does.",
)
_CALIBRATION = Statement(
    "The intensity scale is assumed",
    "Intensity became volume fraction by a convention, not by a calibration. The size of the rates depends "
    "strongly on it, the ratio less, the shape of the maps little. Compare images taken and stained in "
    "the same way. Under each picture stands what gain and dark level were used, and what 5 % of either would do.",
)
_SECTION = Statement(
    "The section thickness was not given",
    "An image shows a section or a projection of a nucleus, the two-dimensional balance knows only its plane. This "
    "shifts both rates by a common factor. The ratio of one plane scatters around that of the nucleus by about "
    ".5 L0 / √area where the section is thin (L0² = D / Γac; 11 % in the sample field), and by less where it is "
    "thick. The errors hold both where the thickness is given.",
)
_SCALED = Statement(
    "Rates are scalings, not calibrated",
    "They are closed forms of each domain's radius and of the distances to its neighbours, and err by factors "
    "where the rates are known. Compare them between nuclei imaged in the same way; don't read them as rates. "
    "Domains that pixel or microscope do not resolve are too large or join. The rate ratio does not come from "
    "them, and is not their quotient.",
)
_OF_SCALINGS = {
    _SPLIT: Statement(
        _SPLIT.heading,
        "Total chromatin was split by the balance of the model, which leaves one constant per nucleus free. It was "
        "fixed by convention from the dark level between domains. The ratio moves with it; size and spacing of "
        "domains hardly do.",
    ),
    _CALIBRATION: Statement(
        _CALIBRATION.heading,
        "Intensity became volume fraction by a convention, not by a calibration. The ratio depends on it, size and "
        "spacing of domains little. Compare images taken and stained in the same way. Under each picture stands "
        "what gain and dark level were used.",
    ),
    _ERRORS: Statement(
        _ERRORS.heading,
        "That of the ratio carries the noise of the pixels, how well the constant of a split channel is known, and "
        "the calibration, whose part stands in nuclei.csv as rate_ratio_calibration_se. Those of both rates are "
        "the scatter of the domains over the root of their number, and nothing else: not the noise, and not the "
        "calibration, whose part in them is not known. Differences between conditions need replicates, not many "
        "nuclei of one dish.",
    ),
}
"""What is said in place of other statements where rates are scalings."""
_MAPS_END = {
    "domains": "Rates stand on domains that do not touch the nuclear border: between them there are none.",
    "joint": "Rate maps of a joint fit, which has no kernel, end 8 pixels before the nuclear border: nearer to it they "
    "hang on what is assumed of the wall.",
}
_KERNEL_ENDS = (
    "Rate maps end before the nuclear border, because the kernel that takes derivatives must lie inside "
    "the nucleus."
)
"""Where other methods end."""


def statements(nuclei: pd.DataFrame) -> list[Statement]:
    """Return what a reader must know, the ratio first; what concerns no nucleus of the table is left out.

    Parameters
    ----------
    nuclei : the table of nuclei; `flags`, `method`, the diffusivity and the rates in s⁻¹ are used.
    """
    if is_outlines_only(nuclei):
        return [_OUTLINES]
    counts = flag_counts(nuclei)
    scaled = counts.get("uncalibrated_scaling", 0) == len(nuclei) > 0
    said = [_RATIO, _SCALED] if scaled else [_RATIO]
    if counts.get("unresolved_domains") and not scaled:
        said.append(_effective(counts["unresolved_domains"], len(nuclei)))
    depends = {
        "split_constant_assumed": _SPLIT,
        "calibration_assumed": _CALIBRATION,
        "section_thickness_assumed": _SECTION,
    }
    said += [statement for flag, statement in depends.items() if counts.get(flag)]
    moving = nuclei["method"] == OVER_TIME
    said += _of_time(nuclei, moving)
    ends = ((_STEADY, nuclei.empty or not moving.all()), (_MOVING, moving.any()))
    said += [_ERRORS, _with_ends_of_maps(nuclei), *(statement for statement, holds in ends if holds)]
    return [_OF_SCALINGS.get(statement, statement) for statement in said] if scaled else said


def _with_ends_of_maps(nuclei: pd.DataFrame) -> Statement:
    """Return what NaN means, and where the maps of the methods in the table end."""
    methods = {str(method) for method in nuclei["method"]}
    ends = [text for method, text in _MAPS_END.items() if method in methods]
    kernel = [_KERNEL_ENDS] if nuclei.empty or methods - set(_MAPS_END) else []
    return Statement(_NAN.heading, " ".join((_NAN.text, *kernel, *ends)))


def _of_time(nuclei: pd.DataFrame, moving: pd.Series) -> list[Statement]:
    """Return what is to be said of D and of rates in s⁻¹; `moving` tells the nuclei of a time-lapse."""
    nothing = pd.Series(np.nan, index=nuclei.index)
    told = nuclei.get("diffusivity_um2_per_s", nothing).notna()
    in_seconds = pd.concat([nuclei.get(f"gamma_{rate}_per_s", nothing) for rate in ("me", "ac")], axis=1)
    given = in_seconds.notna().any(axis=1) & ~told
    holds = {
        _OWN_PER_SECOND: told.any(),
        _PER_SECOND: given.any(),
        _NO_CLOCK: (moving & ~told).any(),
        _OVER_D: not (moving | given).all() or nuclei.empty,
    }
    return [statement for statement, said in holds.items() if said]


def is_outlines_only(nuclei: pd.DataFrame) -> bool:
    """Whether nuclei were outlined and no rate was asked for."""
    return len(nuclei) > 0 and bool((nuclei["method"] == "").all() and nuclei["rate_ratio"].isna().all())


def flag_counts(nuclei: pd.DataFrame) -> dict[str, int]:
    """Return how many nuclei carry each flag."""
    counts: dict[str, int] = {}
    for cell in nuclei.get("flags", pd.Series(dtype="str")):
        for name in filter(None, str(cell).split(SEPARATOR)):
            counts[name] = counts.get(name, 0) + 1
    return counts


def _effective(count: int, total: int) -> Statement:
    who = "all nuclei" if count == total else f"{count} of {total} nuclei"
    return Statement(
        f"Rates are effective ones in {who}",
        "Their heterochromatin domains, or the interfaces of these, are smaller than pixel and microscope "
        "resolve. What was fitted is the blurred pattern, whose rates are too large: they can be compared "
        "between images taken in the same way, but they are not the rates of the molecules. Where the image "
        "tells its blur, error bars reach down to where the rates would be without it. The ratio of two marks "
        "stays meaningful; that of one stain is corrected for blur. "
        "These nuclei carry the flag “unresolved domains”.",
    )
