"""What a setting takes, in words: read from the JSON schema of a plugin's settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ebmcore.settings_nested import KIND
from ebmcore.settings_schema import Schema, settings_schema

_BOUNDS: Mapping[str, str] = {
    "exclusiveMinimum": "> {}",
    "minimum": ">= {}",
    "exclusiveMaximum": "< {}",
    "maximum": "<= {}",
    "multipleOf": "a multiple of {}",
}
_PLUGINS: Mapping[str, str] = {"sampler": "sampler", "model": "energy", "schedule": "schedule"}


class SettingHelp(NamedTuple):
    """One setting, as a help text shows it."""

    name: str
    type: str
    """Type and bounds: `number > 0 or schedule`."""
    default: str
    """`required`, `optional`, or `default VALUE` with VALUE as TOML has it."""
    description: str


def settings_help(target: Any, *, subject: str) -> list[SettingHelp]:
    """Return the settings of a plugin, in its own order.

    Args:
        target: A plugin's class or function.
        subject: What messages call it.

    Raises:
        PluginError: Its settings cannot be read.
    """
    schema, definitions = settings_schema(target, subject=subject)
    required = schema.get("required", ())
    return [
        SettingHelp(
            name,
            _type(each, definitions),
            "required" if name in required else f"default {toml(each['default'])}" if "default" in each else "optional",
            each.get("description", ""),
        )
        for name, each in schema["properties"].items()
    ]


def toml(value: Any) -> str:
    """Return a value as TOML writes it on one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(key))} = {toml(each)}" for key, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _type(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    if "$ref" in schema:
        return _type(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(each, definitions) for each in schema["anyOf"]))
    if KIND in schema:
        return _PLUGINS[schema[KIND]]
    if "const" in schema or "enum" in schema:
        return " or ".join(map(toml, schema.get("enum", [schema.get("const")])))
    kind = schema.get("type")
    if kind in ("number", "integer"):
        bounds = " and ".join(words.format(_short(schema[key])) for key, words in _BOUNDS.items() if key in schema)
        return f"{'number' if kind == 'number' else 'whole number'} {bounds}".rstrip()
    if kind == "string":
        pattern = f" like {schema['pattern']}" if "pattern" in schema else ""
        return "path" if schema.get("format") == "path" else f"string{pattern}{_length(schema, 'Length')}"
    if kind == "array" and "prefixItems" in schema:
        return f"[{', '.join(_type(each, definitions) for each in schema['prefixItems'])}]"
    if kind == "array":
        inner = schema.get("items")
        of = f" of {_type(inner, definitions)}" if inner else ""
        return f"list{of}{_length(schema, 'Items')}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"table of {_type(inner, definitions)}" if isinstance(inner, dict) and inner else "table"
    return "true or false" if kind == "boolean" else "any value"


def _length(schema: Schema, what: str) -> str:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is None and most is None:
        return ""
    span = f"{least} or more" if most is None else f"at most {most}" if not least else f"{least} to {most}"
    return f", {span}{' characters' if what == 'Length' else ''}"


def _short(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)
