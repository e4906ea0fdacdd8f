"""What makes a run the run it is, as a flat table of plain values: two runs of equal tables give the same bytes.

It is stored in the manifest, and compared when a run is resumed. Paths count by their last part, and what they
lead to by its digest: a folder that was moved as a whole is the same run.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ebmcore.fingerprints import CODE, described, tensor_digest
from ebmcore.initial import LAWS, point_range
from ebmcore.parts import Parts
from ebmcore.protocols import JobSpec
from ebmcore.registry.references import file_of, is_direct
from ebmcore.stored import name_of

CHAINS = "run.chains"

_CONTENT = (".safetensors", ".npy")


def identity(job: JobSpec, parts: Parts, chunk_size: int, *, chains: int) -> dict[str, Any]:
    """Return what a run is, name by name; devices, executor and observers are no part of it.

    Args:
        job: The run.
        parts: Its objects.
        chunk_size: Its plan's.
        chains: How many chains of what has a row a chain (starts, conditions) count.
    """
    from importlib_metadata import version

    found: dict[str, Any] = {CHAINS: job.chains, "version of ebmcore": version("ebmcore")}
    found["version of torch"] = torch.__version__
    base = Path(job.base)
    for name, table, made in _tables(job, parts):
        found |= _flat(name, _bare(table, base))
        found |= _contents(name, table, base)
        if _has_live(table):
            found |= _flat(f"{name} object", described(made))
    for number, stage in enumerate(job.stages):
        place = "run" if len(job.stages) == 1 else f"stage {number}"
        found |= {f"{place}.{key}": getattr(stage, key) for key in ("steps", "draws", "warmup")}
    found |= {f"run.{key}": getattr(job, key) for key in ("temperature", "seed", "on_nonfinite")}
    found |= {f"engine.{key}": getattr(job, key) for key in ("precision", "noise", "gradient")}
    found |= {"run.shape": list(job.shape), "engine.chunk_size": chunk_size}
    found |= _start(job, parts, chains)
    found |= {f"condition {name}": tensor_digest(value[:chains]) for name, value in parts.condition.items()}
    found |= {f"shared {name}": tensor_digest(value) for name, value in parts.shared.items()}
    for record in parts.records:
        if "digest" in record:
            found[f"source of {record['kind']} {_short(str(record['name']))}"] = record["digest"]
        if "distribution" in record:
            found[f"version of {record['distribution']}"] = record["version"]
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what is not the same, a phrase each; more chains than before are no difference."""
    names = [*before, *(name for name in now if name not in before)]
    return [
        _difference(name, before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name) and not _ignored(name, before, now)
    ]


def _ignored(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if name == CHAINS:
        return isinstance(before.get(name), int) and before[name] <= now[name]
    # Bytecode of another Python says nothing of whether the function is the same.
    return CODE in name and not (name in before and name in now)


def _difference(name: str, before: object, now: object) -> str:
    if before is None or now is None:
        return f"{name} ({'not there before' if before is None else f'{_word(before)} before, now not there'})"
    if _is_digest(before) and _is_digest(now):
        return f"{name} (its content changed)"
    return f"{name} ({_word(before)} before, {_word(now)} now)"


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and all(letter in "0123456789abcdef" for letter in value)


def _word(value: object) -> str:
    text = "some content" if _is_digest(value) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _tables(job: JobSpec, parts: Parts) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    yield "model", job.energy, parts.model
    for number, (stage, sampler) in enumerate(zip(job.stages, parts.samplers, strict=True)):
        yield "sampler" if len(job.stages) == 1 else f"stage {number} sampler", stage.sampler, sampler
    for kind, tables, made in (("writer", job.writers, parts.writers), ("reducer", job.reducers, parts.reducers)):
        for table in tables:
            yield f"{kind} {name_of(table)}", table, made[name_of(table)]


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {key: found for inner, each in value.items() for key, found in _flat(f"{name}.{inner}", each).items()}
    return {name: value}


def _bare(value: Any, base: Path) -> Any:
    """Return a table as JSON has it, with files by their last part."""
    if isinstance(value, Mapping):
        return {str(key): _bare(inner, base) for key, inner in value.items() if key != "live"}
    if isinstance(value, list | tuple):
        return [_bare(inner, base) for inner in value]
    if isinstance(value, str):
        return _short(value) if file_of(value, base) is not None or _is_content(value, base) else value
    return value if isinstance(value, bool | int | float | None) else str(value)


def _short(use: str) -> str:
    return Path(use).name if use.endswith(_CONTENT) or ".py:" in use else use


def _is_content(value: str, base: Path) -> bool:
    return value.endswith(_CONTENT) and (base / value).is_file()


def _contents(name: str, value: Any, base: Path) -> dict[str, str]:
    """Return the digests of the array files that a table names, weights among them."""
    if isinstance(value, Mapping):
        found = (_contents(f"{name}.{inner}", each, base) for inner, each in value.items())
        return {key: digest for each in found for key, digest in each.items()}
    if isinstance(value, str | Path) and _is_content(str(value), base):
        with (base / value).open("rb") as file:
            return {f"content of {name}": hashlib.file_digest(file, "sha256").hexdigest()}
    return {}


def _has_live(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "live" in value or any(map(_has_live, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_live, value))


def _start(job: JobSpec, parts: Parts, chains: int) -> dict[str, Any]:
    """Return where chains begin: a law by its name, positions by their digest, a function by that of its source."""
    start, use = parts.start, str(job.init.get("use", ""))
    found: dict[str, Any] = {"run.init.scale": start.scale, "run.init.repeat": start.repeat}
    if start.points is not None:
        return {**found, "run.init": tensor_digest(start.points[: point_range(0, chains, start.repeat)[1]])}
    if isinstance(start.source, str) or use in LAWS:
        return {**found, "run.init": use}
    if "live" in job.init:
        return {**found, **_flat("run.init", described(start.source))}
    source = file_of(use, Path(job.base)) if is_direct(use) else None
    if source is None:
        module = importlib.import_module(use.partition(":")[0].strip())
        source = Path(getattr(module, "__file__", None) or "")
    content = hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else None
    return {**found, "run.init": _short(use), "source of run.init": content}
