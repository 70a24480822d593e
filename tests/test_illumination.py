"""A shading that is known is divided out, by a flat field or by the background, and nothing else is touched."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from chromamol.channels import choose_channels
from chromamol.density import Shading, estimate_shading, flat_field_shading
from chromamol.errors import AxesError, ImageContentError, ParameterError
from chromamol.illumination import HAZE_DIAMETERS, divide_by_flat_field, even_out
from chromamol.io import Micrograph, read_image, write_channels
from chromamol.nucleus.flags import SEPARATOR
from chromamol.pipeline import analyse_image, outline_nuclei, require_analysable
from chromamol.settings import Settings
from chromamol.synthetic.microscope import Microscope, illumination

OFFSET = 100.0
SHAPE = (96, 192)
Y, X = np.indices(SHAPE)
DISCS = ((Y - 48) ** 2 + (X % 96 - 48) ** 2 < 20.0**2).astype(np.int32) * (1 + X // 96)


@pytest.fixture
def ramp():
    """Illumination that falls to a half from left to right."""
    values = 1.0 - 0.5 * X / (SHAPE[1] - 1)
    return values / values.mean()


def written(path, *planes, pixel_size_um=0.1):
    write_channels(
        path, {f"c{i}": p.astype(np.float32) for i, p in enumerate(planes)}, pixel_size_um=pixel_size_um
    )
    return path


def image_of(*planes, saturation_level=None):
    names = tuple(f"c{i}" for i in range(len(planes)))
    return Micrograph(np.stack(planes), names, 0.1, saturation_level=saturation_level)


# --- the shading itself -----------------------------------------------------------------------------------------------


def test_division_leaves_the_offset_and_evens_the_light(ramp):
    shading = flat_field_shading(OFFSET + 5000.0 * ramp, offset=OFFSET, name="flat.tif")
    assert shading.values.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(shading.correct(OFFSET + 700.0 * ramp), OFFSET + 700.0, rtol=1e-6)
    np.testing.assert_allclose(shading.correct(np.full(SHAPE, OFFSET)), OFFSET)
    stack = np.stack([OFFSET + k * ramp for k in (10.0, 20.0)])
    np.testing.assert_allclose(shading.correct(stack)[1], OFFSET + 20.0, rtol=1e-6)
    assert "flat.tif" in shading.note


def test_even_light_changes_nothing():
    image = np.random.default_rng(0).integers(100, 4000, SHAPE).astype(np.uint16)
    np.testing.assert_allclose(
        flat_field_shading(np.full(SHAPE, 9.0), offset=0.0, name="f").correct(image), image
    )


@pytest.mark.parametrize("bad", [0.0, np.nan, -5.0])
def test_a_flat_field_without_light_is_refused(bad):
    flat = np.full(SHAPE, 1000.0)
    flat[3, 4] = bad
    with pytest.raises(ImageContentError, match="flat field"):
        flat_field_shading(flat, offset=0.0, name="flat.tif")


@pytest.mark.parametrize("unevenness", [0.0, 0.3])
def test_the_background_tells_the_paraboloid_of_the_microscope(unevenness):
    """The synthetic microscope's own shading, 60 photo-electrons of background, shot and read noise."""
    density = 0.5 * (DISCS > 0)
    microscope = Microscope(psf_sigma_um=0.1, counts_per_fraction=2000.0, offset=OFFSET, background=0.03,
                            unevenness=unevenness)  # fmt: skip
    image = microscope.image(density, (0.1, 0.1), rng=np.random.default_rng(1))
    far = (Y - 48) ** 2 + (X % 96 - 48) ** 2 > 27.0**2
    shading, note = estimate_shading(image, far, offset=OFFSET)
    truth = illumination(SHAPE, unevenness)
    np.testing.assert_allclose(shading.values, truth / truth.mean(), rtol=0.04)
    assert "estimated from the background" in note


def test_a_few_bright_specks_of_debris_do_not_bend_it():
    image = OFFSET + 60.0 * illumination(SHAPE, 0.3)
    clean, _ = estimate_shading(image, np.ones(SHAPE, dtype=bool), offset=OFFSET)
    image[10:16, 20:26] += 3000.0
    shading, _ = estimate_shading(image, np.ones(SHAPE, dtype=bool), offset=OFFSET)
    np.testing.assert_allclose(shading.values, clean.values, rtol=0.04)


@pytest.mark.parametrize(
    ("background", "outside", "words"),
    [
        (0.0, np.ones(SHAPE, dtype=bool), "tells it to"),
        (60.0, X < 6, "too little background"),
        (60.0, (X < 60) & (Y < 60), "tells it to"),
    ],
)
def test_a_background_that_does_not_tell_is_left_alone(background, outside, words):
    """No light in it, hardly any of it, or only in one corner, from where the rest would be extrapolated."""
    rng = np.random.default_rng(2)
    image = OFFSET + rng.poisson(background * illumination(SHAPE, 0.3)) + 5.0 * rng.standard_normal(SHAPE)
    shading, note = estimate_shading(image, outside, offset=OFFSET)
    assert shading is None
    assert words in note


# --- images -----------------------------------------------------------------------------------------------------------


def test_rates_of_a_shaded_nucleus_become_those_of_the_even_one(tmp_path, small_field):
    """Light that falls by 40 % across one nucleus passes for a gradient of chromatin, until the flat field is known."""
    light = small_field(0) - OFFSET
    ramp = 1.2 - 0.5 * np.indices(light.shape)[1] / (light.shape[1] - 1)
    flat = written(tmp_path / "flat.tif", OFFSET + 20_000.0 * ramp)
    given = Settings(chromatin_gain=1400.0, camera_offset=OFFSET, segmentation_method="classical",
                     calibration_check=False, method="regression")  # fmt: skip
    even = analyse_image(image_of(OFFSET + light), given).rows[0]
    shaded = analyse_image(image_of(OFFSET + light * ramp / ramp.mean()), given).rows[0]
    mended = analyse_image(
        image_of(OFFSET + light * ramp / ramp.mean()), given.with_values(flat_field=str(flat))
    )
    assert "illumination divided by flat.tif (sha256" in mended.channel_note
    for name in ("gamma_me_per_um2", "gamma_ac_per_um2"):
        assert abs(shaded[name] / even[name] - 1.0) > 0.03  # six times what the flat field may leave
    for name in ("heterochromatin_fraction", "rate_ratio", "gamma_me_per_um2", "gamma_ac_per_um2"):
        # Divided planes are float32, in which a fourth derivative loses three more digits.
        assert mended.rows[0][name] == pytest.approx(even[name], rel=5e-3), name


def test_each_channel_has_the_flat_field_of_its_index(tmp_path, ramp):
    flat = written(tmp_path / "flat.tif", np.ones(SHAPE), ramp, np.ones(SHAPE))
    settings = Settings(chromatin_channel=1, heterochromatin_channel=2, flat_field=str(flat))
    image = image_of(*(k * ramp for k in (1.0, 2.0, 3.0)))
    planes = divide_by_flat_field(choose_channels(image, settings), image, settings).planes
    np.testing.assert_allclose(planes["total"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(planes["heterochromatin"], 3.0 * ramp, rtol=1e-6)
    single = Settings(chromatin_channel=1, flat_field=str(written(tmp_path / "one.tif", ramp)))
    planes = divide_by_flat_field(choose_channels(image, single), image, single).planes
    np.testing.assert_allclose(planes["total"], 2.0, rtol=1e-6)
    two = Settings(chromatin_channel=2, flat_field=str(written(tmp_path / "two.tif", ramp, ramp)))
    with pytest.raises(AxesError, match="2 channels, number 2"):
        divide_by_flat_field(choose_channels(image, two), image, two)


def test_a_flat_field_of_another_size_is_refused(tmp_path, ramp):
    settings = Settings(flat_field=str(written(tmp_path / "flat.tif", ramp[:50])))
    with pytest.raises(AxesError, match="50 x 192 pixels for an image of 96 x 192"):
        outline_nuclei(image_of(ramp), settings)


def test_volume_fractions_have_no_illumination(tmp_path, ramp):
    image = Micrograph(np.stack([ramp, ramp]), ("phi_h", "phi_e"), 0.1)
    settings = Settings(flat_field=str(written(tmp_path / "flat.tif", ramp)))
    with pytest.raises(ParameterError, match="volume fractions"):
        divide_by_flat_field(choose_channels(image, settings), image, settings)


def test_saturated_pixels_stay_so(tmp_path, small_field, ramp):
    """On the bright side a saturated pixel is divided below the detector's maximum; it is saturated all the same."""
    image = small_field(nuclei=2)
    image[44:52, 44:52] = 4095
    bright = image.copy()
    bright[44:52, 140:148] = 4000  # unsaturated, but divided beyond 4095 on the dark side
    settings = Settings(flat_field=str(written(tmp_path / "flat.tif", ramp)), segmentation_method="classical")
    rows = outline_nuclei(image_of(bright, saturation_level=4095.0), settings).rows
    assert ["saturated" in row["flags"].split(SEPARATOR) for row in rows] == [True, False]


def test_the_estimate_is_applied_recorded_and_flagged(small_field):
    shape = illumination(SHAPE, 0.4)
    rng = np.random.default_rng(3)
    image = rng.poisson(OFFSET + shape * (60.0 + small_field(nuclei=2) - OFFSET).clip(min=0.0))
    settings = Settings(estimate_illumination=True, camera_offset=OFFSET, segmentation_method="classical",
                        calibration_check=False, method="domains")  # fmt: skip
    found = analyse_image(image_of(image.astype(np.uint16)), settings)
    assert "estimated from the background" in found.channel_note
    assert all("illumination_estimated" in row["flags"] for row in found.rows)
    dark = rng.poisson(np.where(DISCS > 0, 900.0 * shape, 0.0)) + OFFSET + 3.0 * rng.standard_normal(SHAPE)
    channels = choose_channels(image_of(dark), settings)
    left = even_out(channels, DISCS * 1_000_000_000, image_of(dark), settings)  # labels may have any numbers
    assert left.flags == ("illumination_not_measurable",)
    assert left.planes["total"] is channels.planes["total"]
    assert even_out(channels, DISCS, image_of(dark), Settings()) is channels


def test_haze_of_a_stack_reaches_as_far_as_whole_nuclei_say(monkeypatch):
    """The upper nucleus hides most of the lower one."""
    stack = np.zeros((2, 80, 80), np.int32)
    stack[0, 20:60, 20:60], stack[1, 22:58, 22:58] = 1, 2
    asked = []

    def catch(_, outside, **__):
        asked.append(outside)
        return None, "not told"

    monkeypatch.setattr("chromamol.illumination.estimate_shading", catch)
    image = replace(image_of(stack), z_step_um=0.3)
    settings = Settings(estimate_illumination=True, camera_offset=0.0)
    even_out(choose_channels(image, settings), stack, image, settings)
    diameter = 2.0 * np.sqrt(np.median([40**2, 36**2]) / np.pi)
    away = ndimage.distance_transform_edt(~stack.any(axis=0)) > HAZE_DIAMETERS * diameter
    np.testing.assert_array_equal(asked[0], away)


def test_the_estimate_needs_the_offset_and_no_flat_field():
    with pytest.raises(ParameterError, match="camera_offset"):
        Settings(estimate_illumination=True)
    both = Settings(estimate_illumination=True, camera_offset=1.0, flat_field=__file__)
    with pytest.raises(ParameterError, match="one way of evening out"):
        require_analysable(both)
    with pytest.raises(ParameterError, match="image of an even sample"):
        require_analysable(Settings(flat_field="nowhere.tif"))
    assert isinstance(Shading(np.ones((2, 2)), 0.0, "").correct(np.ones((2, 2))), np.ndarray)


def test_the_flat_field_is_written_and_read_like_any_image(tmp_path, ramp):
    flat = read_image(written(tmp_path / "flat.tif", ramp))
    np.testing.assert_allclose(flat.data[0], ramp, rtol=1e-6)
