"""Its step knows no noise."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class State(NamedTuple):
    position: Tensor


@dataclass(frozen=True)
class Walk:
    """A random walk whose step does not take the noise."""

    scale: float = field(default=0.1, metadata={"gt": 0, "description": "standard deviation of a step"})

    def init(self, energy, position, noise):
        return State(position)

    def step(self, energy, state):
        return State(state.position), None
