"""The run directory: `run.toml`, `manifest.json` (what ran), `commits.jsonl` (what is done), `data/`, `summary.json`.

All of it is text or a documented array format; nothing in it is ever executed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from ebmcore.errors import InputError
from ebmcore.protocols import JobSpec, Receipt

RUN, MANIFEST, COMMITS, SUMMARY = "run.toml", "manifest.json", "commits.jsonl", "summary.json"


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where a new run cannot go; change nothing.

    Args:
        path: The run directory to be.
        overwrite: Whether an older run there may be replaced.

    Raises:
        InputError: It is, or lies under, a file; or it holds something that may not be replaced.
    """
    for parent in [path, *path.parents]:
        if parent.exists() and not parent.is_dir():
            raise InputError(f"`out` must be a folder; got '{path}', where '{parent}' is a file. Choose another place.")
    if not path.exists() or not any(path.iterdir()):
        return
    if not (path / MANIFEST).is_file():
        raise InputError(
            f"`out` must be new or empty, or an older run; got '{path}', which holds other files. Choose another."
        )
    if not overwrite:
        raise InputError(
            f"`out` must not exist yet; got '{path}', which holds a run. Choose another, or overwrite it (--overwrite)."
        )


def create(path: Path, settings: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Make the directory of a new run, in place of an older one, with what is known before its first step.

    Args:
        path: Where; `check_free` has accepted it.
        settings: The resolved run file.
        manifest: Plan, seed, plugins and versions; JSON values.
    """
    if path.exists():
        shutil.rmtree(path)
    (path / "data").mkdir(parents=True)
    _write(path / RUN, tomli_w.dumps(_plain(settings)))
    (path / COMMITS).touch()
    # The manifest makes the folder a run: it comes last.
    _write(path / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def commit(path: Path, receipt: Receipt) -> None:
    """Note that a chunk is done: its data is durable by now."""
    line = {"chunk": receipt.chunk.to_json(), "device": receipt.device, "seconds": round(receipt.seconds, 3)}
    with (path / COMMITS).open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def finish(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary, which says that the run is whole."""
    _write(path / SUMMARY, json.dumps(summary, indent=2) + "\n")


def read(path: Path) -> tuple[JobSpec, dict[str, Any], dict[str, Any] | None]:
    """Return a run's job, its manifest, and its summary (None while it is not whole).

    Raises:
        InputError: There is no run, or its manifest cannot be read.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        job = JobSpec.from_json({**manifest["job"], "path": str(path)})
        summary = json.loads((path / SUMMARY).read_text()) if (path / SUMMARY).exists() else None
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"a run must have a {MANIFEST}; got '{path}', which has none. Check the path.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the {MANIFEST} of '{path}' must be readable; got {error!r}. Restore it from a copy."
        ) from error
    return job, manifest, summary


def _write(path: Path, text: str) -> None:
    """Write a file so that after a crash it is either whole or not there."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _plain(value: Any) -> Any:
    """Return what TOML can say: no None, lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
