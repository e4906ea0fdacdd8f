"""From what a caller asks for to a job that can run: every check that can be made before the first step or file."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ebmcore import rundir
from ebmcore.backends import choose_noise
from ebmcore.devices import automatic_executor, resolve_devices
from ebmcore.energy import Precision
from ebmcore.errors import InputError, about
from ebmcore.extent import chains_of, check_conditions, ensembles_of, shape_of
from ebmcore.gradients import FIRST_BATCH, Choice, choose_gradient
from ebmcore.health import FREEZE
from ebmcore.identity import identity
from ebmcore.initial import init_table
from ebmcore.noise import check_seed
from ebmcore.observers import Observers
from ebmcore.parts import Parts, as_table, build_part, build_parts, live_table
from ebmcore.plan import Plan, grain_of, make_plan
from ebmcore.portable import is_portable
from ebmcore.probe import first_positions, needs, probe
from ebmcore.protocols import Executor, HasAlign, HasCheck, HasTruncate, JobSpec
from ebmcore.registry import Registry, default, ours
from ebmcore.request import (
    Request,
    check_names,
    check_policy,
    check_precision,
    check_temperature,
    stages_of,
    tables_of,
    tensors_of,
    whole,
)
from ebmcore.resuming import Earlier, check_same, find_earlier, settled
from ebmcore.runtime import Runtime
from ebmcore.strides import striding

MEMORY, DISK = "memory", "npy"
"""The writers of a run that names none: without and with `out`."""

Records = tuple[Mapping[str, Any], ...]

SUMMARY = "summary"
"""The reducer that every run has, for its summary."""


@dataclass(frozen=True)
class Prepared:
    """A job, its objects, its cut, and where it goes."""

    runtime: Runtime
    plan: Plan
    executor: Executor
    executor_table: Mapping[str, Any]
    observers: tuple[Any, ...]
    state_bytes: tuple[int, ...]
    """For each stage, the bytes of its sampler's state of one chain."""
    records: Records
    """Every plugin that the run uses, for the manifest: kind, name, distribution, version, value, digest."""
    gradient_seconds: float = 0.0
    """What a gradient backend took to build and compile."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What the run is, for its manifest; {} for a run in memory."""
    earlier: Earlier | None = None
    """The run that goes on."""
    origin: Mapping[str, Any] | None = None
    """What the manifest notes of the command that runs it."""

    @property
    def job(self) -> JobSpec:
        """The job."""
        return self.runtime.job


def prepare(request: Request) -> Prepared:
    """Check a request and make its job and plan; nothing is written.

    Raises:
        InputError: An argument is wrong, or a plugin cannot be had.
        EnergyError: The energy breaks its contract.
        SamplerError: The sampler breaks its contract.
    """
    registry = default()
    # What is wrongly blocked is said as such, not as a fault of the first plugin that is asked for.
    registry.records()
    live: dict[str, Any] = {}
    check_precision(request)
    out = None if request.out is None else Path(request.out).absolute()
    earlier = _earlier(request, out)
    if earlier is not None:
        request = replace(request, **settled(earlier, vars(request)))
    stages = stages_of(request, live)
    default_writer = ours(registry, "writer", MEMORY if out is None else DISK)
    writers = tables_of("writer", request.writers, live) or ({"use": default_writer},)
    if out is None and request.writers:
        raise InputError("`out` must be set when writers are named; got None. Say where they write: out='runs/mine'.")
    reducers = (
        *tables_of("reducer", request.reducers, live),
        {"use": "ebmcore.statistics:Moments", "name": SUMMARY},
    )
    check_names("writer", writers)
    check_names("reducer", reducers)
    with about("run", "init"):
        init = init_table(request.init, live, live_table)
    with about("engine", "devices"):
        devices = resolve_devices(request.devices)
    with about("engine", "noise"):
        noise = choose_noise(request.noise, devices, Precision.named(request.precision).state, registry)
    job = JobSpec(
        id=secrets.token_hex(8),
        base=str(Path(request.base).absolute()),
        path=None if out is None else str(out),
        energy=as_table("model", request.energy, "energy", live),
        stages=stages,
        chains=0,
        first_chain=0,
        shape=(),
        init=init,
        temperature=check_temperature(request.temperature),
        seed=secrets.randbits(63) if request.seed is None else check_seed(request.seed),
        on_nonfinite=check_policy(request.on_nonfinite),
        precision=request.precision,
        noise=noise,
        gradient="auto",
        condition=tensors_of("condition", request.condition, live),
        shared=tensors_of("shared", request.shared, live),
        writers=writers,
        reducers=reducers,
        grain=0,
        layouts=(),
    )
    parts = build_parts(job, live, registry)
    shape = shape_of(request, parts)
    chains = chains_of(request, parts)
    check_conditions(chains, parts)
    ensembles = ensembles_of(chains, parts)
    aligns = [writer.align for writer in parts.writers.values() if isinstance(writer, HasAlign)]
    job = replace(job, chains=chains, shape=shape, grain=grain_of(ensembles, aligns))
    plan, executor, table, carried = _plan(request, job, devices, registry, live)
    runtime = Runtime(job, parts)
    with about("model"):
        looks = probe(
            runtime.energy(plan.devices[0]),
            job.stages,
            parts.samplers,
            start=parts.start,
            backend=parts.noise,
            seed=job.seed,
            chains=chains,
            grain=job.grain,
            frozen=job.on_nonfinite == FREEZE,
        )
    observers, watched = _observers(request, registry, live)
    _check_ends(observers, parts)
    choice = _gradient(request, runtime, plan, registry)
    job = replace(job, gradient=choice.name, layouts=tuple(look.layout for look in looks))
    runtime = Runtime(job, parts, fast={} if choice.fast is None else {plan.devices[0]: choice.fast})
    sizes = tuple(look.state_bytes for look in looks)
    records = (*parts.records, *carried, *watched, *_gradient_records(choice, registry, job))
    prepared = Prepared(runtime, plan, executor, table, observers, sizes, records, choice.seconds)
    return prepared if out is None else _identified(prepared, request, earlier, out)


def _earlier(request: Request, out: Path | None) -> Earlier | None:
    """Return the run that goes on, if one is there and is to."""
    for name in ("resume", "accept_changes", "overwrite"):
        if getattr(request, name) and out is None:
            raise InputError(f"`out` must be set with `{name}`; got None. Say which run: out='runs/mine'.")
    if out is None:
        return None
    if request.resume and request.overwrite:
        raise InputError("a run must be resumed or overwritten; got both. Leave one of them out.")
    if request.accept_changes and not request.resume:
        raise InputError("changes must be accepted of a run that is resumed; got no `resume`. Set it too (--resume).")
    if request.resume and not rundir.is_free(out):
        return find_earlier(out)
    rundir.check_free(out, overwrite=request.overwrite)
    return None


def _identified(prepared: Prepared, request: Request, earlier: Earlier | None, out: Path) -> Prepared:
    job, parts = prepared.job, prepared.runtime.parts
    size = prepared.plan.chunk_size
    if earlier is not None:
        # What has a row a chain may have more of them now.
        rows = identity(job, parts, size, chains=min(job.chains, earlier.job.chains))
        changes = check_same(earlier, job, rows, out, accept=request.accept_changes)
        earlier = replace(earlier, changes=changes)
    found = identity(job, parts, size, chains=job.chains)
    return replace(prepared, identity=found, earlier=earlier, origin=request.origin)


def _gradient_records(choice: Choice, registry: Registry, job: JobSpec) -> Records:
    if choice.fast is None:
        return ()
    return build_part("gradient", {"use": choice.name}, {}, registry, Path(job.base))[1]


def _gradient(request: Request, runtime: Runtime, plan: Plan, registry: Registry) -> Choice:
    energy, parts = runtime.energy(plan.devices[0]), runtime.parts
    if not any("gradient" in needs(sampler) for sampler in parts.samplers) and request.gradient == "auto":
        return Choice(energy.gradient_source, None, 0.0)
    chains = min(runtime.job.chains, FIRST_BATCH)
    x = first_positions(energy, parts.start, parts.noise, runtime.job.seed, chains)
    with about("engine", "gradient"):
        strides = striding(parts.samplers, parts.noise)
        return choose_gradient(request.gradient, energy, x, registry, strides=strides)


def _plan(
    request: Request, job: JobSpec, devices: tuple[str, ...], registry: Registry, live: dict[str, Any]
) -> tuple[Plan, Executor, Mapping[str, Any], Records]:
    automatic = request.executor == "auto" if isinstance(request.executor, str) else False
    with about("engine", "executor"):
        chosen = automatic_executor(devices, portable=is_portable(job))[0]
        asked = ours(registry, "executor", chosen) if automatic else request.executor
        table = as_table("executor", asked, "executor", live)
        executor, records = build_part("executor", table, live, registry, Path(job.base))
        if isinstance(executor, HasCheck):
            executor.check(job)
    workers = int(getattr(executor, "workers", None) or len(devices))
    size = None if request.chunk_size == "auto" else whole("chunk_size", request.chunk_size, 1)
    steps = sum(stage.warmup + stage.steps for stage in job.stages)
    width = torch.empty(0, dtype=Precision.named(job.precision).state).element_size()
    plan = make_plan(
        chains=job.chains,
        steps=steps,
        grain=job.grain,
        workers=workers,
        devices=devices,
        chunk_size=size,
        position_bytes=width * math.prod(job.shape),
    )
    if automatic and plan.workers == 1:
        table = {"use": ours(registry, "executor", "serial")}
        executor, records = build_part("executor", table, live, registry, Path(job.base))
    return plan, executor, table, records


def _check_ends(observers: Sequence[Any], parts: Parts) -> None:
    if not Observers(observers).may_stop:
        return
    for number, (name, writer) in enumerate(parts.writers.items()):
        if not isinstance(writer, HasTruncate):
            with about("writer", number):
                raise InputError(
                    f"writer '{name}' must have `truncate` where an observer may end the run; got a writer without it. "
                    "Use npy, or leave that observer out."
                )


def _observers(request: Request, registry: Registry, live: dict[str, Any]) -> tuple[tuple[Any, ...], Records]:
    observers: list[Any] = []
    records: list[Mapping[str, Any]] = []
    for number, table in enumerate(tables_of("observer", request.observers, live)):
        with about("observer", number):
            made, used = build_part("observer", table, live, registry, Path(request.base))
            # Refuses what hears no event.
            Observers([made])
            observers.append(made)
            records.extend(used)
    return tuple(observers), tuple(records)
