"""A job in one process: its parts, built from plain tables or handed over live, and its open sinks.

`run_chunk(job, chunk, device)` gets plain data alone; what a process has for a job is found
here by the job's id. The process that made the job opens its runtime with its live objects;
any other builds one from the tables. What that other process draws for a writer that only the
first may feed goes to files on the way (`spooling`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor, nn

from ebmcore import spooling
from ebmcore.devices import torch_device
from ebmcore.energy import BoundEnergy, Precision, place
from ebmcore.errors import EbmcoreError, RunError
from ebmcore.gradients import Fast, with_source
from ebmcore.parts import Parts, build_parts
from ebmcore.protocols import Block, Chunk, JobSpec, Receipt, Sink, Writer
from ebmcore.registry import default
from ebmcore.stored import data_folder


@final
@dataclass
class Runtime:
    """One process's side of a job.

    Attributes:
        job: The job.
        parts: Its objects.
        stop: Set to make chunks in flight end at their next step.
        progress: Called from workers as progress(chunk, step, statistics).
        spools: Whether this is a worker's process, which may not feed writers that are not parallel.
        fitting: Chains that fitted in the memory of a device, for labels of devices where a chunk did not.
        fast: A gradient backend's value and gradient, for the labels of devices where it has been built.
    """

    job: JobSpec
    parts: Parts
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[Chunk, int, Mapping[str, float]], None] | None = None
    spools: bool = False
    fitting: dict[str, int] = field(default_factory=dict)
    fast: Mapping[str, Fast] = field(default_factory=dict)
    _energies: dict[str, BoundEnergy] = field(default_factory=dict)
    _sinks: dict[tuple[str, int, int], Sink] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _feeding: threading.Lock = field(default_factory=threading.Lock)

    def energy(self, device: str) -> BoundEnergy:
        """Return the energy of all chains on a device; a label with a number gets a model of its own."""
        with self._lock:
            if device not in self._energies:
                actual = torch_device(device)
                dtype, compute = Precision.named(self.job.precision)
                own = device.startswith("cpu:")
                energy = BoundEnergy(
                    place(self.parts.model, actual, compute, own=own),
                    shape=self.job.shape,
                    dtype=dtype,
                    compute=compute,
                    device=actual,
                    temperature=self.job.temperature,
                    condition={name: _settled(value, compute) for name, value in self.parts.condition.items()},
                    shared={name: _settled(value, compute).to(actual) for name, value in self.parts.shared.items()},
                )
                self._energies[device] = (
                    energy.with_gradient(self.fast[device])
                    if device in self.fast
                    else with_source(energy, self.job.gradient, default())
                )
            return self._energies[device]

    def write(self, stage: int, block: Block) -> None:
        """Give a block of a stage to every writer, or to a file for the host; durable on return.

        Raises:
            RunError: A writer cannot take it, or the disk is full or broken.
        """
        for name, writer in self.parts.writers.items():
            if writer.parallel:
                with _taken(name):
                    self._sink(name, writer, stage, threading.get_ident()).write(block)
        if not self.spools:
            self._feed(stage, block)
        elif self._waits:
            spooling.save(self.job, stage, block)

    def spooled(self, chunk: Chunk) -> tuple[str, ...]:
        """Return the files of a chunk's blocks for the host, an earlier worker's of the same chunk among them."""
        return spooling.files_of(self.job, chunk) if self._waits else ()

    def feed(self, receipt: Receipt) -> Receipt:
        """Give what was spooled to the writers that are not parallel; return the receipt without it.

        Raises:
            RunError: A writer cannot take it, or the disk is full or broken.
        """
        for file in receipt.spooled:
            self._feed(*spooling.load(self.job, file))
            spooling.remove(self.job, file)
        return replace(receipt, spooled=())

    @property
    def _waits(self) -> bool:
        return not all(writer.parallel for writer in self.parts.writers.values())

    def _feed(self, stage: int, block: Block) -> None:
        for name, writer in self.parts.writers.items():
            if not writer.parallel:
                with self._feeding, _taken(name):
                    self._sink(name, writer, stage, 0).write(block)

    def close(self) -> None:
        """Close every sink."""
        with self._lock:
            for sink in self._sinks.values():
                sink.close()
            self._sinks.clear()

    def _sink(self, name: str, writer: Writer, stage: int, worker: int) -> Sink:
        with self._lock:
            key = (name, stage, worker)
            if key not in self._sinks:
                layout = self.job.layouts[stage]
                assert layout is not None
                self._sinks[key] = writer.open(data_folder(self.job, name, stage), layout)
            return self._sinks[key]


@contextmanager
def _taken(name: str) -> Iterator[None]:
    """Say of what a writer raises, other than on purpose, that the run ends because of it."""
    try:
        yield
    except (EbmcoreError, MemoryError):
        raise
    except OSError as error:
        raise RunError(
            f"writer '{name}' must take every block of draws; got: {error.strerror or error}. "
            "Make room on that disk or mend it, and resume the run: what was committed stays."
        ) from error
    except Exception as error:
        raise RunError(
            f"writer '{name}' must take every block of draws; got {type(error).__name__}: {error}. "
            "Mend the writer or use another, and resume the run: what was committed stays."
        ) from error


def _settled(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a condition in the energy's precision; integers (labels) stay what they are."""
    return value.to(dtype) if value.is_floating_point() else value


_open: dict[str, Runtime] = {}
_opening = threading.Lock()


def open_runtime(runtime: Runtime) -> None:
    """Make a runtime this process's one for its job."""
    with _opening:
        _open[runtime.job.id] = runtime


def runtime_of(job: JobSpec) -> Runtime:
    """Return this process's runtime of a job, built from plain data if the process did not make the job."""
    with _opening:
        if job.id not in _open:
            _open[job.id] = built_runtime(job)
        return _open[job.id]


def built_runtime(job: JobSpec) -> Runtime:
    """Return a worker's runtime of a job, built from plain data.

    Raises:
        InputError: Something that the job names cannot be had in this process.
    """
    parts = build_parts(job, {}, default())
    if isinstance(parts.model, nn.Module):
        # Nobody trains this copy, and without its weights a gradient takes a tenth less.
        parts.model.requires_grad_(False)
    return Runtime(job, parts, spools=True)


def close_runtime(job: JobSpec) -> None:
    """Close and forget a job's runtime."""
    with _opening:
        runtime = _open.pop(job.id, None)
    if runtime is not None:
        runtime.close()
