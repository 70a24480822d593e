"""Grid, Field, units, errors, device: what every room stands on."""

import pickle

import numpy as np
import pytest
import torch

from chromamol import errors
from chromamol.device import resolve_device
from chromamol.errors import ChromamolError, DeviceError, FieldError
from chromamol.field import Field
from chromamol.given import as_array, as_mask
from chromamol.grid import Grid, equivalent_radius
from chromamol.units import per_um2_to_per_s, um_per_unit

GRID = Grid((4, 5), (0.2, 0.1))


def test_a_crop_keeps_spacing_and_moves_the_origin():
    crop = GRID.crop((slice(1, 3), slice(2, 5)))
    assert crop == Grid((2, 3), (0.2, 0.1), (0.2, 0.2))


def test_a_disc_and_a_ball_have_the_radius_of_their_size():
    assert equivalent_radius(np.pi * 3.0**2, 2) == pytest.approx(3.0, rel=1e-15)
    assert equivalent_radius(4.0 / 3.0 * np.pi * 3.0**3, 3) == pytest.approx(3.0, rel=1e-15)


def test_a_field_is_described_in_a_line_without_its_pixels():
    values = np.linspace(0.0, 1.9, 20).reshape(4, 5)
    assert repr(Field(values, GRID, "1")) == "Field(0 to 1.9, unit '1', 20 of (4, 5) pixels valid)"
    none = Field(values, GRID, "1", np.zeros((4, 5), dtype=bool))
    assert repr(none) == "Field(no value, unit '1', 0 of (4, 5) pixels valid)"


def test_pixel_volume_is_the_product_of_the_spacings():
    assert GRID.pixel_volume_um == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((4, 5), (0.1,)), ((4, 5), (0.1, 0.0)), ((4, 0), (0.1, 0.1)), ((4, 5), (0.1, np.nan)), ((), ())],
)
def test_an_impossible_grid_is_refused(shape, spacing):
    with pytest.raises(FieldError, match=r"Expected: .* Do: "):
        Grid(shape, spacing)


def test_a_crop_with_a_step_is_refused():
    with pytest.raises(FieldError, match="step 1"):
        GRID.crop((slice(None, None, 2), slice(None)))


def test_fields_on_different_grids_never_mix():
    field = Field(np.zeros((4, 5)), GRID, "1")
    other = Field(np.zeros((4, 5)), Grid((4, 5), (0.1, 0.1)), "1")
    with pytest.raises(FieldError, match="resample"):
        field.require_same_grid(other)


def test_nan_is_allowed_only_where_the_field_says_nothing():
    values = np.zeros((4, 5))
    values[0, 0] = np.nan
    with pytest.raises(FieldError, match="1 NaN"):
        Field(values, GRID, "1")
    valid = np.isfinite(values)
    assert np.isnan(Field(values, GRID, "1", valid).filled()[0, 0])


def test_what_lies_under_the_mask_of_a_masked_array_is_never_data():
    hidden = np.array([[False, True], [False, False]])
    values = np.ma.masked_array(np.array([[1.0, -999.0], [2.0, 3.0]]), hidden, fill_value=0.0)
    np.testing.assert_array_equal(as_array(values, "phi"), [[1.0, np.nan], [2.0, 3.0]])
    assert values.data[0, 1] == -999.0
    for kind in (np.uint16, bool):
        with pytest.raises(FieldError, match="1 masked samples"):
            as_array(np.ma.masked_array(np.ones((2, 2), dtype=kind), hidden), "phi")
        with pytest.raises(FieldError, match="1 masked samples"):
            as_mask(np.ma.masked_array(np.ones((2, 2), dtype=kind), hidden))
    np.testing.assert_array_equal(as_array(np.ma.masked_array(np.eye(2, dtype=int)), "phi"), np.eye(2))


def test_a_validity_of_numbers_is_refused():
    """`values[valid]` would pick rows, and `~valid` would be 254 and 255."""
    field = Field(np.zeros((4, 5)), GRID, "1")
    # Past the checks of types, which only tests make.
    object.__setattr__(field, "valid", np.ones((4, 5), dtype=np.uint8))
    with pytest.raises(FieldError, match="valid of dtype uint8"):
        field.__post_init__()


def test_like_keeps_grid_unit_and_validity():
    valid = np.arange(20).reshape(4, 5) > 3
    field = Field(np.zeros((4, 5)), GRID, "1", valid)
    other = field.like(np.ones((4, 5)), unit="um^-2")
    assert other.grid == GRID
    assert other.unit == "um^-2"
    np.testing.assert_array_equal(other.mask, valid)


@pytest.mark.parametrize(
    ("unit", "size"),
    [("um", 1.0), ("\\u00B5m", 1.0), ("µm", 1.0), ("μm", 1.0), ("nm", 1e-3), ("m", 1e6), ("inch", 25400.0)],
)
def test_spellings_of_lengths(unit, size):
    assert um_per_unit(unit) == size


def test_what_is_no_length_has_no_size():
    assert um_per_unit("pixel") is None


def test_a_rate_needs_a_diffusivity_to_have_a_clock():
    assert per_um2_to_per_s(2.0, 0.01) == pytest.approx(0.02)


@pytest.mark.parametrize("name", [n for n in dir(errors) if n.endswith("Error")])
def test_every_error_says_three_things_and_survives_a_process_border(name):
    kind = getattr(errors, name)
    error = kind("Given.", expected="expected.", do="do.")
    assert isinstance(error, ChromamolError)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "Given. Expected: expected. Do: do."


def test_devices_are_never_swapped_in_silence():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("mps", "abacus", "cuda:99"):
        with pytest.raises(DeviceError, match=r"Expected: .* Do: "):
            resolve_device(name)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_mask_says_of_every_pixel_whether_it_is_inside(odd):
    np.testing.assert_array_equal(as_mask([0, 3, 0.5]), [False, True, True])
    with pytest.raises(FieldError, match="region with NaN or infinite"):
        as_mask([0.0, odd, 1.0], "region")
