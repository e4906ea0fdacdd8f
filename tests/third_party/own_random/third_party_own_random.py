"""Draws random numbers of its own."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class State(NamedTuple):
    position: Tensor


@dataclass(frozen=True)
class Walk:
    """A random walk whose noise is torch's."""

    scale: float = field(default=0.1, metadata={"gt": 0, "description": "standard deviation of a step"})

    def init(self, energy, position, noise):
        return State(position)

    def step(self, energy, state, noise):
        return State(state.position + self.scale * torch.randn_like(state.position)), None
