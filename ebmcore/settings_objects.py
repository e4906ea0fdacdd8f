"""Objects made in Python, and the objects in their settings: held to the same rules as what a run file names."""

from __future__ import annotations

from typing import Any

from ebmcore.errors import PluginError, SettingsError
from ebmcore.registry.validation import validate_object
from ebmcore.registry.wording import Refusal, within
from ebmcore.settings import settings_model, validate
from ebmcore.settings_fields import is_plain_dataclass
from ebmcore.settings_nested import DEPTH, Part, fill
from ebmcore.settings_types import IN_PYTHON


def check_object(kind: str, value: Any, *, subject: str, depth: int = 0) -> None:
    """Refuse an object that is none of its kind, or whose settings, or the objects in them, break a rule.

    Args:
        kind: The kind of plugin that it stands for.
        value: The object.
        subject: What messages call it: "sampler ULA".
        depth: How many objects it stands inside of.

    Raises:
        SettingsError: A field breaks its type or bounds; the message names its place, such as `sampler.step_size`.
        PluginError: It lacks what its kind asks for, or the settings of its class cannot be read.
    """
    try:
        validate_object(kind, value)
    except Refusal as refusal:
        raise PluginError(f"{subject} {refusal}.") from None
    # Any callable is an energy; the fields of one that may change are not settings.
    if kind != "model" or _is_frozen(value):
        check_instance(value, subject=subject, depth=depth)


def check_instance(instance: Any, *, subject: str, depth: int = 0) -> None:
    """Validate the fields of a dataclass that was made in Python; anything else has no settings to look at.

    A field that still is its default is the plugin's affair. The others must have their types
    already: nothing is converted in an object that exists.

    Args:
        instance: Any object.
        subject: What messages call it.
        depth: How many objects it stands inside of.

    Raises:
        SettingsError: A field breaks its type or bounds.
        PluginError: The settings of its class cannot be read, or an object in them is none of its kind.
    """
    target = type(instance)
    if not is_plain_dataclass(target):
        return
    if depth > DEPTH:
        raise SettingsError(too_deep(subject))
    fields = settings_model(target, subject=subject).model_fields.values()
    values = {str(field.alias): getattr(instance, str(field.alias)) for field in fields}
    changed = {str(field.alias) for field in fields if values[str(field.alias)] is not field.default}
    checked = validate(target, {name: values[name] for name in changed}, subject=subject, context=IN_PYTHON)

    def check(part: Part, path: str) -> None:
        with within(path):
            check_object(part.kind, part.value, subject=called(part), depth=depth + 1)

    for name in checked:
        if name in changed:
            fill(checked[name], check, name)


def called(part: Part) -> str:
    """Return what messages call an object: "sampler ULA"."""
    kind = part.value if hasattr(part.value, "__qualname__") else type(part.value)
    return f"{'energy' if part.kind == 'model' else part.kind} {kind.__qualname__}"


def too_deep(subject: str) -> str:
    """Return the message for plugins inside plugins without end."""
    return f"{subject} must stand inside at most {DEPTH} other plugins; got more. Take some of them out."


def _is_frozen(value: Any) -> bool:
    parameters = getattr(type(value), "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)
