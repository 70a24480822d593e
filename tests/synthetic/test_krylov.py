"""GMRES on systems whose answer is known."""

from __future__ import annotations

import torch

from chromamol.synthetic.krylov import gmres


def test_batch_of_unsymmetric_systems() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 12, 12, dtype=torch.float64) + 6.0 * torch.eye(12, dtype=torch.float64)
    truth = torch.randn(3, 12, dtype=torch.float64)
    right = (matrices @ truth[..., None])[..., 0]
    diagonal = matrices.diagonal(dim1=1, dim2=2)
    found, left = gmres(
        lambda x: (matrices @ x[..., None])[..., 0],
        right,
        precondition=lambda r: r / diagonal,
        tolerance=1e-12,
    )
    torch.testing.assert_close(found, truth)
    assert float(left.max()) <= 1e-12


def test_entry_without_a_right_side_rests() -> None:
    right = torch.stack([torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)])
    found, left = gmres(lambda x: 2.0 * x, right, precondition=lambda r: r, tolerance=1e-10)
    torch.testing.assert_close(found, 0.5 * right)
    assert float(left.max()) <= 1e-10


def test_unsolved_system_says_so() -> None:
    """A rotation turns every residual by a right angle: one vector cannot reduce it."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    _, left = gmres(
        lambda x: x @ turn.T, torch.tensor([[1.0, 0.0]], dtype=torch.float64),
        precondition=lambda r: r, tolerance=1e-6, restart=1, cycles=2,
    )  # fmt: skip
    assert float(left[0]) > 0.99
