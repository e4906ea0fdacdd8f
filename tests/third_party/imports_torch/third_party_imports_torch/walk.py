"""A sampler that does what it should."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class State(NamedTuple):
    position: Tensor


@dataclass(frozen=True)
class Walk:
    """A random walk that does what it should."""

    scale: float = field(default=0.1, metadata={"gt": 0, "description": "standard deviation of a step"})

    def init(self, energy, position, noise):
        return State(position)

    def step(self, energy, state, noise):
        return State(noise.perturb_(state.position, self.scale)), None
