"""What is shared by the samples of a nucleus, in a batch of nuclei with as many samples each."""

from __future__ import annotations

import torch


def of_nuclei(values: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """Split the batch axis into nuclei, as many as `shared` has, and samples."""
    return values.unflatten(0, (len(shared), -1))


def times_own(values: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Multiply (N, ..., m) by the table of its nucleus, of (B, m, n).

    A batch that shares one table is one matrix product; as a batch of products it took ten times as long.
    """
    if len(tables) == 1:
        return values @ tables[0]
    each = of_nuclei(values, tables)
    if each.shape[-2] == 1:  # samples of vectors: one product for each nucleus
        return (each.flatten(1, -2) @ tables).reshape(*each.shape[:-1], -1).flatten(0, 1)
    return (each @ tables.reshape(len(tables), *(1,) * (each.ndim - 3), *tables.shape[1:])).flatten(0, 1)
