"""An exception on its way from a worker's process to the host: its type, its message, and its traceback as text."""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Mapping
from typing import Any

from ebmcore import errors
from ebmcore.errors import EbmcoreError, InputError, RunError

_PLAIN = (str, int, float, bool, type(None))


class WorkerTraceback(Exception):
    """The cause of an exception that came from a worker: where it was raised there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def fault_to_json(error: BaseException) -> dict[str, Any]:
    """Return an exception as plain data."""
    own = next((kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__), None)
    kind = own or type(error)
    plain = own is None and all(isinstance(argument, _PLAIN) for argument in error.args)
    return {
        "type": kind.__name__,
        "module": kind.__module__,
        "args": list(error.args) if plain else [str(error)],
        "key": list(error.key) if isinstance(error, InputError) else [],
        "traceback": "".join(traceback.format_exception(error)),
    }


def fault_from_json(data: Mapping[str, Any]) -> Exception:
    """Return the exception: of its type if that is ebmcore's or Python's own, else a `RunError`."""
    error = _rebuilt(data)
    if isinstance(error, InputError):
        error.key = tuple(data["key"])
    error.__cause__ = WorkerTraceback(data["traceback"])
    return error


def _rebuilt(data: Mapping[str, Any]) -> Exception:
    homes = {errors.__name__: errors, "builtins": builtins}
    kind = getattr(homes.get(data["module"]), data["type"], None)
    if isinstance(kind, type) and issubclass(kind, EbmcoreError if data["module"] == errors.__name__ else Exception):
        try:
            made: Exception = kind(*data["args"])
            return made
        except TypeError:  # one that wants other arguments than it keeps
            pass
    said = " ".join(str(argument) for argument in data["args"])
    return RunError(
        f"a worker must finish its chunk; got {data['type']}: {said}. Mend what raised it (--debug shows where), "
        "and resume the run: what was committed stays."
    )
