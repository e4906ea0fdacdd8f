"""How a run is cut: chains into chunks, chunks onto workers. Pure functions of plain numbers.

A cut never changes a sample of an elementwise energy, because chunks begin at multiples of
`ALIGN` chains: torch's vector body and scalar tail round differently, so the ragged tail must
be the same chains in every plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ebmcore.errors import InputError
from ebmcore.protocols import Chunk

ALIGN = 64
"""Chains a chunk begins at multiples of."""

CPU_BYTES = 2**18
"""Position bytes of an automatic chunk on a CPU: with gradient and noise beside it, it stays in a core's cache."""

DEVICE_BYTES = 2**28
"""Position bytes of an automatic chunk on an accelerator."""

LEAST_BYTES = 2**14
"""Position bytes below which an automatic chunk is not cut for another worker: on two cores two threads of a 2-D MLP
lose to one below 1,000 chains a thread, and gain above."""

BLOCK_BYTES = 2**25
"""Draws that a chunk holds before it writes them."""

GROUP_BYTES = 2**14
"""Draws of `grain` chains that a reducer is fed at a time; fixed, so that reduced values do not depend on the cut."""


@dataclass(frozen=True)
class Plan:
    """The cut of one run, as recorded in its manifest."""

    chains: int
    steps: int
    grain: int
    chunk_size: int
    workers: int
    devices: tuple[str, ...]
    chunks: tuple[Chunk, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest records: the rule's results, from which the chunks follow."""
        return {
            "chains": self.chains,
            "steps": self.steps,
            "grain": self.grain,
            "chunk_size": self.chunk_size,
            "workers": self.workers,
            "devices": list(self.devices),
            "chunks": len(self.chunks),
        }


def grain_of(ensemble_sizes: Iterable[int], aligns: Iterable[int]) -> int:
    """Return the least common multiple of `ALIGN`, ensemble sizes and writers' alignments, in chains."""
    return math.lcm(ALIGN, *ensemble_sizes, *aligns)


def make_plan(
    *,
    chains: int,
    steps: int,
    grain: int,
    workers: int,
    devices: tuple[str, ...],
    chunk_size: int | None,
    position_bytes: int,
) -> Plan:
    """Cut `chains` into chunks of one size, the last one ragged.

    Args:
        chains: Number of chains of the run.
        steps: Transitions a chain, warmups included.
        grain: Chains that chunk bounds are multiples of.
        workers: Chunks in flight at once.
        devices: One label a worker.
        chunk_size: Chains a chunk, rounded up to the grain; None for chains / workers, in equal parts that fit a byte
            budget.
        position_bytes: Bytes of one position.

    Raises:
        InputError: `chunk_size` is not positive.
    """
    if chunk_size is None:
        budget = CPU_BYTES if all(device.startswith("cpu") for device in devices) else DEVICE_BYTES
        share = max(-(-chains // workers), LEAST_BYTES // max(1, position_bytes))
        # In equal parts: with whole budgets and a rest, workers would wait for the one that has a chunk more.
        turns = -(-share // max(1, budget // max(1, position_bytes)))
        chunk_size = -(-share // turns)
    elif chunk_size < 1:
        raise InputError(f"`chunk_size` must be >= 1 or 'auto'; got {chunk_size}. Leave it at 'auto'.")
    size = grain * -(-chunk_size // grain)
    chunks = tuple(Chunk(lo, min(lo + size, chains), 0, steps) for lo in range(0, chains, size))
    return Plan(chains, steps, grain, size, min(workers, len(chunks)), devices, chunks)


def missing(chunks: Iterable[Chunk], done: Iterable[Chunk], begun: Iterable[Chunk] = ()) -> tuple[Chunk, ...]:
    """Return what is left of a plan, in chain order.

    Args:
        chunks: The plan's.
        done: Chunks that have run; they need not be the plan's, and do not overlap.
        begun: Chunks to be run as they are, where nothing of them is done.
    """
    left = [*begun]
    gaps = iter(sorted((chunk.lo, chunk.hi) for chunk in (*done, *left)))
    gap = next(gaps, None)
    for chunk in chunks:
        lo = chunk.lo
        while gap is not None and gap[0] < chunk.hi:
            if lo < gap[0]:
                left.append(replace(chunk, lo=lo, hi=gap[0]))
            lo = max(lo, gap[1])
            if gap[1] > chunk.hi:
                break
            gap = next(gaps, None)
        if lo < chunk.hi:
            left.append(replace(chunk, lo=lo))
    return tuple(sorted(left, key=lambda chunk: chunk.lo))


def group_draws(grain: int, draw_bytes: int, draws: int) -> int:
    """Return the draws of a group that reducers are fed: fixed by the run, not by its cut.

    Args:
        grain: Chains of a group.
        draw_bytes: Bytes of one chain's draw.
        draws: Draws of the stage.
    """
    return max(1, min(draws, GROUP_BYTES // max(1, grain * draw_bytes)))


def block_draws(chunk_chains: int, draw_bytes: int, draws: int, group: int) -> int:
    """Return how many draws a chunk holds before it writes them: a multiple of `group`, or all of them.

    Args:
        chunk_chains: Chains of the chunk.
        draw_bytes: Bytes of one chain's draw.
        draws: Draws of the stage.
        group: Draws that reducers are fed at a time.
    """
    fit = BLOCK_BYTES // max(1, chunk_chains * draw_bytes)
    return min(draws, group * max(1, fit // group))
