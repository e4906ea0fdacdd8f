"""Whether what a run committed is still what its files hold: checksums, recomputed from what the writers read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebmcore.errors import EbmcoreError
from ebmcore.protocols import Chunk, HasRead, JobSpec, Writer, WrittenBlock
from ebmcore.stored import data_folder, layout_of, sha256


@dataclass(frozen=True)
class Damage:
    """An array of a chunk that is not what was written."""

    chunk: Chunk
    stage: int
    array: str
    writer: str
    place: Path
    """The file, or the folder where the writer's files are not one an array."""
    reason: str

    def __str__(self) -> str:
        return f"chains [{self.chunk.lo}, {self.chunk.hi}) of '{self.array}' in '{self.place}': {self.reason}"


def readable(writers: Mapping[str, Writer]) -> dict[str, Writer]:
    """Return the writers that can be verified."""
    return {name: writer for name, writer in writers.items() if isinstance(writer, HasRead)}


def damage(
    job: JobSpec, writers: Mapping[str, Writer], chunk: Chunk, blocks: Iterable[WrittenBlock]
) -> Iterator[Damage]:
    """Read back what a chunk has written, and yield what is not the same.

    Args:
        job: The run; it has a directory.
        writers: By name, those that can be read.
        chunk: The chunk.
        blocks: What it has written.
    """
    blocks = tuple(blocks)
    for stage in sorted({block.stage for block in blocks}):
        written = [block for block in blocks if block.stage == stage]
        for writer_name, writer in writers.items():
            folder = data_folder(job, writer_name, stage)
            for name in written[0].sha256:
                reason = _fault(job, folder, writer, chunk, name, written)
                if reason is not None:
                    yield Damage(chunk, stage, name, writer_name, _file(folder, name), reason)


def covers(job: JobSpec, blocks: Iterable[WrittenBlock]) -> bool:
    """Say whether blocks are all that a chunk has to write, each array and draw once and in order."""
    return _reached(job, blocks) == [None if layout is None else layout.draws for layout in job.layouts]


def begins(job: JobSpec, blocks: Iterable[WrittenBlock]) -> bool:
    """Say whether blocks are the first of those that a chunk has to write."""
    return _reached(job, blocks) is not None


def _reached(job: JobSpec, blocks: Iterable[WrittenBlock]) -> list[int | None] | None:
    """Return how many draws of each stage are there, or None where one is missing before another."""
    reached = [None if layout is None else 0 for layout in job.layouts]
    for block in blocks:
        layout = job.layouts[block.stage] if 0 <= block.stage < len(job.layouts) else None
        if layout is None or set(block.sha256) != set(layout.arrays) or reached[block.stage] != block.first:
            return None
        if not block.first < block.last <= layout.draws:
            return None
        reached[block.stage] = block.last
    return reached


def _fault(
    job: JobSpec, folder: Path, writer: Writer, chunk: Chunk, name: str, written: Sequence[WrittenBlock]
) -> str | None:
    assert isinstance(writer, HasRead)
    try:
        rows = writer.read(folder, layout_of(job, written[0].stage), name, slice(chunk.lo, chunk.hi))
        parts = (sha256(rows[:, block.first : block.last]) == block.sha256[name] for block in written)
        return None if all(parts) else "it is not what was written"
    except (EbmcoreError, OSError) as error:
        return " ".join(str(error).split())
    except Exception as error:  # a damaged file may lead a format's library anywhere
        return f"it cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"


def _file(folder: Path, name: str) -> Path:
    found = [file for file in folder.glob("*") if file.name == name or file.stem == name]
    return found[0] if len(found) == 1 else folder
