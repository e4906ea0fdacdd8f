"""What of a job only the process that made it has: another process cannot build that from plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ebmcore.errors import InputError
from ebmcore.protocols import JobSpec
from ebmcore.registry import default

MAIN = "__main__:"


def check_portable(job: JobSpec, who: str) -> None:
    """Refuse a job that another process cannot build.

    Args:
        job: The job.
        who: Names the executor that would have it built elsewhere.

    Raises:
        InputError: Something in it lives in this process alone.
    """
    for what, name, fix in _here(job):
        raise InputError(
            f"{what} must be importable to run with executor '{who}'; got {name}, which only this process has. "
            f"{fix}, or use executor 'threads' or 'serial'."
        )


def is_portable(job: JobSpec) -> bool:
    """Say whether another process can build a job."""
    return next(_here(job), None) is None


def _here(job: JobSpec) -> Iterator[tuple[str, str, str]]:
    registered = {record.name for record in default().records() if record.source == "registered"}
    for place, value in _tables(job):
        yield from _within(place, value, registered)


def _tables(job: JobSpec) -> Iterator[tuple[str, Any]]:
    yield "the energy", job.energy
    for index, stage in enumerate(job.stages):
        yield ("the sampler" if len(job.stages) == 1 else f"the sampler of stage {index}"), stage.sampler
    yield "`init`", job.init
    for word, tables in (("condition", job.condition), ("shared", job.shared)):
        yield from ((f"{word} '{name}'", table) for name, table in tables.items())
    for word, listed in (("writer", job.writers), ("reducer", job.reducers)):
        yield from ((f"{word} {number}", table) for number, table in enumerate(listed))


def _within(place: str, value: Any, registered: set[str]) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, Mapping):
        if isinstance(value.get("live"), str) and "of" in value:
            tensor = value["of"] == "torch.Tensor"
            yield place, ("a tensor" if tensor else f"`{value['of']}`"), _fix(tensor=tensor)
            return
        use = value.get("use")
        if isinstance(use, str) and use.startswith(MAIN):
            yield place, f"'{use}'", _fix()
        elif use in registered:
            yield place, f"'{use}', registered with ebm.register", _fix()
        for inner in value.values():
            yield from _within(place, inner, registered)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _within(place, inner, registered)


def _fix(*, tensor: bool = False) -> str:
    return "Give the path of a .npy or .safetensors file" if tensor else "Give it as 'module:Name' or './file.py:Name'"
