"""The objects of a job: from what a caller names to plain tables, and from plain tables to objects, in any process."""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ebmcore.arrays import load_array
from ebmcore.errors import InputError, about
from ebmcore.initial import Start, build_start
from ebmcore.protocols import JobSpec, Reducer, Sampler, Writer
from ebmcore.registry import Record, Registry
from ebmcore.settings_objects import check_object
from ebmcore.stored import name_of
from ebmcore.weights import load_weights

DEPTH = 100
"""Lists and tables in a plugin's table may stand inside each other so deep; a table that holds itself has no end."""

_PLAIN = str | bool | numbers.Number | Path | datetime.date | datetime.time | None


@dataclass(frozen=True)
class Parts:
    """The objects of a job."""

    model: Any
    samplers: tuple[Sampler[Any], ...]
    writers: Mapping[str, Writer]
    reducers: Mapping[str, Reducer]
    noise: Any
    start: Start
    condition: Mapping[str, Tensor]
    shared: Mapping[str, Tensor]
    records: tuple[Mapping[str, Any], ...]
    """What was used, for the manifest: kind, name, distribution, version, value, digest."""


def as_table(kind: str, value: Any, what: str, live: dict[str, Any]) -> Mapping[str, Any]:
    """Return the plain table of what a caller gave: an object, a name, or a table, which may hold objects.

    Args:
        kind: The plugin kind.
        value: What was given.
        what: Its place in the job; an object is kept in `live` under its place, and a stand-in is put there.
        live: Objects of this process.

    Raises:
        InputError: It is none of them, or an object that breaks its protocol.
    """
    if isinstance(value, str):
        return {"use": value}
    if isinstance(value, Mapping):
        if not isinstance(value.get("use"), str):
            raise InputError(f"a {what} given as a table must have `use`, a name; got {dict(value)!r:.60}. Add `use`.")
        table: Mapping[str, Any] = _stood_in(value, what, live, 0)
        return table
    # An observer may have any methods, and any callable is an energy.
    if kind != "observer":
        check_object(kind, value, subject=f"{what} {type(value).__name__}")
    live[what] = value
    return live_table(what, value)


def live_table(what: str, value: Any) -> dict[str, Any]:
    """Return the plain stand-in of an object that only this process has."""
    kind = value if hasattr(value, "__qualname__") else type(value)
    return {"live": what, "of": f"{kind.__module__}.{kind.__qualname__}"}


def build_part(
    kind: str, table: Mapping[str, Any], live: Mapping[str, Any], registry: Registry, base: Path
) -> tuple[Any, tuple[Mapping[str, Any], ...]]:
    """Return the object of a table, and the records of where it and what its settings name came from.

    Raises:
        InputError: A plugin cannot be had, its settings are wrong, or a live object is not of this process.
    """
    if "live" in table:
        return _of_this_process(table, live), ({"kind": kind, **table},)
    plain = {key: _put_back(value, live) for key, value in table.items() if key != "name"}
    built = registry.build(kind, plain, base=base, load_weights=load_weights)
    return built.object, tuple(_record(*each) for each in ((built.record, built.digest), *built.nested))


def build_parts(job: JobSpec, live: Mapping[str, Any], registry: Registry) -> Parts:
    """Build every object that a job names.

    Raises:
        InputError: As `build_part`.
    """
    records: list[Mapping[str, Any]] = []

    def part(kind: str, table: Mapping[str, Any], *key: str | int) -> Any:
        with about(*key):
            made, used = build_part(kind, table, live, registry, Path(job.base))
        records.extend(used)
        return made

    def tensors(what: str, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
        return {name: tensor(what, name, table) for name, table in tables.items()}

    def tensor(what: str, name: str, table: Mapping[str, Any]) -> Tensor:
        with about(what, name):
            if "path" in table:
                return load_array(Path(job.base) / table["path"], what=f"{what} '{name}'")
            made: Tensor = build_part("tensor", table, live, registry, Path(job.base))[0]
            return made

    def start() -> Start:
        with about("run", "init"):
            return build_start(job.init, live.get(job.init.get("live", "")), Path(job.base))

    return Parts(
        model=part("model", job.energy, "model"),
        samplers=tuple(part("sampler", stage.sampler, "stage", i, "sampler") for i, stage in enumerate(job.stages)),
        writers={name_of(table): part("writer", table, "writer", i) for i, table in enumerate(job.writers)},
        reducers={name_of(table): part("reducer", table, "reducer", i) for i, table in enumerate(job.reducers)},
        noise=part("noise", {"use": job.noise}, "engine", "noise"),
        start=start(),
        condition=tensors("condition", job.condition),
        shared=tensors("shared", job.shared),
        records=tuple(records),
    )


def _stood_in(value: Any, path: str, live: dict[str, Any], depth: int) -> Any:
    """Return a value of a table with every object in it kept in `live`, and a stand-in in its place."""
    if isinstance(value, _PLAIN):
        return value
    if depth > DEPTH:
        raise InputError(f"`{path[:60]}...` must stand inside at most {DEPTH} tables; got more. Take some of them out.")
    if isinstance(value, Mapping):
        return {key: _stood_in(inner, f"{path}.{key}", live, depth + 1) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_stood_in(inner, f"{path}[{i}]", live, depth + 1) for i, inner in enumerate(value))
    live[path] = value
    return live_table(path, value)


def _put_back(value: Any, live: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {"live", "of"}:
            return _of_this_process(value, live)
        return {key: _put_back(inner, live) for key, inner in value.items()}
    return type(value)(_put_back(inner, live) for inner in value) if type(value) in (list, tuple) else value


def _of_this_process(table: Mapping[str, Any], live: Mapping[str, Any]) -> Any:
    if table["live"] not in live:
        raise InputError(
            f"{table['live']} `{table['of']}` must be importable to run in another process; got an object of the "
            "process that made the run. Give it as 'module:Name', or use executor 'threads' or 'serial'."
        )
    return live[table["live"]]


def _record(record: Record, digest: str | None) -> dict[str, Any]:
    if record.source == "live":
        return {"kind": record.kind, "of": record.value.replace(":", ".")}
    known = {
        "kind": record.kind,
        "name": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "value": record.value,
        "digest": digest,
    }
    return {key: value for key, value in known.items() if value is not None}
