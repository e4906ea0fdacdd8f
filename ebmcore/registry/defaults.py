"""The plugins that a run uses without naming them: ours, whatever else is installed."""

from __future__ import annotations

from ebmcore.registry.records import Record
from ebmcore.registry.registry import Registry
from ebmcore.registry.requirements import HOST, canonical
from ebmcore.registry.tables import FIRST_PARTY

READY = ("available", "loaded", "conflict")
"""States of a plugin that may be had: one in conflict by its distribution's name."""

_HOMES = frozenset({HOST, *(home for names in FIRST_PARTY.values() for home in names.values())})


def is_ours(record: Record) -> bool:
    """Does it come with ebmcore, or was it registered in this process?"""
    return record.source == "registered" or canonical(record.distribution or "") in _HOMES


def ours(registry: Registry, kind: str, name: str) -> str:
    """Return how to ask for the plugin of ours that a default means.

    That is its name, and `name@distribution` where another distribution gives the name too: who named nothing did
    not ask for the other one, and is not to be told of a conflict.
    """
    found = [record for record in registry.records(kind) if record.name == name]
    return settled(registry, kind, name, next((each.distribution for each in found if is_ours(each)), None))


def settled(registry: Registry, kind: str, name: str, distribution: str | None) -> str:
    """Return `name@distribution` where several distributions give a name, and this is one of them; else the name."""
    homes = {
        canonical(record.distribution or "")
        for record in registry.records(kind)
        if record.name == name and record.state != "blocked"
    }
    home = canonical(distribution or "")
    return f"{name}@{home}" if home and home in homes and len(homes) > 1 else name
