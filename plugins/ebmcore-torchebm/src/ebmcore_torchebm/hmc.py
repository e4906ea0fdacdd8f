"""TorchEBM's `HamiltonianMonteCarlo`, a trajectory at a time: fresh momenta, leapfrog steps, accept or stay.

Duane, Kennedy, Pendleton and Roweth, "Hybrid Monte Carlo", Physics Letters B 195 (1987).

As TorchEBM has it, energies are clamped to [-1e10, 1e10], and what it makes of NaN is its own. Positions are vectors
[n, dim], since its kinetic energy sums over the last axis alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor
from torchebm.samplers import HamiltonianMonteCarlo

from ebmcore.errors import SamplerError
from ebmcore.protocols import EnergyFunction, Noise, Schedule, at
from ebmcore_torchebm.answering import Energy, answered
from ebmcore_torchebm.state import State


class Info(NamedTuple):
    """What is known of a trajectory from outside."""

    acceptance_rate: Tensor
    """[n]: 1 where it was accepted, else 0."""


@dataclass(frozen=True)
class HMC:
    """`torchebm.samplers.HamiltonianMonteCarlo` on ebmcore's energy, with ebmcore's random numbers.

    Raises:
        SamplerError: At the beginning, positions are not vectors.
    """

    step_size: float | Schedule = field(metadata={"gt": 0, "description": "of a leapfrog step; a number or a schedule"})
    n_leapfrog_steps: int = field(default=10, metadata={"ge": 1, "description": "leapfrog steps a trajectory"})
    mass: float | None = field(default=None, metadata={"gt": 0, "description": "of every coordinate; 1 if left out"})

    needs: ClassVar[frozenset[Literal["value", "gradient"]]] = frozenset({"value", "gradient"})

    def init(self, energy: EnergyFunction, position: Tensor, noise: Noise) -> State:
        if position.ndim != 2:
            raise SamplerError(
                f"torchebm_hmc must have positions that are vectors, [n, dim]; got {list(position.shape)}: "
                "TorchEBM's kinetic energy sums over the last axis alone. Use another sampler."
            )
        return State(position)

    def step(self, energy: EnergyFunction, state: State, noise: Noise) -> tuple[State, Info]:
        x = state.position
        sampler = HamiltonianMonteCarlo(
            Energy(energy),
            step_size=at(self.step_size, noise.step, noise.steps),
            n_leapfrog_steps=self.n_leapfrog_steps,
            mass=self.mass,
            dtype=x.dtype,
            device=x.device,
        )
        with answered(noise, x):
            after = sampler.sample(x, n_steps=1)
        return State(after), Info((after != x).any(1).to(x.dtype))
