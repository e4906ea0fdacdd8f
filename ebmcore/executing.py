"""From what was prepared to a result: chunks to the executor, receipts to the commit log and the reducers."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from ebmcore import rundir, spooling
from ebmcore.ending import Ended, Stopping, cut, held_in
from ebmcore.energy import frozen
from ebmcore.observers import Observers
from ebmcore.prepare import SUMMARY, Prepared
from ebmcore.progress import Progress
from ebmcore.protocols import Chunk, JobSpec, Receipt, RunInfo
from ebmcore.reducing import Reduction
from ebmcore.result import Result, open_run
from ebmcore.rundir import checkpoints
from ebmcore.runtime import close_runtime, open_runtime
from ebmcore.starting import Begun, begin
from ebmcore.stopping import StopHandler, stoppable
from ebmcore.stored import data_folder


def execute(prepared: Prepared, *, progress: bool | None, again: StopHandler | None = None) -> Result:
    """Run what was prepared, or what is left of it.

    Args:
        prepared: The job, its objects and its plan.
        progress: As in `ebmcore.sample`.
        again: What a second Ctrl-C does; by default what it does without a run.

    Raises:
        InputError: The run directory cannot be made, or a writer refuses it; nothing was written.
        RunError: The run could not finish.
        KeyboardInterrupt: The user, or the system by SIGTERM, stopped it.
    """
    with ExitStack() as held:
        begun = begin(prepared, held)
        if begun.whole:
            return open_run(str(prepared.job.path))
        return _execute(prepared, begun, sys.stderr.isatty() if progress is None else progress, again)


def _execute(prepared: Prepared, begun: Begun, shown: bool, again: StopHandler | None) -> Result:
    job, runtime = prepared.job, prepared.runtime
    info = _info(prepared, begun)
    observers = Observers([*prepared.observers, *([Progress()] if shown else [])])

    def report(chunk: Chunk, step: int, stats: Mapping[str, float]) -> None:
        observers.ebmcore_progress(run=info, chunk=chunk, step=step, stats=stats)

    runtime.progress = report
    open_runtime(runtime)
    try:
        with frozen(runtime.parts.model), stoppable(runtime.stop, kept=job.path is not None, again=again, say=shown):
            observers.ebmcore_run_started(run=info)
            started = time.perf_counter()
            reductions, held, ended = _run_chunks(prepared, begun, info, observers)
            seconds = time.perf_counter() - started
        reduced = {name: reduction.finish() for name, reduction in reductions.items()}
        kept, manifest = job, begun.manifest
        runtime.close()
        if ended is not None:
            kept = job.first(ended.chains)
            manifest = cut(prepared, kept, manifest, ended)
            held = held_in(kept, slice(0, kept.chains), runtime.parts.writers, held)
        summary = {**_summary(prepared, kept, begun, seconds, reduced), "frozen": held}
        if ended is not None:
            summary["ended"] = manifest["ended"]
        _finish_writers(prepared, kept, summary)
    except BaseException as error:
        observers.ebmcore_run_failed(run=info, error=error)
        raise
    finally:
        close_runtime(job)
        if job.path is None:
            spooling.clear(job)
    if job.path is not None:
        spooling.clear(job)
        rundir.finish(Path(job.path), summary)
    reduced.pop(SUMMARY)
    result = Result(kept, runtime.parts.writers, summary, manifest, reduced)
    observers.ebmcore_run_finished(run=info, result=result)
    return result


def _info(prepared: Prepared, begun: Begun) -> RunInfo:
    job, plan = prepared.job, prepared.plan
    return RunInfo(
        id=job.id,
        path=None if job.path is None else Path(job.path),
        chains=job.chains,
        draws=job.stages[-1].draws,
        steps=plan.steps,
        chunks=len(begun.chunks),
        devices=plan.devices,
        seed=job.seed,
        done=job.chains - _width(begun.chunks),
    )


def _run_chunks(
    prepared: Prepared, begun: Begun, info: RunInfo, observers: Observers
) -> tuple[dict[str, Reduction], int, Ended | None]:
    """Run the chunks that are left, or until an observer ends the run.

    Returns:
        The reducers' folds over all that is kept, how many chains are held, and the early end.
    """
    job, parts, layout = prepared.job, prepared.runtime.parts, prepared.job.layouts[-1]
    assert layout is not None
    asked = observers.may_stop
    reductions = {name: Reduction(reducer, layout, eager=not asked) for name, reducer in parts.reducers.items()}
    unit = math.lcm(job.grain, parts.start.repeat)
    stopping = Stopping(observers, info, reductions, unit) if asked else None

    held = 0

    def reduce(receipt: Receipt) -> None:
        nonlocal held
        held += receipt.frozen
        for name, groups in receipt.reduced.items():
            reductions[name].add(receipt.chunk.lo, receipt.chunk.hi, groups)

    for receipt in begun.receipts:
        reduce(receipt)
    ended = None if stopping is None else stopping.ask()
    if not begun.chunks or ended is not None:
        return reductions, held, ended
    receipts = prepared.executor.run(job, begun.chunks, prepared.plan.devices)
    try:
        for receipt in receipts:
            for piece in map(prepared.runtime.feed, receipt.pieces()):
                if job.path is not None:
                    rundir.commit(Path(job.path), piece)
                    checkpoints.forget(Path(job.path), piece.chunk)
                reduce(piece)
            if job.path is not None and receipt.parts:
                checkpoints.forget(Path(job.path), receipt.chunk)
            observers.ebmcore_chunk_done(run=info, chunk=receipt.chunk, receipt=receipt)
            ended = None if stopping is None else stopping.ask()
            if ended is not None:
                break
    finally:
        prepared.runtime.stop.set()
        receipts.close()
    return reductions, held, ended


def _finish_writers(prepared: Prepared, job: JobSpec, summary: Mapping[str, Any]) -> None:
    for stage, layout in enumerate(job.layouts):
        for name, writer in prepared.runtime.parts.writers.items():
            if layout is not None:
                writer.finish(data_folder(job, name, stage), layout, summary)


def _summary(
    prepared: Prepared, job: JobSpec, begun: Begun, seconds: float, reduced: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Any]:
    plan, stage = prepared.plan, job.stages[-1]
    moments = reduced[SUMMARY]
    files = {}
    if job.path is not None:
        last = len(job.stages) - 1
        for name in prepared.runtime.parts.writers:
            files[name] = str(data_folder(job, name, last))
    return {
        "chains": job.chains,
        "draws": stage.draws,
        "steps": plan.steps,
        "shape": list(job.shape),
        "seconds": round(seconds, 3),
        "chains_per_second": round(_width(begun.chunks) / max(seconds, 1e-9), 1),
        "resumed_at": prepared.job.chains - _width(begun.chunks),
        "mean": moments["mean"].tolist(),
        "sd": moments["sd"].tolist(),
        "devices": list(plan.devices),
        "workers": plan.workers,
        "chunks": len(plan.chunks),
        "seed": job.seed,
        "files": files,
        "reduced": {
            name: {key: value.tolist() for key, value in values.items()}
            for name, values in reduced.items()
            if name != SUMMARY
        },
    }


def _width(chunks: tuple[Chunk, ...]) -> int:
    return sum(chunk.hi - chunk.lo for chunk in chunks)
