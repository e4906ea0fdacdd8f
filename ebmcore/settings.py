"""A plugin's settings <-> plain values, by a strict pydantic model that is built from the plugin's own fields.

Plain values are what TOML can hold. Nothing is coerced but what TOML cannot say: an integral
float is taken for a whole number (`chains = 1e6`), a list for a tuple, a string for a path.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from ebmcore.errors import EbmcoreError, PluginError, SettingsError
from ebmcore.settings_errors import first_problem, shown
from ebmcore.settings_fields import REQUIRED, Setting, is_plain_dataclass, read_settings
from ebmcore.settings_types import IN_PYTHON, named, strict_type

_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


class _SettingsModel(BaseModel):
    """Base of the settings models. A field is `setting_NAME` with the alias NAME: so any name may be a setting's."""

    model_config = _CONFIG


_models: WeakKeyDictionary[Any, type[BaseModel]] = WeakKeyDictionary()


def settings_model(target: Any, *, subject: str | None = None) -> type[BaseModel]:
    """Return the pydantic model of a plugin's settings; its JSON schema is that of the plugin's table.

    Args:
        target: A dataclass, another class, or a function.
        subject: What messages call it.

    Raises:
        PluginError: A parameter cannot be a setting, or its type, a bound or its default cannot be one's.
    """
    model = _models.get(target)
    if model is None:
        subject = subject or repr(getattr(target, "__qualname__", target))
        settings = read_settings(target, subject)
        model = _make_model(target, settings, subject)
        _check_defaults(model, settings, subject)
        _models[target] = model
    return model


def validate(target: Any, values: Mapping[str, Any], *, subject: str) -> dict[str, Any]:
    """Return the value of every setting, defaults included, with the types that the plugin asks for.

    Args:
        target: A dataclass, another class, or a function.
        values: Settings by name, as a run file holds them.
        subject: What messages call it: "sampler 'ula'".

    Raises:
        SettingsError: A setting is unknown, missing, of the wrong type or out of bounds; the first problem, in a line.
        PluginError: The plugin's settings cannot be read.
    """
    return _by_name(_validated(target, values, subject))


def construct(target: Any, values: Mapping[str, Any], *, subject: str) -> Any:
    """Validate settings and call the plugin's class or function with those that are given.

    Raises:
        SettingsError: As `validate`; or the plugin itself refuses them, with a ValueError or TypeError.
        PluginError: The plugin raises anything else.
    """
    model = _validated(target, values, subject)
    given = {name: value for name, value in _by_name(model).items() if name in values}
    try:
        return target(**given)
    except (EbmcoreError, KeyboardInterrupt):
        raise
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{subject} refuses its settings: {_line(error)}") from error
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        raise PluginError(f"{subject} failed while it was made: {type(error).__name__}: {_line(error)}") from error


def check_instance(instance: Any, *, subject: str) -> None:
    """Validate the fields of a dataclass that was made in Python; anything else has no settings to look at.

    A field that still is its default is the plugin's affair. The others must have their types
    already: nothing is converted in an object that exists.

    Raises:
        SettingsError: A field breaks its type or bounds.
        PluginError: The settings of its class cannot be read.
    """
    target = type(instance)
    if not is_plain_dataclass(target):
        return
    model = settings_model(target, subject=subject)
    defaults = {str(field.alias): field.default for field in model.model_fields.values()}
    values = {name: getattr(instance, name) for name in defaults}
    changed = {name: value for name, value in values.items() if value is not defaults[name]}
    try:
        model.model_validate(changed, context=IN_PYTHON)
    except ValidationError as error:
        raise SettingsError(first_problem(model, error, changed, subject)) from None


def plain(target: Any, values: Mapping[str, Any], *, subject: str) -> dict[str, Any]:
    """Return the value of every setting as TOML can hold it: validated, defaults included, None left out.

    A default that TOML cannot hold is left out too: it is in the plugin's source.

    Raises:
        SettingsError: As `validate`; or a value that was given is not one that TOML can hold.
    """
    whole = validate(target, values, subject=subject)
    return _to_plain(whole, frozenset(whole) - frozenset(values), subject)


def dump(instance: Any) -> dict[str, Any]:
    """Return the settings of a dataclass instance as TOML can hold them; see `plain`.

    Raises:
        SettingsError: It is no dataclass, or a field that is not its default holds what TOML cannot.
    """
    target = type(instance)
    if not is_plain_dataclass(target):
        raise SettingsError(
            f"{target.__name__} must be a dataclass to have its settings written; got {shown(instance)}."
        )
    fields = settings_model(target).model_fields.values()
    values = {str(field.alias): getattr(instance, str(field.alias)) for field in fields}
    untouched = frozenset(str(field.alias) for field in fields if values[str(field.alias)] is field.default)
    return _to_plain(values, untouched, target.__name__)


def _make_model(target: Any, settings: tuple[Setting, ...], subject: str) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for setting in settings:
        # A default of None says that None is allowed, as people write it.
        annotation = setting.annotation | None if setting.default is None else setting.annotation
        try:
            typed = strict_type(annotation, setting.bounds)
            TypeAdapter(typed, config=_CONFIG)
        except Exception as error:
            raise PluginError(
                f"{subject} must give `{setting.name}` a type that a setting can have, and bounds that suit it; got "
                f"{named(setting.annotation)}: {_line(error)}."
            ) from None
        fields[f"setting_{setting.name}"] = (typed, _field(setting))
    return create_model(f"{getattr(target, '__name__', 'Plugin')}Settings", __base__=_SettingsModel, **fields)


def _field(setting: Setting) -> Any:
    given: dict[str, Any] = {"alias": setting.name}
    if setting.description is not None:
        given["description"] = setting.description
    if setting.factory is not None:
        given["default_factory"] = setting.factory
    elif setting.default is not REQUIRED:
        given["default"] = setting.default
    return Field(**given)


def _check_defaults(model: type[BaseModel], settings: tuple[Setting, ...], subject: str) -> None:
    """Refuse a default that could not be set: then what is written beside a run could not be read again."""
    defaults = {setting.name: setting.default for setting in settings if setting.default is not REQUIRED}
    try:
        model.model_validate(defaults)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            if problem["type"] != "missing":
                name = str(problem["loc"][0])
                raise PluginError(
                    f"{subject} must have defaults that suit their types and bounds; got {shown(defaults[name])} for "
                    f"`{name}` ({first_problem(model, error, defaults, subject)})"
                ) from None


def _validated(target: Any, values: Mapping[str, Any], subject: str) -> BaseModel:
    model = settings_model(target, subject=subject)
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(first_problem(model, error, values, subject)) from None


def _by_name(model: BaseModel) -> dict[str, Any]:
    fields = type(model).model_fields
    return {str(field.alias): getattr(model, attribute) for attribute, field in fields.items()}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _to_plain(values: Mapping[str, Any], untouched: frozenset[str], subject: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in values.items():
        try:
            written = _plain(value)
        except TypeError:
            if name in untouched:
                continue
            raise SettingsError(
                f"`{name}` of {subject} must be a value that a run file can hold; got {shown(value)}. "
                "Pass an object that is made with it in place of the table."
            ) from None
        if written is not None:
            kept[name] = written
    return kept


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple) and None not in value:
        return [_plain(one) for one in value]
    raise TypeError
