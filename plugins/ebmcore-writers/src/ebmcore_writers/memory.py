"""Arrays in the memory of this process, for notebooks and tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ebmcore.errors import RunError
from ebmcore.protocols import Block, Layout, Span
from ebmcore_writers.blocks import rows, spec_of

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Memory:
    """Keeps every array of a run in memory, and nothing on disk.

    Memory is taken from the system as draws arrive. `read` gives the array itself, not a copy;
    what was not written is 0. The host makes one instance a run.
    """

    parallel: ClassVar[bool] = False

    # By the folder that a stage would have on disk. In the instance, not in the module: they are
    # freed with the run that made them.
    _runs: dict[Path, Arrays] = field(default_factory=dict, init=False, repr=False, compare=False)

    def prepare(self, path: Path, layout: Layout, committed: Sequence[Span]) -> None:
        """Allocate the arrays, or keep those of an earlier run of this instance if some of it was committed.

        Raises:
            RunError: Something was committed and is not in this process any more, or the memory cannot be had.
        """
        if committed:
            kept = {name: (array.shape, array.dtype.name) for name, array in self._runs.get(path, {}).items()}
            if kept != {name: (spec.shape, spec.dtype) for name, spec in layout.arrays.items()}:
                raise RunError(
                    f"writer 'memory' must still hold what was committed; got nothing for '{path}' in this process. "
                    "Run it again from its start, or use a writer that keeps files, such as npy."
                )
            return
        try:
            # Zeros and not empty: fresh pages are zero anyway and cost nothing until they are written, and
            # the draws of a run that was stopped must not be what this memory held before.
            self._runs[path] = {name: np.zeros(spec.shape, spec.dtype) for name, spec in layout.arrays.items()}
        except (MemoryError, ValueError) as error:  # numpy's word for a size beyond any address is ValueError
            size = sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in layout.arrays.values())
            raise RunError(
                f"writer 'memory' must have {size / 1e9:.1f} GB of memory; the system has less. "
                "Keep fewer draws, or use a writer that keeps files, such as npy."
            ) from error

    def open(self, path: Path, layout: Layout) -> MemorySink:
        return MemorySink(self._held(path), layout)

    def truncate(self, path: Path, layout: Layout, chains: int) -> None:
        """Keep the rows of the first `chains` chains."""
        self._runs[path] = {name: array[:chains].copy() for name, array in self._held(path).items()}

    def finish(self, path: Path, layout: Layout, summary: Mapping[str, Any]) -> None:
        """Nothing is left to do: the arrays are whole."""

    def read(self, path: Path, layout: Layout, name: str, chains: slice) -> np.ndarray[Any, Any]:
        """Return the rows `chains` of array `name`, a view.

        Raises:
            InputError: There is no array of that name.
            RunError: Another process, or another instance, has it.
        """
        spec_of(layout, name)
        return self._held(path)[name][chains]

    def _held(self, path: Path) -> Arrays:
        if path not in self._runs:
            raise RunError(
                f"writer 'memory' must be asked by the run that filled it; got '{path}', which it does not hold. "
                "Use a writer that keeps files, such as npy, to read a run again."
            )
        return self._runs[path]


class MemorySink:
    """Copies blocks into the arrays of one stage."""

    def __init__(self, arrays: Arrays, layout: Layout) -> None:
        self._arrays = arrays
        self._layout = layout

    def write(self, block: Block) -> None:
        """Store a block; it lives as long as the process."""
        for name, tensor in block.arrays.items():
            array = rows(block, name, tensor, spec_of(self._layout, name))
            self._arrays[name][block.lo : block.hi, block.first : block.last] = array

    def close(self) -> None:
        """The arrays stay with the writer."""
