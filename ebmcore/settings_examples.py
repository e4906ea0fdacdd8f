"""Values that a plugin's settings would take, to show how it is named: read from the JSON schema of its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError

from ebmcore.settings import settings_model
from ebmcore.settings_nested import KIND
from ebmcore.settings_schema import Schema, branches, settings_schema

NUMBERS = (0.01, 1, 0.5, 10, 100, -1)
"""Tried in this order."""

TRIED = 100
"""So many values are tried for a setting."""


def examples(target: Any, *, subject: str, plugin: Callable[[str], Any | None]) -> Iterator[dict[str, Any]]:
    """Yield tables of settings that types and bounds allow: the required ones, then with each optional one beside.

    Args:
        target: A plugin's class or function.
        subject: What messages call it.
        plugin: Returns a table for a setting that is a plugin of a kind; None if there is none to name.

    Raises:
        PluginError: Its settings cannot be read.
    """
    schema, definitions = settings_schema(target, subject=subject)
    model = settings_model(target, subject=subject)
    properties = schema["properties"]

    def add(table: dict[str, Any], name: str) -> dict[str, Any]:
        tried = islice(_candidates(properties[name], definitions, plugin), TRIED)
        found = next((value for value in tried if _suits(model, name, value)), None)
        return table if found is None else {**table, name: found}

    needed: dict[str, Any] = {}
    for name in schema.get("required", ()):
        needed = add(needed, name)
    yield needed
    for name in properties:
        if name not in needed:
            yield add(needed, name)


def _suits(model: type[BaseModel], name: str, value: Any) -> bool:
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        return all(problem["loc"][0] != name for problem in error.errors(include_url=False))
    return True


def _candidates(
    schema: Schema, definitions: Mapping[str, Schema], plugin: Callable[[str], Any | None]
) -> Iterator[Any]:
    """Yield values that a schema may allow; what no schema says is for the settings themselves to refuse."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for branch in branches(schema):
        kind = branch.get("type")
        if branch is not schema:
            yield from _candidates(branch, definitions, plugin)
        elif KIND in branch:
            yield from filter(None, [plugin(branch[KIND])])
        elif "const" in branch or "enum" in branch:
            yield from branch.get("enum", [branch.get("const")])
        elif kind in ("number", "integer"):
            yield from _numbers(branch)
        elif kind == "string":
            yield "text"[: branch.get("maxLength", 4)].ljust(branch.get("minLength", 0), "t")
        elif kind == "boolean":
            yield True
        elif kind == "array":
            yield from _lists(branch, definitions, plugin)
        elif kind == "object":
            inner = branch.get("additionalProperties")
            yield {}
            if isinstance(inner, dict):
                yield from ({"a": value} for value in _candidates(inner, definitions, plugin))
        else:
            yield 1


def _lists(schema: Schema, definitions: Mapping[str, Schema], plugin: Callable[[str], Any | None]) -> Iterator[Any]:
    if "prefixItems" in schema:
        firsts = (islice(_candidates(each, definitions, plugin), 1) for each in schema["prefixItems"])
        yield [value for first in firsts for value in first]
        return
    length = max(1, schema.get("minItems", 1))
    for value in _candidates(schema.get("items", {}), definitions, plugin):
        yield [value] * length


def _numbers(schema: Schema) -> Iterator[float]:
    low = schema.get("exclusiveMinimum", schema.get("minimum"))
    high = schema.get("exclusiveMaximum", schema.get("maximum"))
    tried: list[float] = [*NUMBERS, schema.get("multipleOf", 1)]
    if low is not None and high is not None:
        tried.append((low + high) / 2)
    tried += [] if low is None else [low, low + 1, 2 * low]
    tried += [] if high is None else [high, high - 1, high / 2]
    if "multipleOf" in schema and low is not None:
        tried.append((low // schema["multipleOf"] + 1) * schema["multipleOf"])
    for number in tried:
        whole = float(number).is_integer()
        if _within(number, schema) and (whole or schema["type"] == "number"):
            yield int(number) if schema["type"] == "integer" else number


def _within(number: float, schema: Schema) -> bool:
    return bool(
        number > schema.get("exclusiveMinimum", number - 1)
        and number >= schema.get("minimum", number)
        and number < schema.get("exclusiveMaximum", number + 1)
        and number <= schema.get("maximum", number)
        and number % schema.get("multipleOf", number or 1) == 0
    )
