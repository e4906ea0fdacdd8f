"""An energy of your own, which a run file names by `use = "./my_energy.py:MyEnergy"` (see mlp_own.toml)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MyEnergy(nn.Module):
    """U(x) = network(x) + confinement/2 |x|^2, with a network 2-32-32-1 of SELU.

    An energy maps positions [n, 2] to [n], one number a chain. The quadratic term makes
    exp(-U) a density: a network alone grows too slowly, or falls, far from the origin.
    """

    shape = (2,)  # of one position; without it a run file says `shape = [2]` under [run]

    def __init__(self, confinement: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.confinement = confinement
        generator = torch.Generator().manual_seed(seed)
        self.network = nn.Sequential(
            _linear(2, 32, generator), nn.SELU(), _linear(32, 32, generator), nn.SELU(), _linear(32, 1, generator)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze(-1) + 0.5 * self.confinement * x.square().sum(-1)


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    # nn.Linear alone would draw its weights from torch's global generator, which is yours.
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
