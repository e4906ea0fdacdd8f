"""Settings that are plugins themselves: a field annotated `Sampler`, `Energy` or `Schedule` takes a `use` table.

Here such a field is told from others and its value is looked at from outside, without any
plugin: a value that may be one becomes a `Part`, of which the registry makes the object.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, final, get_origin

from pydantic import AfterValidator, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from ebmcore.protocols import HasGradient, Sampler, Schedule

DEPTH = 32
"""So many plugins may stand inside each other."""

KIND = "x-ebmcore-kind"
"""Keyword of a setting's JSON schema: any installed plugin of this kind, by a table or by its name."""

WORDS: Mapping[str, str] = {"sampler": "a sampler", "model": "an energy", "schedule": "a schedule"}
"""What messages call the value of a setting that is a plugin of a kind."""

_NO_OBJECT: tuple[type, ...] = (type(None), bytes, numbers.Number, list, tuple, set, Path, datetime.date, datetime.time)


@dataclass(frozen=True)
class Part:
    """The value of a setting that is a plugin, as it was given."""

    kind: str
    value: Any
    """A table, a name, or an object that was made in Python."""


@final
@dataclass(frozen=True)
class Constant:
    """What a plain number becomes where a setting is a `Schedule`, so that its plugin can always call it."""

    value: float

    def __call__(self, step: int, steps: int, /) -> float:
        """Return the number."""
        return self.value


class _AnEnergy:
    """Stands for `ebmcore.protocols.Energy`, which is a union and so no member of one."""


_KINDS: Mapping[Any, str] = {Sampler: "sampler", Schedule: "schedule", _AnEnergy: "model"}


def kind_of(annotation: Any) -> str | None:
    """Return the kind of plugin that an annotation asks for; None for any other annotation."""
    origin = get_origin(annotation) or annotation
    return next((kind for asked, kind in _KINDS.items() if asked is origin), None)


def members(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the members of a union, with those of `Energy` as one that `kind_of` knows."""
    rest = tuple(one for one in arguments if one is not HasGradient and get_origin(one) is not Callable)
    return (_AnEnergy, *rest) if HasGradient in arguments and len(rest) < len(arguments) - 1 else arguments


def part_type(kind: str) -> Any:
    """Return the annotation by which pydantic makes a `Part` of a table, a name or an object."""
    return Annotated[Any, PlainValidator(_part_of(kind)), WithJsonSchema({KIND: kind})]


def constant_type(number: Any) -> Any:
    """Return the annotation of a number that becomes a `Constant`."""
    return Annotated[number, AfterValidator(_constant)]


def fill(value: Any, by: Callable[[Part, str], Any], path: str) -> Any:
    """Return a setting's value with every `Part` in it replaced.

    Args:
        value: A `Part`, or a list, tuple or table that may hold some, or anything else.
        by: Called with each `Part` and its place, such as `samplers[1]`.
        path: The setting's name.
    """
    if isinstance(value, Part):
        return by(value, path)
    if type(value) in (list, tuple):
        return type(value)(fill(one, by, f"{path}[{index}]") for index, one in enumerate(value))
    if type(value) is dict:
        return {key: fill(one, by, f"{path}.{key}") for key, one in value.items()}
    return value


def _part_of(kind: str) -> Callable[[Any, ValidationInfo], Part]:
    def check(value: Any, info: ValidationInfo) -> Part:
        if info.context is not None and isinstance(value, (str, Mapping, *_NO_OBJECT)):
            raise _no_object(kind)
        if isinstance(value, _NO_OBJECT) or (kind == "schedule" and isinstance(value, str) and _is_number(value)):
            raise PydanticCustomError("part_type", "must be {what}", {"what": WORDS[kind]})
        return Part(kind, value)

    return check


def _constant(value: float, info: ValidationInfo) -> Constant:
    # Nothing is converted in an object that exists, and a default is what a plugin gets.
    if info.context is not None:
        raise _no_object("schedule")
    return Constant(value)


def _no_object(kind: str) -> PydanticCustomError:
    return PydanticCustomError("part_object_type", "must be {what} object", {"what": WORDS[kind]})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
