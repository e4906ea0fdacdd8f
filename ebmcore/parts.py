"""The objects of a job: from what a caller names to plain tables, and from plain tables to objects, in any process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ebmcore.arrays import load_array
from ebmcore.errors import InputError
from ebmcore.initial import Start, build_start
from ebmcore.protocols import JobSpec, Reducer, Sampler, Writer
from ebmcore.registry import Record, Registry
from ebmcore.registry.validation import validate
from ebmcore.registry.wording import Refusal
from ebmcore.settings import check_instance
from ebmcore.stored import name_of
from ebmcore.weights import load_weights


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
    """Return the plain table of what a caller gave: an object, a name, or a table.

    Args:
        kind: The plugin kind.
        value: What was given.
        what: Its place in the job; an object is kept in `live` under this name.
        live: Objects of this process.

    Raises:
        InputError: It is none of them, or an object that breaks its protocol.
    """
    if isinstance(value, str):
        return {"use": value}
    if isinstance(value, Mapping):
        if not isinstance(value.get("use"), str):
            raise InputError(f"a {what} given as a table must have `use`, a name; got {dict(value)!r:.60}. Add `use`.")
        return dict(value)
    _check_object(kind, value, what)
    live[what] = value
    return live_table(what, value)


def live_table(what: str, value: Any) -> dict[str, Any]:
    """Return the plain stand-in of an object that only this process has."""
    kind = value if hasattr(value, "__qualname__") else type(value)
    return {"live": what, "of": f"{kind.__module__}.{kind.__qualname__}"}


def build_part(
    kind: str, table: Mapping[str, Any], live: Mapping[str, Any], registry: Registry, base: Path
) -> tuple[Any, Mapping[str, Any]]:
    """Return the object of a table, and the record of where it came from.

    Raises:
        InputError: A plugin cannot be had, its settings are wrong, or a live object is not of this process.
    """
    if "live" in table:
        if table["live"] not in live:
            raise InputError(
                f"{kind} `{table['of']}` must be importable to run in another process; got an object of the process "
                "that made the run. Give it as 'module:Name', or use executor 'threads' or 'serial'."
            )
        return live[table["live"]], {"kind": kind, **table}
    plain = {key: value for key, value in table.items() if key not in ("name", "weights")}
    built = registry.build(kind, plain, base=base)
    made = built.object if "weights" not in table else load_weights(built.object, base / table["weights"])
    return made, _record(built.record, built.digest)


def build_parts(job: JobSpec, live: Mapping[str, Any], registry: Registry) -> Parts:
    """Build every object that a job names.

    Raises:
        InputError: As `build_part`.
    """
    records: list[Mapping[str, Any]] = []

    def part(kind: str, table: Mapping[str, Any]) -> Any:
        made, record = build_part(kind, table, live, registry, Path(job.base))
        records.append(record)
        return made

    def tensor(name: str, table: Mapping[str, Any]) -> Tensor:
        if "path" in table:
            return load_array(Path(job.base) / table["path"], what=f"`{name}`")
        made: Tensor = build_part("tensor", table, live, registry, Path(job.base))[0]
        return made

    return Parts(
        model=part("model", job.energy),
        samplers=tuple(part("sampler", stage.sampler) for stage in job.stages),
        writers={name_of(table): part("writer", table) for table in job.writers},
        reducers={name_of(table): part("reducer", table) for table in job.reducers},
        noise=part("noise", {"use": job.noise}),
        start=build_start(job.init, live.get(job.init.get("live", "")), Path(job.base)),
        condition={name: tensor(f"condition.{name}", table) for name, table in job.condition.items()},
        shared={name: tensor(f"shared.{name}", table) for name, table in job.shared.items()},
        records=tuple(records),
    )


def _check_object(kind: str, value: Any, what: str) -> None:
    """Hold an object made in Python to the rules of a plugin of its kind, its settings too."""
    if kind in ("model", "observer"):
        return
    subject = f"{what} {type(value).__name__}"
    if isinstance(value, type):
        raise InputError(f"a {what} must be an object; got the class {value.__name__}. Call it with its settings.")
    try:
        validate(kind, type(value))
    except Refusal as refusal:
        raise InputError(f"{subject} {refusal}.") from None
    check_instance(value, subject=subject)


def _record(record: Record, digest: str | None) -> dict[str, Any]:
    known = {
        "kind": record.kind,
        "name": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "value": record.value,
        "digest": digest,
    }
    return {key: value for key, value in known.items() if value is not None}
