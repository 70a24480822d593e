"""The compact scheme: fourth order with next neighbours alone, in two and three dimensions."""

import pytest
import torch

from chromamol.inverse.stencil import averaged, compact_laplacian, cross_stencil


def periodic(shape, cycles):
    axes = [
        torch.arange(n, dtype=torch.float64) * (2.0 * torch.pi * c / n)
        for n, c in zip(shape, cycles, strict=True)
    ]
    return torch.meshgrid(*axes, indexing="ij")


@pytest.mark.parametrize(
    ("shape", "cycles"), [((16, 24), (1, 2)), ((12, 16, 14), (1, 2, 1))], ids=["2d", "3d"]
)
def test_a_laplacian_is_reached_to_fourth_order(shape, cycles):
    errors = []
    for finer in (2, 4):
        phases = periodic([finer * n for n in shape], cycles)
        # exp(Σ cos) is all waves at once; its Laplacian is known.
        u = torch.exp(sum(torch.cos(p) for p in phases))
        exact = sum(
            c**2 * (torch.sin(p) ** 2 - torch.cos(p)) * u for c, p in zip(cycles, phases, strict=True)
        )
        scales = [(finer * n / (2.0 * torch.pi)) ** 2 for n in shape]
        difference = compact_laplacian(u, scales) - averaged(exact, len(shape))
        errors.append(float(difference.abs().max() / exact.abs().max()))
    assert 3.8 < float(torch.log2(torch.tensor(errors[0] / errors[1]))) < 4.2
    assert errors[1] < 3e-4


@pytest.mark.parametrize("shape", [(9, 8), (5, 6, 7)], ids=["2d", "3d"])
def test_both_parts_are_their_own_adjoints(shape):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    scales = [1.0 + i for i in range(len(shape))]
    for part in (lambda v: compact_laplacian(v, scales), lambda v: averaged(v, len(shape))):
        assert float((a * part(b)).sum()) == pytest.approx(float((part(a) * b).sum()), abs=1e-10)


def test_an_axis_of_no_scale_is_left_out():
    values = torch.arange(12.0, dtype=torch.float64).reshape(3, 4) ** 2
    along = cross_stencil(values, (-2.0, 1.0), (0.0, 1.0))
    torch.testing.assert_close(along, values.roll(1, 1) + values.roll(-1, 1) - 2.0 * values)
