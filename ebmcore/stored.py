"""Where a run's arrays lie, and how they are read back: through the first of its writers that can."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmcore.errors import InputError
from ebmcore.protocols import HasRead, JobSpec, Layout, Writer
from ebmcore.registry import default, settled

NO_FOLDER = Path("/dev/null")
"""Where a run in memory sends a writer that wants files: nothing can be made there."""


def name_of(table: Mapping[str, Any]) -> str:
    """Return the name of a writer or reducer within its run: its `name`, else what it uses without decoration."""
    used = str(table.get("use", table.get("of")))
    return str(table.get("name", used.split("@")[0].rsplit(":")[-1].rsplit(".")[-1]))


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


def readers(job: JobSpec, manifest: Mapping[str, Any]) -> dict[str, Writer]:
    """Build a stored run's writers, installed names alone: a file that a manifest names is not ours to run.

    Where several distributions give a writer's name by now, it is that of the one that wrote.

    Raises:
        InputError: A writer cannot be had.
    """
    writers, registry = {}, default()
    homes = {
        record.get("name"): record.get("distribution")
        for record in manifest.get("plugins", ())
        if record["kind"] == "writer"
    }
    for table in job.writers:
        use = str(table.get("use", ""))
        if use and ":" not in use and not use.endswith(".py"):
            plain = {key: value for key, value in table.items() if key != "name"}
            plain["use"] = settled(registry, "writer", use, homes.get(use))
            writers[name_of(table)] = registry.build("writer", plain).object
    return writers
