"""Several workers, each a process of its own: one a GPU, or one a core for energies that hold Python's interpreter."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import final

from ebmcore.executors.crew import Crew
from ebmcore.portable import check_portable
from ebmcore.protocols import Chunk, JobSpec, Receipt


@final
@dataclass(frozen=True)
class Processes:
    """Runs chunks in `workers` processes, each of which takes the next chunk when it is free.

    They live as long as the run and get plain data alone: the energy, the sampler and all else are built anew in
    each. A worker that dies is replaced, and its chunk goes to another.
    """

    workers: int | None = field(
        default=None, metadata={"ge": 1, "description": "number of processes; by default one a device of the run"}
    )

    def check(self, job: JobSpec, /) -> None:
        """Refuse a job that holds objects of this process.

        Raises:
            InputError: It does; the message names them, and the executors that can.
        """
        check_portable(job, "processes")

    def run(self, job: JobSpec, chunks: Sequence[Chunk], devices: Sequence[str], /) -> Generator[Receipt, None, None]:
        """Yield the receipts in the order in which chunks end.

        Raises:
            InputError: As `check`; no worker was started.
            EbmcoreError: What `run_chunk` raised first in a worker; the others have ended by then.
            RunError: Three workers died of one chunk.
        """
        self.check(job)
        crew = Crew(job, chunks, list(islice(cycle(devices), min(self.workers or len(devices), len(chunks)))))
        try:
            yield from crew.receipts()
        finally:
            crew.close()
