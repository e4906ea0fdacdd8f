"""Which settings a plugin has: the fields of a dataclass, or the keyword parameters of a class or function.

Nothing here converts or checks a value; `ebmcore.settings` does, with what is read here.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from ebmcore.errors import PluginError
from ebmcore.settings_nested import members

HOST_WORDS = ("use", "name", "weights")
"""Keys of a plugin's table that the host reads itself."""

BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
"""What a field's metadata may ask of its value, beside `description`."""

REQUIRED = dataclasses.MISSING

# Their __init__(*args, **kwargs) is only passed through to nothing: a class without one of its own has no settings.
_WITHOUT_SETTINGS = ("torch", "typing", "typing_extensions", "abc")


class Setting(NamedTuple):
    """One setting of a plugin."""

    name: str
    annotation: Any
    default: Any
    """`REQUIRED` if it has none, or has a factory."""
    factory: Callable[[], Any] | None
    bounds: Mapping[str, Any]
    description: str | None

    @property
    def required(self) -> bool:
        """Must it be given?"""
        return self.default is REQUIRED and self.factory is None


def read_settings(target: Any, subject: str) -> tuple[Setting, ...]:
    """Return the settings of a class or function, in the order of its arguments.

    Args:
        target: A dataclass, another class, or a function.
        subject: What messages call it.

    Raises:
        PluginError: One of them cannot be a setting, has a name that is the host's, or a type that cannot be resolved.
    """
    found = tuple(_fields(target, subject) if is_plain_dataclass(target) else _parameters(target, subject))
    for setting in found:
        if setting.name in HOST_WORDS:
            raise PluginError(
                f"{subject} must not have a setting `{setting.name}`; got one. `use`, `name` and `weights` are the "
                "host's words: rename it."
            )
    return found


def is_plain_dataclass(target: Any) -> bool:
    """Is this a dataclass that is made from its fields, by the __init__ that `dataclass` wrote?"""
    if not (inspect.isclass(target) and dataclasses.is_dataclass(target)):
        return False
    maker = next(base for base in target.__mro__ if "__init__" in vars(base))
    parameters = vars(maker).get("__dataclass_params__")
    return parameters is not None and bool(parameters.init)


def _fields(target: type, subject: str) -> Iterator[Setting]:
    for base in target.__mro__:
        for name, written in vars(base).get("__annotations__", {}).items():
            text = written if isinstance(written, str) else getattr(type(written), "__name__", "")
            if text.removeprefix("dataclasses.").startswith("InitVar"):
                raise PluginError(
                    f"{subject} must keep what it is given in fields; got `{name}`, an InitVar. Make it a field."
                )
    for field in dataclasses.fields(target):
        if not field.init:
            continue
        owner = next((base for base in target.__mro__ if field.name in vars(base).get("__annotations__", {})), target)
        scope = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
        factory = field.default_factory
        annotation = _resolve(field.type, scope, dict(vars(owner)), field.name, subject)
        yield Setting(
            field.name,
            annotation,
            field.default,
            None if factory is dataclasses.MISSING else factory,
            {key: field.metadata[key] for key in BOUNDS if key in field.metadata},
            field.metadata.get("description") or _doc(annotation),
        )


def _parameters(target: Any, subject: str) -> Iterator[Setting]:
    function = target
    if inspect.isclass(target):
        function = next(vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base))
        if function is object.__init__ or str(getattr(function, "__module__", "")).split(".")[0] in _WITHOUT_SETTINGS:
            return
    try:
        parameters = list(inspect.signature(function).parameters.values())[1 if inspect.isclass(target) else 0 :]
    except (TypeError, ValueError):  # compiled code may not say: then there is nothing to set
        return
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
            raise PluginError(
                f"{subject} must take its settings by keyword; got `{star}{parameter.name}`, which cannot be. "
                "Make it a keyword parameter."
            )
        default = REQUIRED if parameter.default is parameter.empty else parameter.default
        if parameter.annotation is parameter.empty:
            annotation = _type_of(default)
        else:
            annotation = _resolve(parameter.annotation, scope, {}, parameter.name, subject)
        yield Setting(parameter.name, annotation, default, None, {}, _doc(annotation))


def _doc(annotation: Any) -> str | None:
    """Return the text of a `typing_extensions.Doc` in an annotation."""
    texts = (getattr(part, "documentation", None) for part in getattr(annotation, "__metadata__", ()))
    return next((text for text in texts if isinstance(text, str)), None)


def _type_of(default: Any) -> Any:
    """Guess what a parameter without annotation takes: what its default is; a whole number may stand for any."""
    if type(default) in (bool, str, float):
        return type(default)
    return int | float if type(default) is int else Any


def _resolve(annotation: Any, scope: Mapping[str, Any], local: Mapping[str, Any], name: str, subject: str) -> Any:
    """Resolve one annotation by itself: another that only a type checker can resolve does no harm."""
    holder = SimpleNamespace(__annotations__={name: annotation})

    def resolved(**names: Any) -> Any:
        return typing.get_type_hints(holder, {**scope, **names}, dict(local), include_extras=True)[name]

    try:
        try:
            return resolved()
        except NameError as error:
            # `Energy` is written with torch's Tensor, which a module with an energy for a setting need not import.
            if error.name != "Tensor" or _mentions(found := resolved(Tensor=_Tensor), _Tensor):
                raise
            return found
    except Exception as error:
        written = " ".join(str(annotation).split())[:60]
        raise PluginError(
            f"{subject} must give `{name}` a type that can be resolved; got {written!r} ({type(error).__name__}: "
            f"{str(error)[:80]}). Import it at the top of the module, not for type checkers alone."
        ) from None


class _Tensor:
    """Stands for a Tensor that a module has not imported."""


def _mentions(annotation: Any, part: type) -> bool:
    """Does an annotation name a class, but for what `Energy` is made of?"""
    arguments = annotation if isinstance(annotation, list) else members(typing.get_args(annotation))
    return annotation is part or any(_mentions(argument, part) for argument in arguments)
