"""What a run gives back: one type, whatever was asked for; arrays are read when they are touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ebmcore import rundir
from ebmcore.errors import InputError
from ebmcore.parts import build_part, name_of
from ebmcore.protocols import HasRead, JobSpec, Layout, Writer
from ebmcore.registry import default
from ebmcore.runtime import data_folder

if TYPE_CHECKING:
    import xarray


@final
class Result:
    """The draws of a run, its statistics, and what repeats it.

    Attributes:
        path: The run directory, or None for a run in memory.
        seed: The seed that repeats the run.
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
        self.reduced = reduced
        self.provenance = provenance
        self._job, self._writers, self._summary = job, writers, summary

    @property
    def layout(self) -> Layout:
        """What the run stored."""
        layout = self._job.layouts[-1]
        assert layout is not None
        return layout

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
        """Return array `name` (`draws`, `stats.NAME`, `state.NAME`) of some chains, from the first writer that reads.

        Args:
            name: One of the run's arrays.
            chains: Which chains, step 1.

        Raises:
            InputError: No such array, a step, or no writer of the run can be read.
        """
        if name not in self.layout.arrays:
            raise InputError(f"a run's array must be one of {', '.join(self.layout.arrays)}; got '{name}'. Choose one.")
        if chains.step not in (None, 1):
            raise InputError(f"`chains` must be a slice of step 1; got step {chains.step}. Slice the result instead.")
        for writer_name, writer in self._writers.items():
            if isinstance(writer, HasRead):
                folder = data_folder(self._job, writer_name, len(self._job.stages) - 1)
                array = writer.read(folder, self.layout, name, chains)
                return torch.from_numpy(array if array.flags.writeable else array.copy())
        raise InputError(
            f"a run must have a writer that can be read; got {', '.join(self._writers) or 'none'}. Add npy to its writers."
        )

    def summary(self) -> dict[str, Any]:
        """Return what ran and its mean and sd a coordinate, as plain values; `summary.json` holds the same."""
        return dict(self._summary)

    def to_datatree(self) -> xarray.DataTree:
        """Return the run under ArviZ's schema: groups `posterior` and `sample_stats`, with the run's settings as attributes.

        Dimensions are `chain` and `draw`; for a run that keeps one draw a chain, `sample`, which ArviZ takes
        for draws of a single chain.

        Raises:
            InputError: xarray is not installed.
        """
        from ebmcore.datatree import to_datatree

        return to_datatree(self)

    def __repr__(self) -> str:
        layout, stage = self.layout, self._job.stages[-1]
        kept = "the last draw" if layout.draws == 1 else f"{layout.draws} draws"
        shape = list(layout.arrays["draws"].shape)
        where = "in memory" if self.path is None else f"in {self.path}"
        hint = " (draws=steps keeps all)" if layout.draws < stage.steps else ""
        return (
            f"Result: {layout.chains} chains x {stage.steps} steps, kept {kept} of each{hint}, draws {shape} {where}; "
            f"seed={self.seed} repeats it"
        )


@final
class _Arrays(Mapping[str, Tensor]):
    """The arrays of a result whose names begin with a prefix."""

    def __init__(self, result: Result, prefix: str) -> None:
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
    return Result(job, _readers(job), summary, manifest, reduced)


def _readers(job: JobSpec) -> dict[str, Writer]:
    """Build a run's writers from its manifest: an installed name alone, for a file that a manifest names is not ours to run."""
    writers = {}
    for table in job.writers:
        use = str(table.get("use", ""))
        if use and ":" not in use and not use.endswith(".py"):
            writers[name_of(table)] = build_part("writer", table, {}, default(), Path(job.base))[0]
    return writers
