"""A name as a person writes it -> every plugin that it may mean, loaded if that can be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ebmcore.errors import InputError, PluginError
from ebmcore.registry.defaults import settled
from ebmcore.registry.loading import check, traceback_of
from ebmcore.registry.records import Record
from ebmcore.registry.references import is_direct, load_direct
from ebmcore.registry.registry import Registry
from ebmcore.registry.requirements import canonical
from ebmcore.registry.tables import KINDS
from ebmcore.registry.wording import Refusal, a, quoted, reason_of, unknown_anywhere

_STRICT_FIRST = ("sampler", "writer", "reducer", "executor", "noise", "schedule", "model", "observer")
"""In which order the kind of an object is guessed: many things could be energies, and anything an observer."""

_SETTINGS_ALONE = ("sampler", "schedule", "writer", "executor")
"""Kinds of which an object costs nothing to make."""


@dataclass(frozen=True)
class Plugin:
    """A plugin that a name may mean."""

    record: Record
    target: Any = None
    """Its class or function; None if it cannot be had."""
    digest: str | None = None


def find(registry: Registry, asked: str, kind: str | None = None, *, base: Path = Path()) -> list[Plugin]:
    """Return every plugin that a name may mean, loaded; one that fails is among them, with its traceback.

    Args:
        registry: What is installed.
        asked: NAME, KIND:NAME, `name@distribution`, or a direct reference.
        kind: Look at this kind alone.
        base: Folder that the file of a direct reference is relative to.

    Raises:
        PluginError: There is none, or no such kind.
    """
    prefix, colon, rest = asked.partition(":")
    if colon and prefix in KINDS:
        if kind not in (None, prefix):
            raise PluginError(f"{asked!r} must be {a(str(kind))}, as --kind says; got {a(prefix)}. Leave --kind out.")
        kind, asked = prefix, rest
    records = registry.records(kind)
    if is_direct(asked):
        return [_direct(asked, kind, base)]
    name, at, home = asked.partition("@")
    found = [record for record in records if record.name == name]
    if at:
        found = [record for record in found if canonical(record.distribution or "") == canonical(home)]
    if not found and kind is not None:
        registry.find(kind, asked)
    if not found:
        raise PluginError(unknown_anywhere(asked, registry.records()))
    return [_loaded(registry, record) for record in found]


def example(plugin: Plugin, registry: Registry, *, nested: bool = True) -> dict[str, Any]:
    """Return a table that names a plugin with settings that it takes, as few as can be.

    Types and bounds are kept. Where an object costs nothing to make, it is made to see whether
    the plugin accepts the settings together; if it does not, one more is tried beside them.

    Args:
        plugin: A plugin that is loaded.
        registry: Where to look for the plugins in its settings.
        nested: Whether its settings may be plugins.
    """
    from ebmcore.settings_examples import examples

    record = plugin.record
    use = settled(registry, record.kind, record.name, record.distribution)

    def other(kind: str) -> dict[str, Any] | None:
        for candidate in registry.records(kind) if nested else ():
            if candidate.state in ("available", "loaded"):
                found = _loaded(registry, candidate)
                if found.target not in (None, plugin.target):
                    table = example(found, registry, nested=False)
                    if _is_accepted(registry, found, table):
                        return table
        return None

    tables = [{"use": use, **each} for each in examples(plugin.target, subject=record.label, plugin=other)]
    return next((each for each in tables if _is_accepted(registry, plugin, each)), tables[0])


def _is_accepted(registry: Registry, plugin: Plugin, table: dict[str, Any]) -> bool:
    from ebmcore.settings import validate

    kind = plugin.record.kind
    try:
        if kind in _SETTINGS_ALONE and plugin.record.source != "direct":
            registry.build(kind, table)
        else:
            given = {name: value for name, value in table.items() if name != "use"}
            validate(plugin.target, given, subject=plugin.record.label)
    except InputError:
        return False
    return True


def _loaded(registry: Registry, record: Record) -> Plugin:
    use = record.name if record.distribution is None else f"{record.name}@{record.distribution}"
    try:
        loaded = registry.load(record.kind, use)
    except PluginError:
        return Plugin(registry.find(record.kind, use))
    # That the name alone is in conflict is still so.
    return Plugin(record if record.state == "conflict" else loaded.record, loaded.target)


def _direct(use: str, kind: str | None, base: Path) -> Plugin:
    record = Record(kind or "plugin", use, None, None, use, "loaded", source="direct")
    try:
        target, digest = load_direct(use, base)
    except KeyboardInterrupt:
        raise
    except Refusal as refusal:
        raise PluginError(f"{record.label} {refusal}.") from None
    except BaseException as error:  # a plugin may raise anything
        return Plugin(replace(record, state="failed", reason=reason_of(error), traceback=traceback_of(error)))
    refusals = {}
    for candidate in [kind] if kind is not None else _STRICT_FIRST:
        try:
            check(replace(record, kind=candidate), target)
        except Refusal as refusal:
            refusals[candidate] = str(refusal)
        else:
            return Plugin(replace(record, kind=candidate), target, digest)
    if kind is not None:
        return Plugin(replace(record, state="failed", reason=refusals[kind]))
    raise PluginError(f"{quoted(use)} {refusals['model']}.")
