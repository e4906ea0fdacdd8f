"""Names that become files and folders of a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebmcore.protocols import JobSpec


def name_of(table: Mapping[str, Any]) -> str:
    """Return the name of a writer or reducer within its run: its `name`, else what it uses without decoration."""
    used = str(table.get("use", table.get("of")))
    return str(table.get("name", used.split("@")[0].rsplit(":")[-1].rsplit(".")[-1]))


def is_name(name: str) -> bool:
    """Say whether a name stays in the folder where it is used."""
    return bool(name) and name[0] != "." and not {"/", "\\", "\0"} & set(name) and ".." not in name


def check_names(job: JobSpec) -> None:
    """Refuse a job, read from a file, whose names would lead out of its directory.

    Raises:
        ValueError: Which one.
    """
    names = [name_of(table) for table in (*job.writers, *job.reducers)]
    names += [name for layout in job.layouts if layout is not None for name in layout.arrays]
    for name in names:
        if not is_name(name):
            raise ValueError(f"{name!r} is no name of a writer, reducer or array")
