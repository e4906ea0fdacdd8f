"""TorchEBM's `GradientDescentSampler`: x <- x - step_size * grad U(x)/T. No noise: it finds minima."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor
from torchebm.samplers import GradientDescentSampler

from ebmcore.protocols import EnergyFunction, Noise, Schedule, at
from ebmcore_torchebm.answering import Energy, answered
from ebmcore_torchebm.state import State


@dataclass(frozen=True)
class GradientDescent:
    """`torchebm.samplers.GradientDescentSampler` on ebmcore's energy."""

    step_size: float | Schedule = field(metadata={"gt": 0, "description": "length of a step; a number or a schedule"})

    needs: ClassVar[frozenset[Literal["value", "gradient"]]] = frozenset({"gradient"})
    law: ClassVar[Literal["other"]] = "other"

    def init(self, energy: EnergyFunction, position: Tensor, noise: Noise) -> State:
        return State(position)

    def step(self, energy: EnergyFunction, state: State, noise: Noise) -> tuple[State, None]:
        x = state.position
        sampler = GradientDescentSampler(
            Energy(energy), step_size=at(self.step_size, noise.step, noise.steps), dtype=x.dtype, device=x.device
        )
        with answered(noise, x):
            return State(sampler.sample(x, n_steps=1)), None
