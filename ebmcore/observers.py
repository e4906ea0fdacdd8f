"""The events of a run, and the guarded dispatch of each to the observers that listen.

An observer is an object (an instance, or a module) with methods marked `ebmcore.hookimpl` and
named as a method of `Events`. It declares the arguments that it wants, any subset of the
event's, by name. It watches: nothing that it returns or raises changes the run.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, final

import pluggy

from ebmcore.errors import EbmcoreWarning, InputError

if TYPE_CHECKING:
    from ebmcore.protocols import Chunk, Receipt, RunInfo

hookspec = pluggy.HookspecMarker("ebmcore")
hookimpl = pluggy.HookimplMarker("ebmcore")


class Events:
    """What an observer may implement; each is called with keyword arguments, one call at a time."""

    @hookspec
    def ebmcore_run_started(self, run: RunInfo) -> None:
        """The run's plan is settled and its first chunk is about to start."""

    @hookspec
    def ebmcore_progress(self, run: RunInfo, chunk: Chunk, step: int, stats: Mapping[str, float]) -> None:
        """A chunk has made `step` of the run's steps, warmup included; the engine says so a few times a second.

        `stats` holds the sampler's statistics at that step by name, each averaged over the chunk's chains.
        """

    @hookspec
    def ebmcore_chunk_done(self, run: RunInfo, chunk: Chunk, receipt: Receipt) -> None:
        """A chunk made its last step and its data is durable."""

    @hookspec
    def ebmcore_run_finished(self, run: RunInfo, result: Any) -> None:
        """The run is complete; `result` is the `ebmcore.Result` that the caller gets."""

    @hookspec
    def ebmcore_run_failed(self, run: RunInfo, error: BaseException) -> None:
        """The run ends without a result: `error` goes to the caller next; a KeyboardInterrupt is a stop by the user."""


_EVENTS = tuple(name for name in vars(Events) if name.startswith("ebmcore_"))


class _Guarded(NamedTuple):
    """One observer behind a manager of its own, so that its failure reaches no other."""

    name: str
    manager: pluggy.PluginManager
    hears: frozenset[str]


@final
class Observers:
    """Dispatches a run's events to its observers, in their order, one call at a time from whatever thread.

    An observer that raises is reported once, as an `EbmcoreWarning`, and left out from then on.

    Raises:
        InputError: an object implements no event, names one that does not exist, or asks for an
            argument that its event does not have.
    """

    def __init__(self, observers: Sequence[object] = ()) -> None:
        self._guarded = [_guard(observer) for observer in observers]
        # An observer may itself cause an event, in the same thread.
        self._lock = threading.RLock()

    def ebmcore_run_started(self, *, run: RunInfo) -> None:
        """Send the event of this name."""
        self._send("ebmcore_run_started", run=run)

    def ebmcore_progress(self, *, run: RunInfo, chunk: Chunk, step: int, stats: Mapping[str, float]) -> None:
        """Send the event of this name."""
        self._send("ebmcore_progress", run=run, chunk=chunk, step=step, stats=stats)

    def ebmcore_chunk_done(self, *, run: RunInfo, chunk: Chunk, receipt: Receipt) -> None:
        """Send the event of this name."""
        self._send("ebmcore_chunk_done", run=run, chunk=chunk, receipt=receipt)

    def ebmcore_run_finished(self, *, run: RunInfo, result: Any) -> None:
        """Send the event of this name."""
        self._send("ebmcore_run_finished", run=run, result=result)

    def ebmcore_run_failed(self, *, run: RunInfo, error: BaseException) -> None:
        """Send the event of this name."""
        self._send("ebmcore_run_failed", run=run, error=error)

    def _send(self, event: str, **arguments: Any) -> None:
        with self._lock:
            for guarded in tuple(self._guarded):
                if event not in guarded.hears:
                    continue
                try:
                    getattr(guarded.manager.hook, event)(**arguments)
                except Exception as error:
                    # Left out before the warning, which may itself raise where warnings are errors.
                    self._guarded = [other for other in self._guarded if other is not guarded]
                    warnings.warn(
                        f"observer {guarded.name} is left out from now on: {event} raised {_one_line(error)}",
                        EbmcoreWarning,
                        stacklevel=3,
                    )


def _guard(observer: object) -> _Guarded:
    if inspect.isclass(observer):
        name = f"{observer.__module__}.{observer.__qualname__}"
        raise InputError(f"an observer must be an instance; got the class {name}. Pass {observer.__qualname__}(...).")
    name = _name(observer)
    manager = pluggy.PluginManager("ebmcore")
    manager.add_hookspecs(Events)
    try:
        manager.register(observer)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise InputError(_refusal(name, error, manager)) from error
    except Exception as error:
        raise InputError(f"observer {name} could not be registered: {_one_line(error)}.") from error
    hears = frozenset(event for event in _EVENTS if getattr(manager.hook, event).get_hookimpls())
    if not hears:
        raise InputError(
            f"an observer must implement an event; got {name}, which has none."
            f" Mark a method with ebmcore.hookimpl and name it one of: {', '.join(_EVENTS)}."
        )
    return _Guarded(name, manager, hears)


def _name(observer: object) -> str:
    if inspect.ismodule(observer):
        return observer.__name__
    return f"{type(observer).__module__}.{type(observer).__qualname__}"


def _refusal(name: str, error: pluggy.PluginValidationError, manager: pluggy.PluginManager) -> str:
    """Say which method asks for what its event lacks, or which event does not exist; else what pluggy says."""
    for caller in vars(manager.hook).values():
        if not caller.has_spec():
            near = get_close_matches(caller.name, _EVENTS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Events: {', '.join(_EVENTS)}."
            return f"observer {name} has no event named {caller.name} to implement. {hint}"
    for event in _EVENTS:
        known = list(inspect.signature(getattr(Events, event)).parameters)[1:]
        method = getattr(error.plugin, event, None)
        asked = inspect.signature(method).parameters if method else ()
        extra = [argument for argument in asked if argument not in known]
        if extra:
            return (
                f"observer {name}: {event} must take arguments among {', '.join(known)}; got {', '.join(extra)}."
                " Remove or rename it."
            )
    return f"observer {name} could not be registered: {_one_line(error)}."


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
