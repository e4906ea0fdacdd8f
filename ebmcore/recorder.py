"""What a chunk keeps of a stage: draws, statistics and state fields, folded, blocked, reduced and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from ebmcore.errors import SamplerError
from ebmcore.folding import Folder, folds
from ebmcore.health import FROZEN, finite_rows, is_finite
from ebmcore.plan import block_draws, group_draws
from ebmcore.protocols import Block, Chunk, Layout, Sampler, Stage, WrittenBlock
from ebmcore.reducing import Groups
from ebmcore.runtime import Runtime
from ebmcore.stored import sha256


@final
class Recorder:
    """Holds at most one block of draws of a chunk, and gives it to the writers and reducers when it is full.

    Attributes:
        written: The blocks that the writers have, in order.
    """

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
        self._mended = 0
        self._buffers: dict[str, Tensor] = {}
        self._folded: tuple[int, dict[str, Tensor]] = (0, {})
        self.written: list[WrittenBlock] = []
        last = index == len(runtime.job.stages) - 1
        self._groups = {
            name: Groups(reducer, layout, chunk, self._group)
            for name, reducer in (runtime.parts.reducers if last else {}).items()
        }

    def add(
        self, step: int, state: tuple[Any, ...], info: tuple[Any, ...] | None, frozen: Tensor | None = None
    ) -> bool:
        """Take in one step after warmup; return whether a block is now full and waits for `flush`.

        Args:
            step: The step of the stage.
            state: The state after it.
            info: Its statistics.
            frozen: The chains that are held, [n] bool, where any may be.
        """
        if info is not None:
            if self._folder is None:
                self._folder = Folder(folds(self._sampler, info))
                steps, acc = self._folded
                self._folder.take_up(steps, {name: value.to(info[0].device) for name, value in acc.items()})
            self._folder.add(info)
        if (step + 1) % self._thin:
            return False
        self._keep("draws", state[0], self._filled)
        if self._folder is not None:
            for name, value in self._folder.take().items():
                self._keep(f"stats.{name}", value, self._filled)
        for name in self._layout.arrays:
            if name.startswith("state."):
                self._keep(name, getattr(state, name.removeprefix("state.")), self._filled)
        if frozen is not None:
            self._keep(FROZEN, frozen, self._filled)
        self._filled += 1
        return self._filled == self._size or self._first + self._filled == self._layout.draws

    def due(self, step: int) -> int:
        """Return the first step from `step` on whose state is kept."""
        first = max(0, step)
        return first + -(first + 1) % self._thin

    def mend(self, good: tuple[Any, ...]) -> None:
        """Put the chains that are not finite in a draw since the last call where `good` has them, and mark them."""
        draws = self._buffers.get("draws")
        first, self._mended = self._mended, self._filled
        if draws is None or not draws.is_floating_point():
            return
        for draw in range(first, self._filled):
            if is_finite(draws[:, draw]):
                continue
            rows = ~finite_rows(draws[:, draw])
            draws[rows, draw] = good[0].cpu()[rows]
            self._buffers[FROZEN][rows, draw] = True
            for name, buffer in self._buffers.items():
                if name.startswith("state."):
                    buffer[rows, draw] = getattr(good, name.removeprefix("state.")).cpu()[rows]

    def flush(self) -> None:
        """Give the block to reducers and writers; durable on return."""
        arrays = {name: buffer[:, : self._filled].contiguous() for name, buffer in self._buffers.items()}
        block = Block(self._chunk.lo, self._chunk.hi, self._first, self._first + self._filled, arrays)
        for groups in self._groups.values():
            groups.update(block)
        self._runtime.write(self._index, block)
        if self._runtime.job.path is not None:
            digests = {name: sha256(array.numpy()) for name, array in arrays.items()}
            self.written.append(WrittenBlock(self._index, block.first, block.last, digests))
        self._first, self._filled, self._mended = block.last, 0, 0

    def reduced(self) -> dict[str, dict[str, Tensor]]:
        """Return each reducer's accumulators, those of the chunk's groups stacked on axis 0 in chain order."""
        return {name: groups.stacked() for name, groups in self._groups.items()}

    def held(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        """Return what a checkpoint needs, by numbers and by tensors: draws not yet written, folds, accumulators."""
        steps, acc = self._folded if self._folder is None else self._folder.held()
        tensors = {f"buffer/{name}": buffer[:, : self._filled] for name, buffer in self._buffers.items()}
        tensors |= {f"folded/{name}": value for name, value in acc.items()}
        for reducer, stacked in self.reduced().items():
            tensors |= {f"reduced/{reducer}/{key}": value for key, value in stacked.items()}
        return {"first": self._first, "filled": self._filled, "folded": steps}, tensors

    def take_up(
        self, numbers: Mapping[str, int], tensors: Mapping[str, Tensor], written: Sequence[WrittenBlock]
    ) -> None:
        """Go on with what another `held` and had written.

        Raises:
            ValueError, KeyError, RuntimeError: It was another chunk's, or another run's.
        """
        self._first, self._filled = numbers["first"], numbers["filled"]
        if (written[-1].last if written else 0) != self._first:
            raise ValueError("draws are missing")
        self.written = list(written)
        buffers = _named(tensors, "buffer/")
        if self._filled and buffers.keys() != self._layout.arrays.keys():
            raise ValueError("arrays are missing")
        for name, rows in buffers.items():
            for draw in range(self._filled):
                self._keep(name, rows[:, draw], draw)
        self._folded = (numbers["folded"], _named(tensors, "folded/"))
        for reducer, groups in self._groups.items():
            groups.take_up(_named(tensors, f"reduced/{reducer}/"))

    def _keep(self, name: str, rows: Tensor, at: int) -> None:
        if name not in self._buffers:
            spec = self._layout.arrays[name]
            shape = (self._chunk.hi - self._chunk.lo, self._size, *spec.shape[2:])
            self._buffers[name] = torch.empty(shape, dtype=getattr(torch, spec.dtype))
        room = self._buffers[name][:, at]
        if rows.shape != room.shape:
            raise SamplerError(
                f"{type(self._sampler).__name__}.step must keep the shape of `{name}` at every step, "
                f"{list(room.shape)}; got {list(rows.shape)}. Give one row a chain."
            )
        room.copy_(rows)


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def draw_bytes(layout: Layout) -> int:
    """Return the bytes of one chain's draw, with its statistics and state fields."""
    total = 0
    for spec in layout.arrays.values():
        size = torch.empty(0, dtype=getattr(torch, spec.dtype)).element_size()
        for extent in spec.shape[2:]:
            size *= extent
        total += size
    return total
