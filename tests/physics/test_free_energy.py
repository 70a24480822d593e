"""The potential is the derivative of the energy, and so on down: checked against autograd."""

import numpy as np
import pytest
import torch

from chromamol.errors import ParameterError
from chromamol.physics import ChromatinParameters
from chromamol.physics.free_energy import bulk_curvature, bulk_energy, bulk_potential, bulk_stiffness

PHI_MAX = 0.7


@pytest.mark.parametrize(
    ("function", "derivative"),
    [(bulk_energy, bulk_potential), (bulk_potential, bulk_stiffness), (bulk_stiffness, bulk_curvature)],
)
def test_each_function_is_the_derivative_of_the_one_before(function, derivative):
    phi = torch.linspace(-0.1, 0.8, 50, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(phi, PHI_MAX).sum(), phi)
    torch.testing.assert_close(slope, derivative(phi, PHI_MAX).detach())


def test_both_wells_have_no_potential():
    np.testing.assert_allclose(
        bulk_potential(np.array([0.0, PHI_MAX / 2, PHI_MAX]), PHI_MAX), 0.0, atol=1e-16
    )


@pytest.mark.parametrize(
    "bad", [{"phi_max": 0.0}, {"phi_max": 1.2}, {"interface_length_um": 0.0}, {"adhesion": -1.0}]
)
def test_a_parameter_out_of_range_says_what_to_do(bad):
    with pytest.raises(ParameterError, match=r"Expected: .* Do: "):
        ChromatinParameters(**bad)
