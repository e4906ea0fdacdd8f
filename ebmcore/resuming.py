"""A run that goes on: what an earlier process settled, what has changed since, and what it left to do."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebmcore import rundir
from ebmcore.errors import EbmcoreWarning, InputError
from ebmcore.identity import differences
from ebmcore.parts import Parts
from ebmcore.plan import Plan
from ebmcore.protocols import JobSpec, Receipt
from ebmcore.registry.references import is_direct
from ebmcore.rundir import Commit
from ebmcore.verification import Damage, covers, damage, readable

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
        chunk = commit.chunk
        fits = (kept[-1].chunk.hi if kept else 0) <= chunk.lo < chunk.hi <= job.chains and chunk.lo % job.grain == 0
        # The chains of a ragged end round differently within a longer chunk.
        ends = chunk.hi == job.chains or chunk.hi % job.grain == 0
        was_end = chunk.hi == earlier.job.chains < job.chains and chunk.hi % plan.chunk_size != 0
        if fits and ends and not was_end and covers(job, commit.blocks):
            kept.append(commit)
    return kept


def receipts(commits: Iterable[Commit], job: JobSpec) -> dict[int, Receipt]:
    """Return the receipts of commits by first chain, without those that lack the accumulators of a reducer."""
    names = set(map(rundir.name_of, job.reducers))
    found = {}
    for commit in commits:
        groups = -(-(commit.chunk.hi - commit.chunk.lo) // job.grain)
        try:
            receipt = commit.receipt()
        except ValueError:
            continue
        stacked = all(len(value) == groups for acc in receipt.reduced.values() for value in acc.values())
        if receipt.reduced.keys() == names and stacked:
            found[receipt.chunk.lo] = receipt
    return found


def intact(job: JobSpec, parts: Parts, commits: Sequence[Commit], path: Path) -> list[Commit]:
    """Return the commits whose data is what was written.

    Warns:
        EbmcoreWarning: Some is not; its chunks run again.
    """
    writers = readable(parts.writers)
    faults = [(commit, list(damage(job, writers, commit.chunk, commit.blocks))) for commit in commits]
    damaged = [fault for _, found in faults for fault in found]
    if damaged:
        warnings.warn(
            f"'{path}' is damaged, and those chunks run again: {_listed(_places(damaged))}.",
            EbmcoreWarning,
            stacklevel=3,
        )
    return [commit for commit, found in faults if not found]


def _places(damaged: Iterable[Damage]) -> tuple[str, ...]:
    return tuple(map(str, damaged))


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
