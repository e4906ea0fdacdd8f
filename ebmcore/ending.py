"""Where a run ends that an observer may end early: decided on its first chains, at numbers fixed before it starts.

A run is a sequence of chains, and chunks end in any order. So observers are asked when all chains
[0, c) are done, of these chains alone, for c at marks that neither chunks nor workers have a part
in. What lies behind the mark at which one gives a reason is dropped: what is left is the run of c
chains, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, final

from ebmcore import rundir
from ebmcore.health import FROZEN
from ebmcore.identity import identity
from ebmcore.observers import Observers
from ebmcore.prepare import SUMMARY, Prepared
from ebmcore.protocols import Chunk, HasRead, HasTruncate, JobSpec, Receipt, RunInfo, Writer, WrittenBlock
from ebmcore.reducing import Reduction
from ebmcore.resolved import run_file
from ebmcore.rundir import checkpoints
from ebmcore.stored import data_folder, layout_of, read_array, sha256
from ebmcore.verification import readable

MARKS = 100
"""Observers are asked at most so many times a run."""


class Ended(NamedTuple):
    """An early end."""

    chains: int
    """What is kept: the chains [0, chains)."""
    reason: str


def marks(chains: int, unit: int) -> Iterator[int]:
    """Yield the numbers of chains at which observers are asked: multiples of `unit`, a hundredth of the run apart.

    Args:
        chains: Number of chains of the run; at the last there is nothing left to decide.
        unit: Chains that are not to be parted: those of a group, and those that begin at one point.
    """
    apart = unit * max(1, -(-chains // (MARKS * unit)))
    yield from range(apart, chains, apart)


@final
class Stopping:
    """Asks observers as chunks end.

    Args:
        observers: The run's observers.
        info: The run.
        reductions: Its reductions, not eager.
        unit: Chains that are not to be parted; a multiple of the grain.
    """

    def __init__(self, observers: Observers, info: RunInfo, reductions: Mapping[str, Reduction], unit: int) -> None:
        self._observers, self._info, self._reductions = observers, info, reductions
        self._marks = marks(info.chains, unit)
        self._next = next(self._marks, None)

    def ask(self) -> Ended | None:
        """Ask about every mark that the chains which are done have reached; return the end, once one is told."""
        ready = min(reduction.ready for reduction in self._reductions.values())
        while self._next is not None and self._next <= ready:
            for reduction in self._reductions.values():
                reduction.fold(self._next)
            reason = self._observers.ebmcore_should_stop(run=self._info, summary=self._summary(self._next))
            if reason is not None:
                return Ended(self._next, reason)
            self._next = next(self._marks, None)
        if self._next is None:
            for reduction in self._reductions.values():
                reduction.fold(reduction.ready)
        return None

    def _summary(self, chains: int) -> dict[str, Any]:
        values = {name: reduction.finish() for name, reduction in self._reductions.items()}
        return {"chains": chains, **values.pop(SUMMARY), **values}


def cut(prepared: Prepared, kept: JobSpec, manifest: Mapping[str, Any], ended: Ended) -> dict[str, Any]:
    """Make of what a run wrote the run of fewer chains, and return its manifest.

    Whenever the process is killed, a resume finds chunks that are whole, and runs the others again.

    Args:
        prepared: The run, whose sinks are closed.
        kept: Its job, of the chains that are kept.
        manifest: What its directory says until now.
        ended: Where it ended, and why.

    Raises:
        RunError: The disk is full or broken.
    """
    writers, path = prepared.runtime.parts.writers, Path(str(kept.path))
    commits = rundir.read_log(path).commits if kept.path is not None else ()
    if kept.path is not None:
        rundir.rewrite(path, (commit for commit in commits if commit.chunk.hi <= kept.chains))
        checkpoints.keep_only(path, set())
    for stage, layout in enumerate(prepared.job.layouts):
        for name, writer in writers.items():
            if layout is not None and isinstance(writer, HasTruncate):
                writer.truncate(data_folder(kept, name, stage), layout, kept.chains)
    after = {**manifest, "job": kept.to_json(), "ended": {"reason": ended.reason, "chains_asked": prepared.job.chains}}
    if kept.path is not None:
        for commit in commits:
            if commit.chunk.lo < kept.chains < commit.chunk.hi and readable(writers):
                rundir.commit(path, _cut_receipt(commit.receipt(), prepared, kept))
        size = prepared.plan.chunk_size
        after["identity"] = identity(kept, prepared.runtime.parts, size, chains=kept.chains)
        rundir.renew(path, run_file(replace(prepared, runtime=replace(prepared.runtime, job=kept))), after)
    return after


def _cut_receipt(receipt: Receipt, prepared: Prepared, kept: JobSpec) -> Receipt:
    """Return what would have been committed of the first chains of a chunk, from what the writers hold of them."""
    chunk = receipt.chunk
    writer_name, writer = next(iter(readable(prepared.runtime.parts.writers).items()))
    assert isinstance(writer, HasRead)
    first = Chunk(chunk.lo, kept.chains, chunk.start, chunk.stop)
    groups = -(-(first.hi - first.lo) // kept.grain)

    def digest(block: WrittenBlock, name: str) -> str:
        folder, layout = data_folder(kept, writer_name, block.stage), layout_of(kept, block.stage)
        return sha256(writer.read(folder, layout, name, slice(first.lo, first.hi))[:, block.first : block.last])

    blocks = tuple(
        replace(block, sha256={name: digest(block, name) for name in block.sha256}) for block in receipt.blocks
    )
    reduced = {name: {key: value[:groups] for key, value in values.items()} for name, values in receipt.reduced.items()}
    held = held_in(kept, slice(first.lo, first.hi), prepared.runtime.parts.writers, receipt.frozen)
    return replace(receipt, chunk=first, blocks=blocks, reduced=reduced, frozen=held)


def held_in(kept: JobSpec, chains: slice, writers: Mapping[str, Writer], unread: int) -> int:
    """Return how many of some chains were held at their last draw; `unread` where no writer can be read."""
    last = len(kept.stages) - 1
    if FROZEN not in layout_of(kept, last).arrays:
        return 0
    if not readable(writers):
        return unread
    return int(read_array(kept, last, writers, FROZEN, chains)[:, -1].sum())
