"""What a chunk keeps of a stage: draws, statistics and state fields, folded, blocked, reduced and written."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from ebmcore.errors import SamplerError
from ebmcore.folding import Folder, folds
from ebmcore.plan import block_draws, group_draws
from ebmcore.protocols import Block, Chunk, Layout, Sampler, Stage
from ebmcore.reducing import Groups
from ebmcore.runtime import Runtime


@final
class Recorder:
    """Holds at most one block of draws of a chunk, and gives it to the writers and reducers when it is full."""

    def __init__(self, runtime: Runtime, index: int, chunk: Chunk) -> None:
        layout = runtime.job.layouts[index]
        assert layout is not None
        self._runtime, self._index, self._chunk, self._layout = runtime, index, chunk, layout
        self._stage: Stage = runtime.job.stages[index]
        self._sampler: Sampler[Any] = runtime.parts.samplers[index]
        self._thin = self._stage.steps // self._stage.draws
        self._folder: Folder | None = None
        size = draw_bytes(layout)
        self._group = group_draws(layout.grain, size, layout.draws)
        self._size = block_draws(chunk.hi - chunk.lo, size, layout.draws, self._group)
        self._first = 0
        self._filled = 0
        self._buffers: dict[str, Tensor] = {}
        last = index == len(runtime.job.stages) - 1
        self._groups = {
            name: Groups(reducer, layout, chunk, self._group)
            for name, reducer in (runtime.parts.reducers if last else {}).items()
        }

    def add(self, step: int, state: tuple[Any, ...], info: tuple[Any, ...] | None) -> bool:
        """Take in one step after warmup; return whether a block is now full and waits for `flush`."""
        if info is not None:
            if self._folder is None:
                self._folder = Folder(folds(self._sampler, info))
            self._folder.add(info)
        if (step + 1) % self._thin:
            return False
        self._keep("draws", state[0])
        if self._folder is not None:
            for name, value in self._folder.take().items():
                self._keep(f"stats.{name}", value)
        for name in self._layout.arrays:
            if name.startswith("state."):
                self._keep(name, getattr(state, name.removeprefix("state.")))
        self._filled += 1
        return self._filled == self._size or self._first + self._filled == self._layout.draws

    def flush(self) -> None:
        """Give the block to reducers and writers; durable on return."""
        arrays = {name: buffer[:, : self._filled].contiguous() for name, buffer in self._buffers.items()}
        block = Block(self._chunk.lo, self._chunk.hi, self._first, self._first + self._filled, arrays)
        for groups in self._groups.values():
            groups.update(block)
        self._runtime.write(self._index, block)
        self._first, self._filled = block.last, 0

    def reduced(self) -> dict[str, dict[str, Tensor]]:
        """Return each reducer's accumulators, those of the chunk's groups stacked on axis 0 in chain order."""
        return {name: groups.stacked() for name, groups in self._groups.items()}

    def _keep(self, name: str, rows: Tensor) -> None:
        if name not in self._buffers:
            spec = self._layout.arrays[name]
            shape = (self._chunk.hi - self._chunk.lo, self._size, *spec.shape[2:])
            self._buffers[name] = torch.empty(shape, dtype=getattr(torch, spec.dtype))
        room = self._buffers[name][:, self._filled]
        if rows.shape != room.shape:
            raise SamplerError(
                f"{type(self._sampler).__name__}.step must keep the shape of `{name}` at every step, "
                f"{list(room.shape)}; got {list(rows.shape)}. Give one row a chain."
            )
        room.copy_(rows)


def draw_bytes(layout: Layout) -> int:
    """Return the bytes of one chain's draw, with its statistics and state fields."""
    total = 0
    for spec in layout.arrays.values():
        size = torch.empty(0, dtype=getattr(torch, spec.dtype)).element_size()
        for extent in spec.shape[2:]:
            size *= extent
        total += size
    return total
