"""Statistics of all draws of a run in one pass: accumulated group by group, merged in chain order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ebmcore.protocols import Block, Layout, Reducer


@final
@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each coordinate over all chains and draws (a `Reducer`).

    Groups are merged by the pairwise update of Chan, Golub and LeVeque (1979), eq. 2.1, in float64:
    m = m_a + d n_b / n and S = S_a + S_b + d^2 n_a n_b / n with d = m_b - m_a.
    """

    def start(self, layout: Layout, /) -> dict[str, Tensor]:
        """Return the accumulator of no draws: count [], mean and m2 [*shape], float64."""
        shape = layout.arrays["draws"].shape[2:]
        return {
            "count": torch.zeros((), dtype=torch.float64),
            "mean": torch.zeros(shape, dtype=torch.float64),
            "m2": torch.zeros(shape, dtype=torch.float64),
        }

    def update(self, acc: Mapping[str, Tensor], block: Block, /) -> dict[str, Tensor]:
        """Take in the draws of one group."""
        x = block.arrays["draws"].double().flatten(0, 1)
        mean = x.mean(0)
        m2 = (x - mean).square_().sum(0)
        return self.merge(acc, {"count": torch.tensor(float(len(x)), dtype=torch.float64), "mean": mean, "m2": m2})

    def merge(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Join two groups, `a` first."""
        count = a["count"] + b["count"]
        delta, part = b["mean"] - a["mean"], b["count"] / count
        return {
            "count": count,
            "mean": a["mean"] + delta * part,
            "m2": a["m2"] + b["m2"] + delta.square_() * (a["count"] * part),
        }

    def finish(self, acc: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Return `mean` and `sd` [*shape], float64; `sd` divides by count - 1."""
        return {"mean": acc["mean"], "sd": (acc["m2"] / (acc["count"] - 1).clamp(min=1)).sqrt()}


@final
class Reduction:
    """One reducer's left fold over the groups of a run, in chain order, whatever the order of arrival."""

    def __init__(self, reducer: Reducer) -> None:
        self._reducer = reducer
        self._acc: Mapping[str, Tensor] | None = None
        self._next = 0
        self._waiting: dict[int, tuple[int, Mapping[str, Tensor]]] = {}

    def add(self, lo: int, hi: int, groups: Mapping[str, Tensor]) -> None:
        """Take in the accumulators of the chains [lo, hi), those of its groups stacked on axis 0."""
        self._waiting[lo] = (hi, groups)
        while self._next in self._waiting:
            self._next, ready = self._waiting.pop(self._next)
            for acc in _unstack(ready):
                self._acc = acc if self._acc is None else self._reducer.merge(self._acc, acc)

    def finish(self) -> dict[str, Tensor]:
        """Return the statistics by name; nothing if no chain came in."""
        return {} if self._acc is None else dict(self._reducer.finish(self._acc))


def _unstack(groups: Mapping[str, Tensor]) -> Iterable[dict[str, Tensor]]:
    for rows in zip(*(stacked.unbind(0) for stacked in groups.values()), strict=True):
        yield dict(zip(groups, rows, strict=True))
