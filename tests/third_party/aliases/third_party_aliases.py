"""Keeps the same memory in two fields of its state, and overwrites one of them."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class State(NamedTuple):
    position: Tensor
    before: Tensor


@dataclass(frozen=True)
class Walk:
    """A random walk that means to remember where its chains were."""

    scale: float = field(default=0.1, metadata={"gt": 0, "description": "standard deviation of a step"})

    def init(self, energy, position, noise):
        return State(position, position)

    def step(self, energy, state, noise):
        x = noise.perturb_(state.position, self.scale)
        return State(x.add_(state.before, alpha=0.5), state.before), None
