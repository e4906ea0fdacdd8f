"""Several steps in one call: whether the samplers of a run can, and how many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, final

from ebmcore.energy import BoundEnergy
from ebmcore.noise import STEP, CounterNoise
from ebmcore.protocols import HasStride, HasStridingNoise, NoiseBackend, Sampler

LONGEST = 0.05
"""Seconds that a call may take: so long a stop or a report of progress waits."""


def takes_strides(sampler: object) -> TypeGuard[HasStride[Any]]:
    """Say whether a sampler has a `stride` that is of its `step`.

    Of a class that inherits one and has a `step` of its own it may be another's, and of an object that hands on what
    it does not have itself; a setting of that name is none.
    """
    if not isinstance(sampler, HasStride):
        return False
    for each in type(sampler).__mro__:
        if {"step", "stride"} & vars(each).keys():
            return callable(vars(each).get("stride"))
    return False


def striding(samplers: Sequence[Sampler[Any]], backend: NoiseBackend) -> Callable[[BoundEnergy], bool] | None:
    """Return what says of an energy whether all samplers take strides with it; None where they never do.

    Args:
        samplers: Of all stages.
        backend: The run's noise.
    """
    able: list[HasStride[Any]] = [sampler for sampler in samplers if takes_strides(sampler)]
    if len(able) < len(samplers) or not isinstance(backend, HasStridingNoise):
        return None

    def strides(energy: BoundEnergy) -> bool:
        noise = CounterNoise(
            backend, 0, range(1), dtype=energy.dtype, device=energy.device, stream=STEP, t=0, step=0, steps=1
        )
        return all(sampler.stride(energy, noise) is not None for sampler in able)

    return strides


@final
class Pace:
    """How many steps to take in one call: as many as fit in `LONGEST`, by the time that the last ones took."""

    def __init__(self) -> None:
        self.most = 1

    def took(self, steps: int, seconds: float) -> None:
        """Take note of a call."""
        self.most = max(1, min(16 * self.most, int(LONGEST * steps / max(seconds, 1e-9))))
