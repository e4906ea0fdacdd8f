"""The kit's own plugins, for checks of others: a sampler, a schedule and a writer. No plugin is involved."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from ebmcore.engine import run_chunk
from ebmcore.errors import RunStopped
from ebmcore.protocols import Block, Chunk, EnergyFunction, JobSpec, Layout, Noise, Receipt, Span


class Where(NamedTuple):
    """Where the chains are."""

    position: Tensor


@dataclass(frozen=True)
class Step:
    """A Langevin step, x - step_size * gradient + sqrt(2 * step_size) * z, for samplers around others."""

    step_size: float = field(default=0.1, metadata={"gt": 0, "description": "length of a step"})

    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def init(self, energy: EnergyFunction, position: Tensor, noise: Noise) -> Where:
        return Where(position)

    def step(self, energy: EnergyFunction, state: Where, noise: Noise) -> tuple[Where, None]:
        x = state.position
        drift = energy.gradient(x)
        return Where(noise.perturb_(x, math.sqrt(2 * self.step_size), drift=drift, drift_scale=-self.step_size)), None


@dataclass(frozen=True)
class Fixed:
    """A schedule that is one value throughout."""

    value: float = field(default=0.1, metadata={"description": "the value"})

    def __call__(self, step: int, steps: int) -> float:
        """Return the value."""
        return self.value


class _TraySink:
    def __init__(self, path: Path, layout: Layout) -> None:
        self._arrays = {name: _map(path, layout, name, "r+") for name in layout.arrays}

    def write(self, block: Block) -> None:
        for name, tensor in block.arrays.items():
            self._arrays[name][block.lo : block.hi, block.first : block.last] = tensor.numpy()
            self._arrays[name].flush()

    def close(self) -> None:
        self._arrays.clear()


@dataclass(frozen=True)
class Tray:
    """A writer of bare arrays, for runs that the checks make."""

    parallel: ClassVar[bool] = True

    def prepare(self, path: Path, layout: Layout, committed: Sequence[Span]) -> None:
        """Make the files."""
        for name in layout.arrays:
            _map(path, layout, name, "r+" if committed else "w+")

    def open(self, path: Path, layout: Layout) -> _TraySink:
        return _TraySink(path, layout)

    def finish(self, path: Path, layout: Layout, summary: Mapping[str, Any]) -> None:
        """Nothing is left to do."""

    def read(self, path: Path, layout: Layout, name: str, chains: slice) -> np.ndarray[Any, Any]:
        """Return some rows of an array."""
        rows: np.ndarray[Any, Any] = np.array(_map(path, layout, name, "r")[chains])
        return rows


TRAY = {"use": "ebmcore.testing.own:Tray", "name": "tray"}
"""By reference, so that another process can make it."""


@dataclass(frozen=True)
class Stops:
    """An executor that is stopped after one chunk, as by Ctrl-C."""

    def run(self, job: JobSpec, chunks: Sequence[Chunk], devices: Sequence[str]) -> Generator[Receipt, None, None]:
        """Yield one receipt, and raise."""
        yield run_chunk(job, chunks[0], devices[0])
        raise RunStopped("the check stopped the run after its first chunk. Resume it.")


def by_files(result: Any) -> dict[str, Tensor]:
    """Return every array of a run that is in files which are about to go, by name."""
    names = result.stages[-1].layout.arrays
    return {f"array `{name}`": result.read(name).clone() for name in names}


def _map(path: Path, layout: Layout, name: str, mode: Any) -> np.memmap[Any, Any]:
    spec = layout.arrays[name]
    return np.memmap(path / f"{name}.bin", spec.dtype, mode, shape=spec.shape)
