"""Worker processes at one job: chunks go to whoever is free, and a worker that dies is replaced."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from typing import final

from ebmcore.errors import RunError, RunStopped
from ebmcore.executors.child import Child
from ebmcore.executors.faults import fault_from_json
from ebmcore.protocols import Chunk, JobSpec, Receipt
from ebmcore.runtime import runtime_of

DEATHS = 3
"""Workers that one chunk may cost before it stops the run."""

LOOK_EVERY = 0.1
"""Seconds between two looks whether the run is to stop, or a worker is gone."""

GRACE = 30.0
"""Seconds that a worker may take to end before it is killed."""


@final
class Crew:
    """The workers of one run.

    Args:
        job: The run.
        chunks: What is to be run.
        devices: One label a worker.
    """

    def __init__(self, job: JobSpec, chunks: Sequence[Chunk], devices: Sequence[str]) -> None:
        self._job, self._devices = job, devices
        self._runtime = runtime_of(job)
        self._waiting = deque(chunks)
        self._deaths: Counter[Chunk] = Counter()
        self._children: list[Child] = []
        self._faults: list[Exception] = []
        self._halted = False

    def receipts(self) -> Iterator[Receipt]:
        """Run all chunks; yield each receipt when it comes, also those that come after a fault elsewhere.

        Raises:
            EbmcoreError: What a worker raised first; the others have stopped by then.
            RunError: One chunk has cost several workers their life.
            RunStopped: The run was stopped.
        """
        for device in self._devices:
            self._hire(device)
        while any(child.chunk is not None for child in self._children):
            if self._runtime.stop.is_set():
                self._halt()
            wait([child.connection for child in self._children], timeout=LOOK_EVERY)
            for child in [child for child in self._children if child.has_spoken()]:
                receipt = self._hear(child)
                if receipt is not None:
                    yield receipt
        if self._faults:
            raise next((fault for fault in self._faults if not isinstance(fault, RunStopped)), self._faults[0])
        if self._waiting:
            raise RunStopped("the run was stopped before its end; got a request to stop. Start it again when ready.")

    def close(self) -> None:
        """Stop the workers and wait for them."""
        try:
            for child in self._children:
                child.stop()
                child.end()
            last = time.monotonic() + GRACE
            speaking = list(self._children)
            while time.monotonic() < last and not all(child.has_ended() for child in self._children):
                # Heard out: one whose pipe is full could not end.
                for child in [child for child in speaking if child.has_spoken()]:
                    if child.receive() is None:
                        speaking.remove(child)
                if speaking:
                    wait([child.connection for child in speaking], timeout=LOOK_EVERY)
                else:
                    time.sleep(LOOK_EVERY / 10)
        finally:
            for child in self._children:
                child.kill()
                child.close()
            self._children.clear()

    def _hire(self, device: str) -> None:
        child = Child(self._job, device)
        self._children.append(child)
        self._assign(child)

    def _assign(self, child: Child) -> None:
        child.chunk = None
        if self._waiting and not self._halted:
            child.assign(self._waiting.popleft())

    def _halt(self) -> None:
        if not self._halted:
            self._halted = True
            for child in self._children:
                child.stop()

    def _hear(self, child: Child) -> Receipt | None:
        """Take in one message of a worker, or its death."""
        message = child.receive()
        if message is None:
            self._bury(child)
        elif "progress" in message:
            chunk, step, stats = message["progress"]
            if self._runtime.progress is not None:
                self._runtime.progress(Chunk.from_json(chunk), step, stats)
        elif "fault" in message:
            self._faults.append(fault_from_json(message["fault"]))
            child.chunk = None
            self._halt()
        else:
            # Busy again before the host takes its time with what is done.
            self._assign(child)
            return Receipt.from_json(message["receipt"])
        return None

    def _bury(self, child: Child) -> None:
        """Put another worker in the place of one that died; its chunk is the next to be run."""
        death, chunk = child.death(), child.chunk
        self._children.remove(child)
        child.close()
        if chunk is not None:
            self._deaths[chunk] += 1
            self._waiting.appendleft(chunk)
            if self._deaths[chunk] == DEATHS:
                self._faults.append(_deadly(chunk, death))
                self._halt()
        if self._waiting and not self._halted:
            self._hire(child.device)


def _deadly(chunk: Chunk, death: str) -> RunError:
    likely = (
        "The system has probably run out of memory: take a smaller chunk_size or fewer workers, and resume"
        if death == "SIGKILL"
        else "Find out why with executor 'serial', in one process, and resume"
    )
    return RunError(
        f"the chunk of chains [{chunk.lo}, {chunk.hi}) must be run by a worker; got {DEATHS} workers that died of it, "
        f"the last by {death}. {likely}: what was committed stays."
    )
