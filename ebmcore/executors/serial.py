"""One chunk after the other, in the calling thread."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from ebmcore.engine import run_chunk
from ebmcore.protocols import Chunk, JobSpec, Receipt


@final
@dataclass(frozen=True)
class Serial:
    """Runs every chunk in the caller's thread, on the first device."""

    workers: ClassVar[int] = 1

    def run(self, job: JobSpec, chunks: Sequence[Chunk], devices: Sequence[str], /) -> Generator[Receipt, None, None]:
        """Yield the receipts in chain order.

        Raises:
            EbmcoreError: What `run_chunk` raises.
        """
        threads = torch.get_num_threads()
        for chunk in chunks:
            torch.set_num_threads(1)
            try:
                receipt = run_chunk(job, chunk, devices[0])
            finally:
                torch.set_num_threads(threads)
            yield receipt
