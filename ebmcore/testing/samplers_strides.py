"""What a sampler's `stride` must do: what its steps do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from ebmcore.noise import STEP, CounterNoise
from ebmcore.protocols import Key
from ebmcore.reference import Reference
from ebmcore.states import map_state
from ebmcore.strides import takes_strides
from ebmcore.testing.conformance import NotApplicable, name_of, require
from ebmcore.testing.walking import bind, target_of, walk, whole_ensembles

COUNTS = (1, 3, 2)


@final
class _StepByStep:
    """The reference's noise, which takes strides one step after the other (`HasStridingNoise`)."""

    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    def __init__(self) -> None:
        self._own = Reference()

    def fill_(self, out: Tensor, kind: Literal["normal", "uniform"], key: Key, chains: range | Tensor, /) -> Tensor:
        return self._own.fill_(out, kind, key, chains)

    def perturb_(self, x: Tensor, scale: float | Tensor, key: Key, chains: range | Tensor, /, **more: Any) -> Tensor:
        return self._own.perturb_(x, scale, key, chains, **more)

    def stride(
        self,
        gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
        chains: range | Tensor,
        scale: float,
        /,
        *,
        decay: float = 1.0,
        drift_scale: float = 0.0,
    ) -> Callable[[Tensor, Key, int], Tensor]:
        def move(x: Tensor, key: Key, count: int) -> Tensor:
            for t in range(count):
                drift, now = gradient(x)[1], key._replace(t=key.t + t)
                self._own.perturb_(x, scale, now, chains, decay=decay, drift=drift, drift_scale=drift_scale)
            return x

        return move


def check_strides(sampler: Any, seed: int) -> None:
    """`stride` takes the chains where as many steps take them, and its type of state with them."""
    if not takes_strides(sampler):
        raise NotApplicable("it has no `stride` of its steps")
    bound, chains = bind(target_of(sampler)), range(whole_ensembles(sampler, 5))
    walked = walk(sampler, bound, chains, steps=sum(COUNTS), seed=seed)
    noise = CounterNoise(
        _StepByStep(),
        seed,
        chains,
        dtype=bound.dtype,
        device=bound.device,
        stream=STEP,
        t=0,
        step=0,
        steps=sum(COUNTS),
    )
    require(
        all(info is None for info in walked.infos),
        f"{name_of(sampler)} with a stride must have no statistics",
        "some from step",
        "Return (state, None), or leave stride out",
    )
    with torch.no_grad():
        move = sampler.stride(bound.with_gradient(bound.value_and_gradient), noise)
        if move is None:
            raise NotApplicable("it takes no strides with these settings")
        state, t = map_state(Tensor.clone, walked.states[0]), 0
        for count in COUNTS:
            noise.advance(t, t)
            state, t = move(state, count), t + count
            off = float((state[0] - walked.states[t][0]).abs().max())
            require(
                type(state) is type(walked.states[t]) and off <= 1e-4 and noise.t == t - 1,
                f"{name_of(sampler)}.stride must do what {count} steps do",
                f"positions that are {off:.3g} off after step {t - 1}"
                if type(state) is type(walked.states[t]) and noise.t == t - 1
                else f"a {type(state).__name__}, and noise at t {noise.t} after step {t - 1}",
                "Give Noise.stride the factors that `step` gives perturb_",
            )


CHECKS = (check_strides,)
