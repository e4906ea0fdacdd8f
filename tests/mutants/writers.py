"""Wrong writers: memory-mapped arrays with one fault each."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from tests.mutants import Mutant


def mapped(path, layout, name, mode):
    spec = layout.arrays[name]
    return np.memmap(path / f"{name}.bin", spec.dtype, mode, shape=spec.shape)


class Sink:
    def __init__(self, path, layout):
        self.path, self.layout = path, layout
        self.arrays = {name: mapped(path, layout, name, "r+") for name in layout.arrays}

    def write(self, block):
        for name, tensor in block.arrays.items():
            self.place(self.arrays[name], block, tensor.numpy())
            self.arrays[name].flush()

    def place(self, array, block, values):
        array[block.lo : block.hi, block.first : block.last] = values

    def close(self):
        self.arrays.clear()


@dataclass(frozen=True)
class Bytes:
    """Right, as it stands."""

    parallel: ClassVar[bool] = True
    sink: ClassVar[type] = Sink

    def prepare(self, path, layout, committed):
        for name in layout.arrays:
            mapped(path, layout, name, "r+" if committed else "w+")

    def open(self, path, layout):
        return self.sink(path, layout)

    def finish(self, path, layout, summary):
        pass

    def read(self, path, layout, name, chains):
        return mapped(path, layout, name, "r")[chains]


class OneDrawLate(Sink):
    def place(self, array, block, values):
        last = min(block.last + 1, array.shape[1])
        array[block.lo : block.hi, block.first + 1 : last] = values[:, : last - block.first - 1]


class Late(Bytes):
    sink = OneDrawLate


class WholeGrains(Sink):
    def place(self, array, block, values):
        whole = (block.hi - block.lo) // self.layout.grain * self.layout.grain
        array[block.lo : block.lo + whole, block.first : block.last] = values[:whole]


class LosesRemainder(Bytes):
    sink = WholeGrains


class Appending(Sink):
    def __init__(self, path, layout):
        super().__init__(path, layout)
        self.at = 0

    def place(self, array, block, values):
        flat = array.reshape(-1)
        if self.at + values.size <= flat.size and array.shape[2:] == (3,):
            flat[self.at : self.at + values.size] = values.reshape(-1)
            self.at += values.size
        else:
            super().place(array, block, values)


class Appends(Bytes):
    sink = Appending


class Adding(Sink):
    def place(self, array, block, values):
        part = array[block.lo : block.hi, block.first : block.last]
        part[...] = part | values if values.dtype == bool else part + values


class Adds(Bytes):
    sink = Adding


class Buffering(Sink):
    def __init__(self, path, layout):
        super().__init__(path, layout)
        self.blocks = []

    def write(self, block):
        self.blocks.append(type(block)(*block[:4], {name: each.clone() for name, each in block.arrays.items()}))

    def close(self):
        for block in self.blocks:
            super().write(block)
        super().close()


class WritesAtClose(Bytes):
    sink = Buffering


class Referring(Buffering):
    def write(self, block):
        self.blocks.append(block)


class KeepsTheBlock(Bytes):
    sink = Referring


class Zeroing(Sink):
    def write(self, block):
        super().write(block)
        for tensor in block.arrays.values():
            tensor.zero_()


class ZeroesTheBlock(Bytes):
    sink = Zeroing


class Rows(Sink):
    """Reads whole chains, waits, and writes them back with the block in them."""

    lock = threading.Barrier(1)

    def place(self, array, block, values):
        rows = np.array(array[block.lo : block.hi])
        rows[:, block.first : block.last] = values
        array[block.lo : block.hi] = 0
        array[block.lo : block.hi, block.first : block.last] = rows[:, block.first : block.last]


class WritesWholeRows(Bytes):
    sink = Rows


class ForgetsCommitted(Bytes):
    def prepare(self, path, layout, committed):
        for name in layout.arrays:
            mapped(path, layout, name, "w+")


class KeepsTheOld(Bytes):
    def prepare(self, path, layout, committed):
        for name in layout.arrays:
            if not (path / f"{name}.bin").exists():
                mapped(path, layout, name, "w+")

    def open(self, path, layout):
        old = any(mapped(path, layout, name, "r").any() for name in layout.arrays)
        return Deaf(path, layout) if old else Sink(path, layout)


class Deaf(Sink):
    def write(self, block):
        pass


class Halves(Bytes):
    def read(self, path, layout, name, chains):
        found = mapped(path, layout, name, "r")[chains]
        return found.astype(np.float32) if found.dtype == np.float64 else found


class OffByOneRead(Bytes):
    def read(self, path, layout, name, chains):
        if chains.start == 0 and chains.stop == layout.chains:
            return mapped(path, layout, name, "r")
        return mapped(path, layout, name, "r")[chains.start : chains.stop + 1]


class Elsewhere(Bytes):
    def finish(self, path, layout, summary):
        (Path(path).parent / "summary.txt").write_text("done")


RIGHT = [Bytes()]

MUTANTS = [
    Mutant("writer", make(), wrong, caught)
    for make, wrong, caught in [
        (Late, "draws stored one place late", "reads_back"),
        (LosesRemainder, "chains beyond the last whole group are lost", "reads_back"),
        (Appends, "blocks appended in the order of arrival", "any_blocks"),
        (Adds, "a block added to what is there: not idempotent", "same_block_again"),
        (WritesAtClose, "blocks held in memory until close", "resumes_in_another_process"),
        (KeepsTheBlock, "the host's own tensors kept until close", "copies"),
        (ZeroesTheBlock, "the block's tensors overwritten", "copies"),
        (WritesWholeRows, "whole rows written for a block of some draws", "any_blocks"),
        (ForgetsCommitted, "prepare empties what was committed", "resumes_in_this_process"),
        (KeepsTheOld, "prepare keeps an older run's files", "prepares_anew"),
        (Halves, "float64 read as float32", "reads_back"),
        (OffByOneRead, "read includes the end of its slice", "reads_parts"),
        (Elsewhere, "a file beside its folder", "stays_in_its_folder"),
    ]
]
