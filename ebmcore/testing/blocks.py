"""Layouts and blocks of made-up draws, for checks of writers and reducers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ebmcore.protocols import ArraySpec, Block, Layout
from ebmcore.testing.making import noise

GRAIN = 64
CHAINS = 3 * GRAIN + 9
"""So that the last group is a ragged one."""
DRAWS = 5

SHAPES: Mapping[str, tuple[int, ...]] = {"1-D": (3,), "image": (1, 4, 4), "scalar": ()}

Arrays = Mapping[str, Tensor]


def layout_of(shape: Sequence[int] = (3,), chains: int = CHAINS, draws: int = DRAWS, dtype: str = "float32") -> Layout:
    """Return a layout with arrays of every dtype that a run may have."""
    dims = tuple(f"dim_{axis}" for axis in range(len(shape)))
    arrays = {"draws": ArraySpec((chains, draws, *shape), dtype, ("chain", "draw", *dims))}
    for name, kind in {
        "stats.acceptance_rate": "float32",
        "stats.lp": "float64",
        "stats.diverging": "bool",
        "stats.n_steps": "int64",
        "stats.tree_depth": "int32",
        "state.log_weight": "float32",
    }.items():
        arrays[name] = ArraySpec((chains, draws), kind, ("chain", "draw"))
    return Layout(chains, draws, GRAIN, arrays, {"seed": 7})


def truth_of(layout: Layout, seed: int) -> dict[str, Tensor]:
    """Return every array of a run, whole."""
    made = noise(seed, layout.chains)
    found = {}
    for name, spec in layout.arrays.items():
        values = made.normal(torch.empty(spec.shape))
        if spec.dtype == "bool":
            found[name] = values > 0
        elif spec.dtype.startswith("float"):
            found[name] = values.to(getattr(torch, spec.dtype))
        else:
            found[name] = (3.0 * values).abs().to(getattr(torch, spec.dtype))
    return found


def block_of(truth: Arrays, lo: int, hi: int, first: int, last: int) -> Block:
    """Return one block of a run, in tensors of its own."""
    return Block(lo, hi, first, last, {name: each[lo:hi, first:last].clone() for name, each in truth.items()})


def partition(layout: Layout, chains: int, draws: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the blocks of at most so many chains and draws that a run is made of."""
    for lo in range(0, layout.chains, chains):
        for first in range(0, layout.draws, draws):
            yield lo, min(lo + chains, layout.chains), first, min(first + draws, layout.draws)


def spoil(block: Block) -> None:
    """Overwrite a block's tensors, as the host does with the next draws."""
    for tensor in block.arrays.values():
        tensor.fill_(1 if tensor.dtype is torch.bool else 77)
