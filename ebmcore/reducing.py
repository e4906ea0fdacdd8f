"""Reducers at work: accumulators of a chunk's groups in its worker, and their left fold in the host.

A group is `grain` chains by a fixed number of draws, and groups are merged in chain order: so
what a reducer gives does not depend on chunks, workers or the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

import torch
from torch import Tensor

from ebmcore.protocols import Block, Chunk, HasGroups, Layout, Reducer

Acc = Mapping[str, Tensor]


@final
class Groups:
    """One reducer's accumulators of the groups of one chunk."""

    def __init__(self, reducer: Reducer, layout: Layout, chunk: Chunk, draws: int) -> None:
        """Begin; `draws` is how many draws of a group the reducer is fed at a time."""
        self._reducer, self._grain, self._draws = reducer, layout.grain, draws
        self._whole = (chunk.hi - chunk.lo) // layout.grain if isinstance(reducer, HasGroups) else 0
        start = reducer.start(layout)
        self._stacked: Acc = {}
        if self._whole:
            self._stacked = {key: value.repeat(self._whole, *[1] * value.ndim) for key, value in start.items()}
        edge = chunk.lo + self._whole * layout.grain
        self._single: dict[int, Acc] = {lo: reducer.start(layout) for lo in range(edge, chunk.hi, layout.grain)}

    def update(self, block: Block) -> None:
        """Take in a block of the chunk."""
        for first in range(block.first, block.last, self._draws):
            last = min(first + self._draws, block.last)
            part = {key: value[:, first - block.first : last - block.first] for key, value in block.arrays.items()}
            self._update(Block(block.lo, block.hi, first, last, part))

    def stacked(self) -> dict[str, Tensor]:
        """Return the accumulators, stacked on axis 0 in chain order."""
        rest = list(self._single.values())
        if not rest:
            return dict(self._stacked)
        single = {key: torch.stack([acc[key] for acc in rest]) for key in rest[0]}
        return {key: torch.cat([self._stacked[key], value]) for key, value in single.items()} if self._whole else single

    def take_up(self, stacked: Acc) -> None:
        """Go on with the accumulators that another `stacked`.

        Raises:
            ValueError: There are not as many groups.
        """
        groups = self._whole + len(self._single)
        if any(len(value) != groups for value in stacked.values()):
            raise ValueError(f"{groups} groups")
        if self._whole:
            self._stacked = {key: value[: self._whole].clone() for key, value in stacked.items()}
        for row, lo in enumerate(self._single, self._whole):
            self._single[lo] = {key: value[row].clone() for key, value in stacked.items()}

    def _update(self, block: Block) -> None:
        edge = block.lo + self._whole * self._grain
        if isinstance(self._reducer, HasGroups) and self._whole:
            parts = {
                key: value[: edge - block.lo].reshape(self._whole, self._grain, *value.shape[1:])
                for key, value in block.arrays.items()
            }
            whole = Block(block.lo, edge, block.first, block.last, parts)
            self._stacked = self._reducer.update_groups(self._stacked, whole)
        for lo, acc in self._single.items():
            hi = min(lo + self._grain, block.hi)
            part = {key: value[lo - block.lo : hi - block.lo] for key, value in block.arrays.items()}
            self._single[lo] = self._reducer.update(acc, Block(lo, hi, block.first, block.last, part))


@final
class Reduction:
    """One reducer's left fold over the groups of a run, in chain order, whatever the order of arrival.

    Args:
        reducer: The reducer.
        layout: What the run stores.
        eager: Fold what is there at once; else when `fold` says how far.
    """

    def __init__(self, reducer: Reducer, layout: Layout, *, eager: bool = True) -> None:
        self._reducer, self._grain, self._eager = reducer, layout.grain, eager
        self._acc: Acc = reducer.start(layout)
        self._next = 0
        self._waiting: dict[int, tuple[int, Acc]] = {}

    @property
    def ready(self) -> int:
        """All chains before this one have been taken in."""
        end = self._next
        while end in self._waiting:
            end = self._waiting[end][0]
        return end

    def add(self, lo: int, hi: int, groups: Acc) -> None:
        """Take in the accumulators of the chains [lo, hi), those of its groups stacked on axis 0."""
        self._waiting[lo] = (hi, groups)
        if self._eager:
            self.fold(self.ready)

    def fold(self, end: int) -> None:
        """Fold the groups of the chains before `end`, a multiple of the grain or the end of a chunk."""
        while self._next < end:
            hi, groups = self._waiting.pop(self._next)
            if hi > end:
                edge = (end - self._next) // self._grain
                self._waiting[end] = (hi, {name: stacked[edge:] for name, stacked in groups.items()})
                hi, groups = end, {name: stacked[:edge] for name, stacked in groups.items()}
            self._next = hi
            if isinstance(self._reducer, HasGroups):
                self._acc = self._reducer.merge_groups(self._acc, groups)
            else:
                for acc in _unstack(groups):
                    self._acc = self._reducer.merge(self._acc, acc)

    def finish(self) -> dict[str, Tensor]:
        """Return the statistics of what was folded, by name; folding may go on."""
        return dict(self._reducer.finish(self._acc))


def _unstack(groups: Acc) -> Iterator[dict[str, Tensor]]:
    for rows in zip(*(stacked.unbind(0) for stacked in groups.values()), strict=True):
        yield dict(zip(groups, rows, strict=True))
