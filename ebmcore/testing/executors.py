"""What every executor must do: each chunk once, the same bits, a fault passed on, and nothing left behind."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import ebmcore as ebm
from ebmcore.errors import EbmcoreError
from ebmcore.executors.serial import Serial
from ebmcore.protocols import Chunk, JobSpec, Receipt
from ebmcore.testing.conformance import name_of, require
from ebmcore.testing.own import by_files

CHAINS = 9 * 64 + 7

ENERGY = {"use": "ebmcore.testing.targets:Gaussian", "shape": [3]}
SAMPLER = {"use": "ebmcore.testing.own:Step", "step_size": 0.1}
WRITER = {"use": "ebmcore.testing.own:Tray", "name": "tray"}
"""By reference: an executor in other processes can rebuild them."""


@dataclass(frozen=True)
class _Seen:
    """An executor that notes what passes through the one that is checked."""

    inner: Any
    chunks: list[Chunk] = field(default_factory=list, init=False)
    receipts: list[Receipt] = field(default_factory=list, init=False)

    def run(self, job: JobSpec, chunks: Sequence[Chunk], devices: Sequence[str]) -> Generator[Receipt, None, None]:
        self.chunks.extend(chunks)
        for receipt in self.inner.run(job, chunks, devices):
            self.receipts.append(receipt)
            yield receipt


def _run(executor: Any, seed: int, *, size: int = 64, devices: Any = ("cpu",), energy: Any = None) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        result = ebm.sample(
            ENERGY if energy is None else energy,
            SAMPLER,
            chains=CHAINS,
            steps=6,
            draws=3,
            seed=seed,
            executor=executor,
            chunk_size=size,
            devices=list(devices),
            noise="reference",
            writers=[WRITER],
            out=f"{folder}/run",
            progress=False,
        )
        return by_files(result)


def check_same_bits(executor: Any, seed: int) -> None:
    """A run gives the bits of the host's serial executor, whatever the chunks and devices."""
    expected = _run(Serial(), seed, size=CHAINS)
    for size, devices in ((64, ("cpu",)), (CHAINS, ("cpu",)), (128, ("cpu:0", "cpu:1"))):
        found = _run(executor, seed, size=size, devices=devices)
        wrong = [name for name, value in expected.items() if not torch.equal(value, found[name])]
        require(
            not wrong,
            f"{name_of(executor)} must give the bits of `serial`, with chunks of {size} chains on {', '.join(devices)}",
            f"another {wrong[0]}" if wrong else "",
            "Call ebmcore.run_chunk(job, chunk, device) with the chunk as it is",
        )


def check_each_chunk_once(executor: Any, seed: int) -> None:
    """`run` yields one receipt a chunk, that of the chunk, in any order."""
    seen = _Seen(executor)
    _run(seen, seed)
    done = [receipt.chunk for receipt in seen.receipts]
    require(
        all(isinstance(receipt, Receipt) for receipt in seen.receipts)
        and sorted(done, key=lambda chunk: chunk.lo) == seen.chunks,
        f"{name_of(executor)}.run must yield the receipt of each chunk once",
        f"{len(done)} receipts of {len(set(done))} different chunks, for {len(seen.chunks)}",
        "Yield what run_chunk returns, for every chunk of the list",
    )


def check_passes_faults_on(executor: Any, seed: int) -> None:
    """What a chunk raises reaches the caller as one of ebmcore's errors, and no worker is left behind."""
    before = threading.active_count()
    raised: BaseException | None = None
    try:
        _run(executor, seed, energy={"use": "ebmcore.testing.executors:Cliff"})
    except Exception as error:
        raised = error
    require(
        isinstance(raised, EbmcoreError),
        f"{name_of(executor)} must pass on what run_chunk raises",
        "no error" if raised is None else f"{type(raised).__name__}: {raised}",
        "Catch it in the worker and raise it where the receipts are yielded",
    )
    _no_threads(executor, before)


def check_stops_when_closed(executor: Any, seed: int) -> None:
    """Closing the generator stops the workers and waits for them."""
    before, setting = threading.active_count(), torch.get_num_threads()

    class _Closes:
        def run(self, job: JobSpec, chunks: Sequence[Chunk], devices: Sequence[str]) -> Generator[Receipt, None, None]:
            receipts = executor.run(job, chunks, devices)
            next(receipts)
            receipts.close()
            raise ebm.RunStopped("the check closed the run.")
            yield

    stopper = dataclass(frozen=True)(_Closes)()
    with suppress(ebm.RunStopped):
        _run(stopper, seed)
    _no_threads(executor, before)
    require(
        torch.get_num_threads() == setting,
        f"{name_of(executor)} must leave torch's number of threads as it was",
        torch.get_num_threads(),
        "Restore it in a finally",
    )


def _no_threads(executor: Any, before: int) -> None:
    require(
        threading.active_count() <= before,
        f"{name_of(executor)} must have ended its workers when `run` is left",
        f"{threading.active_count() - before} more threads",
        "Join them in a finally around the yield",
    )


@dataclass(frozen=True)
class Cliff:
    """An energy that is fine for the few chains of a first look, and raises for a whole chunk."""

    shape: tuple[int, ...] = (2,)

    def __call__(self, x: Tensor) -> Tensor:
        return self.value_and_gradient(x)[0]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, *shape]; NaN for many chains."""
        factor = 1.0 if len(x) < 32 else float("nan")
        return factor * 0.5 * x.square().sum(1), factor * x


CHECKS = (check_same_bits, check_each_chunk_once, check_passes_faults_on, check_stops_when_closed)
