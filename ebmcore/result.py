"""What a run gives back: one type, whatever was asked for; arrays are read when they are touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ebmcore import rundir
from ebmcore.errors import InputError
from ebmcore.protocols import JobSpec, Layout, Writer
from ebmcore.stored import layout_of, read_array, readers

if TYPE_CHECKING:
    import xarray


@final
class StageDraws:
    """What one stage of a run kept; arrays are read when they are touched, from the first writer that reads.

    Attributes:
        sampler: The table of the stage's sampler.
        steps: Its transitions a chain, after its warmup.
    """

    def __init__(self, job: JobSpec, index: int, writers: Mapping[str, Writer]) -> None:
        self.sampler = job.stages[index].sampler
        self.steps = job.stages[index].steps
        self._job, self._index, self._writers = job, index, writers

    @property
    def layout(self) -> Layout:
        """What the stage stored.

        Raises:
            InputError: It kept no draw.
        """
        return layout_of(self._job, self._index)

    @property
    def draws(self) -> Tensor:
        """All draws [chains, draws, *shape], on the CPU."""
        return self.read("draws")

    @property
    def final(self) -> Tensor:
        """The last draw of every chain [chains, *shape], on the CPU."""
        return self.draws[:, -1]

    @property
    def stats(self) -> Mapping[str, Tensor]:
        """The sampler's statistics by name, each [chains, draws], read when touched."""
        return _Arrays(self, "stats.")

    def read(self, name: str, chains: slice = slice(None)) -> Tensor:
        """Return array `name` (`draws`, `stats.NAME`, `state.NAME`) of some chains.

        Args:
            name: One of the stage's arrays.
            chains: Which chains, step 1.

        Raises:
            InputError: No such array, a step, or no writer of the run can be read.
        """
        return read_array(self._job, self._index, self._writers, name, chains)

    def __repr__(self) -> str:
        layout = self._job.layouts[self._index]
        kept = "no draws" if layout is None else f"draws {list(layout.arrays['draws'].shape)}"
        return f"stage {self._index}: {self.steps} steps, {kept}"


@final
class Result:
    """The draws of a run, its statistics, and what repeats it; `draws`, `final`, `stats`, `read` are its last stage's.

    Attributes:
        path: The run directory, or None for a run in memory.
        seed: The seed that repeats the run.
        stages: What each stage kept.
        reduced: For each reducer of the run its statistics.
        provenance: Versions, plan and plugins of the run, as its manifest has them.
    """

    def __init__(
        self,
        job: JobSpec,
        writers: Mapping[str, Writer],
        summary: Mapping[str, Any],
        provenance: Mapping[str, Any],
        reduced: Mapping[str, Mapping[str, Tensor]],
    ) -> None:
        self.path = None if job.path is None else Path(job.path)
        self.seed = job.seed
        self.stages = tuple(StageDraws(job, index, writers) for index in range(len(job.stages)))
        self.reduced = reduced
        self.provenance = provenance
        self._summary = summary

    @property
    def layout(self) -> Layout:
        """What the last stage stored."""
        return self.stages[-1].layout

    @property
    def draws(self) -> Tensor:
        """All draws [chains, draws, *shape], on the CPU."""
        return self.stages[-1].draws

    @property
    def final(self) -> Tensor:
        """The last draw of every chain [chains, *shape], on the CPU."""
        return self.stages[-1].final

    @property
    def stats(self) -> Mapping[str, Tensor]:
        """The sampler's statistics by name, each [chains, draws], read when touched."""
        return self.stages[-1].stats

    def read(self, name: str, chains: slice = slice(None)) -> Tensor:
        """Return array `name` (`draws`, `stats.NAME`, `state.NAME`) of some chains; see `StageDraws.read`."""
        return self.stages[-1].read(name, chains)

    def summary(self) -> dict[str, Any]:
        """Return what ran and its mean and sd a coordinate, as plain values; `summary.json` holds the same."""
        return dict(self._summary)

    def to_datatree(self) -> xarray.DataTree:
        """Return the run under ArviZ's schema: groups `posterior` and `sample_stats`, its settings as attributes.

        Dimensions are `chain` and `draw`; for a run that keeps one draw a chain, `sample`, which ArviZ takes
        for draws of a single chain.

        Raises:
            InputError: xarray is not installed.
        """
        from ebmcore.datatree import to_datatree

        return to_datatree(self)

    def __repr__(self) -> str:
        layout, steps = self.layout, self.stages[-1].steps
        kept = "the last draw" if layout.draws == 1 else f"{layout.draws} draws"
        shape = list(layout.arrays["draws"].shape)
        where = "in memory" if self.path is None else f"in {self.path}"
        hint = " (draws=steps keeps all)" if layout.draws < steps else ""
        before = f" after {len(self.stages) - 1} stages" if len(self.stages) > 2 else " after 1 stage"
        return (
            f"Result: {layout.chains} chains x {steps} steps{before if len(self.stages) > 1 else ''}, "
            f"kept {kept} of each{hint}, draws {shape} {where}; seed={self.seed} repeats it"
        )


@final
class _Arrays(Mapping[str, Tensor]):
    """The arrays of a result whose names begin with a prefix."""

    def __init__(self, result: StageDraws, prefix: str) -> None:
        self._result, self._prefix = result, prefix

    def __getitem__(self, name: str) -> Tensor:
        if name not in list(self):
            raise KeyError(name)
        return self._result.read(self._prefix + name)

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._result.layout.arrays if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"statistics: {', '.join(self) or 'none'}"


def open_run(path: str | Path) -> Result:
    """Return the result of a run directory; of its plugins only the writers that read are loaded.

    Args:
        path: A run directory.

    Raises:
        InputError: There is no run, it is not whole, or its writer cannot be had.
    """
    path = Path(path)
    job, manifest, summary = rundir.read(path)
    if summary is None:
        raise InputError(f"a run must be whole to be opened; got '{path}', which has not ended. Run it again.")
    reduced = {
        reducer: {key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()}
        for reducer, values in summary.get("reduced", {}).items()
    }
    return Result(job, readers(job, manifest), summary, manifest, reduced)
