"""From what a caller asks for to a job that can run: every check that can be made before the first step or file."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmcore import rundir
from ebmcore.backends import choose_noise
from ebmcore.devices import automatic_executor, resolve_devices
from ebmcore.energy import PRECISIONS, Precision
from ebmcore.energy_checks import check_keyword
from ebmcore.errors import InputError, about
from ebmcore.gradients import FIRST_BATCH, Choice, choose_gradient
from ebmcore.health import FREEZE, POLICIES
from ebmcore.identity import identity
from ebmcore.initial import init_table
from ebmcore.noise import check_seed
from ebmcore.observers import Observers
from ebmcore.parts import Parts, as_table, build_part, build_parts, live_table
from ebmcore.plan import Plan, grain_of, make_plan
from ebmcore.portable import is_portable
from ebmcore.probe import first_positions, needs, probe
from ebmcore.protocols import Executor, HasAlign, HasCheck, HasEnsembleSize, HasShape, HasTruncate, JobSpec, Stage
from ebmcore.registry import Registry, default, ours
from ebmcore.resuming import Earlier, check_same, find_earlier, settled
from ebmcore.runtime import Runtime
from ebmcore.stored import name_of
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


@dataclass(frozen=True)
class Request:
    """The arguments of `ebm.sample`, which documents them, with its defaults."""

    energy: Any
    sampler: Any
    chains: int | None = None
    shape: Sequence[int] | int | None = None
    init: Any = "auto"
    steps: int | None = None
    draws: int = 1
    warmup: int = 0
    temperature: float = 1.0
    seed: int | None = None
    devices: str | Sequence[str] = "auto"
    executor: Any = "auto"
    chunk_size: int | str = "auto"
    precision: str = "float32"
    noise: str = "auto"
    gradient: str = "auto"
    on_nonfinite: str = "raise"
    condition: Mapping[str, Any] | None = None
    shared: Mapping[str, Any] | None = None
    writers: Any = ()
    reducers: Any = ()
    observers: Any = ()
    out: str | Path | None = None
    overwrite: bool = False
    resume: bool = False
    accept_changes: bool = False
    base: str | Path = "."
    origin: Mapping[str, Any] | None = None


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
    _check_scalars(request)
    out = None if request.out is None else Path(request.out).absolute()
    earlier = _earlier(request, out)
    if earlier is not None:
        request = replace(request, **settled(earlier, vars(request)))
    stages = _stages(request, live)
    default_writer = ours(registry, "writer", MEMORY if out is None else DISK)
    writers = _tables("writer", request.writers, live) or ({"use": default_writer},)
    if out is None and request.writers:
        raise InputError("`out` must be set when writers are named; got None. Say where they write: out='runs/mine'.")
    reducers = (
        *_tables("reducer", request.reducers, live),
        {"use": "ebmcore.statistics:Moments", "name": SUMMARY},
    )
    _check_names("writer", writers)
    _check_names("reducer", reducers)
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
        condition=_tensors("condition", request.condition, live),
        shared=_tensors("shared", request.shared, live),
        writers=writers,
        reducers=reducers,
        grain=0,
        layouts=(),
    )
    parts = build_parts(job, live, registry)
    shape = _shape(request, parts)
    chains = _chains(request, parts)
    _check_conditions(chains, parts)
    ensembles = _ensembles(chains, parts)
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


def _check_scalars(request: Request) -> None:
    if request.precision not in PRECISIONS:
        raise InputError(f"`precision` must be one of {', '.join(PRECISIONS)}; got {request.precision!r}. Choose one.")


def check_policy(on_nonfinite: str) -> str:
    """Return what becomes of a chain that leaves the finite numbers.

    Raises:
        InputError: It is none of the policies.
    """
    if on_nonfinite not in POLICIES:
        raise InputError(
            f"`on_nonfinite` must be one of {', '.join(POLICIES)}; got {on_nonfinite!r}. Leave it at 'raise'."
        )
    return on_nonfinite


def check_temperature(temperature: float) -> float:
    """Return a temperature as a float.

    Raises:
        InputError: It is not a finite number > 0.
    """
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise InputError(f"`temperature` must be a number > 0; got {temperature!r}. Leave it at 1.0.")
    return float(temperature)


def whole(name: str, value: Any, least: int) -> int:
    """Return `value` as an integer of at least `least`; 1e6 is one, True is not.

    Raises:
        InputError: It is none.
    """
    integral = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    if not integral or value < least:
        raise InputError(
            f"`{name}` must be a whole number >= {least}; got {value!r}. Give one such as {max(least, 1000)}."
        )
    return int(value)


def _stages(request: Request, live: dict[str, Any]) -> tuple[Stage, ...]:
    if not isinstance(request.sampler, list | tuple):
        if request.steps is None:
            raise InputError(
                "`steps` must be set; got nothing. Say how many transitions each chain makes, such as steps=1000."
            )
        return (_stage(Stage(request.sampler, request.steps, request.draws, request.warmup), "sampler", 1, live),)
    if (request.steps, request.draws, request.warmup) != (None, 1, 0):
        raise InputError(
            "`steps`, `draws` and `warmup` must be left out beside a list of stages; got some of them. "
            "Give them to each ebm.Stage."
        )
    stages = request.sampler
    for stage in stages:
        if not isinstance(stage, Stage):
            raise InputError(
                f"a list in place of a sampler must hold stages; got {type(stage).__name__}. Use ebm.Stage(...)."
            )
    if not stages:
        raise InputError("a list of stages must have at least one; got none. Add an ebm.Stage(...).")
    checked = []
    for i, stage in enumerate(stages):
        with about("stage", i):
            checked.append(_stage(stage, f"stage {i} sampler", 0, live))
    with about("stage", len(stages) - 1):
        if not checked[-1].draws:
            raise InputError(
                "`draws` of the last stage must be >= 1, or the run keeps nothing; got 0. "
                "Set draws=1 to keep the last positions, draws=steps to keep all."
            )
    return tuple(checked)


def _stage(stage: Stage, what: str, least_draws: int, live: dict[str, Any]) -> Stage:
    steps, warmup = whole("steps", stage.steps, 1), whole("warmup", stage.warmup, 0)
    draws = whole("draws", stage.draws, least_draws)
    if draws and (draws > steps or steps % draws):
        fit = max(d for d in range(1, min(draws, steps) + 1) if steps % d == 0)
        raise InputError(
            f"`draws` must divide `steps`, so that draws are evenly spaced; got draws={draws}, steps={steps}. "
            f"Take draws={fit}, or steps={draws * max(1, round(steps / draws))}."
        )
    return Stage(as_table("sampler", stage.sampler, what, live), steps, draws, warmup)


def _tables(kind: str, values: Any, live: dict[str, Any]) -> tuple[Mapping[str, Any], ...]:
    several = values if isinstance(values, list | tuple) else [values]
    tables = []
    for number, value in enumerate(several):
        with about(kind, number):
            tables.append(as_table(kind, value, f"{kind} {number}", live))
    return tuple(tables)


def _check_names(kind: str, tables: Sequence[Mapping[str, Any]]) -> None:
    seen: set[str] = set()
    for number, name in enumerate(map(name_of, tables)):
        with about(kind, number):
            if name in seen:
                raise InputError(
                    f"{kind}s of one run must have names of their own; got '{name}' twice. Add name = \"...\" to one."
                )
        with about(kind, number, "name"):
            if not rundir.is_name(name):
                raise InputError(
                    f"a {kind}'s name must be usable as a folder; got '{name}'. Use letters, digits, - and _."
                )
        seen.add(name)


def _tensors(what: str, tensors: Mapping[str, Any] | None, live: dict[str, Any]) -> dict[str, Mapping[str, Any]]:
    tables: dict[str, Mapping[str, Any]] = {}
    for name, value in (tensors or {}).items():
        if isinstance(value, str | Path):
            tables[name] = {"path": str(value)}
            continue
        if not isinstance(value, Tensor):
            raise InputError(
                f"`{what}` must map names to tensors or paths; got {type(value).__name__} for '{name}'. Mend it."
            )
        live[f"{what} {name}"] = value
        tables[name] = live_table(f"{what} {name}", value)
    return tables


def _shape(request: Request, parts: Parts) -> tuple[int, ...]:
    asked = None
    if request.shape is not None:
        extents = [request.shape] if isinstance(request.shape, int | float) else list(request.shape)
        asked = tuple(whole("shape", extent, 1) for extent in extents)
    known = tuple(parts.model.shape) if isinstance(parts.model, HasShape) else None
    begun = None if parts.start.points is None else tuple(parts.start.points.shape[1:])
    shape = next((each for each in (asked, known, begun) if each is not None), None)
    if shape is None:
        raise InputError(
            "`shape` must be known; got none from the energy, `init` or you. Give one position's, such as (2,)."
        )
    if asked is None and begun not in (None, shape):
        raise InputError(
            f"`init` must hold positions of the energy's shape, {list(shape)}; got {list(begun or ())}. "
            "Begin with 'auto', or with positions of that shape."
        )
    for source, other in (("the energy", known), ("`init`", begun)):
        if other is not None and other != shape:
            raise InputError(f"`shape` must be that of {source}, {list(other)}; got {list(shape)}. Leave `shape` out.")
    return shape


def _chains(request: Request, parts: Parts) -> int:
    points, repeat = parts.start.points, parts.start.repeat
    begun = None if points is None or points.ndim == 0 else len(points) * repeat
    if request.chains is None:
        if begun is None:
            raise InputError("`chains` must be set; got nothing. Say how many chains to run, such as chains=10_000.")
        return whole("chains", begun, 1)
    chains = whole("chains", request.chains, 1)
    if begun is not None and begun != chains:
        raise InputError(
            f"`init` must have one row a chain, here {chains}; got {begun}. Leave `chains` out, or fit it."
        )
    if chains % repeat:
        fit = repeat * max(1, round(chains / repeat))
        raise InputError(f"`chains` must be a multiple of `repeat` of `init`, {repeat}; got {chains}. Take {fit}.")
    return chains


def _check_conditions(chains: int, parts: Parts) -> None:
    for name in parts.shared:
        with about("shared", name):
            check_keyword(parts.model, name, "shared")
    for name, value in parts.condition.items():
        with about("condition", name):
            if name in parts.shared:
                raise InputError(f"condition '{name}' must not be shared too; got both. Leave one of them out.")
            if value.ndim == 0 or len(value) != chains:
                raise InputError(
                    f"condition '{name}' must have one row a chain, here {chains}; got shape {list(value.shape)}. "
                    "Give what is the same for all chains as `shared`."
                )
            check_keyword(parts.model, name, "condition")


def _ensembles(chains: int, parts: Parts) -> list[int]:
    sizes = [sampler.ensemble_size for sampler in parts.samplers if isinstance(sampler, HasEnsembleSize)]
    for size in sizes:
        if chains % size:
            fit = size * max(1, round(chains / size))
            raise InputError(
                f"`chains` must be a multiple of the sampler's ensemble_size {size}; got {chains}. Take {fit}."
            )
    return sizes


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
    for number, table in enumerate(_tables("observer", request.observers, live)):
        with about("observer", number):
            made, used = build_part("observer", table, live, registry, Path(request.base))
            # Refuses what hears no event.
            Observers([made])
            observers.append(made)
            records.extend(used)
    return tuple(observers), tuple(records)
