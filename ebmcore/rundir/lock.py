"""One process at a time in a run directory: a lock of the operating system's, which dies with its process."""

from __future__ import annotations

import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ebmcore.errors import EbmcoreWarning, InputError

LOCK = "lock"

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


@contextmanager
def locked(folder: Path, *, name: Path | None = None) -> Iterator[None]:
    """Hold a run directory for this process; the file in it says who does, and means nothing by itself.

    Args:
        folder: The directory; it may be moved meanwhile.
        name: What messages call it.

    Raises:
        InputError: Another process has it, or it cannot be written.

    Warns:
        EbmcoreWarning: Its file system has no locks.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except OSError as error:
        raise InputError(
            f"the run directory '{name or folder}' must be one that can be written; got: {error.strerror}. "
            "Mend that, or choose another place."
        ) from error
    try:
        _take(descriptor, name or folder)
        with suppress(OSError):  # a full disk: the file's content is for messages alone
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, name: Path) -> None:
    # A system without it has no writer of files either.
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
        raise InputError(
            f"a run directory must have one process at a time; got '{name}', which process {holder or 'unknown'} is "
            "at. Wait for its end, or stop it."
        ) from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        warnings.warn(
            f"'{name}' should lie where files can be locked; its file system cannot ({error.strerror}). "
            "See to it that no second process runs there.",
            EbmcoreWarning,
            stacklevel=4,
        )
