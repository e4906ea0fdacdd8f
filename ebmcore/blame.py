"""Who failed: an exception that a plugin raises in a run -> one line that names the plugin and the place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

from ebmcore.errors import EbmcoreError, RunError
from ebmcore.registry.requirements import HOST

Records = Sequence[Mapping[str, Any]]


@contextmanager
def blamed(records: Records) -> Iterator[None]:
    """Turn what a plugin raises inside into a `RunError` that names it.

    What ebmcore raises on purpose passes, and so does what comes from objects of the caller's own: who wrote them
    wants their exception as it is.

    Args:
        records: The plugins of the run, as its manifest has them.

    Raises:
        RunError: A plugin of `records` raised something else.
    """
    try:
        yield
    except EbmcoreError:
        raise
    except Exception as error:
        found = _culprit(error, records)
        if found is None:
            raise
        record, frame, line = found
        home = " ".join(filter(None, (record.get("distribution"), record.get("version"))))
        label = f"{record['kind']} '{record['name']}'{f' ({home})' if home else ''}"
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":. ")[:300]
        raise RunError(
            f"{label} failed in the run: {reason} ({Path(frame.f_code.co_filename).name}, line {line}). "
            "Mend it or use another; --debug shows the traceback."
        ) from error


def _culprit(error: Exception, records: Records) -> tuple[Mapping[str, Any], FrameType, int] | None:
    """Return the innermost plugin that was running, and where: a sampler calls an energy, which may call another."""
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__"))
        if any("name" not in record and f"{record['of']}.".startswith(f"{module}.") for record in records):
            return None  # an object of the caller's
        # Another module of its package may do a plugin's work.
        for suits in (_is_module, _is_package):
            for record in records:
                if "name" in record and suits(module, frame.f_code.co_filename, str(record["value"])):
                    return record, frame, line
    return None


def _is_module(module: str, file: str, value: str) -> bool:
    place = value.rpartition(":")[0]
    if place.endswith(".py"):
        return Path(place).name == Path(file).name
    return module == place.strip() and not _is_host(module)


def _is_package(module: str, file: str, value: str) -> bool:
    package = module.partition(".")[0]
    return package == value.partition(":")[0].partition(".")[0].strip() and not _is_host(module)


def _is_host(module: str) -> bool:
    """What comes with the host is on the way of everybody's errors."""
    return module.partition(".")[0] == HOST
