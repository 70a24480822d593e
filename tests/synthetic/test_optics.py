"""Point spread functions: light is kept, and the patterns are the textbook's."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.special import j1

from chromamol.errors import ParameterError
from chromamol.synthetic.microscope import Microscope
from chromamol.synthetic.optics import DiffractionSpread, GaussianSpread, Instrument

THIN = {"numerical_aperture": 0.1, "refractive_index": 1.0, "emission_um": 0.5}


def spot(shape: tuple[int, ...]) -> np.ndarray:
    image = np.zeros(shape)
    image[tuple(n // 2 for n in shape)] = 1.0
    return image


def test_in_focus_a_narrow_beam_gives_the_airy_pattern() -> None:
    kernel = DiffractionSpread(Instrument.WIDEFIELD, **THIN).kernel((0.25, 0.25))
    centre = kernel.shape[0] // 2
    radius = 0.25 * np.arange(1, 40)
    v = 2.0 * np.pi * 0.1 * radius / 0.5
    line = kernel[centre, centre + 1 : centre + 40] / kernel[centre, centre]
    # 2e-3: the library integrates numerically, and NA = 0.1 is not quite the paraxial limit
    np.testing.assert_allclose(line, (2.0 * j1(v) / v) ** 2, atol=2e-3)


def test_along_the_axis_a_narrow_beam_gives_sinc_squared() -> None:
    kernel = DiffractionSpread(Instrument.WIDEFIELD, **THIN).kernel((8.0, 0.5, 0.5))
    z, y, x = (n // 2 for n in kernel.shape)
    height = 8.0 * np.arange(kernel.shape[0] - z)
    u = np.pi * 0.1**2 * height / (2.0 * 0.5)
    np.testing.assert_allclose(kernel[z:, y, x] / kernel[z, y, x], np.sinc(u / np.pi) ** 2, atol=4e-3)


def test_a_confocal_is_sharper_than_a_wide_field_most_of_all_along_z() -> None:
    kernels = [DiffractionSpread(i).kernel((0.1, 0.05, 0.05)) for i in Instrument]
    wide, confocal = (k / k.max() for k in kernels)
    middle = [tuple(n // 2 for n in k.shape) for k in (wide, confocal)]
    assert confocal[middle[1]] == wide[middle[0]] == 1.0
    z, y, x = middle[1]
    assert confocal[z, y, x + 3] < wide[middle[0][0], middle[0][1], middle[0][2] + 3]
    assert (confocal > 0.5).any((1, 2)).sum() < (wide > 0.5).any((1, 2)).sum()


@pytest.mark.parametrize("psf", [GaussianSpread(0.1, haze=0.3, haze_sigma_um=0.4), DiffractionSpread()])
@pytest.mark.parametrize("shape", [(121, 121), (31, 81, 81)])
def test_light_is_kept(psf: GaussianSpread | DiffractionSpread, shape: tuple[int, ...]) -> None:
    spacing = (0.2, 0.06, 0.06)[3 - len(shape) :]
    image = psf.spread(spot(shape), spacing)
    assert image.sum() == pytest.approx(1.0, abs=1e-5)
    assert image.min() >= 0.0


def test_haze_is_the_stated_share_far_from_the_spot() -> None:
    image = GaussianSpread(0.05, haze=0.25, haze_sigma_um=0.5).spread(spot((201, 201)), (0.05, 0.05))
    y, x = np.mgrid[-100:101, -100:101] * 0.05
    # 0.5 um is one standard deviation of the haze: exp(-1/2) of it lies beyond
    assert image[np.hypot(y, x) > 0.5].sum() == pytest.approx(0.25 * np.exp(-0.5), rel=0.02)


def test_the_microscope_takes_any_point_spread() -> None:
    seen = Microscope(psf=DiffractionSpread()).expected(spot((81, 81)), (0.05, 0.05))
    plain = Microscope(psf_sigma_um=0.1).expected(spot((81, 81)), (0.05, 0.05))
    assert seen.sum() == pytest.approx(plain.sum(), rel=1e-3)
    assert not np.allclose(seen, plain, atol=1.0)


def test_without_its_library_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psf", None)
    with pytest.raises(ParameterError, match=r"chromamol\[optics\]"):
        DiffractionSpread().kernel((0.1, 0.1))


@pytest.mark.parametrize(
    "bad",
    [{"emission_um": 460.0}, {"numerical_aperture": 1.6}, {"pinhole_airy": 0.0}, {"excitation_um": -1.0}],
)
def test_impossible_optics_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        DiffractionSpread(**bad)


def test_impossible_gaussians_and_oblong_pixels_are_refused() -> None:
    with pytest.raises(ParameterError):
        GaussianSpread(0.1, haze=1.0)
    with pytest.raises(ParameterError, match="square pixels"):
        DiffractionSpread().kernel((0.1, 0.2))
