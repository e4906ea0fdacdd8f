"""The run file that a run amounts to: nothing left out, no path relative, so that it runs again from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebmcore.initial import LAWS
from ebmcore.prepare import SUMMARY, Prepared
from ebmcore.registry.references import file_of, is_direct


def run_file(prepared: Prepared) -> dict[str, Any]:
    """Return the tables of a run file that gives the same draws from any folder.

    An object that only this process has stands there as `live`: such a file says what ran, and cannot be run.

    Args:
        prepared: The run.
    """
    job, last = prepared.job, prepared.job.stages[-1]
    base = Path(job.base)
    init = _init(job.init, base)
    run = {
        "chains": job.chains,
        "shape": list(job.shape),
        "init": init["use"] if set(init) == {"use"} else init,
        "temperature": job.temperature,
        "seed": job.seed,
        "on_nonfinite": job.on_nonfinite,
    }
    engine = {
        "devices": list(prepared.plan.devices),
        "executor": _table(prepared.executor_table, base),
        "chunk_size": prepared.plan.chunk_size,
        "precision": job.precision,
        "noise": job.noise,
        "gradient": job.gradient,
    }
    if len(job.stages) == 1:
        moves: dict[str, Any] = {"sampler": _table(last.sampler, base)}
        run |= {"steps": last.steps, "draws": last.draws, "warmup": last.warmup}
    else:
        moves = {"stage": [{**stage.to_json(), "sampler": _table(stage.sampler, base)} for stage in job.stages]}
    tables = {
        "model": _table(job.energy, base),
        **moves,
        "run": run,
        "engine": engine,
        "condition": _arrays(job.condition, base),
        "shared": _arrays(job.shared, base),
        "writer": [_table(table, base) for table in job.writers],
        "reducer": [_table(table, base) for table in job.reducers if table.get("name") != SUMMARY],
    }
    return {name: table for name, table in tables.items() if table}


def _table(value: Any, base: Path) -> Any:
    """Return a plugin's table with the host's paths made absolute, to any depth.

    A setting that is a plugin may be given by its name alone, so that any string may be a reference to a file.
    """
    if isinstance(value, str):
        return _reference(value, base)
    if isinstance(value, list | tuple):
        return [_table(item, base) for item in value]
    if not isinstance(value, Mapping):
        return value
    table = {str(key): _table(item, base) for key, item in value.items()}
    if "use" in table and "weights" in table:
        table["weights"] = str(base / table["weights"])
    return table


def _reference(use: str, base: Path) -> str:
    file = file_of(use, base)
    return f"{file}:{use.rpartition(':')[2]}" if file is not None and file.is_file() else use


def _init(table: Mapping[str, Any], base: Path) -> dict[str, Any]:
    use = table.get("use")
    if use is None or use in LAWS:
        return dict(table)
    return {**table, "use": _reference(use, base) if is_direct(use) else str(base / use)}


def _arrays(tables: Mapping[str, Mapping[str, Any]], base: Path) -> dict[str, Any]:
    return {name: str(base / table["path"]) if "path" in table else dict(table) for name, table in tables.items()}
