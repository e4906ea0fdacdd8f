"""What of a job only the process that made it has: tensors go to other processes as files, other objects cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ebmcore.errors import InputError
from ebmcore.parts import Parts
from ebmcore.protocols import JobSpec
from ebmcore.registry import default
from ebmcore.rundir.files import durable

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


def carried(job: JobSpec, parts: Parts, folder: Path) -> JobSpec:
    """Return a job whose live tensors (`init`, conditions, what is shared) are files, which any process can map.

    Args:
        job: A job that is portable otherwise.
        parts: Its objects here.
        folder: Where the files go.

    Raises:
        RunError: The disk is full or broken.
    """
    init = dict(job.init)
    if parts.start.points is not None and _is_tensor(init):
        init = {key: value for key, value in init.items() if key not in ("live", "of")}
        init["use"] = _stored(folder, "init", parts.start.points)

    def files(what: str, tables: Mapping[str, Mapping[str, Any]], made: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            name: {"path": _stored(folder, f"{what}-{name}", made[name])} if _is_tensor(table) else table
            for name, table in tables.items()
        }

    condition, shared = files("condition", job.condition, parts.condition), files("shared", job.shared, parts.shared)
    return replace(job, init=init, condition=condition, shared=shared)


def _stored(folder: Path, name: str, value: Tensor) -> str:
    plain = value.detach().cpu().contiguous()
    # Mapped by who reads it, so that workers need no copy each; numpy has no bfloat16.
    file = folder / f"{name}.{'safetensors' if plain.dtype == torch.bfloat16 else 'npy'}"
    with durable(file):
        folder.mkdir(mode=0o700, exist_ok=True)
        if file.suffix == ".npy":
            np.save(file, plain.numpy(), allow_pickle=False)
        else:
            save_file({"value": plain}, file)
    return str(file)


def _is_tensor(table: Mapping[str, Any]) -> bool:
    return "live" in table and table.get("of") in ("torch.Tensor", "torch.nn.parameter.Parameter")


def _here(job: JobSpec) -> Iterator[tuple[str, str, str]]:
    registered = {record.name for record in default().records() if record.source == "registered"}
    for place, value in _tables(job):
        yield from _within(place, value, registered)


def _tables(job: JobSpec) -> Iterator[tuple[str, Any]]:
    yield "the energy", job.energy
    for index, stage in enumerate(job.stages):
        yield ("the sampler" if len(job.stages) == 1 else f"the sampler of stage {index}"), stage.sampler
    if not _is_tensor(job.init):
        yield "`init`", job.init
    for word, listed in (("writer", job.writers), ("reducer", job.reducers)):
        yield from ((f"{word} {number}", table) for number, table in enumerate(listed))


def _within(place: str, value: Any, registered: set[str]) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, Mapping):
        if isinstance(value.get("live"), str) and "of" in value:
            tensor = _is_tensor(value)
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
