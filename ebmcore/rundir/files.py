"""Files that are whole or not there, and whose loss is said in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ebmcore.errors import RunError


@contextmanager
def durable(file: Path) -> Iterator[None]:
    """Say of an `OSError` raised inside that `file` could not be written.

    Raises:
        RunError: Instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"'{file}' must be written for the run to go on; got: {error.strerror or error}. "
            "Make room on that disk or mend it, and resume the run: what was committed stays."
        ) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that after a crash it is either whole or what it was."""
    # Two writers of one file, of which one is being killed, must not share what they write to.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk knows what a folder holds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
