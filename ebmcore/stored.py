"""Where a run's arrays lie, and how they are read back: through the first of its writers that can."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebmcore.errors import InputError
from ebmcore.protocols import HasRead, JobSpec, Layout, Writer
from ebmcore.registry import default, settled
from ebmcore.registry.references import is_direct
from ebmcore.rundir import name_of as name_of

NO_FOLDER = Path("/dev/null")
"""Where a run in memory sends a writer that wants files: nothing can be made there."""


def data_folder(job: JobSpec, name: str, stage: int) -> Path:
    """Return the folder of one writer's arrays of one stage; stages before the last have folders of their own."""
    folder = (NO_FOLDER if job.path is None else Path(job.path)) / "data" / name
    return folder if stage == len(job.stages) - 1 else folder / str(stage)


def layout_of(job: JobSpec, stage: int) -> Layout:
    """Return what a stage stored.

    Raises:
        InputError: It kept no draw.
    """
    layout = job.layouts[stage]
    if layout is None:
        raise InputError(f"stage {stage} must keep draws to be read; got draws=0. Set its `draws`.")
    return layout


def read_array(job: JobSpec, stage: int, writers: Mapping[str, Writer], name: str, chains: slice) -> Tensor:
    """Return rows `chains` of array `name` of a stage.

    Raises:
        InputError: No such array, a step other than 1, or no writer of the run can be read.
    """
    layout = layout_of(job, stage)
    if name not in layout.arrays:
        raise InputError(f"a run's array must be one of {', '.join(layout.arrays)}; got '{name}'. Choose one.")
    if chains.step not in (None, 1):
        raise InputError(f"`chains` must be a slice of step 1; got step {chains.step}. Slice the result instead.")
    for writer_name, writer in writers.items():
        if isinstance(writer, HasRead):
            array = writer.read(data_folder(job, writer_name, stage), layout, name, chains)
            return torch.from_numpy(array if array.flags.writeable else array.copy())
    raise InputError(f"a run must have a writer that can be read; got {', '.join(writers) or 'none'}. Add npy to them.")


def sha256(array: np.ndarray[Any, Any]) -> str:
    """Return the sha256 of an array's bytes in C order."""
    data = np.ascontiguousarray(array)
    # An empty array has no bytes that could be cast.
    return hashlib.sha256(data.data.cast("B") if data.size else b"").hexdigest()


def readers(job: JobSpec, manifest: Mapping[str, Any] | None = None) -> dict[str, Writer]:
    """Build a stored run's writers, installed names alone: what else a manifest names is not ours to run.

    Where several distributions give a writer's name by now, it is that of the one that wrote.

    Raises:
        InputError: A writer cannot be had.
    """
    writers, registry = {}, default()
    homes = {
        record.get("name"): record.get("distribution")
        for record in (manifest or {}).get("plugins", ())
        if record.get("kind") == "writer"
    }
    for table in job.writers:
        use = str(table.get("use", ""))
        plain = {key: value for key, value in table.items() if key not in ("name", "use")}
        if use and not is_direct(use) and not _names_more(plain):
            chosen = settled(registry, "writer", use, homes.get(use))
            writers[name_of(table)] = registry.build("writer", {"use": chosen, **plain}).object
    return writers


def _names_more(value: Any) -> bool:
    """Could a writer's settings name objects of their own?"""
    if isinstance(value, Mapping):
        return "use" in value or any(map(_names_more, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_names_more, value))
    return isinstance(value, str) and is_direct(value)
