"""Scalars of a run for TensorBoard, as it goes on.

The horizontal axis of all but `chunks/seconds` is the number of steps a chain, averaged over all chains of the run:
chunks advance apart from each other, and this number grows with every one of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import ebmcore as ebm
from ebmcore.errors import PluginError
from ebmcore.protocols import Chunk, Receipt, RunInfo
from ebmcore_observers.places import place

COORDINATES = 16
"""Of a longer position the moments of the first coordinates are written."""


@dataclass
class TensorBoard:
    """Writes the sampler's statistics and the run's progress as TensorBoard scalars.

    `stats/NAME`: each statistic of the sampler, averaged over the chains of the chunk that reports;
    `progress/share`: part of the run that is done; `progress/chains_per_second`; `chunks/seconds`: of each chunk, in
    the order in which they end; at the end `mean/I` and `sd/I` of the coordinates.

    Raises:
        PluginError: The package tensorboard is not installed.
    """

    folder: str | None = field(
        default=None,
        metadata={"description": "folder, relative to the run directory; tensorboard there if left out"},
    )

    _writer: Any = field(default=None, init=False, repr=False, compare=False)
    _began: float = field(default=0.0, init=False, repr=False, compare=False)
    _chunks: int = field(default=0, init=False, repr=False, compare=False)
    _done: int = field(default=0, init=False, repr=False, compare=False)
    _partial: dict[tuple[int, int, int], int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise PluginError(
                "observer 'tensorboard' must have the package tensorboard; it is not installed. "
                "Run: pip install 'ebmcore-observers[tensorboard]'."
            )

    @ebm.hookimpl
    def ebmcore_run_started(self, run: RunInfo) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(place(run, self.folder, "tensorboard", "folder")))
        self._began, self._chunks, self._done = time.monotonic(), 0, 0
        self._partial.clear()

    @ebm.hookimpl
    def ebmcore_progress(self, run: RunInfo, chunk: Chunk, step: int, stats: Mapping[str, float]) -> None:
        """Write the statistics and the progress."""
        self._partial[chunk.lo, chunk.hi, chunk.start] = (chunk.hi - chunk.lo) * (step - chunk.start)
        for name, value in stats.items():
            self._scalar(run, f"stats/{name}", value)
        self._progress(run)

    @ebm.hookimpl
    def ebmcore_chunk_done(self, run: RunInfo, chunk: Chunk, receipt: Receipt) -> None:
        """Write the chunk's seconds and the progress."""
        self._partial.pop((chunk.lo, chunk.hi, chunk.start), None)
        self._done += (chunk.hi - chunk.lo) * (chunk.stop - chunk.start)
        self._chunks += 1
        self._writer.add_scalar("chunks/seconds", receipt.seconds, self._chunks)
        self._progress(run)

    @ebm.hookimpl
    def ebmcore_run_finished(self, run: RunInfo, result: ebm.Result) -> None:
        """Write the moments and close the file."""
        summary = result.summary()
        for name in ("mean", "sd"):
            for index, value in enumerate(_flat(summary[name])[:COORDINATES]):
                self._scalar(run, f"{name}/{index}", value)
        self._writer.close()

    @ebm.hookimpl
    def ebmcore_run_failed(self) -> None:
        """Close the file."""
        self._writer.close()

    def _progress(self, run: RunInfo) -> None:
        share = self._work() / max(1, run.chains * run.steps)
        self._scalar(run, "progress/share", share)
        seconds = time.monotonic() - self._began
        if seconds > 0:
            self._scalar(run, "progress/chains_per_second", share * run.chains / seconds)

    def _scalar(self, run: RunInfo, tag: str, value: float) -> None:
        self._writer.add_scalar(tag, value, self._work() // max(1, run.chains))

    def _work(self) -> int:
        """Return the steps that all chains together have made."""
        return self._done + sum(self._partial.values())


def _flat(values: Any) -> list[float]:
    return [inner for value in values for inner in _flat(value)] if isinstance(values, list) else [values]
