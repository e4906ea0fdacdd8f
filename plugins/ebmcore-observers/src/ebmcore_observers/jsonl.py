"""An event log: a line of JSON for each event of a run, readable while the run goes on.

A line has `event` (the event's name without `ebmcore_`), `time` (ISO 8601, UTC), `run` (the run's
id), and what the event brings. Lines are added to a file that is there already: a run that is
resumed goes on in the same log. A number that is not finite is null, as JSON has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import ebmcore as ebm
from ebmcore.protocols import Chunk, Receipt, RunInfo
from ebmcore_observers.places import place


@dataclass
class Jsonl:
    """Writes the events of a run to a file, one JSON object a line.

    `run_started` has the run's size, devices and seed; `progress`, a few times a second, the chunk, its step and the
    sampler's statistics there, averaged over its chains; `chunk_done` the chunk, its device and its seconds;
    `run_finished` the run's summary; `run_failed` the error.
    """

    path: str | None = field(
        default=None,
        metadata={"description": "file, relative to the run directory; events.jsonl there if left out"},
    )

    @ebm.hookimpl
    def ebmcore_run_started(self, run: RunInfo) -> None:
        """Write what is run."""
        self._write(
            run,
            "run_started",
            path=None if run.path is None else str(run.path),
            chains=run.chains,
            draws=run.draws,
            steps=run.steps,
            chunks=run.chunks,
            devices=list(run.devices),
            seed=run.seed,
        )

    @ebm.hookimpl
    def ebmcore_progress(self, run: RunInfo, chunk: Chunk, step: int, stats: Mapping[str, float]) -> None:
        """Write how far a chunk is."""
        self._write(run, "progress", chunk=chunk.to_json(), step=step, stats=stats)

    @ebm.hookimpl
    def ebmcore_chunk_done(self, run: RunInfo, chunk: Chunk, receipt: Receipt) -> None:
        """Write that a chunk is done."""
        self._write(run, "chunk_done", chunk=chunk.to_json(), device=receipt.device, seconds=round(receipt.seconds, 6))

    @ebm.hookimpl
    def ebmcore_run_finished(self, run: RunInfo, result: ebm.Result) -> None:
        """Write the summary."""
        self._write(run, "run_finished", summary=result.summary())

    @ebm.hookimpl
    def ebmcore_run_failed(self, run: RunInfo, error: BaseException) -> None:
        """Write why the run ends."""
        self._write(run, "run_failed", error=" ".join(f"{type(error).__name__}: {error}".split()))

    def _write(self, run: RunInfo, event: str, **more: Any) -> None:
        file = place(run, self.path, "events.jsonl", "path")
        file.parent.mkdir(parents=True, exist_ok=True)
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps(_finite({"event": event, "time": time, "run": run.id, **more}), allow_nan=False)
        # Opened for each line: none is lost when the process is killed, and a file may be rotated away.
        with file.open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
