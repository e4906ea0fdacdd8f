"""What is asked of a sampler's randomness before a run: the same step again, and the step of some chains alone.

A run can be repeated, cut into chunks and resumed only if a step depends on its state, its energy
and its `Noise`, chain by chain. Neither is seen in the shapes of what a step returns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebmcore.energy import BoundEnergy
from ebmcore.energy_checks import close, raised
from ebmcore.errors import EbmcoreError, EbmcoreWarning, SamplerError
from ebmcore.noise import CounterNoise
from ebmcore.protocols import HasEnsembleSize, Sampler
from ebmcore.states import fields_of, map_state

SAME = 1e-5
"""Two identical steps may differ by this part of the largest value: some kernels of a GPU add in any order."""

APART = 1e-3
"""A step of some chains alone may differ by this part: a matmul rounds differently in another batch."""

State = tuple[Any, ...]
NoiseOf = Callable[[int], CounterNoise]
"""Makes the noise of the first n chains, as `noise_of(n)`."""


def check_randomness(
    energy: BoundEnergy, sampler: Sampler[Any], position: Tensor, begin: NoiseOf, noise: NoiseOf
) -> None:
    """Take the first step of a few chains again, then that of the first of them alone.

    Args:
        energy: The energy of the chains at `position`; it gives the same result again.
        sampler: The sampler, which has passed all other checks on these chains.
        position: Positions [n, *shape]; they stay as they are.
        begin: Noise of the init stream.
        noise: Noise of the step.

    Raises:
        SamplerError: Chains depend on which others share their batch; or state fields share memory, and it shows.

    Warns:
        EbmcoreWarning: Two identical steps gave different results: the samples cannot be repeated.
    """
    who, n = type(sampler).__name__, len(position)

    def take(rows: int, between: Callable[[State], State] = lambda state: state) -> State:
        few = energy if rows == n else energy.select(torch.arange(rows, device=position.device))
        state = between(call(sampler.init, f"{who}.init", few, position[:rows].clone(), begin(rows)))
        after: State = call(sampler.step, f"{who}.step", few, state, noise(rows))[0]
        return _separated(after)

    generator = torch.get_rng_state()
    first = take(n)
    drew = not torch.equal(generator, torch.get_rng_state())
    if drew or not _agree(first, take(n), SAME):
        why = "it draws from torch's own generator" if drew else "it keeps or draws something of its own"
        warnings.warn(
            f"{who}.step should give the same result when it is repeated, and does not: {why}. The run cannot be "
            "repeated or resumed: take all randomness from `noise`, and keep all else in the state.",
            EbmcoreWarning,
            stacklevel=2,
        )
        return
    if not _agree(first, take(n, _separated), SAME):
        raise SamplerError(
            f"{who} must keep each state field in memory of its own; got fields that share it, so that a step "
            "overwrites one through the other. Clone one of them in init."
        )
    size = sampler.ensemble_size if isinstance(sampler, HasEnsembleSize) else 1
    if size < n and not _agree(map_state(lambda rows: rows[:size], first), take(size), APART):
        raise SamplerError(
            f"{who}.step must treat {'each chain' if size == 1 else 'each ensemble'} on its own; got a step that "
            "changes when other chains leave the batch. Take nothing over axis 0, and make the same calls of `noise` "
            "whatever the batch holds."
        )


def call(method: Callable[..., Any], who: str, energy: BoundEnergy, *arguments: Any) -> Any:
    """Call a method of a sampler with an energy.

    Raises:
        SamplerError: It raised something that ebmcore does not raise on purpose.
    """
    try:
        return method(energy, *arguments)
    except EbmcoreError:
        raise
    except Exception as error:
        raise SamplerError(
            f"{who} must accept positions {list(energy.shape)} of any number of chains; it {raised(error)}. "
            "Mend it there; --debug shows the traceback."
        ) from error


def _separated(state: State) -> State:
    return map_state(Tensor.clone, state)


def _agree(a: State, b: State, part: float) -> bool:
    return all(_close(x, y, part) for (_, x), (_, y) in zip(fields_of(a), fields_of(b), strict=True))


def _close(x: Tensor, y: Tensor, part: float) -> bool:
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    if not x.is_floating_point():
        return torch.equal(x, y)
    return close(x, y, part)
