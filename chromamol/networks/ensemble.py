"""Several coordinate networks of one architecture side by side: a batch of fits in one pass."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from chromamol.networks.interface import CoordinateNetwork, FieldNetwork


class Ensemble(FieldNetwork):
    """Networks with parameters and buffers stacked along a leading axis, evaluated by `torch.func.vmap`.

    Buffers that a network saves, such as the random frequencies of its features, are saved with the ensemble.

    Parameters
    ----------
    members : at least one; same class and sizes.
    """

    def __init__(self, members: Sequence[CoordinateNetwork]) -> None:
        super().__init__()
        first = members[0]
        self.shape, self.spacing, self.outputs = first.shape, first.spacing, first.outputs
        self.batch = len(members)
        stacked, buffers = stack_module_state(list(members))
        self._names = list(stacked)
        self.stacked = nn.ParameterList(nn.Parameter(p.detach().clone()) for p in stacked.values())
        self._buffer_names = list(buffers)
        self.constants = nn.Module()
        saved = first.state_dict()
        for number, (name, values) in enumerate(buffers.items()):
            # A name with dots can't be registered.
            self.constants.register_buffer(str(number), values, persistent=name in saved)
        # The template holds no data: its parameters are replaced in every call, and must not be trained or saved.
        self._template = [copy.deepcopy(first).to("meta")]

    def forward(self) -> Tensor:
        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return functional_call(self._template[0], (parameters, buffers), ())

        parameters = dict(zip(self._names, self.stacked, strict=True))
        buffers = dict(zip(self._buffer_names, self.constants.buffers(), strict=True))
        return vmap(one)(parameters, buffers)[:, 0]

    @torch.no_grad()
    def start_from(self, values: Tensor, seen: Tensor) -> None:
        for b in range(self.batch):
            member = self.member(b)
            member.start_from(values[b : b + 1], seen[b : b + 1])
            for stacked, parameter in zip(self.stacked, member.parameters(), strict=True):
                stacked[b].copy_(parameter)

    def member(self, index: int) -> CoordinateNetwork:
        """Return one network with a copy of its present parameters."""
        network = copy.deepcopy(self._template[0]).to(self.stacked[0].dtype)
        network = network.to_empty(device=self.stacked[0].device)
        state = {n: p[index] for n, p in zip(self._names, self.stacked, strict=True)}
        network.load_state_dict(state, strict=False)
        for name, values in zip(self._buffer_names, self.constants.buffers(), strict=True):
            network.get_buffer(name).copy_(values[index])
        return network
