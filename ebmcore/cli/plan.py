"""`ebmcore plan FILE`: what a run would take, from a few of its steps; nothing is written."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebmcore.cli import common_options
from ebmcore.cli.jobs import LONG, job_options, read_job, run_command
from ebmcore.cli.report import amount, built, labelled, stages, title

if TYPE_CHECKING:
    from ebmcore.measure import Cost
    from ebmcore.prepare import Prepared

COMPILED = "inductor"
"""The gradient backend that is only used when it is named."""


@click.command()
@job_options
@common_options
def plan(file: Path, overrides: tuple[str, ...], out: Path | None) -> None:
    """Say what `ebmcore run FILE` would do: devices, chunks, memory, disk and time.

    It makes some steps of one chunk to measure their time, and writes nothing.
    """
    config, arguments = read_job(file, overrides, out)

    from ebmcore.errors import NonFiniteError
    from ebmcore.prepare import prepare
    from ebmcore.request import Request

    with config.located():
        prepared = prepare(Request(**arguments, overwrite=True))
        costs: list[Cost] | NonFiniteError
        try:
            costs = _measured(prepared)
        except NonFiniteError as error:
            costs = error
    lines = [*_what(prepared, arguments), *_cut(prepared, arguments), *_memory(prepared, costs), *_disk(prepared)]
    lines += [
        *_time(prepared, costs, arguments),
        *_compiled(prepared, costs, arguments),
        *_next(prepared, run_command(file, overrides, out)),
    ]
    click.echo("\n".join(lines))


def _what(prepared: Prepared, arguments: Mapping[str, Any]) -> Iterator[str]:
    job = prepared.job.to_json()
    seed = f"seed {prepared.job.seed}" if "seed" in arguments else "a new seed each time"
    yield f"{title(job)}: {prepared.job.chains:,} chains x {prepared.plan.steps:,} steps, {seed}"
    yield from stages(job)


def _cut(prepared: Prepared, arguments: Mapping[str, Any]) -> Iterator[str]:
    from ebmcore.devices import automatic_executor
    from ebmcore.plan import ALIGN
    from ebmcore.portable import is_portable

    cut, said = prepared.plan, "as the run file says"
    on_cpu = all(label.startswith("cpu") for label in cut.devices)
    seen = "every accelerator that torch sees" if len(cut.devices) > 1 else "the one accelerator that torch sees"
    found = "torch sees no accelerator, so one worker a core" if on_cpu else seen
    labels = ", ".join(f"{count} x {label}" if count > 1 else label for label, count in Counter(cut.devices).items())
    yield labelled("devices", f"{labels}: {said if 'devices' in arguments else found}")
    executor = str(prepared.executor_table["use"])
    why = automatic_executor(cut.devices, portable=is_portable(prepared.job))[1]
    automatic = why if cut.workers > 1 else "there is nothing to do for a second"
    reason = automatic if arguments.get("executor", "auto") == "auto" else said
    yield labelled("executor", f"{executor}, {_count(cut.workers, 'worker')}: {reason}")
    size, number = min(cut.chunk_size, cut.chains), len(cut.chunks)
    grain = f"a multiple of {cut.grain}" + (
        "" if cut.grain == ALIGN else f": of {ALIGN}, ensembles of chains and writers' alignment"
    )
    if cut.grain >= cut.chains:
        why = f"a chunk begins at {grain}, so that there is one"
    elif arguments.get("chunk_size", "auto") != "auto":
        why = f"{said}, rounded up to {grain}"
    else:
        why = f"chains / workers, within bounds on its bytes, rounded up to {grain}"
    yield labelled("chunks", f"{number:,} of {'at most ' if number > 1 else ''}{_count(size, 'chain')}: {why}")
    yield labelled("noise", prepared.job.noise)
    yield labelled("gradient", f"{prepared.job.gradient}{built(prepared.gradient_seconds)}")


def _memory(prepared: Prepared, costs: list[Cost] | Exception) -> Iterator[str]:
    from ebmcore.measure import memory_needed

    needed = max(memory_needed(prepared, index) for index in range(len(prepared.job.stages)))
    seen = max((cost.memory or 0 for cost in costs), default=0) if isinstance(costs, list) else 0
    # Less than that was freed memory, used again.
    grown = f"; with the energy's own, {amount(seen)} were measured" if seen > needed else ""
    yield labelled("memory", f"{amount(needed)} a worker for states, gradient and draws{grown}")


def _disk(prepared: Prepared) -> Iterator[str]:
    from ebmcore.prepare import MEMORY

    job, out = prepared.job, Path(str(prepared.job.path))
    draws = sum(_size(layout.arrays) for layout in job.layouts if layout is not None)
    total = 0
    for name, table in zip(prepared.runtime.parts.writers, job.writers, strict=True):
        on_disk = table.get("use") != MEMORY
        total += draws * on_disk
        yield labelled("writer", f"{name}: {amount(draws)}{'' if on_disk else ' of memory'}, if it does not compress")
    free = shutil.disk_usage(next(parent for parent in (out, *out.parents) if parent.exists())).free
    fits = "" if total <= free else ": IT DOES NOT FIT; keep fewer draws, or choose another disk with --out"
    yield labelled("disk", f"{amount(total)} of {amount(free)} free in {out}{fits}")


def _size(arrays: Mapping[str, Any]) -> int:
    import numpy as np

    return sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in arrays.values())


def _time(prepared: Prepared, costs: list[Cost] | Exception, arguments: Mapping[str, Any]) -> Iterator[str]:
    from ebmcore.progress import duration

    if not isinstance(costs, list):
        yield labelled("time", f"not known, a probe of some steps failed: {costs}")
        return
    cut, total = prepared.plan, _seconds(prepared, costs)
    size = min(cut.chunk_size, cut.chains)
    rounds = -(-len(cut.chunks) // cut.workers)
    lines = []
    for index, cost in enumerate(costs):
        label = f"step of {index}" if len(costs) > 1 else "step"
        chain = f"and {_short(cost.chain)} a chain" if cost.chain else f"for {_count(size, 'chain')}"
        lines.append(labelled(label, f"{_short(cost.step)} {chain}"))
    workers = f"; {cut.workers} workers are taken not to slow each other" if cut.workers > 1 else ""
    about = f"about {duration(total)}" if total >= 0.1 else "less than 0.1 s"
    yield labelled("time", f"{about} without writing, from some steps of one worker{workers}")
    yield from lines
    fixed = sum(cost.step for cost in costs) / max(sum(cost.seconds(size, 1) for cost in costs), 1e-12)
    if rounds > 1 and fixed > 0.5 and arguments.get("chunk_size", "auto") != "auto":
        yield labelled("advice", f"{fixed:.0%} of a step does not depend on its chains: a larger chunk_size takes less")


def _compiled(prepared: Prepared, costs: list[Cost] | Exception, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Measure the gradient that has to be compiled, where the run is long enough to pay for that."""
    from ebmcore.errors import InputError
    from ebmcore.gradients import AUTOGRAD
    from ebmcore.prepare import prepare
    from ebmcore.progress import duration
    from ebmcore.registry import default
    from ebmcore.request import Request

    if not isinstance(costs, list) or prepared.job.gradient != AUTOGRAD or "gradient" in arguments:
        return
    now = _seconds(prepared, costs)
    if now < LONG or COMPILED not in {record.name for record in default().records("gradient")}:
        return
    try:
        other = prepare(Request(**{**arguments, "gradient": COMPILED}, overwrite=True))
    except InputError:
        return
    then = _seconds(other, _measured(other)) + other.gradient_seconds
    if then < now:
        yield labelled("advice", f'gradient = "{COMPILED}" would take about {duration(then)}, compiling included')


def _measured(prepared: Prepared) -> list[Cost]:
    from ebmcore.measure import measure

    return [measure(prepared, index) for index in range(len(prepared.job.stages))]


def _seconds(prepared: Prepared, costs: list[Cost]) -> float:
    """Return the seconds of the run: its chunks one after the other on each worker."""
    cut = prepared.plan
    rounds, size = -(-len(cut.chunks) // cut.workers), min(cut.chunk_size, cut.chains)
    stages = zip(costs, prepared.job.stages, strict=True)
    return rounds * sum(cost.seconds(size, stage.warmup + stage.steps) for cost, stage in stages)


def _short(seconds: float) -> str:
    unit, scale = next(
        ((unit, scale) for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)) if seconds >= scale), ("ns", 1e-9)
    )
    return f"{seconds / scale:.3g} {unit}"


def _next(prepared: Prepared, command: str) -> Iterator[str]:
    from ebmcore import rundir

    path = Path(str(prepared.job.path))
    if (path / rundir.MANIFEST).exists() and not (path / rundir.SUMMARY).exists():
        yield f"next: {command} --resume   (there is an unfinished run in that place, which this goes on with)"
    elif (path / rundir.MANIFEST).exists():
        yield f"next: {command} --overwrite   (there is a run in that place, which this replaces)"
    else:
        yield f"next: {command}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"
