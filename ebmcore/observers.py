"""The events of a run, and the guarded dispatch of each to the observers that listen.

An observer is an object (an instance, or a module) with methods marked `ebmcore.hookimpl` and
named as a method of `Events`. It declares the arguments that it wants, any subset of the
event's, by name. It watches: nothing that it raises changes the run, and of what it returns
only the answer to `ebmcore_should_stop` does.

One that is slow costs the run its own time and no more: while observers are at work, or rest
after a long one, a chunk's progress is not told to them, and workers do not wait to tell it. At
the end of the run one that took more than a tenth of its time is named.
"""

from __future__ import annotations

import inspect
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, final

import pluggy

from ebmcore.errors import EbmcoreWarning, InputError

if TYPE_CHECKING:
    from ebmcore.protocols import Chunk, Receipt, RunInfo

hookspec = pluggy.HookspecMarker("ebmcore")
hookimpl = pluggy.HookimplMarker("ebmcore")

REST, BRIEF = 9.0, 0.01
"""Times as long as an observer took over a progress event it hears no other, so that it takes a tenth of a worker's
time; unless it took less than 0.01 s."""

SLOW_SHARE, SLOW_SECONDS = 0.1, 1.0
"""An observer that took more than this part of the run's time, and more than these seconds, is named at the end."""


class Events:
    """What an observer may implement; each is called with keyword arguments, one call at a time."""

    @hookspec
    def ebmcore_run_started(self, run: RunInfo) -> None:
        """The run's plan is settled and its first chunk is about to start."""

    @hookspec
    def ebmcore_progress(self, run: RunInfo, chunk: Chunk, step: int, stats: Mapping[str, float]) -> None:
        """A chunk has made `step` of the run's steps, warmup included; the engine says so a few times a second.

        Not every observer hears each of them: see above. `stats` holds the sampler's statistics at that step by name,
        each averaged over the chunk's chains.
        """

    @hookspec
    def ebmcore_chunk_done(self, run: RunInfo, chunk: Chunk, receipt: Receipt) -> None:
        """A chunk made its last step and its data is durable."""

    @hookspec(firstresult=True)
    def ebmcore_should_stop(self, run: RunInfo, summary: Mapping[str, Any]) -> str | None:
        """Return why the run should end with the chains [0, summary["chains"]), or None to go on.

        It is asked when all of them are done, at up to 100 numbers of chains that depend on the run alone: so the
        outcome does not depend on chunks, workers or the order in which they end. Chains behind that are done
        already are dropped, and what is kept is, to the byte, the run of so many chains. The answer must depend on
        `summary` alone. The first observer that gives a reason decides.

        `summary` holds `chains`; `mean` and `sd` [*shape], tensors over all their draws; and, for each reducer of
        the run under its name, a mapping of what it gives for these chains.
        """

    @hookspec
    def ebmcore_run_finished(self, run: RunInfo, result: Any) -> None:
        """The run is complete; `result` is the `ebmcore.Result` that the caller gets."""

    @hookspec
    def ebmcore_run_failed(self, run: RunInfo, error: BaseException) -> None:
        """The run ends without a result: `error` goes to the caller next; a KeyboardInterrupt is a stop by the user."""


_EVENTS = tuple(name for name in vars(Events) if name.startswith("ebmcore_"))


@dataclass(eq=False)
class _Guarded:
    """One observer behind a manager of its own, so that its failure reaches no other."""

    name: str
    manager: pluggy.PluginManager
    hears: frozenset[str]
    seconds: float = 0.0
    """What it took so far."""
    rests_until: float = 0.0


@final
class Observers:
    """Dispatches a run's events to its observers, in their order, one call at a time from whatever thread.

    An observer that raises is reported once, as an `EbmcoreWarning`, and left out from then on; one that took much
    of the run's time is reported at its end.

    Args:
        observers: Instances or modules.
        clock: Seconds, for how long they take.

    Raises:
        InputError: an object implements no event, names one that does not exist, or asks for an
            argument that its event does not have.
    """

    def __init__(self, observers: Sequence[object] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._guarded = [_guard(observer) for observer in observers]
        # An observer may itself cause an event, in the same thread.
        self._lock = threading.RLock()
        self._clock = clock
        self._began = clock()

    @property
    def may_stop(self) -> bool:
        """Is there one that answers `ebmcore_should_stop`?"""
        return any("ebmcore_should_stop" in guarded.hears for guarded in self._guarded)

    def ebmcore_run_started(self, *, run: RunInfo) -> None:
        """Send the event of this name."""
        self._began = self._clock()
        self._send("ebmcore_run_started", run=run)

    def ebmcore_progress(self, *, run: RunInfo, chunk: Chunk, step: int, stats: Mapping[str, float]) -> None:
        """Send the event of this name to those that do not rest, unless another event is being sent."""
        if self._lock.acquire(blocking=False):
            try:
                self._send("ebmcore_progress", run=run, chunk=chunk, step=step, stats=stats)
            finally:
                self._lock.release()

    def ebmcore_chunk_done(self, *, run: RunInfo, chunk: Chunk, receipt: Receipt) -> None:
        """Send the event of this name."""
        self._send("ebmcore_chunk_done", run=run, chunk=chunk, receipt=receipt)

    def ebmcore_should_stop(self, *, run: RunInfo, summary: Mapping[str, Any]) -> str | None:
        """Return the first reason that an observer gives."""
        return self._send("ebmcore_should_stop", run=run, summary=summary)

    def ebmcore_run_finished(self, *, run: RunInfo, result: Any) -> None:
        """Send the event of this name."""
        self._send("ebmcore_run_finished", run=run, result=result)
        self._name_slow()

    def ebmcore_run_failed(self, *, run: RunInfo, error: BaseException) -> None:
        """Send the event of this name."""
        self._send("ebmcore_run_failed", run=run, error=error)
        self._name_slow()

    def _send(self, event: str, **arguments: Any) -> str | None:
        with self._lock:
            for guarded in tuple(self._guarded):
                begin = self._clock()
                if event not in guarded.hears or (event == "ebmcore_progress" and begin < guarded.rests_until):
                    continue
                try:
                    answer = getattr(guarded.manager.hook, event)(**arguments)
                    if event == "ebmcore_should_stop" and answer is not None:
                        return _reason(answer)
                except Exception as error:
                    # Left out before the warning, which may itself raise where warnings are errors.
                    self._guarded = [other for other in self._guarded if other is not guarded]
                    warnings.warn(
                        f"observer {guarded.name} is left out from now on: {event} raised {_one_line(error)}",
                        EbmcoreWarning,
                        stacklevel=3,
                    )
                finally:
                    end = self._clock()
                    guarded.seconds += end - begin
                    if event == "ebmcore_progress" and end - begin > BRIEF:
                        guarded.rests_until = end + REST * (end - begin)
        return None

    def _name_slow(self) -> None:
        whole = self._clock() - self._began
        for guarded in self._guarded:
            if guarded.seconds > max(SLOW_SECONDS, SLOW_SHARE * whole):
                warnings.warn(
                    f"observer {guarded.name} took {guarded.seconds:.1f} s of the run's {whole:.1f} s, and the run "
                    "waits for it. Let it do less, or hear fewer events.",
                    EbmcoreWarning,
                    stacklevel=4,
                )


def _reason(answer: object) -> str:
    if not isinstance(answer, str) or not answer:
        raise TypeError(f"it must return a reason (str) or None; got {answer!r}")
    return answer


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
