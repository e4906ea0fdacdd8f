"""A run that goes on: what an earlier process settled, what has changed since, and what it left to do."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ebmcore import rundir
from ebmcore.errors import EbmcoreWarning, InputError
from ebmcore.identity import differences
from ebmcore.parts import Parts
from ebmcore.plan import Plan, missing
from ebmcore.protocols import Chunk, JobSpec
from ebmcore.registry.references import is_direct
from ebmcore.rundir import Commit
from ebmcore.rundir.checkpoints import Checkpoint
from ebmcore.verification import begins, covers, damage, readable

Piece = Commit | Checkpoint
P = TypeVar("P", Commit, Checkpoint)

SHOWN = 4
"""As many differences or damages are named in one line."""


@dataclass(frozen=True)
class Earlier:
    """A run as its directory has it."""

    job: JobSpec
    manifest: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    changes: tuple[str, ...] = ()
    """What is not the same now, and was accepted."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the run is."""
        return self.manifest["identity"]  # type: ignore[no-any-return]


def find_earlier(path: Path) -> Earlier:
    """Return the run of a directory.

    Raises:
        InputError: There is none, or its manifest cannot be read.
    """
    job, manifest, summary = rundir.read(path)
    plan, known = manifest.get("plan"), manifest.get("identity")
    if not isinstance(plan, Mapping) or not isinstance(plan.get("chunk_size"), int) or not isinstance(known, Mapping):
        raise InputError(
            f"the {rundir.MANIFEST} of '{path}' must say what ran to be resumed; got no plan or identity. "
            "Restore it from a copy, or run it anew with --overwrite."
        )
    return Earlier(job, manifest, summary)


def settled(earlier: Earlier, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the earlier process chose, for the arguments of a run that leave it to us."""
    job = earlier.job
    chosen = {"seed": job.seed, "chunk_size": earlier.manifest["plan"]["chunk_size"]}
    # A name alone: what a manifest says is never imported.
    chosen |= {name: value for name in ("noise", "gradient") if not is_direct(value := str(getattr(job, name)))}
    return {name: value for name, value in chosen.items() if asked[name] in (None, "auto")}


def check_same(earlier: Earlier, job: JobSpec, now: Mapping[str, Any], path: Path, *, accept: bool) -> tuple[str, ...]:
    """Return what has changed since a run began, where it may go on with that.

    Args:
        earlier: The run as its directory has it.
        job: The run as it is asked for now.
        now: Its identity.
        path: The directory.
        accept: Whether changes are accepted.

    Raises:
        InputError: Something changed that was not accepted, or that cannot be within one run.
    """
    changed = tuple(differences(earlier.identity, json.loads(json.dumps(now))))
    if job.chains < earlier.job.chains:
        raise InputError(
            f"`chains` of a run that is resumed must not become fewer; got {job.chains:,} for '{path}', which has "
            f"{earlier.job.chains:,}. Take those, or run it anew elsewhere."
        )
    if _stores(job) != _stores(earlier.job):
        raise InputError(
            f"a run that is resumed must store what it stored; got other arrays, writers or reducers for '{path}': "
            f"{_listed(changed)}. Undo that, or choose another place with --out."
        )
    if changed and not accept:
        raise InputError(
            f"a run must be resumed as it was; got for '{path}': {_listed(changed)}. Undo that, or go on with it "
            "for what is missing (--accept-changes)."
        )
    return changed


def kept_commits(earlier: Earlier, job: JobSpec, plan: Plan, log: rundir.Log) -> list[Commit]:
    """Return the commits that count, in chain order: those of whole chunks that lie in the plan and do not overlap."""
    kept: list[Commit] = []
    for commit in sorted(log.commits, key=lambda each: each.chunk.lo):
        apart = not kept or kept[-1].chunk.hi <= commit.chunk.lo
        whole = covers(job, commit.blocks) and _has_accumulators(commit, job)
        if apart and whole and _in_plan(commit.chunk, earlier, job, plan):
            kept.append(commit)
    return kept


def kept_checkpoints(
    earlier: Earlier, job: JobSpec, plan: Plan, commits: Sequence[Commit], found: Sequence[Checkpoint]
) -> list[Checkpoint]:
    """Return the checkpoints that count, in chain order: those of chunks that are left to run.

    Where a change was accepted none does: it holds for whole chunks.
    """
    left = missing(plan.chunks, (commit.chunk for commit in commits))
    kept: list[Checkpoint] = []
    for each in [] if earlier.changes else found:
        apart = not kept or kept[-1].chunk.hi <= each.chunk.lo
        inside = any(gap.lo <= each.chunk.lo and each.chunk.hi <= gap.hi for gap in left)
        if apart and inside and begins(job, each.blocks) and _in_plan(each.chunk, earlier, job, plan):
            kept.append(each)
    return kept


def intact(job: JobSpec, parts: Parts, pieces: Sequence[P], path: Path) -> list[P]:
    """Return the chunks whose data is what was written.

    Warns:
        EbmcoreWarning: That of some is not; they run again.
    """
    writers = readable(parts.writers)
    faults = [(piece, list(damage(job, writers, piece.chunk, piece.blocks))) for piece in pieces]
    damaged = [str(fault) for _, found in faults for fault in found]
    if damaged:
        warnings.warn(
            f"'{path}' is damaged, and its damaged chunks run again: {_listed(damaged)}", EbmcoreWarning, stacklevel=3
        )
    return [piece for piece, found in faults if not found]


def _in_plan(chunk: Chunk, earlier: Earlier, job: JobSpec, plan: Plan) -> bool:
    ends = chunk.hi == job.chains or chunk.hi % job.grain == 0
    # The chains of a ragged end round differently within a longer chunk.
    was_end = chunk.hi == earlier.job.chains < job.chains and chunk.hi % plan.chunk_size != 0
    return 0 <= chunk.lo < chunk.hi <= job.chains and chunk.lo % job.grain == 0 and ends and not was_end


def _has_accumulators(commit: Commit, job: JobSpec) -> bool:
    """Say whether a commit holds those of every group for every reducer."""
    groups = -(-(commit.chunk.hi - commit.chunk.lo) // job.grain)
    try:
        reduced = commit.receipt().reduced
    except ValueError:
        return False
    return reduced.keys() == set(map(rundir.name_of, job.reducers)) and all(
        value.ndim and len(value) == groups for acc in reduced.values() for value in acc.values()
    )


def _stores(job: JobSpec) -> Any:
    """Return what cannot change within a run, as JSON has it."""
    layouts = [None if layout is None else {**layout.to_json(), "chains": 0, "attrs": {}} for layout in job.layouts]
    for layout in layouts:
        if layout is not None:
            layout["arrays"] = {name: [spec[0][1:], *spec[1:]] for name, spec in layout["arrays"].items()}
    tables = [list(map(rundir.name_of, tables)) for tables in (job.writers, job.reducers)]
    return [layouts, tables, job.grain]


def _listed(phrases: Sequence[str]) -> str:
    more = f"; and {len(phrases) - SHOWN} more" if len(phrases) > SHOWN else ""
    return "; ".join(phrases[:SHOWN]) + more
