"""The run directory: `run.toml`, `manifest.json` (what ran), `commits.jsonl` (what is done), `data/`, `summary.json`.

All of it is text or a documented array format; nothing in it is ever executed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w

from ebmcore.errors import InputError, RunError
from ebmcore.protocols import Chunk, JobSpec, Receipt

RUN, MANIFEST, COMMITS, SUMMARY = "run.toml", "manifest.json", "commits.jsonl", "summary.json"


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where a new run cannot go; change nothing.

    Args:
        path: The run directory to be.
        overwrite: Whether an older run there may be replaced.

    Raises:
        InputError: It is, or lies under, a file; or it holds something that may not be replaced.
    """
    try:
        for parent in [path, *path.parents]:
            if parent.exists() and not parent.is_dir():
                raise InputError(
                    f"`out` must be a folder; got '{path}', where '{parent}' is a file. Choose another place."
                )
        if not path.exists() or not any(path.iterdir()):
            return
    except OSError as error:
        raise InputError(f"`out` must be readable; got '{path}' ({error.strerror}). Choose another place.") from error
    if not (path / MANIFEST).is_file():
        raise InputError(
            f"`out` must be new or empty, or an older run; got '{path}', which holds other files. Choose another."
        )
    if not overwrite:
        raise InputError(
            f"`out` must not exist yet; got '{path}', which holds a run. Choose another, or overwrite it (--overwrite)."
        )


@contextmanager
def made(path: Path, settings: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[Path]:
    """Make the directory of a new run, in place of an older one, with what is known before its first step.

    It is made beside `path` and takes its place at the end: where anything fails before, writers too, an older run
    is still there, and nothing else is.

    Args:
        path: Where; `check_free` has accepted it.
        settings: The resolved run file.
        manifest: Plan, seed, plugins and versions; JSON values.

    Yields:
        The folder that is to become `path`, for the writers to prepare.

    Raises:
        InputError: The folder cannot be made, or a writer refuses it (a full disk).
    """
    path = path.resolve()
    making = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    parents = [parent for parent in path.parents if not parent.exists()]
    try:
        (making / "data").mkdir(parents=True)
        yield making
        _write(making / RUN, tomli_w.dumps(_plain(settings)))
        (making / COMMITS).touch()
        _write(making / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        if path.exists():
            shutil.rmtree(path)
        making.replace(path)
        _sync(path.parent)
    except BaseException as error:
        shutil.rmtree(making, ignore_errors=True)
        with suppress(OSError):
            for parent in parents:
                parent.rmdir()
        if isinstance(error, RunError):
            raise InputError(str(error).replace(str(making), str(path))) from error
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise InputError(
                f"`out` must be a folder that can be made; got '{path}' ({reason}). Choose another."
            ) from error
        raise


def commit(path: Path, receipt: Receipt) -> None:
    """Note that a chunk is done: its data is durable by now.

    Raises:
        RunError: The disk is full or broken.
    """
    line = {"chunk": receipt.chunk.to_json(), "device": receipt.device, "seconds": round(receipt.seconds, 3)}
    with _durable(path / COMMITS), (path / COMMITS).open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def committed(path: Path) -> list[Chunk]:
    """Return the chunks that are done, in the order in which they ended.

    Raises:
        InputError: The commit log cannot be read.
    """
    chunks = []
    try:
        for line in (path / COMMITS).read_text().splitlines():
            # A process that was killed may have left half a line, which says nothing.
            with suppress(json.JSONDecodeError):
                chunks.append(Chunk.from_json(json.loads(line)["chunk"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the {COMMITS} of '{path}' must be readable; got {error!r}. Run it again.") from error
    return chunks


def finish(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary, which says that the run is whole.

    Raises:
        RunError: The disk is full or broken.
    """
    with _durable(path / SUMMARY):
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
        if summary is not None and summary["chains"] < job.chains:
            job = job.first(summary["chains"])
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"a run must have a {MANIFEST}; got '{path}', which has none. Check the path.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the {MANIFEST} of '{path}' must be readable; got {error!r}. Restore it from a copy."
        ) from error
    return job, manifest, summary


@contextmanager
def _durable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"'{file}' must be written for the run to go on; got: {error.strerror or error}. "
            "Make room on that disk or mend it, and run it again."
        ) from error


def _write(path: Path, text: str) -> None:
    """Write a file so that after a crash it is either whole or not there."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Wait until the disk knows what a folder holds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    """Return what TOML can say: no None, lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
