"""What `ebmcore plugins check NAME` does: makes an object of a plugin, runs the conformance kit on it, and prints."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ebmcore.config_source import Source
from ebmcore.errors import InputError, SettingsError
from ebmcore.registry import Registry
from ebmcore.registry.finding import Plugin, find
from ebmcore.registry.requirements import canonical
from ebmcore.settings_examples import examples
from ebmcore.settings_help import toml
from ebmcore.testing.running import OWN, outcomes, pairs


def checked(registry: Registry, name: str, kind: str | None, overrides: Sequence[str], seed: int) -> bool:
    """Check every plugin that a name means, and print what comes of each check.

    Args:
        registry: What is installed.
        name: As of `ebmcore plugins check`.
        kind: The kind that is meant.
        overrides: Settings as KEY=VALUE.
        seed: The seed of the checks.

    Returns:
        Whether no check failed.

    Raises:
        InputError: The plugin, or an object of it, cannot be had.
    """
    found = find(registry, name, kind)
    if len(found) > 1 and overrides:
        kinds = " and ".join(f"{plugin.record.kind}:{plugin.record.name}" for plugin in found)
        raise InputError(f"--set must be of one plugin; got {name!r}, which is {kinds}. Name one of these.")
    good = [_check(registry, plugin, overrides, seed) for plugin in found]
    words = "" if not overrides else "".join(f" --set {shlex.quote(each)}" for each in overrides)
    click.echo(
        "next: " + ("ebmcore run FILE.toml" if all(good) else f"mend it, then ebmcore plugins check {name}{words}")
    )
    return all(good)


def _check(registry: Registry, plugin: Plugin, overrides: Sequence[str], seed: int) -> bool:
    kind = plugin.record.kind
    made, table = _made(registry, plugin, overrides)
    settings = ", ".join(f"{key} = {toml(value)}" for key, value in table.items() if key != "use")
    click.echo(f"{plugin.record.label}{f' with {settings}' if settings else ''}")
    counts: Counter[str] = Counter()
    for outcome in outcomes(pairs(kind, made, seed=seed)):
        counts[outcome.state] += 1
        text = f": {' '.join(outcome.text.split())}" if outcome.text else ""
        click.echo(f"  {outcome.state}  {outcome.check.name}{text}")
    said = ", ".join(f"{counts[state]} {state}" for state in ("passed", "failed", "skipped") if counts[state])
    click.echo(f"{counts.total()} checks: {said}\n")
    return not counts["failed"]


def _made(registry: Registry, plugin: Plugin, overrides: Sequence[str]) -> tuple[Any, Mapping[str, Any]]:
    """Return an object and its table: as few settings as can be, beside those that are given."""
    record = plugin.record
    use = record.name if record.distribution is None else f"{record.name}@{canonical(record.distribution)}"
    if plugin.target is None:
        registry.load(record.kind, use)
    given = Source(Path("--set"), {}, {})
    for override in overrides:
        given.override(override)
    refusal: SettingsError | None = None
    for table in examples(plugin.target, subject=record.label, plugin=OWN.get):
        whole = {"use": use, **table, **given.data}
        try:
            return registry.build(record.kind, whole, subject=record.label).object, whole
        except SettingsError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal
