"""A field's annotation and bounds -> the annotation that pydantic checks strictly."""

from __future__ import annotations

import numbers
import operator
import types
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from ebmcore.settings_nested import constant_type, kind_of, members, part_type

IN_PYTHON = "in Python"
"""Validation context of values that an object holds already: nothing can be converted any more."""

AS_DEFAULT = "as default"
"""Validation context of defaults, which a plugin gets as they are: a table in one would stay a table."""

_NUMBER = ("gt", "ge", "lt", "le", "multiple_of")
_LENGTH = ("min_length", "max_length")


def strict_type(annotation: Any, bounds: Mapping[str, Any]) -> Any:
    """Return an annotation with a field's bounds where they belong, and with the few conversions there are.

    Bounds on numbers go to every number in it (the elements of a tuple), lengths to the outermost
    string, list or tuple, a pattern to every string.

    Args:
        annotation: A resolved annotation.
        bounds: Those of `settings_fields.BOUNDS` that the field's metadata has.

    Raises:
        TypeError: A bound finds no place, or the annotation is a protocol, which no plain value is.
    """
    used: set[str] = set()
    typed = _typed(annotation, bounds, used)
    if left := [key for key in bounds if key not in used]:
        raise TypeError(f"the bound `{left[0]}` has no place in it")
    return typed


def named(annotation: Any) -> str:
    """Return an annotation as it is written, cut at 60 characters."""
    return (annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation))[:60]


def _typed(annotation: Any, bounds: Mapping[str, Any], used: set[str]) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    kind = origin or annotation
    if origin is Annotated:
        inner = _typed(arguments[0], bounds, used)
        # The annotation's own bounds go next to the type; conversions stand last, which is where pydantic begins.
        base, *added = get_args(inner) if get_origin(inner) is Annotated else (inner,)
        return _annotated(base, *arguments[1:], *added)
    if origin in (Union, types.UnionType):
        return _union(members(arguments), bounds, used)
    if nested := kind_of(annotation):
        return _union((annotation,), bounds, used) if nested == "schedule" else part_type(nested)
    if annotation is int:
        return _annotated(int, *_asked(bounds, _NUMBER, used), BeforeValidator(_whole))
    if annotation is float:
        return _annotated(float, *_asked(bounds, _NUMBER, used), BeforeValidator(_real))
    if annotation is str:
        return _annotated(str, *_asked(bounds, (*_LENGTH, "pattern"), used))
    if annotation is Path:
        return _annotated(Path, BeforeValidator(_path))
    if kind in (tuple, list):
        inner = kind[_elements(arguments, bounds, used)] if arguments else annotation
        return _annotated(inner, *_asked(bounds, _LENGTH, used), BeforeValidator(_tuple if kind is tuple else _list))
    if arguments and isinstance(origin, type) and issubclass(origin, Mapping):
        values = _typed(arguments[1], {}, used)
        return _annotated(origin[arguments[0], values], *_asked(bounds, _LENGTH, used))  # type: ignore[index]
    if arguments and isinstance(origin, type) and issubclass(origin, Iterable):
        inner = origin[_elements(arguments, bounds, used)]  # type: ignore[index]
        return _annotated(inner, *_asked(bounds, _LENGTH, used))
    if getattr(annotation, "_is_protocol", False):
        raise TypeError("a run file cannot write a protocol")
    return annotation


def _union(arguments: tuple[Any, ...], bounds: Mapping[str, Any], used: set[str]) -> Any:
    numbers_stay = any(argument in (int, float) for argument in map(_bare, arguments))
    typed: list[Any] = []
    for argument in arguments:
        if kind_of(argument) == "schedule":
            typed.append(part_type("schedule"))
            if not numbers_stay:
                typed.insert(0, constant_type(_typed(float, bounds, used)))
        else:
            typed.append(_typed(argument, bounds, used))
    return reduce(operator.or_, typed)


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _annotated(base: Any, *metadata: Any) -> Any:
    return Annotated[(base, *metadata)] if metadata else base


def _elements(arguments: tuple[Any, ...], bounds: Mapping[str, Any], used: set[str]) -> tuple[Any, ...]:
    """Return the types of a container's elements; lengths belong to the container."""
    inner = {key: value for key, value in bounds.items() if key not in _LENGTH}
    return tuple(part if part is Ellipsis else _typed(part, inner, used) for part in arguments)


def _asked(bounds: Mapping[str, Any], keys: tuple[str, ...], used: set[str]) -> tuple[Any, ...]:
    asked = {key: bounds[key] for key in keys if key in bounds}
    used.update(asked)
    return (Field(**asked),) if asked else ()


def _whole(value: Any, info: ValidationInfo) -> Any:
    """Take 1e6 for 1000000, which TOML writes as a float, and numpy's whole numbers."""
    if info.context != IN_PYTHON and isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else value


def _real(value: Any) -> Any:
    """Refuse what pydantic takes because it has __float__: tensors, numpy's bools."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("float_type", "must be a number")


def _path(value: Any, info: ValidationInfo) -> Any:
    return Path(value) if info.context != IN_PYTHON and isinstance(value, str) else value


def _tuple(value: Any, info: ValidationInfo) -> Any:
    return tuple(value) if info.context != IN_PYTHON and isinstance(value, list) else value


def _list(value: Any, info: ValidationInfo) -> Any:
    return list(value) if info.context != IN_PYTHON and isinstance(value, tuple) else value
