"""A run directory as a whole: where one may be, how it is made, read and ended."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w

from ebmcore.errors import InputError, RunError
from ebmcore.protocols import JobSpec
from ebmcore.rundir.commits import COMMITS
from ebmcore.rundir.files import durable, sync_folder, write_whole

RUN, MANIFEST, SUMMARY = "run.toml", "manifest.json", "summary.json"


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
        write_whole(making / RUN, tomli_w.dumps(_plain(settings)))
        (making / COMMITS).touch()
        write_whole(making / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        if path.exists():
            shutil.rmtree(path)
        making.replace(path)
        sync_folder(path.parent)
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


def finish(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary, which says that the run is whole.

    Raises:
        RunError: The disk is full or broken.
    """
    with durable(path / SUMMARY):
        write_whole(path / SUMMARY, json.dumps(summary, indent=2) + "\n")


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


def _plain(value: Any) -> Any:
    """Return what TOML can say: no None, lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
