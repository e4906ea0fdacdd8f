"""What a caller asks for, looked at by itself: numbers, stages, and plugins as plain tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ebmcore import rundir
from ebmcore.energy import PRECISIONS
from ebmcore.errors import InputError, about
from ebmcore.health import POLICIES
from ebmcore.parts import as_table, live_table
from ebmcore.protocols import Stage
from ebmcore.stored import name_of


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


def check_precision(request: Request) -> None:
    """Refuse a precision that is none.

    Raises:
        InputError: It is not one of `PRECISIONS`.
    """
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


def stages_of(request: Request, live: dict[str, Any]) -> tuple[Stage, ...]:
    """Return the stages, their samplers as tables; what is no plain data goes to `live`.

    Raises:
        InputError: Steps, draws or warmup are missing or do not fit each other.
    """
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


def tables_of(kind: str, values: Any, live: dict[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return one plugin or several as tables; what is no plain data goes to `live`.

    Raises:
        InputError: One cannot be a plugin.
    """
    several = values if isinstance(values, list | tuple) else [values]
    tables = []
    for number, value in enumerate(several):
        with about(kind, number):
            tables.append(as_table(kind, value, f"{kind} {number}", live))
    return tuple(tables)


def check_names(kind: str, tables: Sequence[Mapping[str, Any]]) -> None:
    """Refuse names that two have, or that cannot be a folder's.

    Raises:
        InputError: One is such.
    """
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


def tensors_of(what: str, tensors: Mapping[str, Any] | None, live: dict[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return tables of named tensors: where a file is, or that it is in `live`.

    Raises:
        InputError: One is neither a tensor nor a path.
    """
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
