"""What every sampler must do, whatever its law: shapes, dtypes, statistics, and what it may call."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from ebmcore.errors import EbmcoreError, SamplerError
from ebmcore.folding import folds
from ebmcore.protocols import HasKeep, HasLaw, HasNeeds
from ebmcore.states import check_info, check_state, fields_of
from ebmcore.testing.conformance import ConformanceError, NotApplicable, name_of, require
from ebmcore.testing.walking import SHAPES, STEPS, bind, support_of, target_of, walk, whole_ensembles

STORED = (torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64)
"""Dtypes of statistics that writers take."""


def check_shapes(sampler: Any, seed: int) -> None:
    """Positions may be vectors; images and scalars too, or it refuses them; all fields have one row a chain."""
    for name in SHAPES["real"]:
        target = target_of(sampler, name)
        n = whole_ensembles(sampler, 5)
        try:
            walked = walk(sampler, bind(target), range(n), steps=2, seed=seed)
        except EbmcoreError:
            if name == "1-D":
                raise
            continue  # It says itself that it takes vectors alone.
        except Exception as error:
            raise ConformanceError(
                f"{name_of(sampler)} must step positions of any shape; got {type(error).__name__} for a position that "
                f"is a {name}, {list(target.shape)}: {error}. "
                "Reshape per-chain factors to [n, 1, ...] of the rank of x."
            ) from error
        _keeps(sampler, walked, torch.float32, f"for a position that is a {name}, {list(target.shape)}")


def check_dtypes(sampler: Any, seed: int) -> None:
    """Positions stay float32 or float64, on their device, and a float64 run is computed in float64."""
    for dtype in (torch.float32, torch.float64):
        n = whole_ensembles(sampler, 6)
        walked = walk(sampler, bind(target_of(sampler), dtype), range(n), steps=3, seed=seed)
        _keeps(sampler, walked, dtype, f"in a {str(dtype).removeprefix('torch.')} run")
        if dtype is torch.float64 and support_of(sampler) == "real":
            for name, leaf in fields_of(walked.states[-1]):
                moved = leaf != walked.states[0][0] if leaf.shape == walked.last.shape else torch.ones(())
                truncated = leaf.dtype is torch.float64 and bool((leaf.float().double() == leaf)[leaf != 0].all())
                integral = bool((leaf == leaf.round()).all())
                require(
                    not (truncated and name == "position" and not integral and bool(moved.any())),
                    f"{name_of(sampler)} must compute in the positions' dtype",
                    f"`{name}` of a float64 run with no digit beyond float32",
                    "Make tensors with dtype=x.dtype, and cast nothing with .float()",
                )


def _keeps(sampler: Any, walked: Any, dtype: torch.dtype, when: str) -> None:
    first = walked.states[0][0]
    like = torch.empty(first.shape, dtype=dtype)
    try:
        for state in walked.states:
            check_state(state, like, who=name_of(sampler))
        for info in walked.infos:
            check_info(info, len(first), who=f"{name_of(sampler)}.step")
    except SamplerError as error:
        raise ConformanceError(f"{str(error).rstrip('.')} ({when}).") from error


def check_state_type(sampler: Any, seed: int) -> None:
    """`init` and every step return one NamedTuple type, with the same dtypes and row shapes, and own its memory."""
    n = whole_ensembles(sampler, 5)
    walked = walk(sampler, bind(target_of(sampler)), range(n), steps=3, seed=seed)
    first = walked.states[0]
    kinds = {name: (leaf.dtype, leaf.shape) for name, leaf in fields_of(first)}
    for state in walked.states[1:]:
        now = {name: (leaf.dtype, leaf.shape) for name, leaf in fields_of(state)}
        changed = next((name for name in {*kinds, *now} if kinds.get(name) != now.get(name)), None)
        require(
            type(state) is type(first) and changed is None,
            f"{name_of(sampler)}.step must return the state type of init, fields of the same dtype and shape",
            f"{type(state).__name__} after {type(first).__name__}"
            if type(state) is not type(first)
            else f"`{changed}` as {now.get(str(changed))} after {kinds.get(str(changed))}",
            "Return what init returned, with new values",
        )
    own = _live_state(sampler, seed, n)
    for name, leaf in fields_of(own):
        require(
            leaf.shape[0] < 2 or leaf.stride(0) != 0,
            f"{name_of(sampler)} must give each chain its own row of `{name}`",
            "one row seen through all (a stride of 0, from expand)",
            "Add .contiguous() or .clone() after expand",
        )


def _live_state(sampler: Any, seed: int, n: int) -> tuple[Any, ...]:
    from ebmcore.testing.making import noise
    from ebmcore.testing.walking import starts

    bound = bind(target_of(sampler))
    begin = noise(seed, n, init=True)
    with torch.no_grad():
        state = sampler.init(bound, starts(bound, range(n), begin), begin)
        after: tuple[Any, ...] = sampler.step(bound, state, noise(seed, n))[0]
    return after


def check_statistics(sampler: Any, seed: int) -> None:
    """Statistics have the same names and dtypes at every step, in dtypes that can be stored, under known rules."""
    n = whole_ensembles(sampler, 6)
    bound = bind(target_of(sampler))
    walked = walk(sampler, bound, range(n), steps=STEPS, seed=seed)
    kinds = [None if info is None else {name: leaf.dtype for name, leaf in fields_of(info)} for info in walked.infos]
    who = f"{name_of(sampler)}.step"
    require(
        all(kind == kinds[0] for kind in kinds),
        f"{who} must return the same statistics at every step",
        f"{next((kind for kind in kinds if kind != kinds[0]), None)} after {kinds[0]}",
        "Fill in NaN where a step has nothing to say",
    )
    folds(sampler, walked.infos[0])
    for name in sampler.keep if isinstance(sampler, HasKeep) else ():
        require(
            isinstance(getattr(walked.states[-1], name, None), Tensor),
            f"`keep` of {name_of(sampler)} must name state fields",
            f"'{name}'",
            "Name a field that holds a tensor",
        )
    for name, dtype in (kinds[0] or {}).items():
        require(
            dtype in STORED and re.fullmatch(r"[a-z][a-z0-9_]*", name) is not None,
            f"{who} must name statistics in lower case, in a dtype that writers take",
            f"`{name}` in {dtype}",
            f"Use one of {', '.join(str(each).removeprefix('torch.') for each in STORED)}",
        )
    _check_known(sampler, bound, walked)


def _check_known(sampler: Any, bound: Any, walked: Any) -> None:
    who = f"{name_of(sampler)}.step"
    for state, info in zip(walked.states[1:], walked.infos, strict=True):
        for name, value in () if info is None else fields_of(info):
            if name == "acceptance_rate":
                require(
                    value.is_floating_point() and bool(((value >= 0) & (value <= 1)).all()),
                    f"`acceptance_rate` of {who} must be a probability in [0, 1], in floating point",
                    f"{value.double().min().item():g} ... {value.double().max().item():g} in {value.dtype}",
                    "Give min(1, exp(log ratio)) of each chain, not its logarithm",
                )
            if name == "diverging":
                require(
                    value.dtype is torch.bool, f"`diverging` of {who} must be bool", value.dtype, "Return a comparison"
                )
            # One that moves chains on purpose after its step may report the step.
            if name == "lp" and not (isinstance(sampler, HasLaw) and sampler.law == "other"):
                expected = -bound.value(state[0])
                require(
                    torch.allclose(value, expected, rtol=1e-3, atol=1e-3),
                    f"`lp` of {who} must be -U/T at the position that the step returns",
                    f"{value[0].item():g} in place of {expected[0].item():g} in the first chain",
                    "Take it after accepting, of the energy that is handed over",
                )


class _Watched:
    """An energy that notes which of its methods are called."""

    def __init__(self, inner: Any, calls: set[str]) -> None:
        self._inner, self._calls = inner, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def value(self, x: Tensor, /, **over: Tensor) -> Tensor:
        self._calls.add("value")
        result: Tensor = self._inner.value(x, **over)
        return result

    def gradient(self, x: Tensor, /, **over: Tensor) -> Tensor:
        self._calls.add("gradient")
        result: Tensor = self._inner.gradient(x, **over)
        return result

    def value_and_gradient(self, x: Tensor, /, **over: Tensor) -> tuple[Tensor, Tensor]:
        self._calls.update(("value", "gradient"))
        both: tuple[Tensor, Tensor] = self._inner.value_and_gradient(x, **over)
        return both

    def select(self, index: Tensor, /) -> _Watched:
        return _Watched(self._inner.select(index), self._calls)


def check_needs(sampler: Any, seed: int) -> None:
    """A sampler that declares `needs` calls nothing else of its energy."""
    if not isinstance(sampler, HasNeeds):
        raise NotApplicable("it does not declare `needs`, so the host gives it value and gradient")
    n = whole_ensembles(sampler, 4)
    calls: set[str] = set()
    watched: Any = _Watched(bind(target_of(sampler)), calls)
    walk(sampler, watched, range(n), steps=3, seed=seed)
    extra = calls - set(sampler.needs)
    require(
        not extra,
        f"{name_of(sampler)} must call only what `needs` declares ({', '.join(sorted(sampler.needs)) or 'nothing'})",
        f"a call of {' and '.join(sorted(extra))}",
        f"Add {' and '.join(sorted(extra))} to `needs`, or do without",
    )


def check_user_tensors(sampler: Any, seed: int) -> None:
    """What an energy holds (conditions, weights) is left as it was, and a condition follows its chain."""
    if support_of(sampler) != "real":
        raise NotApplicable("the energies of the kit with a condition are on the reals")
    n = whole_ensembles(sampler, 64)
    target = target_of(sampler)
    centre = torch.linspace(-3.0, 3.0, n)
    before = centre.clone()
    with_condition = walk(sampler, bind(target, centre=centre), range(n), steps=3, seed=seed)
    without = walk(sampler, bind(target), range(n), steps=3, seed=seed)
    require(
        torch.equal(centre, before),
        f"{name_of(sampler)} must leave the user's tensors alone",
        "a condition of the energy that was overwritten",
        "Clone what you write to",
    )
    require(
        not torch.equal(with_condition.last, without.last) or torch.equal(without.last, without.states[0][0]),
        f"{name_of(sampler)} must ask the energy that it is handed",
        "the same positions with and without a condition",
        "Call energy.value and energy.gradient, not energy.model",
    )


CHECKS = (
    check_shapes,
    check_dtypes,
    check_state_type,
    check_statistics,
    check_needs,
    check_user_tensors,
)
