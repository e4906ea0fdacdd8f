"""How a run starts: its directory made or taken up again, its writers prepared, and what is left to run."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ebmcore import rundir, spooling
from ebmcore.errors import InputError, RunError
from ebmcore.plan import missing
from ebmcore.prepare import Prepared
from ebmcore.protocols import Chunk, JobSpec, Receipt, Span, Writer
from ebmcore.resolved import run_file
from ebmcore.resuming import Earlier, Piece, find_earlier, intact, kept_checkpoints, kept_commits
from ebmcore.rundir import checkpoints
from ebmcore.rundir.checkpoints import Checkpoint
from ebmcore.runtime import Runtime
from ebmcore.stored import data_folder


@dataclass(frozen=True)
class Begun:
    """A run that has a place."""

    manifest: Mapping[str, Any]
    chunks: tuple[Chunk, ...]
    """What is left to run."""
    receipts: tuple[Receipt, ...] = ()
    """What an earlier process committed."""
    whole: bool = False
    """Whether it had ended already."""


def begin(prepared: Prepared, held: ExitStack) -> Begun:
    """Make a run's directory, or take it up again, and prepare its writers.

    Args:
        prepared: The run.
        held: Keeps the directory locked until it is closed.

    Raises:
        InputError: The directory cannot be made, another process is there, or a writer refuses it.
        RunError: The disk is full or broken.
    """
    job, writers = prepared.job, prepared.runtime.parts.writers
    if prepared.earlier is not None:
        return _resumed(prepared, prepared.earlier, held)
    manifest = _manifest(prepared)
    if job.path is None:
        _prepare_writers(job, writers, ())
    else:
        with rundir.made(Path(job.path), run_file(prepared), manifest, held) as making:
            _prepare_writers(replace(job, path=str(making)), writers, ())
    return Begun(manifest, prepared.plan.chunks)


def _resumed(prepared: Prepared, earlier: Earlier, held: ExitStack) -> Begun:
    job, parts, path = prepared.job, prepared.runtime.parts, Path(str(prepared.job.path))
    held.enter_context(rundir.locked(path))
    rundir.check_links(path)
    if find_earlier(path).manifest != earlier.manifest:
        raise InputError(f"a run must stay as it is while it is resumed; got '{path}' changed meanwhile. Try again.")
    log = rundir.read_log(path)
    commits = kept_commits(earlier, job, prepared.plan, log)
    if earlier.summary is not None and not earlier.changes and job.chains == earlier.job.chains:
        commits = intact(job, parts, commits, path)
        if not missing(prepared.plan.chunks, _chunks(commits)):
            return Begun(earlier.manifest, (), whole=True)
    begun = kept_checkpoints(earlier, job, prepared.plan, commits, checkpoints.load_all(path))
    manifest = _manifest(prepared)
    rundir.renew(path, run_file(prepared), manifest)
    _prepare_writers(job, parts.writers, [*commits, *begun])
    going = [each for each in begun if _fed(prepared.runtime, each)]
    prepared.runtime.close()
    whole, going = intact(job, parts, commits, path), intact(job, parts, going, path)
    if len(whole) + len(going) < len(commits) + len(begun):
        _prepare_writers(job, parts.writers, [*whole, *going])
    if log.torn or log.damaged or len(whole) < len(log.commits):
        kept = set(_chunks(whole))
        rundir.rewrite(path, (commit for commit in log.commits if commit.chunk in kept))
    checkpoints.keep_only(path, set(_chunks(going)))
    spooling.keep_only(job, set(_chunks(going)))
    left = missing(prepared.plan.chunks, _chunks(whole), _chunks(going))
    return Begun(manifest, left, tuple(commit.receipt() for commit in whole))


def _chunks(pieces: Iterable[Piece]) -> list[Chunk]:
    return [piece.chunk for piece in pieces]


def _prepare_writers(job: JobSpec, writers: Mapping[str, Writer], pieces: Sequence[Piece]) -> None:
    for stage, layout in enumerate(job.layouts):
        if layout is not None:
            for name, writer in writers.items():
                spans = [span for piece in pieces for span in _spans(job, piece, stage, writer)]
                folder = data_folder(job, name, stage)
                if job.path is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                writer.prepare(folder, layout, spans)


def _spans(job: JobSpec, piece: Piece, stage: int, writer: Writer) -> list[Span]:
    """Return what a writer has of a piece: all, but for what waits in files until it is fed."""
    ends = [block.last for block in piece.blocks if block.stage == stage]
    if not writer.parallel:
        waiting = [first for at, first, _ in map(spooling.draws_of, _waiting(job, piece)) if at == stage]
        ends = [end for end in ends if end <= min(waiting, default=end)]
    return [Span(piece.chunk.lo, piece.chunk.hi, 0, max(ends))] if ends else []


def _waiting(job: JobSpec, piece: Piece) -> list[str]:
    """Return the files with blocks of a piece that its worker left for the host."""
    blocks = {(block.stage, block.first, block.last) for block in piece.blocks}
    return [name for name in spooling.files_of(job, piece.chunk) if spooling.draws_of(name) in blocks]


def _fed(runtime: Runtime, piece: Checkpoint) -> bool:
    """Give the writers what was left for them of a chunk in flight; say whether it could be read."""
    try:
        runtime.feed(Receipt(piece.chunk, "", 0.0, spooled=tuple(_waiting(runtime.job, piece))))
    except RunError:
        return False
    return True


@cache
def _version() -> str:
    from importlib_metadata import version

    return str(version("ebmcore"))


def _manifest(prepared: Prepared) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before: Mapping[str, Any] = {} if prepared.earlier is None else prepared.earlier.manifest
    resumed = list(before.get("resumed", ()))
    if prepared.earlier is not None:
        resumed.append({"at": now, "chains": prepared.job.chains, "accepted": list(prepared.earlier.changes)})
    return {
        "ebmcore": _version(),
        "created_at": before.get("created_at", now),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "seed": prepared.job.seed,
        "plan": prepared.plan.to_json(),
        "executor": dict(prepared.executor_table),
        "gradient": prepared.job.gradient,
        "gradient_seconds": round(prepared.gradient_seconds, 3),
        "plugins": list(prepared.records),
        "job": prepared.job.to_json(),
        "identity": dict(prepared.identity),
        "origin": prepared.origin,
        "resumed": resumed,
    }
