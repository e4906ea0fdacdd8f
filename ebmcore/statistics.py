"""Statistics of all draws of a run in one pass, accumulated group by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ebmcore.protocols import Block, Layout


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
        one = Block(*block[:4], {name: value.unsqueeze(0) for name, value in block.arrays.items()})
        after = self.update_groups({name: value.unsqueeze(0) for name, value in acc.items()}, one)
        return {name: value.squeeze(0) for name, value in after.items()}

    def update_groups(self, accs: Mapping[str, Tensor], block: Block, /) -> dict[str, Tensor]:
        """Take in the draws of G groups, each with its accumulator."""
        x = block.arrays["draws"].double().flatten(1, 2)
        mean = _total(x) / x.shape[1]
        m2 = _total((x - mean.unsqueeze(1)).square_())
        count = torch.full_like(accs["count"], x.shape[1])
        return _joined(accs, {"count": count, "mean": mean, "m2": m2})

    def merge(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Join two groups, `a` first."""
        return _joined(a, b)

    def merge_groups(self, acc: Mapping[str, Tensor], accs: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Join G groups to `acc` one after the other, in numpy: a quarter of torch's price for a few numbers."""
        count, mean, m2 = float(acc["count"]), acc["mean"].numpy(), acc["m2"].numpy()
        groups = zip(accs["count"].tolist(), accs["mean"].numpy(), accs["m2"].numpy(), strict=True)
        for count_b, mean_b, m2_b in groups:
            total = count + count_b
            delta, part = mean_b - mean, count_b / total
            mean = mean + delta * part
            m2 = m2 + m2_b + delta * delta * (count * part)
            count = total
        return {
            "count": torch.tensor(count, dtype=torch.float64),
            "mean": torch.as_tensor(mean),
            "m2": torch.as_tensor(m2),
        }

    def finish(self, acc: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Return `mean` and `sd` [*shape], float64; `sd` divides by count - 1."""
        return {"mean": acc["mean"], "sd": (acc["m2"] / (acc["count"] - 1).clamp(min=1)).sqrt()}


def _joined(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    count = a["count"] + b["count"]
    delta, part = b["mean"] - a["mean"], b["count"] / count
    weights = a["count"] * part
    each = (..., *(None,) * (delta.ndim - count.ndim))
    return {
        "count": count,
        "mean": a["mean"] + delta * part[each],
        "m2": a["m2"] + b["m2"] + delta * delta * weights[each],
    }


def _total(x: Tensor) -> Tensor:
    """Return the sum over axis 1 of `x` [G, m, ...], by halves: its rounding depends on m alone, torch's on G too."""
    while x.shape[1] > 1:
        half, odd = divmod(x.shape[1], 2)
        joined = x[:, :half] + x[:, half : 2 * half]
        x = torch.cat([joined, x[:, -1:]], 1) if odd else joined
    return x[:, 0]
