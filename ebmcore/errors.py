"""The one tree of exceptions: everything ebmcore raises on purpose is an `EbmcoreError`.

A message is one line: `subject must rule; got value. fix.` A user's mistake (`InputError`
and below) makes the command line exit with 2, a run that fails (`RunError`) with 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class EbmcoreError(Exception):
    """Root of every exception that ebmcore raises on purpose."""


class InputError(EbmcoreError, ValueError):
    """What the caller asked for cannot be done as asked; nothing was started or written."""

    key: tuple[str | int, ...] = ()
    """What it is about, as a run file of stages has it: ("model",), ("stage", 0, "sampler"); () if not known."""


class ConfigError(InputError):
    """A run file, or a value set beside it, is wrong."""


class SettingsError(InputError):
    """A plugin's settings break its types or bounds."""


class PluginError(InputError):
    """A plugin that was asked for cannot be had: unknown, blocked, incompatible, in conflict or broken."""


class EnergyError(InputError):
    """An energy breaks its contract: wrong shape, no gradient, chains that influence each other."""


class SamplerError(InputError):
    """A sampler breaks its contract: wrong state, wrong shape, wrong dtype."""


class RunError(EbmcoreError, RuntimeError):
    """A run that had started could not finish; what was committed stays."""


class NonFiniteError(RunError):
    """A chain left the finite numbers; the message names the chain and the step."""


class RunStopped(RunError):
    """A run was stopped before its end, by its user; what was committed stays."""


class EbmcoreWarning(UserWarning):
    """Something that a user should know and that does not stop a run."""


@contextmanager
def about(*key: str | int) -> Iterator[None]:
    """Say of an `InputError` raised inside what it is about, unless it knows already."""
    try:
        yield
    except InputError as error:
        error.key = error.key or key
        raise
