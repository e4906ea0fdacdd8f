"""Positions held between bounds: another sampler's step, then a projection of every coordinate into [low, high].

    clamp:    x <- min(max(x, low), high)
    reflect:  x <- the point that x is after mirroring at the bounds as often as it takes

After ULA's step, `clamp` is projected Langevin Monte Carlo (Bubeck, Eldan and Lehec, "Sampling
from a log-concave distribution with projected Langevin Monte Carlo", Discrete & Computational
Geometry 59, 2018), and `reflect` the symmetrized Euler scheme of the reflected diffusion (Bossy,
Gobet and Talay, "A symmetrized Euler scheme for an efficient approximation of reflected
diffusions", Journal of Applied Probability 41, 2004).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from ebmcore.errors import SettingsError
from ebmcore.protocols import EnergyFunction, Noise, Sampler

S = TypeVar("S", bound=tuple[Any, ...])

FORWARDED = ("needs", "support", "ensemble_size", "keep", "reduce")
"""What the host may ask a sampler for and what the inner one answers, if it does."""


class ProjectedState(NamedTuple):
    """Where the chains are, and what the inner sampler knows there; its fields can be read here too."""

    position: Tensor
    """[n, *shape] in [low, high]: that of `inner`."""
    inner: Any
    """State of the inner sampler."""

    def __getattr__(self, name: str) -> Any:
        # Fields that the inner sampler keeps with every draw are looked up here.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.inner, name)


@dataclass(frozen=True)
class Projected:
    """A sampler whose positions are put back into [low, high], in every coordinate, after each of its steps.

    The target meant is exp(-U/T) on the box alone. What is sampled is not quite that:

    - `clamp` leaves mass on the bounds themselves: with a noise of standard deviation s a step, a
      fraction of the order of s in each coordinate where the density at a bound is not small. After
      ULA's step that mass vanishes, and the law tends to the target on the box, as the step size goes
      to 0 (proved for convex U): its error falls with the root of `step_size`. It is how the short-run
      recipes of image energies keep pixels in range (Du and Mordatch, "Implicit generation and
      modeling with energy-based models", 2019).
    - `reflect` leaves no mass on the bounds. After ULA's step the stationary law tends to the target on
      the box as the step size goes to 0, its error in proportion to `step_size`; where U is constant it
      is that law, the uniform one, at any step size.
    - Around a Metropolis method (`mala`) neither is exact: a proposal outside is accepted by the energy
      outside, and moved after that, so detailed balance does not hold. For the exact law of the box
      use the method without this wrapper on an energy that is +inf outside.

    Bounds are meant in the positions' dtype. A position inside keeps its bits; NaN stays NaN. An infinite
    coordinate is clamped to its bound, or made NaN or left infinite by `reflect`.

    Chains that were moved go on from the inner sampler's `init` at the new position: what else they
    knew (a cached gradient, a momentum, a weight) begins anew, which costs an `init` of all chains a
    step unless the inner state is the position alone. Statistics are those of the inner step, before
    the projection. `needs`, `support`, `ensemble_size`, `keep` and `reduce` are the inner sampler's.

    Raises:
        SettingsError: Neither bound is given, or `low` is not < `high`.
    """

    sampler: Sampler[Any] = field(metadata={"description": "the sampler whose positions are projected"})
    low: float | None = field(default=None, metadata={"description": "least value of a coordinate; none if left out"})
    high: float | None = field(
        default=None, metadata={"description": "largest value of a coordinate; none if left out"}
    )
    how: Literal["clamp", "reflect"] = field(
        default="clamp", metadata={"description": "to the nearest bound, or mirrored at the bounds"}
    )

    law: ClassVar[Literal["other"]] = "other"

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise SettingsError("`low` or `high` must be set; got neither. Give one bound, or both: low = 0, high = 1.")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise SettingsError(f"`low` must be < `high`; got {self.low} and {self.high}. Exchange or change them.")
        # As attributes of the instance: a property would make every instance have them.
        for name in FORWARDED:
            if hasattr(self.sampler, name):
                object.__setattr__(self, name, getattr(self.sampler, name))

    def init(self, energy: EnergyFunction, position: Tensor, noise: Noise) -> ProjectedState:
        inner = self.sampler.init(energy, self._project(position), noise)
        return ProjectedState(inner[0], inner)

    def step(
        self, energy: EnergyFunction, state: ProjectedState, noise: Noise
    ) -> tuple[ProjectedState, tuple[Any, ...] | None]:
        inner, info = self.sampler.step(energy, state.inner, noise)
        position = inner[0]
        projected = self._project(position)
        if len(inner) == 1:
            return ProjectedState(projected, type(inner)(projected)), info
        moved = (projected != position).reshape(len(position), math.prod(position.shape[1:])).any(1)
        # For all chains, whether or not any was moved: which calls a step makes must not depend on its batch.
        inner = _where(moved, self.sampler.init(energy, projected, noise), inner)
        return ProjectedState(inner[0], inner), info

    def _project(self, x: Tensor) -> Tensor:
        """Return x [n, *shape] in [low, high], as a tensor of its own."""
        low, high = self.low, self.high
        if self.how == "clamp":
            return x.clamp(low, high)
        if high is None:
            assert low is not None
            return torch.where(x < low, low + (low - x), x)
        if low is None:
            return torch.where(x > high, high - (x - high), x)
        width = high - low
        # Mirroring at both bounds repeats every two widths: up the first, down the second.
        way = torch.remainder(x - low, 2.0 * width)
        folded = (low + torch.minimum(way, 2.0 * width - way)).clamp(low, high)
        return torch.where((x < low) | (x > high), folded, x)


def _where(chains: Tensor, new: S, old: S) -> S:
    """Return the state that is `new` in the rows where `chains` [n] is True, and `old` elsewhere."""

    def field_of(a: Any, b: Any) -> Any:
        if not isinstance(a, Tensor):
            return _where(chains, a, b)
        # Written out: a condition that is broadcast makes `where` three times slower in two dimensions.
        return torch.where(chains.reshape(-1, *(1,) * (a.ndim - 1)).expand_as(a).contiguous(), a, b)

    return type(old)(*map(field_of, new, old))
