"""A run directory as a whole: where one may be, how it is made, read and ended."""

from __future__ import annotations

import glob
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w

from ebmcore.errors import InputError, RunError
from ebmcore.protocols import JobSpec
from ebmcore.rundir.commits import COMMITS
from ebmcore.rundir.files import durable, sync_folder, write_whole
from ebmcore.rundir.lock import LOCK, locked
from ebmcore.rundir.names import check_names

RUN, MANIFEST, SUMMARY = "run.toml", "manifest.json", "summary.json"
CHECKPOINTS = "checkpoints"


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where a new run cannot go; change nothing.

    Args:
        path: The run directory to be.
        overwrite: Whether an older run there may be replaced.

    Raises:
        InputError: It is, or lies under, a file; or it holds something that may not be replaced.
    """
    if is_free(path) or overwrite:
        return
    raise InputError(
        f"`out` must not exist yet; got '{path}', which holds a run. Choose another, overwrite it (--overwrite), "
        "or go on with it (--resume)."
    )


def is_free(path: Path) -> bool:
    """Say whether there is no run at a place where one may be.

    Raises:
        InputError: It is, or lies under, a file; or it holds what is no run.
    """
    try:
        for parent in [path, *path.parents]:
            if parent.exists() and not parent.is_dir():
                raise InputError(
                    f"`out` must be a folder; got '{path}', where '{parent}' is a file. Choose another place."
                )
        if not path.exists() or not any(path.iterdir()):
            return True
    except OSError as error:
        raise InputError(f"`out` must be readable; got '{path}' ({error.strerror}). Choose another place.") from error
    if not (path / MANIFEST).is_file():
        raise InputError(
            f"`out` must be new or empty, or an older run; got '{path}', which holds other files. Choose another."
        )
    return False


@contextmanager
def made(path: Path, settings: Mapping[str, Any], manifest: Mapping[str, Any], held: ExitStack) -> Iterator[Path]:
    """Make the directory of a new run, in place of an older one, with what is known before its first step.

    It is made beside `path` and takes its place at the end: where anything fails before, writers too, an older run
    is still there, and nothing else is.

    Args:
        path: Where; `check_free` has accepted it.
        settings: The resolved run file.
        manifest: Plan, seed, plugins and versions; JSON values.
        held: Keeps the directory locked until it is closed.

    Yields:
        The folder that is to become `path`, for the writers to prepare.

    Raises:
        InputError: The folder cannot be made, or a writer refuses it (a full disk); or another process runs there.
    """
    path = path.resolve()
    making = _beside(path)
    parents = [parent for parent in path.parents if not parent.exists()]
    try:
        (making / "data").mkdir(parents=True)
        (making / CHECKPOINTS).mkdir()
        held.enter_context(locked(making, name=path))
        yield making
        write_whole(making / RUN, tomli_w.dumps(_plain(settings)))
        write_whole(making / COMMITS, b"")
        write_whole(making / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        _replace(path, making)
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
    _sweep(path)


def renew(path: Path, settings: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Say that a run goes on as `manifest` has it: it is not whole any more.

    Raises:
        RunError: The disk is full or broken.
    """
    with durable(path / MANIFEST):
        (path / SUMMARY).unlink(missing_ok=True)
        sync_folder(path)
        for left in [*path.glob("*.part"), *path.glob(f"{CHECKPOINTS}/*.part")]:
            left.unlink()
        (path / CHECKPOINTS).mkdir(exist_ok=True)
        write_whole(path / RUN, tomli_w.dumps(_plain(settings)))
        write_whole(path / MANIFEST, json.dumps(manifest, indent=2) + "\n")


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
        InputError: There is no run, or its manifest cannot be read, or names what lies outside of the directory.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        job = JobSpec.from_json({**manifest["job"], "path": str(path)})
        check_names(job)
        summary = json.loads((path / SUMMARY).read_text()) if (path / SUMMARY).exists() else None
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"a run must have a {MANIFEST}; got '{path}', which has none. Check the path.") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"the {MANIFEST} of '{path}' must be readable; got {error!r}. Restore it from a copy."
        ) from error
    return job, manifest, summary


def summary_of(path: Path) -> dict[str, Any] | None:
    """Return the summary of a run that is whole, else None."""
    try:
        return read(path)[2]
    except InputError:
        return None


def check_links(path: Path) -> None:
    """Refuse a run directory whose files lie elsewhere: what is written to them would change another's.

    Raises:
        InputError: It holds a symbolic link.
    """
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(folder, name)):
                raise InputError(
                    f"a run directory must hold no symbolic links to be written to; got '{Path(folder, name)}'. "
                    "Put in its place what it leads to."
                )


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _replace(path: Path, making: Path) -> None:
    with ExitStack() as stack:
        if (path / LOCK).exists():
            stack.enter_context(locked(path))
        # Not removed in its place: a process that is killed meanwhile would leave what is no run.
        older = _beside(path)
        if path.exists():
            path.rename(older)
        try:
            making.replace(path)
            sync_folder(path.parent)
        except BaseException:
            if older.exists() and not path.exists():
                older.rename(path)
            raise


def _sweep(path: Path) -> None:
    """Remove what processes left that were killed while they made this run, and older runs that it replaced."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if re.fullmatch(r"[0-9a-f]{8}", left.name.rpartition(".")[2]) and (left / LOCK).is_file():
            with suppress(InputError, OSError), locked(left):
                shutil.rmtree(left)


def _plain(value: Any) -> Any:
    """Return what TOML can say: no None, lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
