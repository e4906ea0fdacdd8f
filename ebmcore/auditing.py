"""A run directory looked through from its own files alone: nothing is changed, no plugin but its writers loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ebmcore import rundir
from ebmcore.errors import InputError
from ebmcore.protocols import JobSpec
from ebmcore.rundir import Commit
from ebmcore.stored import readers
from ebmcore.verification import Damage, covers, damage, readable


@dataclass(frozen=True)
class Audit:
    """What was found."""

    job: JobSpec
    manifest: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    commits: tuple[Commit, ...]
    faults: tuple[Damage, ...]
    lines: tuple[int, ...]
    """Numbers of damaged lines of the commit log."""
    unread: tuple[str, ...]
    """Writers that cannot be read back."""
    bytes: int
    """How much was compared."""


def audit(path: Path) -> Audit:
    """Read back and compare everything that a run has committed.

    Args:
        path: A run directory; it may be unfinished, or at work.

    Raises:
        InputError: There is no run, or none of its writers can be read.
    """
    job, manifest, summary = rundir.read(path)
    rundir.check_links(path)
    log = rundir.read_log(path)
    writers = readable(readers(job))
    names = [rundir.name_of(table) for table in job.writers]
    if not writers:
        raise InputError(
            f"a run must have a writer that can be read to be verified; got {', '.join(names) or 'none'} in '{path}'. "
            "Install the plugin that it names."
        )
    whole = tuple(commit for commit in log.commits if _in_run(commit, job))
    strange = len(log.commits) - len(whole)
    if strange:
        raise InputError(
            f"the {rundir.COMMITS} of '{path}' must be of its run; got {strange} lines of another. "
            "Restore it from a copy, or run it anew."
        )
    faults = [fault for commit in whole for fault in damage(job, writers, commit.chunk, commit.blocks)]
    compared = sum(_size(job, commit) for commit in whole) * len(writers)
    unread = tuple(name for name in names if name not in writers)
    return Audit(job, manifest, summary, whole, tuple(faults), log.damaged, unread, compared)


def _in_run(commit: Commit, job: JobSpec) -> bool:
    return 0 <= commit.chunk.lo < commit.chunk.hi <= job.chains and covers(job, commit.blocks)


def _size(job: JobSpec, commit: Commit) -> int:
    """Return the bytes of a chunk's arrays."""
    specs = [spec for layout in job.layouts if layout is not None for spec in layout.arrays.values()]
    a_chain = sum(math.prod(spec.shape[1:]) * np.dtype(spec.dtype).itemsize for spec in specs)
    return (commit.chunk.hi - commit.chunk.lo) * a_chain
