"""Blocks on their way from a worker's process to a writer that only the host may feed: one safetensors file a block.

The files lie in the run directory under `spool/`, or, of a run in memory, in a folder of the system's temporary one.
A name says all that a block has beside its arrays, so that what an earlier worker left of a chunk is found again.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from ebmcore.errors import RunError
from ebmcore.protocols import Block, Chunk, JobSpec
from ebmcore.rundir.files import durable, write_whole

SPOOL = "spool"

_NAME = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)-(\d+)\.safetensors")
"""Stage, chains [lo, hi), draws [first, last)."""


def folder_of(job: JobSpec) -> Path:
    """Return the folder of a job's files, the same in every process of a machine."""
    return Path(tempfile.gettempdir()) / f"ebmcore-{job.id}" if job.path is None else Path(job.path) / SPOOL


def save(job: JobSpec, stage: int, block: Block) -> None:
    """Store a block; durable on return.

    Raises:
        RunError: The disk is full or broken.
    """
    folder = folder_of(job)
    file = folder / f"{stage}-{block.lo}-{block.hi}-{block.first}-{block.last}.safetensors"
    with durable(file):
        # Of a run in memory, draws are nobody else's to read.
        folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(file, to_bytes(dict(block.arrays)))


def files_of(job: JobSpec, chunk: Chunk) -> tuple[str, ...]:
    """Return the names of the files that hold a chunk's blocks, stage by stage and draw by draw."""
    found = []
    for file in folder_of(job).glob(f"*-{chunk.lo}-{chunk.hi}-*.safetensors"):
        match = _NAME.fullmatch(file.name)
        if match is not None and (int(match[2]), int(match[3])) == (chunk.lo, chunk.hi):
            found.append((int(match[1]), int(match[4]), file.name))
    return tuple(name for _, _, name in sorted(found))


def draws_of(name: str) -> tuple[int, int, int]:
    """Return the stage and the draws [first, last) of a file's block."""
    match = _NAME.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[4]), int(match[5])


def load(job: JobSpec, name: str) -> tuple[int, Block]:
    """Return the stage and the block of a file.

    Raises:
        RunError: It is gone or damaged.
    """
    file = folder_of(job) / name
    match = _NAME.fullmatch(name)
    try:
        if match is None:
            raise ValueError("a name that no block has")
        arrays = from_bytes(file.read_bytes())
    except Exception as error:  # the format's library has no public name for what it raises
        raise RunError(
            f"'{file}' must hold the draws that a worker left there; got: {error}. "
            "Resume the run: what was committed stays."
        ) from error
    stage, lo, hi, first, last = map(int, match.groups())
    return stage, Block(lo, hi, first, last, arrays)


def remove(job: JobSpec, name: str) -> None:
    """Remove a file whose block the writers have."""
    (folder_of(job) / name).unlink(missing_ok=True)


def keep_only(job: JobSpec, chunks: Collection[Chunk]) -> None:
    """Remove the files of all but some chunks."""
    kept = {(chunk.lo, chunk.hi) for chunk in chunks}
    for file in folder_of(job).glob("*"):
        match = _NAME.fullmatch(file.name)
        if match is None or (int(match[2]), int(match[3])) not in kept:
            file.unlink(missing_ok=True)


def clear(job: JobSpec) -> None:
    """Remove what is left of a run that has ended."""
    shutil.rmtree(folder_of(job), ignore_errors=True)
