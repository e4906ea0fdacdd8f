"""The progress of a run on standard error: a bar on a terminal, plain lines in a log; itself an observer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO, final

from ebmcore.observers import hookimpl

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from ebmcore.protocols import Chunk, Receipt, RunInfo

LINE_EVERY = 5.0
"""Seconds that two plain lines are apart, at least."""

LINE_AT_LEAST_EVERY = 60.0
"""Seconds after which a line is due even if a tenth of the run has not passed since the last."""


@final
class Progress:
    """Shows how much of a run is done, in chains a second and time left; it counts the steps inside long chunks.

    On a terminal it is one bar. Elsewhere it is a line for each tenth of the run or each minute,
    never two within 5 seconds, and one at the end.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Show progress on `stream` (standard error), as timed by `clock`, in seconds."""
        stream = sys.stderr if stream is None else stream
        self._display = _Terminal(stream) if stream.isatty() else _Log(stream, clock)
        self._clock = clock
        self._began = 0.0
        self._complete = 0
        self._partial: dict[tuple[int, int, int], int] = {}

    @hookimpl
    def ebmcore_run_started(self, run: RunInfo) -> None:
        """Begin to count."""
        self._began = self._clock()
        self._complete = run.done * run.steps
        self._partial.clear()
        self._display.start(run)

    @hookimpl
    def ebmcore_progress(self, run: RunInfo, chunk: Chunk, step: int) -> None:
        """Count the steps that a chunk in flight has made."""
        self._partial[chunk.lo, chunk.hi, chunk.start] = (chunk.hi - chunk.lo) * (step - chunk.start)
        self._show(run)

    @hookimpl
    def ebmcore_chunk_done(self, run: RunInfo, chunk: Chunk, receipt: Receipt) -> None:
        """Count a whole chunk."""
        self._partial.pop((chunk.lo, chunk.hi, chunk.start), None)
        self._complete += (chunk.hi - chunk.lo) * (chunk.stop - chunk.start)
        self._show(run)

    @hookimpl
    def ebmcore_run_finished(self, run: RunInfo) -> None:
        """Show the last state and leave the terminal."""
        self._display.stop(run, self._chains(run), self._clock() - self._began)

    @hookimpl
    def ebmcore_run_failed(self, run: RunInfo) -> None:
        """Show how far the run came and leave the terminal to the error."""
        self._display.stop(run, self._chains(run), self._clock() - self._began)

    def _show(self, run: RunInfo) -> None:
        self._display.update(run, self._chains(run), self._clock() - self._began)

    def _chains(self, run: RunInfo) -> float:
        """Return the work done, in chains: a chain half way counts as one half."""
        return (self._complete + sum(self._partial.values())) / max(1, run.steps)


@final
class _Terminal:
    """One rich bar, redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Bar | None = None
        self._task: Any = None

    def start(self, run: RunInfo) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]} chains/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(file=self._stream),
            # More redraws take time from the workers, which share the interpreter with this thread.
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("", total=run.chains, rate="-")
        self._bar.start()

    def update(self, run: RunInfo, chains: float, seconds: float) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=chains, rate=_rate(chains - run.done, seconds))

    def stop(self, run: RunInfo, chains: float, seconds: float) -> None:
        self.update(run, chains, seconds)
        if self._bar is not None:
            self._bar.stop()
        self._bar = None


@final
class _Log:
    """Plain lines, few enough to read."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream, self._clock = stream, clock
        self._last_time, self._last_chains = 0.0, 0.0

    def start(self, run: RunInfo) -> None:
        self._last_time, self._last_chains = self._clock(), float(run.done)
        workers = "1 worker" if len(run.devices) == 1 else f"{len(run.devices)} workers"
        chunks = "1 chunk" if run.chunks == 1 else f"{run.chunks:,} chunks"
        gone_on = f"; {run.done:,} of the chains were done before" if run.done else ""
        self._print(
            f"started: {run.chains:,} chains x {run.steps:,} steps, {chunks}, {workers}, seed {run.seed}{gone_on}"
        )

    def update(self, run: RunInfo, chains: float, seconds: float) -> None:
        waited = self._clock() - self._last_time
        if waited < LINE_EVERY:
            return
        if chains - self._last_chains < run.chains / 10 and waited < LINE_AT_LEAST_EVERY:
            return
        self._last_time, self._last_chains = self._clock(), chains
        made = chains - run.done
        left = f", {duration(seconds * (run.chains - chains) / made)} left" if made > 0 else ""
        self._print(f"{self._share(run, chains)}, {_rate(made, seconds)} chains/s{left}")

    def stop(self, run: RunInfo, chains: float, seconds: float) -> None:
        self._print(
            f"{self._share(run, chains)}, {_rate(chains - run.done, seconds)} chains/s, {duration(seconds)} in all"
        )

    def _share(self, run: RunInfo, chains: float) -> str:
        return f"{int(100 * chains / max(1, run.chains)):3d} % of {run.chains:,} chains"

    def _print(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


def _rate(chains: float, seconds: float) -> str:
    rate = chains / seconds if seconds > 0 else 0.0
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
