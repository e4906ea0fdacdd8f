"""Statistics of all draws of a run in one pass, accumulated group by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ebmcore.protocols import Block, Layout


@final
@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each coordinate over all chains and draws (a `Reducer`).

    Groups are merged by the pairwise update of Chan, Golub and LeVeque (1979), eq. 2.1, in float64:
    S = S_a + S_b + d^2 n_a n_b / n, where d is the distance of the means; sums are kept, since they add in any cut.
    """

    def start(self, layout: Layout, /) -> dict[str, Tensor]:
        """Return the accumulator of no draws: count [], sum and m2 [*shape], float64."""
        shape = layout.arrays["draws"].shape[2:]
        return {
            "count": torch.zeros((), dtype=torch.float64),
            "sum": torch.zeros(shape, dtype=torch.float64),
            "m2": torch.zeros(shape, dtype=torch.float64),
        }

    def update(self, acc: Mapping[str, Tensor], block: Block, /) -> dict[str, Tensor]:
        """Take in the draws of one group."""
        one = Block(*block[:4], {name: value.unsqueeze(0) for name, value in block.arrays.items()})
        after = self.update_groups({name: value.unsqueeze(0) for name, value in acc.items()}, one)
        return {name: value.squeeze(0) for name, value in after.items()}

    def update_groups(self, accs: Mapping[str, Tensor], block: Block, /) -> dict[str, Tensor]:
        """Take in the draws of G groups, each with its accumulator."""
        x = block.arrays["draws"].double().flatten(1, 2)
        total = _total(x)
        m2 = _total((x - (total / x.shape[1]).unsqueeze(1)).square_())
        count = torch.full_like(accs["count"], x.shape[1])
        return _joined(accs, {"count": count, "sum": total, "m2": m2})

    def merge(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Join two groups, `a` first."""
        return _joined(a, b)

    def merge_groups(self, acc: Mapping[str, Tensor], accs: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Join G groups to `acc` one after the other: numpy's running sums add in that order, torch's need not."""
        count, total = _running(acc["count"], accs["count"]), _running(acc["sum"], accs["sum"])
        before = {"count": torch.from_numpy(count[:-1]), "sum": torch.from_numpy(total[:-1])}
        return {
            "count": torch.tensor(count[-1]),
            "sum": torch.tensor(total[-1]),
            "m2": torch.tensor(_running(acc["m2"], accs["m2"] + _between(before, accs))[-1]),
        }

    def finish(self, acc: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Return `mean` and `sd` [*shape], float64; `sd` divides by count - 1."""
        count = acc["count"]
        return {"mean": acc["sum"] / count.clamp(min=1), "sd": (acc["m2"] / (count - 1).clamp(min=1)).sqrt()}


def _joined(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        "count": a["count"] + b["count"],
        "sum": a["sum"] + b["sum"],
        "m2": a["m2"] + (b["m2"] + _between(a, b)),
    }


def _between(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """Return what the distance of two means adds to the sum of squares about their common one."""
    each = (..., *(None,) * (b["sum"].ndim - b["count"].ndim))
    delta = b["sum"] / b["count"].clamp(min=1)[each] - a["sum"] / a["count"].clamp(min=1)[each]
    return delta * delta * (a["count"] * (b["count"] / (a["count"] + b["count"])))[each]


def _running(first: Tensor, others: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the sums of `first` [...] and the rows of `others` [G, ...] before it: [G + 1, ...]."""
    return np.cumsum(np.concatenate([first.numpy()[None], others.numpy()]), axis=0)


def _total(x: Tensor) -> Tensor:
    """Return the sum over axis 1 of `x` [G, m, ...], by halves: its rounding depends on m alone, torch's on G too."""
    while x.shape[1] > 1:
        half, odd = divmod(x.shape[1], 2)
        joined = x[:, :half] + x[:, half : 2 * half]
        x = torch.cat([joined, x[:, -1:]], 1) if odd else joined
    return x[:, 0]
