import math

import pytest

from chromamol.physics.closed_form import closed_form_rates


def test_formula():
    methylation, acetylation = closed_form_rates(0.05, 0.2)
    assert acetylation == pytest.approx(25.0)
    assert methylation == pytest.approx(25.0 / 15.0)


def test_ratio_depends_on_shape_only_and_rates_go_as_inverse_length_squared():
    small, large = closed_form_rates(0.03, 0.28), closed_form_rates(0.3, 2.8)
    assert small[0] / small[1] == pytest.approx(large[0] / large[1])
    assert small[0] == pytest.approx(100 * large[0])


def test_steady_balance_of_a_disc_in_its_cell():
    # Γ_me times the area outside the disc equals Γ_ac times the area inside: π R² Γ_ac = (π d² - π R²) Γ_me.
    radius, spacing = 0.1, 0.25
    methylation, acetylation = closed_form_rates(radius, spacing)
    assert acetylation * radius**2 == pytest.approx(methylation * (spacing**2 - radius**2))


@pytest.mark.parametrize(
    ("radius", "spacing"),
    [(0.2, 0.2), (0.3, 0.2), (math.nan, 1.0), (0.1, math.nan), (0.0, 1.0), (0.1, math.inf)],
)
def test_undefined_geometry_gives_nan(radius, spacing):
    assert all(math.isnan(rate) for rate in closed_form_rates(radius, spacing))
