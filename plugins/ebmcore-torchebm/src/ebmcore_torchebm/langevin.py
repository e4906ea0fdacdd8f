"""TorchEBM's `LangevinDynamics`, a step at a time.

    x <- x - step_size * grad U(x)/T + noise_scale * sqrt(2 * step_size) * z,    z ~ N(0, 1)

With `integrator = "euler_maruyama"` this is `ula` of ebmcore-langevin, with the same random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor
from torchebm.samplers import LangevinDynamics

from ebmcore.errors import SettingsError
from ebmcore.protocols import EnergyFunction, Noise, Schedule, at
from ebmcore_torchebm.answering import Energy, answered
from ebmcore_torchebm.state import State


@dataclass(frozen=True)
class Langevin:
    """`torchebm.samplers.LangevinDynamics` on ebmcore's energy, with ebmcore's random numbers.

    Raises:
        SettingsError: One of `low` and `high` is set without the other, or `low` is not below `high`.
    """

    step_size: float | Schedule = field(metadata={"gt": 0, "description": "length of a step; a number or a schedule"})
    noise_scale: float = field(
        default=1.0, metadata={"gt": 0, "description": "factor on sqrt(2 * step_size); sqrt(T) samples at T"}
    )
    low: float | None = field(default=None, metadata={"description": "positions are clamped to [low, high] each step"})
    high: float | None = field(default=None, metadata={"description": "see low"})
    integrator: Literal["euler_maruyama", "heun"] = field(
        default="euler_maruyama", metadata={"description": "TorchEBM's name of the integrator"}
    )

    needs: ClassVar[frozenset[Literal["value", "gradient"]]] = frozenset({"gradient"})

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None) or (self.low is not None and not self.low < (self.high or 0.0)):
            raise SettingsError(f"`low` must be below `high`, both set or neither; got {self.low} and {self.high}.")

    def init(self, energy: EnergyFunction, position: Tensor, noise: Noise) -> State:
        return State(position)

    def step(self, energy: EnergyFunction, state: State, noise: Noise) -> tuple[State, None]:
        x = state.position
        sampler = LangevinDynamics(
            Energy(energy),
            step_size=at(self.step_size, noise.step, noise.steps),
            noise_scale=self.noise_scale,
            clamp=None if self.low is None or self.high is None else (self.low, self.high),
            dtype=x.dtype,
            device=x.device,
            integrator=self.integrator,
        )
        with answered(noise, x):
            return State(sampler.sample(x, n_steps=1)), None
