"""Where an observer writes."""

from __future__ import annotations

from pathlib import Path

from ebmcore.errors import InputError
from ebmcore.protocols import RunInfo


def place(run: RunInfo, given: str | None, default: str, setting: str) -> Path:
    """Return a file or folder of a run: what was given, relative to the run directory, else `default` in it.

    Args:
        run: The run.
        given: The observer's setting; for a run in memory a relative one is relative to the current folder.
        default: A name.
        setting: What a message calls it.

    Raises:
        InputError: The run is in memory, and nothing was given.
    """
    if run.path is None and given is None:
        raise InputError(f"`{setting}` must be set for a run in memory; got nothing. Say where to write.")
    return (run.path or Path()) / (given or default)
