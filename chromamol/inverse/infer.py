"""The front door of the inverse problem: density fields in, rate maps out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chromamol.device import resolve_device
from chromamol.errors import ChromamolError, ParameterError
from chromamol.inverse.calibration import CalibrationPrior
from chromamol.inverse.inference import inference
from chromamol.inverse.joint_setup import Noise
from chromamol.inverse.joint_together import run_alone, run_together
from chromamol.inverse.network_settings import NetworkSettings, Reporter
from chromamol.inverse.rates import Rates
from chromamol.physics.parameters import ChromatinParameters
from chromamol.physics.split import SPLIT_CONSTANT_SD


def infer_rates(  # noqa: PLR0913 - the public face; all but the fields are keyword-only with defaults
    phi_h: Any = None,
    phi_e: Any = None,
    *,
    pixel_size_um: float | Sequence[float],
    total: Any = None,
    parameters: ChromatinParameters | None = None,
    mask: Any = None,
    seen: Any = None,
    known_acetylation_per_um2: Any = None,
    noise_sd: Noise = None,
    psf_sigma_um: float = 0.0,
    apparent_blur_um: float = 0.0,
    section_thickness_um: float | None = None,
    split_constant: float | None = None,
    split_constant_sd: float = SPLIT_CONSTANT_SD,
    calibration: CalibrationPrior | None = None,
    method: str = "auto",
    network: NetworkSettings | None = None,
    progress: Reporter | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Rates:
    """Infer methylation and acetylation rates over diffusivity from a steady chromatin pattern.

    The steady balance   Δμ_h + Γ_me φ_e - Γ_ac φ_h = 0   is solved for smooth maps of both rates, or of
    Γ_me when Γ_ac is known.

    Parameters
    ----------
    phi_h, phi_e : volume fractions of hetero- and euchromatin, (y, x) or (z, y, x), numpy or torch.
    total : φ_h + φ_e. Alone, when only total chromatin was imaged, the steady water balance splits it
        (`chromamol.split_chromatin`); with `phi_h` it stands in for `phi_e`.
    pixel_size_um : um; one number, or one per axis.
    parameters : constants of the model; `ChromatinParameters()` when None.
    mask : True inside the nucleus; the whole array when None. The joint fit leaves out layers of its rim that show no
        chromatin (`diagnostics["trimmed_pixels"]`).
    seen : True where the pixels were measured. The joint fit and the network take gaps, and NaN for them, too.
    known_acetylation_per_um2 : Γ_ac / D in um⁻², a number or a map, when it is known.
    noise_sd : standard deviation of the noise per pixel, as a volume fraction: a number, or a map where it follows
        the light (√(Poisson + read²)); a tuple gives one for each array. Estimated from the fields when None.
    psf_sigma_um : standard deviation of the point spread function, um. The joint fit holds it in its data term, up to
        three quarters of a domain radius. The regression does not: a PSF wider than the interface raises the flag
        `unresolved_domains`, and the rates are effective, with what blur may have added to them in their errors
        (`blurred_rates`). It takes the ratio of one channel, which blur lowers, back to what it was, or to NaN with the
        flag `ratio_blurred` where the domains are too small for that or none is left.
    apparent_blur_um : what takes the place of `psf_sigma_um` for these errors, that ratio and that flag, where only the
        image tells its blur; of a fit that holds the PSF, the flag is about what is beyond it.
    section_thickness_um : how much of a nucleus's depth a 2D image shows, um: 0 for a section thinner than its domains.
        Both rates are then corrected for the missing third dimension, and their errors and the ratio's hold its
        spread (`section`). None takes the pattern for two-dimensional. When acetylation is known, the methylation
        map is not corrected, and only the ratio's error follows.
    split_constant, split_constant_sd : C of the split and how well it is known; only used with `total`.
    calibration : how well gain, offset, φ_max and ℓ are known; exact when None. They keep their value and lend their
        uncertainty to the errors; but the joint fit finds gains and ℓ, as far as the image tells them.
    method : "regression" (milliseconds to seconds, no PSF), "joint" (fields and rates together, the PSF inside the
        estimate, error bars from its posterior; 10 s of one core for 192 x 192 pixels), "network"
        (a mollifier layer behind a network or a grid, for images with gaps), "domains" (scalings with the size and
        spacing of domains, not calibrated), or "auto": the joint fit where the pixels resolve the domains'
        interfaces, else the regression. `reason` says which and why.
    network, progress : how the network is trained, and what is called with its loss meanwhile.
    device : "auto", "cpu", "cuda", "cuda:N"; for the dense linear algebra.
    seed : of the posterior samples, and of a network's start; the regression draws none.

    Returns
    -------
    Rates : `.methylation` and `.acetylation` with `.values`, `.standard_error` (um⁻²) and `.valid`, `.ratio`,
        `.outcome` and `.flags`.

    Raises
    ------
    FieldError : arrays of different shapes, NaN inside the mask (except for the network), values that are not
        volume fractions.
    ParameterError, DeviceError : a setting out of its range; a device that is not there.
    SolverError : equations that are singular, or too many for the memory of the device.

    References
    ----------
    Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z (the model).
    """
    return run_alone(
        inference(
            phi_h,
            phi_e,
            pixel_size_um=pixel_size_um,
            total=total,
            parameters=parameters,
            mask=mask,
            seen=seen,
            known_acetylation_per_um2=known_acetylation_per_um2,
            noise_sd=noise_sd,
            psf_sigma_um=psf_sigma_um,
            apparent_blur_um=apparent_blur_um,
            section_thickness_um=section_thickness_um,
            split_constant=split_constant,
            split_constant_sd=split_constant_sd,
            calibration=calibration,
            method=method,
            network=network,
            progress=progress,
            device=device,
            seed=seed,
        )
    )


def infer_rates_together(
    nuclei: Sequence[Mapping[str, Any]], *, device: str = "auto", at_once: int | None = None
) -> list[Rates | ChromamolError]:
    """Infer the rates of many nuclei, those that are alike in one batch.

    On a GPU the joint fits of many nuclei take little longer than that of one, whose time goes to starting kernels.
    Nuclei share a batch when their pixels, optics, parameters, calibration and channels agree and their sizes are
    similar. Then they have a common box, whose wider margin can move maps by a few tenths of their errors; in all else
    the result of one does not depend on the others.

    Parameters
    ----------
    nuclei : the arguments of `infer_rates` for each, without `device`.
    device : "auto", "cpu", "cuda", "cuda:N".
    at_once : most nuclei in a batch; None for one on a CPU, and for as many as fit its memory on a GPU. A batch for
        which memory ends is halved.

    Returns
    -------
    The rates of every nucleus, in order, or the error that `infer_rates` raises for it: one of them must not cost the
    others.

    Raises
    ------
    ParameterError, DeviceError : `at_once` below 1; a device that is not there.
    """
    if at_once is not None and at_once < 1:
        raise ParameterError(f"at_once = {at_once}.", expected="a number of nuclei >= 1, or None.",
                             do="leave it out.")  # fmt: skip
    where = resolve_device(device)
    fits = (inference(**nucleus, device=str(where)) for nucleus in nuclei)
    return run_together(fits, at_once=at_once, device=where)
