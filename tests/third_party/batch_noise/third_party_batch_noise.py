"""Draws noise that depends on which chains share its batch."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class State(NamedTuple):
    position: Tensor


@dataclass(frozen=True)
class Walk:
    """A random walk that centres its noise over the batch."""

    scale: float = field(default=0.1, metadata={"gt": 0, "description": "standard deviation of a step"})

    def init(self, energy, position, noise):
        return State(position)

    def step(self, energy, state, noise):
        z = noise.normal(state.position)
        return State(state.position + self.scale * (z - z.mean(0))), None
