"""`ebm.sample`: draws from an energy, in chunks, on any devices, in memory or on disk."""

from __future__ import annotations

import math
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebmcore import rundir
from ebmcore.blame import blamed
from ebmcore.ending import Ended, Stopping
from ebmcore.energy import frozen
from ebmcore.observers import Observers
from ebmcore.prepare import SUMMARY, Prepared, Request, prepare
from ebmcore.progress import Progress
from ebmcore.protocols import Chunk, HasTruncate, JobSpec, RunInfo, Writer
from ebmcore.reducing import Reduction
from ebmcore.resolved import run_file
from ebmcore.result import Result
from ebmcore.runtime import close_runtime, open_runtime
from ebmcore.stored import data_folder


def sample(
    energy: Any,
    sampler: Any,
    *,
    chains: int | None = None,
    shape: Sequence[int] | int | None = None,
    init: Any = "auto",
    steps: int | None = None,
    draws: int = 1,
    warmup: int = 0,
    temperature: float = 1.0,
    seed: int | None = None,
    devices: str | Sequence[str] = "auto",
    executor: Any = "auto",
    chunk_size: int | str = "auto",
    precision: str = "float32",
    noise: str = "auto",
    gradient: str = "auto",
    condition: Mapping[str, Tensor | str | Path] | None = None,
    shared: Mapping[str, Tensor | str | Path] | None = None,
    writers: Any = (),
    reducers: Any = (),
    observers: Any = (),
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
    base: str | Path = ".",
) -> Result:
    """Run `chains` Markov chains of `steps` transitions towards exp(-U(x)/T), and keep `draws` of each.

    By default only the last draw of each chain is kept (`draws=1`); `draws=steps` keeps all.
    The same seed gives the same draws, whatever the chunks, workers and devices of one kind.

    Args:
        energy: U: a function or nn.Module [n, *shape] -> [n], an object with `gradient` alone, a model's name, or a
            table such as `ebm.use("double_well")`.
        sampler: A sampler, its name, or a table such as `ebm.use("ula", step_size=0.01)`; or a list of
            `ebm.Stage`, which the same chains go through one after the other, each with its own `steps` and `draws`.
        chains: Number of chains; by default those of an `init` tensor.
        shape: Shape of one position; by default the energy's, else that of an `init` tensor.
        init: A tensor [chains, *shape]; `"normal"`; `"uniform"` on [-1, 1); `"auto"`: normal on the reals, uniform
            states on a discrete support; a function (chain ids, noise) -> positions, or a reference to one
            (`"module:function"`, `"./file.py:function"`); a .npy or .safetensors file; a run directory (its final
            positions); or a table `{"use": one of these, "scale": 2.0, "repeat": K}`, with K chains from each point.
        steps: Transitions a chain, after `warmup`.
        draws: Draws kept a chain, evenly spaced; it divides `steps`.
        warmup: Transitions before the first that counts.
        temperature: T > 0.
        seed: 0 <= seed < 2**63; by default a random one, which the result names.
        devices: `"auto"`, a label (`"cpu"`, `"cuda:0"`), or a list: one worker an entry.
        executor: `"auto"`, a name or a table: how chunks are brought to workers.
        chunk_size: Chains that a worker runs at a time, rounded up to the grid of 64; scheduling only.
        precision: `"float32"` or `"float64"`, of positions and noise; `"bfloat16"` or `"float16"`: the energy alone is
            evaluated in half precision, and all else stays float32.
        noise: Name of the noise backend.
        gradient: `"auto"`: the energy's closed form, else an installed backend that takes the energy, else autograd;
            or `"closed_form"`, `"autograd"`, the name of a backend.
        condition: Keyword arguments of the energy with one row a chain: tensors, or .npy or .safetensors files.
        shared: Keyword arguments of the energy that are the same for all chains.
        writers: Names or tables; by default `npy` with `out`, else draws stay in memory.
        reducers: Names or tables of statistics to take of all draws.
        observers: Objects with `ebm.hookimpl` methods, names or tables.
        out: Directory of the run, which must not exist yet; by default nothing is written.
        overwrite: Replace an older run in `out`.
        progress: Show a progress bar; by default on a terminal.
        base: Folder that references such as `"./file.py:Name"` are relative to.

    Returns:
        The result: draws as CPU tensors, read when touched.

    Raises:
        InputError: An argument is wrong; nothing was written.
        EnergyError: The energy breaks its contract.
        SamplerError: The sampler breaks its contract.
        NonFiniteError: A chain left the finite numbers; the message names it.
        RunError: The run could not finish.
        KeyboardInterrupt: Ctrl-C; what was committed stays in `out`.
    """
    request = Request(
        energy=energy,
        sampler=sampler,
        chains=chains,
        shape=shape,
        init=init,
        steps=steps,
        draws=draws,
        warmup=warmup,
        temperature=temperature,
        seed=seed,
        devices=devices,
        executor=executor,
        chunk_size=chunk_size,
        precision=precision,
        noise=noise,
        gradient=gradient,
        condition=condition,
        shared=shared,
        writers=writers,
        reducers=reducers,
        observers=observers,
        out=out,
        overwrite=overwrite,
        base=base,
    )
    prepared = prepare(request)
    with blamed(prepared.records):
        return execute(prepared, progress=progress)


def execute(prepared: Prepared, *, progress: bool | None) -> Result:
    """Run what was prepared.

    Args:
        prepared: The job, its objects and its plan.
        progress: As in `sample`.

    Raises:
        InputError: The run directory cannot be made, or a writer refuses it; nothing was written.
        RunError: The run could not finish.
    """
    job, plan, runtime = prepared.job, prepared.plan, prepared.runtime
    shown = sys.stderr.isatty() if progress is None else progress
    info = RunInfo(
        job.id,
        None if job.path is None else Path(job.path),
        job.chains,
        job.stages[-1].draws,
        plan.steps,
        len(plan.chunks),
        plan.devices,
        job.seed,
    )
    observers = Observers([*prepared.observers, *([Progress()] if shown else [])])

    def report(chunk: Chunk, step: int, stats: Mapping[str, float]) -> None:
        observers.ebmcore_progress(run=info, chunk=chunk, step=step, stats=stats)

    runtime.progress = report
    manifest = _manifest(prepared)
    if job.path is None:
        _prepare_writers(job, runtime.parts.writers)
    else:
        with rundir.made(Path(job.path), run_file(prepared), manifest) as making:
            _prepare_writers(replace(job, path=str(making)), runtime.parts.writers)
    open_runtime(runtime)
    try:
        with frozen(runtime.parts.model), _stoppable(runtime.stop):
            observers.ebmcore_run_started(run=info)
            started = time.perf_counter()
            reductions, ended = _run_chunks(prepared, info, observers)
            seconds = time.perf_counter() - started
        reduced = {name: reduction.finish() for name, reduction in reductions.items()}
        kept = prepared.job if ended is None else prepared.job.first(ended.chains)
        summary = _summary(prepared, kept, seconds, reduced)
        if ended is not None:
            summary["ended"] = {"reason": ended.reason, "chains_asked": job.chains}
        _finish_writers(prepared, kept, summary)
    except BaseException as error:
        observers.ebmcore_run_failed(run=info, error=error)
        raise
    finally:
        close_runtime(job)
    if job.path is not None:
        rundir.finish(Path(job.path), summary)
    reduced.pop(SUMMARY)
    result = Result(kept, runtime.parts.writers, summary, manifest, reduced)
    observers.ebmcore_run_finished(run=info, result=result)
    return result


def _run_chunks(prepared: Prepared, info: RunInfo, observers: Observers) -> tuple[dict[str, Reduction], Ended | None]:
    """Run all chunks, or until an observer ends the run; return what was reduced, and the early end."""
    job, plan = prepared.job, prepared.plan
    layout = job.layouts[-1]
    assert layout is not None
    asked = observers.may_stop
    reductions = {
        name: Reduction(reducer, layout, eager=not asked) for name, reducer in prepared.runtime.parts.reducers.items()
    }
    unit = math.lcm(job.grain, prepared.runtime.parts.start.repeat)
    stopping = Stopping(observers, info, reductions, unit) if asked else None
    ended = None
    receipts = prepared.executor.run(job, plan.chunks, plan.devices)
    try:
        for receipt in receipts:
            if job.path is not None:
                rundir.commit(Path(job.path), receipt)
            for name, groups in receipt.reduced.items():
                reductions[name].add(receipt.chunk.lo, receipt.chunk.hi, groups)
            observers.ebmcore_chunk_done(run=info, chunk=receipt.chunk, receipt=receipt)
            ended = None if stopping is None else stopping.ask()
            if ended is not None:
                break
    finally:
        prepared.runtime.stop.set()
        receipts.close()
    return reductions, ended


@contextmanager
def _stoppable(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C end the chunks in flight too, which do not run in the thread that gets the signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        stop.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare_writers(job: JobSpec, writers: Mapping[str, Writer]) -> None:
    for stage, layout in enumerate(job.layouts):
        for name, writer in writers.items():
            if layout is not None:
                folder = data_folder(job, name, stage)
                if job.path is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                writer.prepare(folder, layout, ())


def _finish_writers(prepared: Prepared, kept: JobSpec, summary: Mapping[str, Any]) -> None:
    """Close the files of a run; of one that ended early only the chains of `kept` stay in them."""
    prepared.runtime.close()
    for stage, (layout, left) in enumerate(zip(prepared.job.layouts, kept.layouts, strict=True)):
        for name, writer in prepared.runtime.parts.writers.items():
            if layout is not None and left is not None:
                folder = data_folder(kept, name, stage)
                if left != layout and isinstance(writer, HasTruncate):
                    writer.truncate(folder, layout, left.chains)
                writer.finish(folder, left, summary)


def _manifest(prepared: Prepared) -> dict[str, Any]:
    from importlib_metadata import version

    return {
        "ebmcore": version("ebmcore"),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
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
    }


def _summary(
    prepared: Prepared, job: JobSpec, seconds: float, reduced: Mapping[str, Mapping[str, Tensor]]
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
        "chains_per_second": round(job.chains / seconds, 1),
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
