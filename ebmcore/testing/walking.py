"""Runs of a sampler outside the engine, step by step, so that a check sees every state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmcore.energy import BoundEnergy
from ebmcore.initial import Start
from ebmcore.noise import CounterNoise
from ebmcore.protocols import HasEnsembleSize, HasSamplerSupport
from ebmcore.states import fields_of, map_state
from ebmcore.testing.making import energy, noise
from ebmcore.testing.targets import Gaussian, Potts, Spins

SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "real": {"1-D": (3,), "image": (1, 4, 4), "scalar": ()},
    "binary": {"1-D": (4,), "image": (1, 4, 4), "scalar": ()},
    "categorical": {"1-D": (2, 3), "image": (1, 2, 2, 3), "scalar": (3,)},
}
"""Shapes of one position, by support: classes come last."""

STEPS = 6
"""Steps of a run whose bits are compared."""

State = tuple[Any, ...]
Watch = Callable[[Any], Any]


class Walk(NamedTuple):
    """What a run of some chains gave, in tensors of its own."""

    states: list[State]
    """The state after init, and after each step."""
    infos: list[State | None]
    """The statistics of each step."""

    @property
    def last(self) -> Tensor:
        """Positions at the end [n, *shape]."""
        position: Tensor = self.states[-1][0]
        return position


def support_of(sampler: Any) -> str:
    """Return the support that checks of the contract use: the reals, if the sampler takes them."""
    supports = sampler.support if isinstance(sampler, HasSamplerSupport) else frozenset({"real"})
    return next(each for each in ("real", "binary", "categorical") if each in supports)


def target_of(sampler: Any, shape: str = "1-D") -> Any:
    """Return an energy that the sampler takes, of a shape by name."""
    support = support_of(sampler)
    kind = {"real": Gaussian, "binary": Spins, "categorical": Potts}[support]
    return kind(SHAPES[support][shape])


def ensemble_of(sampler: Any) -> int:
    """Return how many chains the sampler steps together."""
    return int(sampler.ensemble_size) if isinstance(sampler, HasEnsembleSize) else 1


def whole_ensembles(sampler: Any, n: int) -> int:
    """Return a number of chains, at least n, that the sampler can step."""
    size = ensemble_of(sampler)
    return -(-n // size) * size


def cuts_of(sampler: Any) -> tuple[int, ...]:
    """Return where chunks may be cut, with a ragged last one: at multiples of 64 chains, as the host does."""
    grid = math.lcm(64, ensemble_of(sampler))
    return (0, grid, 3 * grid, whole_ensembles(sampler, 3 * grid + 9))


def walk(
    sampler: Any,
    bound: BoundEnergy,
    chains: range,
    *,
    steps: int = STEPS,
    seed: int = 0,
    position: Tensor | None = None,
    watch: Watch = lambda noise: noise,
) -> Walk:
    """Take chains through `init` and some steps.

    Args:
        sampler: The sampler.
        bound: The energy of these chains.
        chains: Their ids.
        steps: How many steps.
        seed: The run's seed.
        position: Where they begin; by default where a run with `init = "auto"` does.
        watch: Wraps every noise that is handed over.
    """
    pace = Pace(sampler, bound, chains, steps=steps, seed=seed, position=position, watch=watch)
    for _ in range(steps):
        pace.step()
    return pace.walk


class Pace:
    """A run that is advanced from outside, one step at a time; arguments as of `walk`."""

    def __init__(
        self,
        sampler: Any,
        bound: BoundEnergy,
        chains: range,
        *,
        steps: int = STEPS,
        seed: int = 0,
        position: Tensor | None = None,
        watch: Watch = lambda noise: noise,
    ) -> None:
        self._sampler, self._bound, self._chains = sampler, bound, chains
        self._steps, self._seed, self._watch = steps, seed, watch
        begin = noise(seed, chains, steps=steps, dtype=bound.dtype, device=bound.device, init=True)
        begin.advance(0, 0)
        position = starts(bound, chains, begin) if position is None else position.clone()
        with torch.no_grad():
            self._state = sampler.init(bound, position, watch(begin))
        self.walk = Walk([map_state(Tensor.clone, self._state)], [])

    def step(self) -> None:
        """Take one step."""
        t = len(self.walk.infos)
        now = noise(self._seed, self._chains, t, steps=self._steps, dtype=self._bound.dtype, device=self._bound.device)
        with torch.no_grad():
            self._state, info = self._sampler.step(self._bound, self._state, self._watch(now))
        self.walk.states.append(map_state(Tensor.clone, self._state))
        self.walk.infos.append(None if info is None else map_state(Tensor.clone, info))

    def go_on(self, sampler: Any, state: State, step: int) -> None:
        """Take up a state that was had after so many steps, with another instance of the sampler."""
        self._sampler, self._state = sampler, map_state(Tensor.clone, state)
        del self.walk.states[step + 1 :], self.walk.infos[step:]


def starts(bound: BoundEnergy, chains: range, begin: CounterNoise) -> Tensor:
    """Return where a run with `init = "auto"` begins [n, *shape]."""
    like = torch.empty((len(chains), *bound.shape), dtype=bound.dtype, device=bound.device)
    return Start("auto").positions(chains.start, chains.stop, 0, like, bound.support, begin)


def bind(target: Any, dtype: torch.dtype = torch.float32, **condition: Tensor) -> BoundEnergy:
    """Return the energy that a sampler is handed of one of the kit's targets."""
    return energy(target, target.shape, dtype=dtype, condition=condition)


def rows(walked: Walk, lo: int, hi: int) -> dict[str, Tensor]:
    """Return every leaf of the last state and every statistic of every step, in the rows [lo, hi), by name."""
    found = {f"state field `{name}`": leaf[lo:hi] for name, leaf in fields_of(walked.states[-1])}
    for t, info in enumerate(walked.infos):
        for name, value in () if info is None else fields_of(info):
            found[f"statistic `{name}` of step {t}"] = value[lo:hi]
    return found


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> str | None:
    """Say what differs between two runs, number by number, NaN being equal to itself; None if nothing does."""
    if list(a) != list(b):
        return "other state fields or statistics"
    for name, x in a.items():
        y = b[name]
        if x.shape != y.shape or x.dtype != y.dtype:
            return f"{name} {list(y.shape)} {y.dtype} in place of {list(x.shape)} {x.dtype}"
        same = (x == y) | (x.isnan() & y.isnan()) if x.is_floating_point() else x == y
        if not bool(same.all()):
            bad = (~same).reshape(len(x), -1).any(1).nonzero().flatten()
            return f"another {name} in {len(bad)} of {len(x)} chains, first in row {int(bad[0])}"
    return None
