"""The JSON schema of a run file, with a choice over the installed plugins in the place of each `use` table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ebmcore.config import RunConfig
from ebmcore.errors import PluginError
from ebmcore.registry import KINDS, Record, Registry
from ebmcore.registry.requirements import canonical
from ebmcore.settings_nested import KIND
from ebmcore.settings_schema import DIALECT, Schema, settings_schema, without_null

DIRECT = r":|\.py$"
"""Pattern of a direct reference; its settings are not known before it is loaded, so any are allowed."""

NESTED: Mapping[str, Mapping[str, Schema]] = {
    "sampler": {},
    "model": {"weights": {"type": "string", "minLength": 1}},
    "schedule": {},
}
"""The host's own words in the table of a setting that is a plugin."""

_REF = "#/$defs/"


class _Plugin(NamedTuple):
    """What the schema says of one plugin."""

    uses: list[str]
    """What names it: `ula`, `ula@ebmcore-langevin`."""
    about: str
    settings: Schema
    definitions: Mapping[str, Schema]


def run_file_schema(registry: Registry) -> tuple[Schema, list[str]]:
    """Return the schema, in draft 2020-12, and a line for each plugin that is left out since it cannot be had.

    Every plugin that is installed is loaded: its settings are in its class.

    Args:
        registry: What is installed.
    """
    problems: list[str] = []
    plugins = {kind: _plugins(registry, kind, problems) for kind in KINDS}
    whole = without_null(RunConfig.model_json_schema())
    definitions: dict[str, Schema] = whole.pop("$defs", {})
    tables = {name: each for name, each in definitions.items() if _takes_any_plugin(each)}
    choices: dict[str, Schema] = {}

    def choice(kind: str, words: Mapping[str, Schema]) -> Schema:
        name = "-".join([kind, *sorted(words)])
        choices[name] = {"anyOf": [*(_table(plugin, words) for plugin in plugins[kind]), _direct(words)]}
        return {"$ref": f"{_REF}{name}"}

    def replaced(node: Any, kind: str | None = None) -> Any:
        """Replace what stands for a plugin; `kind` is the property that `node` is the schema of, if that is a kind."""
        if isinstance(node, list):
            return [replaced(each, kind) for each in node]
        if not isinstance(node, dict):
            return node
        target = str(node.get("$ref", "")).removeprefix(_REF)
        if kind is not None and target in tables:
            return choice(kind, {word: each for word, each in tables[target]["properties"].items() if word != "use"})
        if kind is not None and node.get("type") == "string":
            return _name(plugins[kind], "auto")
        return {
            key: {name: replaced(inner, name if name in KINDS else None) for name, inner in each.items()}
            if key == "properties"
            else replaced(each, kind)
            for key, each in node.items()
        }

    whole = replaced(whole)
    kept = {name: replaced(each) for name, each in definitions.items() if name not in tables}
    for kind, words in NESTED.items():
        kept[f"setting-{kind}"] = {"anyOf": [_name(plugins[kind]), choice(kind, words)]}
    for plugin in (each for found in plugins.values() for each in found):
        kept |= plugin.definitions
    return {"$schema": DIALECT, "title": "ebmcore run file", **whole, "$defs": _nested({**kept, **choices})}, problems


def _plugins(registry: Registry, kind: str, problems: list[str]) -> list[_Plugin]:
    found = []
    for record in registry.records(kind):
        if record.state == "blocked":
            continue
        at = record.name if record.distribution is None else f"{record.name}@{canonical(record.distribution)}"
        try:
            target = registry.load(kind, at).target
        except PluginError as error:
            problems.append(str(error))
            continue
        settings, definitions = settings_schema(target, subject=record.label, prefix=f"{kind}.{at}.")
        uses = [at] if record.state == "conflict" else list(dict.fromkeys([record.name, at]))
        found.append(_Plugin(uses, _about(record, target), settings, definitions))
    return found


def _about(record: Record, target: Any) -> str:
    first = inspect.cleandoc(getattr(target, "__doc__", None) or "").partition("\n")[0]
    return first or record.label


def _takes_any_plugin(table: Schema) -> bool:
    return "use" in table.get("required", ()) and table.get("additionalProperties") is True


def _table(plugin: _Plugin, words: Mapping[str, Schema]) -> Schema:
    use = {"enum": plugin.uses} if len(plugin.uses) > 1 else {"const": plugin.uses[0]}
    return {
        "type": "object",
        "title": plugin.uses[0],
        "description": plugin.about,
        "properties": {"use": use, **words, **plugin.settings["properties"]},
        "required": ["use", *plugin.settings.get("required", ())],
        "additionalProperties": False,
    }


def _direct(words: Mapping[str, Schema]) -> Schema:
    use = {"type": "string", "pattern": DIRECT}
    return {
        "type": "object",
        "title": "direct reference",
        "description": "pkg.module:Name or ./file.py:Name, with its settings",
        "properties": {"use": use, **words},
        "required": ["use"],
    }


def _name(plugins: Sequence[_Plugin], *more: str) -> Schema:
    """Return the schema of a plugin that is only named: one that needs no settings."""
    names = [*more, *(use for plugin in plugins if not plugin.settings.get("required") for use in plugin.uses)]
    return {"anyOf": [*([{"enum": names}] if names else []), {"type": "string", "pattern": DIRECT}]}


def _nested(node: Any) -> Any:
    """Replace the mark of a setting that is a plugin by what such a setting takes; its description stays."""
    if isinstance(node, list):
        return [_nested(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: _nested(each) for key, each in node.items() if key != KIND}
    return {"$ref": f"{_REF}setting-{node[KIND]}", **found} if isinstance(node.get(KIND), str) else found
