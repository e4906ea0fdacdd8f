"""Returns positions of another dtype than it was given."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class State(NamedTuple):
    position: Tensor


@dataclass(frozen=True)
class Walk:
    """A random walk in double precision, from its step number `after` on."""

    scale: float = field(default=0.1, metadata={"gt": 0, "description": "standard deviation of a step"})
    after: int = field(default=0, metadata={"ge": 0, "description": "first step that is wrong"})

    def init(self, energy, position, noise):
        return State(position)

    def step(self, energy, state, noise):
        x = noise.perturb_(state.position, self.scale)
        return State(x if noise.step < self.after else x.double()), None
