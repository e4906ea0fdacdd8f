"""A job in one process: its parts, built from plain tables or handed over live, and its open sinks.

`run_chunk(job, chunk, device)` gets plain data alone; what a process has for a job is found
here by the job's id. The process that made the job opens its runtime with its live objects;
any other builds one from the tables.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from ebmcore.devices import torch_device
from ebmcore.energy import BoundEnergy, Precision, place
from ebmcore.gradients import Fast, with_source
from ebmcore.parts import Parts, build_parts
from ebmcore.protocols import Block, Chunk, JobSpec, Sink, Writer
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
        fast: A gradient backend's value and gradient, for the labels of devices where it has been built.
    """

    job: JobSpec
    parts: Parts
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Callable[[Chunk, int, Mapping[str, float]], None] | None = None
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
        """Give a block of a stage to every writer; durable on return."""
        for name, writer in self.parts.writers.items():
            if writer.parallel:
                self._sink(name, writer, stage, threading.get_ident()).write(block)
            else:
                with self._feeding:
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
            _open[job.id] = Runtime(job, build_parts(job, {}, default()))
        return _open[job.id]


def close_runtime(job: JobSpec) -> None:
    """Close and forget a job's runtime."""
    with _opening:
        runtime = _open.pop(job.id, None)
    if runtime is not None:
        runtime.close()
