"""States of any sampler, handled without knowing it: NamedTuples of tensors, or of such NamedTuples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from ebmcore.errors import SamplerError

S = TypeVar("S", bound=tuple[Any, ...])


def map_state(f: Callable[[Tensor], Tensor], state: S) -> S:
    """Return the state with every tensor replaced by `f` of it."""
    return type(state)(*(f(field) if isinstance(field, Tensor) else map_state(f, field) for field in state))


def select_rows(state: S, index: Tensor) -> S:
    """Return the state of the chains in rows `index` [m]; repeats allowed."""
    return map_state(lambda rows: rows.index_select(0, index), state)


def merged(mask: Tensor, a: S, b: S) -> S:
    """Return a state with the rows of `a` where `mask` [n] is true, and those of `b` elsewhere."""
    leaves = dict(fields_of(b))
    others = dict(fields_of(a))
    return rebuilt(b, lambda name: torch.where(_rows(mask, leaves[name]), others[name], leaves[name]))


def _rows(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(-1, *(1,) * (like.ndim - 1))


def fields_of(state: tuple[Any, ...], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, leaf) for every leaf of a state."""
    for name, value in zip(state._fields, state, strict=True):  # type: ignore[attr-defined]
        if is_named_tuple(value):
            yield from fields_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def rebuilt(template: S, leaf: Callable[[str], Tensor], prefix: str = "") -> S:
    """Return a state of the structure of `template` with `leaf(dotted name)` for every leaf."""
    values = []
    for name, value in zip(template._fields, template, strict=True):  # type: ignore[attr-defined]
        dotted = f"{prefix}{name}"
        values.append(rebuilt(value, leaf, f"{dotted}.") if is_named_tuple(value) else leaf(dotted))
    return type(template)(*values)


def is_named_tuple(value: object) -> bool:
    """Say whether `value` is an instance of a NamedTuple."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def check_state(state: Any, position: Tensor, *, who: str) -> None:
    """Refuse a state that the engine could not keep, split or checkpoint.

    Args:
        state: What a sampler returned.
        position: Positions of the shape, dtype and device that the state must have.
        who: Names the sampler and its method in a message.

    Raises:
        SamplerError: One line that says the rule, what came back, and the mend.
    """
    if not is_named_tuple(state):
        raise SamplerError(
            f"{who} must return a NamedTuple of tensors as its state; got {type(state).__name__}. "
            "Declare one with `position: Tensor` as its first field."
        )
    if state._fields[0] != "position":
        raise SamplerError(
            f"{who} must return a state whose first field is `position`; got `{state._fields[0]}`. Put it first."
        )
    for name, leaf in fields_of(state):
        if not isinstance(leaf, Tensor):
            raise SamplerError(
                f"{who} must return tensors in its state; got {type(leaf).__name__} in `{name}`. "
                "Use a tensor [n], one value a chain."
            )
        if leaf.ndim == 0 or leaf.shape[0] != len(position):
            raise SamplerError(
                f"{who} must return one row a chain in every state field, here {len(position)}; "
                f"got {list(leaf.shape)} in `{name}`. Axis 0 is the chain."
            )
    first = state[0]
    if first.shape != position.shape or first.dtype != position.dtype or first.device != position.device:
        raise SamplerError(
            f"{who} must keep the position's shape, dtype and device, {describe(position)}; got {describe(first)}. "
            "Cast nothing and keep axis 0."
        )


def check_info(info: Any, n: int, *, who: str) -> None:
    """Refuse statistics that cannot be stored: anything but None or a NamedTuple of tensors [n].

    Raises:
        SamplerError: As `check_state`.
    """
    if info is None:
        return
    if not is_named_tuple(info):
        raise SamplerError(
            f"{who} must return a NamedTuple of statistics or None beside its state; got {type(info).__name__}. "
            "Declare a NamedTuple of tensors [n]."
        )
    for name, value in zip(info._fields, info, strict=True):
        if not isinstance(value, Tensor) or value.shape != (n,):
            seen = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise SamplerError(
                f"{who} must return statistics of shape [n], here [{n}]; got {seen} in `{name}`. Give one a chain."
            )


def describe(x: Tensor) -> str:
    """Return shape, dtype and device in words."""
    return f"{list(x.shape)} {str(x.dtype).removeprefix('torch.')} on {x.device}"


def numpy_name(dtype: torch.dtype) -> str:
    """Return numpy's name of a torch dtype."""
    return str(dtype).removeprefix("torch.")
