"""Settings -> values that TOML can hold, to be written beside a run."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ebmcore.errors import SettingsError
from ebmcore.settings import settings_model, validate
from ebmcore.settings_errors import shown
from ebmcore.settings_fields import is_plain_dataclass
from ebmcore.settings_nested import Constant, Part, fill


def plain(
    target: Any, values: Mapping[str, Any], *, subject: str, written: Callable[[Part, str], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the value of every setting as TOML can hold it: validated, defaults included, None left out.

    A default that TOML cannot hold is left out too: it is in the plugin's source.

    Args:
        target: A dataclass, another class, or a function.
        values: Settings by name, as a run file holds them.
        subject: What messages call it.
        written: Returns the table of a setting that is a plugin itself, given it and its place (`samplers[1]`).

    Raises:
        SettingsError: As `validate`; or a value that was given is not one that TOML can hold.
    """
    whole = {name: fill(value, written, name) for name, value in validate(target, values, subject=subject).items()}
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
    if isinstance(value, Constant):
        return value.value
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
