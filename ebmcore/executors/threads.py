"""Several workers in one process: torch and the noise kernels release the interpreter while they compute."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from queue import Empty, SimpleQueue
from typing import final

import torch

from ebmcore.engine import run_chunk
from ebmcore.errors import RunStopped
from ebmcore.protocols import Chunk, JobSpec, Receipt


@final
@dataclass(frozen=True)
class Threads:
    """Runs chunks in `workers` threads, each of which takes the next chunk when it is free."""

    workers: int | None = field(
        default=None, metadata={"ge": 1, "description": "number of threads; by default one a device of the run"}
    )

    def run(self, job: JobSpec, chunks: Sequence[Chunk], devices: Sequence[str], /) -> Generator[Receipt, None, None]:
        """Yield the receipts in the order in which chunks end.

        Raises:
            EbmcoreError: What `run_chunk` raised first; the other workers have ended by then.
        """
        waiting: SimpleQueue[Chunk] = SimpleQueue()
        ended: SimpleQueue[Receipt | BaseException] = SimpleQueue()
        for chunk in chunks:
            waiting.put(chunk)

        def work(device: str) -> None:
            # Two workers with two OpenMP threads each would spin against each other: ten times slower.
            torch.set_num_threads(1)
            try:
                while True:
                    ended.put(run_chunk(job, waiting.get_nowait(), device))
            except Empty:
                return
            except BaseException as error:  # handed to the caller's thread
                ended.put(error)

        labels = islice(cycle(devices), min(self.workers or len(devices), len(chunks)))
        workers = [threading.Thread(target=work, args=(label,), name=f"ebmcore-{label}") for label in labels]
        threads = torch.get_num_threads()
        for worker in workers:
            worker.start()
        try:
            for _ in chunks:
                outcome = ended.get()
                if isinstance(outcome, BaseException):
                    faults, receipts = _rest(outcome, workers, ended)
                    # Chunks that ended meanwhile count too.
                    yield from receipts
                    raise next((fault for fault in faults if not isinstance(fault, RunStopped)), outcome)
                yield outcome
        finally:
            with suppress(Empty):
                while True:
                    waiting.get_nowait()
            for worker in workers:
                worker.join()
            # A worker's setting is also the default of threads to come.
            torch.set_num_threads(threads)


def _rest(
    outcome: BaseException, workers: Sequence[threading.Thread], ended: SimpleQueue[Receipt | BaseException]
) -> tuple[list[BaseException], list[Receipt]]:
    """Wait for all workers; return their faults, the one that stopped the others among them, and what else they did."""
    for worker in workers:
        worker.join()
    faults, receipts = [outcome], []
    while not ended.empty():
        late = ended.get()
        if isinstance(late, BaseException):
            faults.append(late)
        else:
            receipts.append(late)
    return faults, receipts
