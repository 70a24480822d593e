"""Networks: one interface, the sources' definitions at their start, derivatives that two ways agree on."""

from __future__ import annotations

import pytest
import torch

from chromamol.calculus.jets import Jet
from chromamol.calculus.taylor import directions_for
from chromamol.errors import FieldError, ParameterError
from chromamol.networks import (
    ARCHITECTURES,
    FieldsAndRates,
    MultiResolutionGrid,
    PINNsFormer,
    PirateNet,
    SmoothLogRates,
    make_network,
)

BILAPLACIAN = {(4, 0): 1.0, (2, 2): 2.0, (0, 4): 1.0}
COORDINATE = [name for name in ARCHITECTURES if name != "grid"]


def made(name, *, shape=(6, 8), batch=1, seed=0, dtype=torch.float64):
    network = make_network(
        name, shape, (0.1,) * len(shape), outputs=2, finest=0.4, seed=seed, batch=batch, dtype=dtype
    )
    if name == "piratenet":  # at its start every block is the identity
        for parameter_name, parameter in network.named_parameters():
            if parameter_name.endswith("alpha"):
                parameter.data.fill_(0.4)
    return network


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(9,), (6, 8), (4, 5, 6)])
def test_one_interface_in_one_to_three_dimensions(name, shape):
    network = make_network(name, shape, (0.1,) * len(shape), outputs=3, finest=0.4)
    assert network().shape == (1, 3, *shape)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_seed_fixes_the_start_and_a_batch_is_its_members(name):
    both = make_network(name, (6, 8), (0.1, 0.1), outputs=2, finest=0.4, seed=3, batch=2)
    for member in range(2):
        alone = make_network(name, (6, 8), (0.1, 0.1), outputs=2, finest=0.4, seed=3 + member)
        torch.testing.assert_close(both()[member], alone()[0])


@pytest.mark.parametrize("name", COORDINATE)
def test_a_saved_batch_is_the_same_function_in_a_batch_of_another_seed(name):
    """The random frequencies are no parameters, and were not saved."""
    saved, other = made(name, batch=2), made(name, batch=2, seed=7)
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other(), saved())
    for member in range(2):
        torch.testing.assert_close(other.member(member)()[0], saved()[member])
    assert all(
        48 not in values.shape for values in saved.state_dict().values()
    )  # the pixels follow from the shape


@pytest.mark.parametrize("name", COORDINATE)
def test_a_batch_changes_its_precision_and_device_whole(name):
    network = made(name, batch=2, dtype=torch.float32)
    single = network()
    assert network.double()().dtype == torch.float64
    torch.testing.assert_close(network(), single.double(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network.member(1)()[0], network()[1])
    assert {values.device.type for values in (*network.to("meta").parameters(), *network.buffers())} == {
        "meta"
    }


@pytest.mark.parametrize("name", COORDINATE)
def test_taylor_mode_agrees_with_nested_differentiation(name):
    network = made(name)
    points = network.get_buffer("points")[:5].clone().requires_grad_()
    directions, weights = directions_for(BILAPLACIAN)
    jet = network.at(Jet.along(points.detach(), directions, weights.tolist(), 4))

    def laplacian(values):
        (slope,) = torch.autograd.grad(values.sum(), points, create_graph=True)
        return sum(torch.autograd.grad(slope[:, i].sum(), points, create_graph=True)[0][:, i] for i in (0, 1))

    for k in range(2):
        value = network.at(points)[:, k]
        once = laplacian(value)
        torch.testing.assert_close(jet.value[:, k], value)
        # Three directions at 60 degrees: the sum of the second derivatives is 3 / 2 of the Laplacian.
        second = sum(jet.directional(2))[:, k]
        torch.testing.assert_close(second / 1.5, once, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(jet.summed()[:, k], laplacian(once), rtol=1e-6, atol=1e-6)


def test_a_function_that_jets_do_not_know_is_named():
    points = torch.zeros(2, 1)
    jet = Jet.along(points, torch.ones(1, 1), [1.0], 2)
    with pytest.raises(FieldError, match="sinh"):
        torch.sinh(jet)


def test_grid_reproduces_any_field_and_coarse_levels_are_linear():
    grid = MultiResolutionGrid((12, 17), (1.0, 1.0), outputs=1, levels=3, dtype=torch.float64)
    with torch.no_grad():
        grid.levels[0].normal_()
        fine = grid().clone()
        torch.testing.assert_close(fine, grid.levels[0])
        # A coarse level holding a linear function of its own positions gives that function on the pixels.
        rows = torch.arange(grid.levels[2].shape[2], dtype=torch.float64) * 4.0
        grid.levels[2].copy_(rows[None, None, :, None].expand_as(grid.levels[2]))
        change = (grid() - fine)[0, 0, :, 3]
    torch.testing.assert_close(change.diff(), torch.ones(11, dtype=torch.float64))


def test_piratenet_starts_linear_and_from_the_data():
    network = PirateNet((16, 16), (0.1, 0.1), outputs=1, frequency=0.6, features=24,
                        generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # fmt: skip
    half = network.get_buffer("half_sides")
    scaled = (network.get_buffer("points") - half) / half.max()
    torch.testing.assert_close(network._before_last(scaled), network.features(scaled))
    target = torch.sin(3.0 * scaled[:, 0]).reshape(1, 1, 16, 16)
    seen = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    network.start_from(target, seen)
    assert float((network() - target).detach().square().mean().sqrt()) < 0.01


def test_pinnsformer_attends_to_its_sequence():
    network = PINNsFormer((4,), (0.25,), outputs=1, generator=torch.Generator().manual_seed(0))
    before = network().detach()
    network.get_buffer("offsets")[-1] += 0.5
    assert not torch.allclose(network(), before)


def test_smooth_log_rates_have_the_prior_that_is_said():
    generator = torch.Generator().manual_seed(0)
    rates = SmoothLogRates((40, 40), (0.1, 0.1), means=torch.zeros(1, 1), correlation=0.5, log_sd=0.3)
    white = torch.randn(400, *rates.coefficients.shape[1:], generator=generator)
    maps = rates.synthesise(white, torch.zeros(400, 1))[:, 0]
    # Σ s_k = 1 is the mean over the cosines' box; the pixels in its middle have a little less.
    assert float(maps.std(0).mean()) == pytest.approx(0.3, rel=0.15)
    middle = maps[:, 20, 20]
    near = maps[:, 20, 25]  # one correlation length away
    assert float((middle * near).mean() / middle.square().mean()) == pytest.approx(0.607, abs=0.1)


def test_fields_and_rates_come_together():
    network = made("grid", dtype=torch.float32)
    rates = SmoothLogRates((6, 8), (0.1, 0.1), means=torch.full((1, 1), 0.7), correlation=0.5, log_sd=0.3)
    output = FieldsAndRates(network, rates)()
    assert output.fields.shape == (1, 2, 6, 8)
    torch.testing.assert_close(output.log_rates, torch.full((1, 1, 6, 8), 0.7))


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ParameterError, match="grid, mlp"):
        make_network("cnn", (4, 4), (1.0, 1.0), outputs=1, finest=1.0)
    with pytest.raises(ParameterError, match="level"):
        MultiResolutionGrid((4, 4), (1.0, 1.0), outputs=1, levels=0)
