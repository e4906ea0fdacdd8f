"""A plugin's settings <-> plain values, by a strict pydantic model that is built from the plugin's own fields.

Plain values are what TOML can hold. Nothing is coerced but what TOML cannot say: an integral
float is taken for a whole number (`chains = 1e6`), a list for a tuple, a string for a path. A
setting that is a plugin itself comes as a `Part`, which the caller replaces: only the registry
knows plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from ebmcore.errors import EbmcoreError, PluginError, SettingsError
from ebmcore.settings_errors import first_problem, shown
from ebmcore.settings_fields import REQUIRED, Setting, read_settings
from ebmcore.settings_nested import Part, fill
from ebmcore.settings_types import AS_DEFAULT, named, strict_type

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


def validate(target: Any, values: Mapping[str, Any], *, subject: str, context: str | None = None) -> dict[str, Any]:
    """Return the value of every setting, defaults included, with the types that the plugin asks for.

    What was given for a setting that is a plugin itself comes as a `Part`, at any depth of lists and tables.

    Args:
        target: A dataclass, another class, or a function.
        values: Settings by name, as a run file holds them.
        subject: What messages call it: "sampler 'ula'".
        context: `IN_PYTHON` for values that an object holds already.

    Raises:
        SettingsError: A setting is unknown, missing, of the wrong type or out of bounds; the first problem, in a line.
        PluginError: The plugin's settings cannot be read.
    """
    model = settings_model(target, subject=subject)
    try:
        checked = model.model_validate(dict(values), context=context)
    except ValidationError as error:
        raise SettingsError(first_problem(model, error, values, subject)) from None
    return {str(field.alias): getattr(checked, attribute) for attribute, field in model.model_fields.items()}


def construct(target: Any, values: Mapping[str, Any], *, subject: str, make: Callable[[Part, str], Any]) -> Any:
    """Validate settings and call the plugin's class or function with those that are given.

    Args:
        target: A dataclass, another class, or a function.
        values: Settings by name, as a run file holds them.
        subject: What messages call it.
        make: Returns the object of a setting that is a plugin itself, given it and its place (`samplers[1]`).

    Raises:
        SettingsError: As `validate`; or the plugin itself refuses them, with a ValueError or TypeError.
        PluginError: The plugin raises anything else.
    """
    whole = validate(target, values, subject=subject)
    given = {name: fill(value, make, name) for name, value in whole.items() if name in values}
    try:
        return target(**given)
    except (EbmcoreError, KeyboardInterrupt):
        raise
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{subject} refuses its settings: {_line(error)}") from error
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        raise PluginError(f"{subject} failed while it was made: {type(error).__name__}: {_line(error)}") from error


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
        model.model_validate(defaults, context=AS_DEFAULT)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            if problem["type"] != "missing":
                name = str(problem["loc"][0])
                raise PluginError(
                    f"{subject} must have defaults that suit their types and bounds; got {shown(defaults[name])} for "
                    f"`{name}` ({first_problem(model, error, defaults, subject)})"
                ) from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
