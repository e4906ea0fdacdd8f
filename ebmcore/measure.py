"""What a run would cost, measured before it: some steps of one chunk on one worker, without the writers.

The price of a step of n chains is taken as `step` + n * `chain` seconds, from the times of two
sizes; each is the difference of two runs of different lengths, so that what a chunk costs once
does not count.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch

from ebmcore.devices import torch_device
from ebmcore.energy import Precision, frozen
from ebmcore.engine import run_chunk
from ebmcore.plan import block_draws, group_draws
from ebmcore.prepare import Prepared
from ebmcore.protocols import Chunk, Stage
from ebmcore.recorder import draw_bytes
from ebmcore.runtime import close_runtime, open_runtime

SHORT = 0.05
"""Seconds that the shorter of two timed runs takes, at least."""

LONGER = 4
"""How many times as long the other one is."""

EVERY = 16
"""Draws that are further apart than so many steps are left out of the measurement: they cost little."""


@final
@dataclass(frozen=True)
class Cost:
    """What a stage costs on one worker.

    Attributes:
        step: Seconds of a step, however many chains it takes; all of them where only one size could be timed.
        chain: Seconds more for each chain of the step.
        memory: Bytes that the process grew by for a whole chunk, or None where that cannot be seen.
    """

    step: float
    chain: float
    memory: int | None

    def seconds(self, chains: int, steps: int) -> float:
        """Return the seconds that `steps` steps of `chains` chains take."""
        return steps * (self.step + chains * self.chain)


def measure(prepared: Prepared, index: int) -> Cost:
    """Time a stage of a run on its first worker; nothing is written.

    Chains begin where the run's begin, at a later stage too.

    Args:
        prepared: The run.
        index: Which of its stages.

    Raises:
        NonFiniteError: A chain left the finite numbers.
    """
    job, plan = prepared.job, prepared.plan
    size = min(plan.chunk_size, job.chains)
    small = job.grain * max(1, size // (8 * job.grain))
    other = small if small < size else min(8 * job.grain, job.chains)
    threads = torch.get_num_threads()
    # As in a worker.
    torch.set_num_threads(1)
    try:
        with frozen(prepared.runtime.parts.model):
            probe = _Probe(prepared, index)
            # The first steps of all pay for what torch loads and compiles.
            probe.seconds(other, probe.unit)
            memory = _growth(lambda: probe.seconds(size, probe.unit), plan.devices[0])
            whole = probe.step_seconds(size)
            chain = (whole - probe.step_seconds(other)) / (size - other) if other != size else 0.0
    finally:
        torch.set_num_threads(threads)
    chain = min(max(0.0, chain), whole / size)
    return Cost(whole - chain * size, chain, memory)


def memory_needed(prepared: Prepared, index: int) -> int:
    """Return the bytes that a worker holds in a stage, apart from what the energy and the sampler use meanwhile.

    These are the state and the copy of it that is kept for the health check, a gradient, and a block of draws.

    Args:
        prepared: The run.
        index: Which of its stages.
    """
    job, layout = prepared.job, prepared.job.layouts[index]
    chains = min(prepared.plan.chunk_size, job.chains)
    width = torch.empty(0, dtype=Precision.named(job.precision).state).element_size()
    position = width * torch.Size(job.shape).numel()
    block = 0
    if layout is not None:
        draw = draw_bytes(layout)
        block = draw * block_draws(chains, draw, layout.draws, group_draws(layout.grain, draw, layout.draws))
    return chains * (2 * prepared.state_bytes[index] + position + block)


@final
class _Probe:
    """Runs a stage shortened to some steps, without writers."""

    def __init__(self, prepared: Prepared, index: int) -> None:
        self._prepared, self._index = prepared, index
        stage = prepared.job.stages[index]
        apart = stage.steps // stage.draws if stage.draws else 0
        self._apart = apart if 0 < apart <= EVERY else 0
        self.unit = self._apart or 1
        """Steps from draw to draw; 1 if none is kept here."""

    def step_seconds(self, chains: int) -> float:
        """Return the seconds of one step of `chains` chains."""
        steps = self.unit
        while (short := self.seconds(chains, steps)) < SHORT:
            steps *= 2
        longer = steps * LONGER if short < SHORT * LONGER else steps + self.unit
        return max(0.0, self.seconds(chains, longer) - short) / (longer - steps)

    def seconds(self, chains: int, steps: int) -> float:
        """Return the seconds of a chunk of `chains` chains and `steps` steps."""
        job, runtime, index = self._prepared.job, self._prepared.runtime, self._index
        stage = Stage(job.stages[index].sampler, steps, steps // self._apart if self._apart else 0)
        layout = job.layouts[index] if stage.draws else None
        short = replace(
            job,
            id=secrets.token_hex(8),
            path=None,
            stages=(stage,),
            writers=(),
            layouts=(None if layout is None else replace(layout, draws=stage.draws),),
        )
        parts = replace(
            runtime.parts,
            samplers=(runtime.parts.samplers[index],),
            writers={},
            reducers=runtime.parts.reducers if index == len(job.stages) - 1 else {},
        )
        open_runtime(replace(runtime, job=short, parts=parts, stop=threading.Event()))
        try:
            return run_chunk(short, Chunk(0, chains, 0, steps), self._prepared.plan.devices[0]).seconds
        finally:
            close_runtime(short)


def _growth(call: Callable[[], object], label: str) -> int | None:
    """Return the bytes by which the most memory in use during a call is above that before it; None if nobody counts."""
    device = torch_device(label)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return int(torch.cuda.max_memory_allocated(device) - before)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
        before = _resident("VmRSS")
    except (OSError, ValueError):
        call()
        return None
    call()
    return max(0, _resident("VmHWM") - before)


def _resident(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(name)
