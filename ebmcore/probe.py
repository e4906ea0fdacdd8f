"""A look at a run before it starts: a few chains, one step a stage, nothing written.

It refuses energies and samplers that break their contracts, and learns what each stage stores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmcore.energy import BoundEnergy, has_value
from ebmcore.energy_checks import check_energy, check_model, raised
from ebmcore.errors import EbmcoreError, InputError, SamplerError, about
from ebmcore.folding import folds
from ebmcore.health import FROZEN
from ebmcore.initial import Start, point_range
from ebmcore.noise import INIT, MINIBATCH, STEP, CounterNoise
from ebmcore.protocols import (
    ArraySpec,
    HasEnsembleSize,
    HasKeep,
    HasMinibatch,
    HasNeeds,
    HasSamplerSupport,
    Layout,
    Sampler,
    Stage,
)
from ebmcore.sampler_checks import call, check_randomness
from ebmcore.states import check_info, check_state, fields_of, numpy_name

BOTH = frozenset({"value", "gradient"})


class Look(NamedTuple):
    """What a look at a stage told."""

    layout: Layout | None
    """What it stores; None if it keeps no draw."""
    state_bytes: int
    """Bytes of the sampler's state of one chain."""


def check_pair(energy: BoundEnergy, sampler: Sampler[Any]) -> None:
    """Refuse a sampler that cannot work on an energy.

    Raises:
        InputError: The sampler's `support` or `needs` do not fit.
        EnergyError: The model is no energy at all.
    """
    check_model(energy.model)
    name = type(sampler).__name__
    supports = sampler.support if isinstance(sampler, HasSamplerSupport) else frozenset({"real"})
    if energy.support not in supports:
        raise InputError(
            f"sampler {name} must have an energy with support {' or '.join(sorted(supports))}; got {energy.support}. "
            "Choose a sampler for that support."
        )
    if "value" in needs(sampler) and not has_value(energy.model):
        raise InputError(
            f"sampler {name} must have the energy's value; got a model with a gradient alone. "
            "Use a sampler that needs no value, such as ula."
        )


def needs(sampler: Sampler[Any]) -> frozenset[str]:
    """Return what a sampler calls of its energy; both where it does not say."""
    return sampler.needs if isinstance(sampler, HasNeeds) else BOTH


def probe(
    energy: BoundEnergy,
    stages: Sequence[Stage],
    samplers: Sequence[Sampler[Any]],
    *,
    start: Start,
    backend: Any,
    seed: int,
    chains: int,
    grain: int,
    frozen: bool,
) -> tuple[Look, ...]:
    """Run a few chains for one step of each stage, and return what that told.

    Args:
        energy: The energy of all chains.
        stages: The run's stages.
        samplers: One a stage.
        start: Where the chains begin.
        backend: The noise backend.
        seed: The run's seed.
        chains: Number of chains of the run.
        grain: Chains that blocks begin at multiples of.
        frozen: Whether draws say which chains are held.

    Raises:
        EnergyError: The energy breaks its contract.
        SamplerError: A sampler breaks its contract.
        InputError: Sampler and energy do not fit each other.
    """
    position = first_positions(energy, start, backend, seed, min(chains, _rows(samplers, energy.shape)))
    looks = []
    for index, (stage, sampler) in enumerate(zip(stages, samplers, strict=True)):
        with about("stage", index, "sampler"):
            state, info = check_first_step(energy, sampler, position, backend)
            layout = _layout(stage, sampler, state, info, energy, chains, grain) if stage.draws else None
        if layout is not None and frozen:
            marks = ArraySpec((chains, stage.draws), "bool", ("chain", "draw"))
            layout = replace(layout, arrays={**layout.arrays, FROZEN: marks})
        size = sum(leaf.numel() * leaf.element_size() for _, leaf in fields_of(state))
        looks.append(Look(layout, size // len(state[0])))
    return tuple(looks)


def first_positions(energy: BoundEnergy, start: Start, backend: Any, seed: int, n: int) -> Tensor:
    """Return where the first `n` chains of a run begin, [n, *shape].

    Raises:
        InputError: A function given as `init` fails.
    """
    points = range(*point_range(0, n, start.repeat))
    noise = CounterNoise(
        backend, seed, points, dtype=energy.dtype, device=energy.device, stream=INIT, t=0, step=0, steps=0
    )
    like = torch.empty((n, *energy.shape), dtype=energy.dtype, device=energy.device)
    try:
        with about("run", "init"):
            return start.positions(0, n, 0, like, energy.support, noise)
    except EbmcoreError:
        raise
    except Exception as error:
        with about("run", "init"):
            raise InputError(
                f"the function given as `init` must accept any chain ids and their noise; it {raised(error)}. "
                "Mend it there."
            ) from error


def check_first_step(
    energy: BoundEnergy, sampler: Sampler[Any], x: Tensor, backend: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """Take a few chains through one step, refuse what breaks a contract, and return their state and statistics.

    Args:
        energy: The energy of the chains at `x`, and maybe of more behind them.
        sampler: The sampler.
        x: Positions [n, *shape]; they stay as they are.
        backend: The noise backend.

    Raises:
        EnergyError: The energy breaks its contract.
        SamplerError: The sampler breaks its contract.
        InputError: Sampler and energy do not fit each other.
    """
    check_pair(energy, sampler)
    n = _rows([sampler], energy.shape)
    index = torch.arange(n) % len(x)
    position = x.detach()[index.to(x.device)].to(energy.device, energy.dtype)
    if energy.support == "real":
        # Repeated rows must differ, or chains that influence each other would not show.
        for row in range(len(x), n):
            position[row] += 0.01 * row
    few = energy.select(index).rows(0, n)
    if isinstance(energy.model, HasMinibatch):
        few = few.sharing(energy.model.minibatch(_noise(few, backend, n, MINIBATCH)))
    with about("model"):
        fixed = check_energy(few, position, gradient="gradient" in needs(sampler))
    looked = _one_step(few, sampler, position, backend)
    if fixed:
        check_randomness(
            few, sampler, position, lambda n: _noise(few, backend, n, INIT), lambda n: _noise(few, backend, n, STEP)
        )
    return looked


def _rows(samplers: Sequence[Sampler[Any]], shape: tuple[int, ...]) -> int:
    """Return a small number of chains that no axis of a position has: a result on the wrong axis shows."""
    ensembles = math.lcm(*(each.ensemble_size if isinstance(each, HasEnsembleSize) else 1 for each in samplers))
    n = ensembles * -(-3 // ensembles)
    while n in shape:
        n += ensembles
    return n


def _one_step(
    energy: BoundEnergy, sampler: Sampler[Any], position: Tensor, backend: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    who, n = type(sampler).__name__, len(position)
    state = call(sampler.init, f"{who}.init", energy, position.clone(), _noise(energy, backend, n, INIT))
    check_state(state, position, who=f"{who}.init")
    result = call(sampler.step, f"{who}.step", energy, state, _noise(energy, backend, n, STEP))
    if not isinstance(result, tuple) or len(result) != 2 or hasattr(result, "_fields"):
        raise SamplerError(
            f"{who}.step must return (state, statistics or None); got {type(result).__name__}. "
            "Return the state alone as `return state, None`."
        )
    after, info = result
    check_state(after, position, who=f"{who}.step")
    if type(after) is not type(state):
        raise SamplerError(
            f"{who}.step must return the state type of its init, {type(state).__name__}; got {type(after).__name__}. "
            "Use one NamedTuple for both."
        )
    check_info(info, n, who=f"{who}.step")
    return after, info


def _noise(energy: BoundEnergy, backend: Any, n: int, stream: int) -> CounterNoise:
    return CounterNoise(
        backend, 0, range(n), dtype=energy.dtype, device=energy.device, stream=stream, t=0, step=0, steps=1
    )


def _layout(
    stage: Stage,
    sampler: Sampler[Any],
    state: tuple[Any, ...],
    info: tuple[Any, ...] | None,
    energy: BoundEnergy,
    chains: int,
    grain: int,
) -> Layout:
    def spec(shape: tuple[int, ...], dtype: str) -> ArraySpec:
        dims = tuple(f"dim_{axis}" for axis in range(len(shape)))
        return ArraySpec((chains, stage.draws, *shape), dtype, ("chain", "draw", *dims))

    arrays = {"draws": spec(energy.shape, numpy_name(energy.dtype) if energy.support == "real" else "uint8")}
    folded = folds(sampler, info)
    for name, value in zip(folded, info or (), strict=True):
        mean_of_integers = folded[name] == "mean" and not value.is_floating_point()
        arrays[f"stats.{name}"] = spec((), numpy_name(energy.dtype if mean_of_integers else value.dtype))
    for name in sampler.keep if isinstance(sampler, HasKeep) else ():
        kept = getattr(state, name, None)
        if not isinstance(kept, Tensor):
            raise SamplerError(
                f"`keep` of {type(sampler).__name__} must name fields of its state; got '{name}'. "
                f"It has: {', '.join(state._fields)}."  # type: ignore[attr-defined]
            )
        arrays[f"state.{name}"] = spec(tuple(kept.shape[1:]), numpy_name(kept.dtype))
    return Layout(chains, stage.draws, grain, arrays)
