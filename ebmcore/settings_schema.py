"""The JSON schema of a plugin's settings: what editors and help texts read."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ebmcore.settings import settings_model
from ebmcore.settings_nested import KIND

Schema = dict[str, Any]

DIALECT = GenerateJsonSchema.schema_dialect


class _Generate(GenerateJsonSchema):
    """Leaves out titles, defaults that are no JSON, and what it cannot say of a type."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's own name

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def settings_schema(target: Any, *, subject: str, prefix: str = "") -> tuple[Schema, dict[str, Schema]]:
    """Return the schema of a plugin's table, and the definitions that it refers to in `#/$defs/`.

    TOML has no null: it is taken out. A setting that is a plugin is `{"x-ebmcore-kind": KIND}`.

    Args:
        target: A plugin's class or function.
        subject: What messages call it.
        prefix: Put before the names of definitions, so that those of two plugins do not meet.

    Raises:
        PluginError: Its settings cannot be read.
    """
    model = settings_model(target, subject=subject)
    whole = model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}", schema_generator=_Generate)
    definitions = {f"{prefix}{name}": without_null(each) for name, each in whole.pop("$defs", {}).items()}
    whole.pop("title", None)
    whole.pop("description", None)
    properties = {name: _settled(without_null(each)) for name, each in whole.get("properties", {}).items()}
    return {**whole, "properties": properties}, definitions


def without_null(schema: Any) -> Any:
    """Return a schema without null among its alternatives, and without null for a default."""
    if isinstance(schema, list):
        return [without_null(each) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    clean = {key: without_null(each) for key, each in schema.items() if key != "default"}
    if (default := schema.get("default")) is not None:
        clean["default"] = _filled(default)
    if len(clean.get("anyOf", ())) == 1:
        (only,) = clean.pop("anyOf")
        clean = {**only, **clean}
    return clean


def branches(schema: Schema) -> list[Schema]:
    """Return the alternatives of a schema: itself if it has none."""
    return list(schema.get("anyOf", [schema]))


def _filled(default: Any) -> Any:
    return {key: each for key, each in default.items() if each is not None} if isinstance(default, dict) else default


def _settled(schema: Schema) -> Schema:
    """Leave out a default that is an object of a plugin: its fields would be mistaken for a table."""
    if "default" in schema and _names_plugin(schema) and not isinstance(schema["default"], int | float):
        return {key: each for key, each in schema.items() if key != "default"}
    return schema


def _names_plugin(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_names_plugin, schema))
    return isinstance(schema, dict) and (KIND in schema or any(map(_names_plugin, schema.values())))
