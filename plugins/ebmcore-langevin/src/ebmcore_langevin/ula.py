"""The unadjusted Langevin algorithm.

    x <- x - step_size * grad U(x)/T + std * z,    z ~ N(0, 1),    std = noise_scale * sqrt(2 * step_size)

It is the Euler-Maruyama scheme of dX = -grad U(X)/T dt + sqrt(2) dW: Parisi, "Correlation
functions and computer simulations", Nuclear Physics B 180 (1981); named and analysed by
Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete
approximations", Bernoulli 2 (1996). No step is rejected, so the law it converges to is not
quite exp(-U/T): its error falls in proportion to `step_size`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from ebmcore.errors import SettingsError
from ebmcore.protocols import EnergyFunction, Noise, Schedule
from ebmcore_langevin.step_size import step_size_at


class ULAState(NamedTuple):
    """Where the chains are."""

    position: Tensor
    """[n, *shape], float32 or float64."""


@dataclass(frozen=True)
class ULA:
    """Unadjusted Langevin: a gradient step and Gaussian noise, every step accepted.

    The energy that it is handed is U/T already. With `noise_scale` and `noise_std` left out it
    targets exp(-U/T). On a Gaussian of stiffness k (U/T = k x^2 / 2) with eps = `step_size` its
    stationary variance is exactly

        1 / (k (1 - eps k / 2)),    for eps < 2 / k; above that it diverges

    and with a noise of standard deviation s a step, s^2 / (eps k (2 - eps k)).

    Two ways to say the noise, one at a time:

    - `noise_scale`, a factor on sqrt(2 * step_size), as TorchEBM has it: the target becomes
      exp(-U / (T * noise_scale^2)). So noise_scale = sqrt(T) in a run at temperature 1 samples
      at temperature T, with the step of a run at temperature T whose step_size is T times as long.
    - `noise_std`, the standard deviation a step, as the short-run recipes of energy-based models
      have it (JEM: step_size = 1, noise_std = 0.01). It equals
      noise_scale = noise_std / sqrt(2 * step_size).

    `step_size` may be a schedule: each step has the value of that step, and with `noise_scale` its noise too.

    Raises:
        SettingsError: Both `noise_scale` and `noise_std` are set.
        SamplerError: In a step, a schedule's value is not a finite number > 0.
    """

    step_size: float | Schedule = field(
        metadata={"gt": 0, "description": "length of a step: the factor on the gradient of U/T; a number or a schedule"}
    )
    noise_scale: float | None = field(
        default=None,
        metadata={"ge": 0, "description": "factor on sqrt(2 * step_size), 1 if left out; sqrt(T) in TorchEBM"},
    )
    noise_std: float | None = field(
        default=None,
        metadata={"ge": 0, "description": "standard deviation of the noise a step, in place of noise_scale"},
    )

    needs: ClassVar[frozenset[Literal["value", "gradient"]]] = frozenset({"gradient"})

    def __post_init__(self) -> None:
        if self.noise_scale is not None and self.noise_std is not None:
            raise SettingsError(
                f"`noise_std` must be left out beside `noise_scale`; got {self.noise_std} and {self.noise_scale}. "
                "Set one: noise_std = noise_scale * sqrt(2 * step_size)."
            )

    @property
    def law(self) -> Literal["limit", "other"]:
        """What `ebmcore.testing` holds it to: exp(-U/T) as `step_size` goes to 0, with the noise left as it is."""
        return "limit" if self.noise_scale is None and self.noise_std is None else "other"

    @cached_property
    def fixed(self) -> tuple[float, float] | None:
        """The factors of every step, where `step_size` is a plain number: computed once."""
        return self.factors(float(self.step_size)) if isinstance(self.step_size, int | float) else None

    def factors(self, step_size: float) -> tuple[float, float]:
        """Return what a step of this size multiplies the gradient and a standard normal by."""
        if self.noise_std is not None:
            return -step_size, float(self.noise_std)
        scale = 1.0 if self.noise_scale is None else self.noise_scale
        return -step_size, scale * math.sqrt(2.0 * step_size)

    def init(self, energy: EnergyFunction, position: Tensor, noise: Noise) -> ULAState:
        return ULAState(position)

    def step(self, energy: EnergyFunction, state: ULAState, noise: Noise) -> tuple[ULAState, None]:
        x = state.position
        drift_scale, std = self.fixed or self.factors(step_size_at(self.step_size, noise))
        return ULAState(noise.perturb_(x, std, drift=energy.gradient(x), drift_scale=drift_scale)), None

    def stride(self, energy: EnergyFunction, noise: Noise) -> Callable[[ULAState, int], ULAState] | None:
        if self.fixed is None:
            return None
        drift_scale, std = self.fixed
        move = noise.stride(energy, std, drift_scale=drift_scale)
        return None if move is None else lambda state, count: ULAState(move(state.position, count))
