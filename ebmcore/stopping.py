"""How a run is stopped from outside: once, so that the chunks in flight are kept; twice, at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ebmcore.errors import RunStopped

SAID = b"stopping at the next step; Ctrl-C again does not wait for it\n"

StopHandler = Callable[[int, FrameType | None], object]


@contextmanager
def stoppable(
    stop: threading.Event, *, kept: bool, again: StopHandler | None = None, say: bool = False
) -> Iterator[None]:
    """Let Ctrl-C, and a scheduler's SIGTERM, end a run after the steps in flight; then raise KeyboardInterrupt.

    A second Ctrl-C goes where it would without a run: by default KeyboardInterrupt at once. Only in the main thread,
    which is the one that Python gives signals to.

    Args:
        stop: Set at the first signal; workers look at it after every step.
        kept: Whether there is a directory where chunks in flight are kept: only then SIGTERM is held back, and only
            where it would have ended the process.
        again: What a second Ctrl-C does.
        say: Whether to say on standard error what the first one did.

    Raises:
        KeyboardInterrupt: It was stopped by a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signal.SIGINT: signal.getsignal(signal.SIGINT), signal.SIGTERM: signal.getsignal(signal.SIGTERM)}
    if not kept or before[signal.SIGTERM] is not signal.SIG_DFL:
        del before[signal.SIGTERM]
    if before[signal.SIGINT] is None:  # one that Python did not set, and cannot put back
        del before[signal.SIGINT]
    heard: list[int] = []

    def once(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        for other, handler in before.items():
            signal.signal(other, again if again is not None and other == signal.SIGINT else handler)
        stop.set()
        if say:
            # Not through Python's own buffer, where the signal may have come in the middle.
            os.write(2, SAID)

    for number in before:
        signal.signal(number, once)
    try:
        yield
    except RunStopped as error:
        if heard:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        raise KeyboardInterrupt
