"""Mean, variance and covariance of all draws, in one pass.

    mean = m_a + d n_b / n,    M2 = M2_a + M2_b + d d^T n_a n_b / n,    d = m_b - m_a,    n = n_a + n_b

joins the moments of two groups of draws: Chan, Golub and LeVeque, "Updating formulae and a
pairwise algorithm for computing sample variances", Stanford report STAN-CS-79-773 (1979), eq. 2.1.
It does not lose digits when the mean is far from 0, as sums of squares do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebmcore.protocols import Block, Layout

Arrays = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each coordinate over all chains and draws, and on request their covariance.

    Everything is float64. The accumulator holds one position's mean and variance, and with
    `covariance` the d x d matrix, for d coordinates. Draws of a chain count as they are: thin them
    far enough apart, or take the moments for what they are, those of all draws.
    """

    covariance: bool = field(
        default=False, metadata={"description": "keep the covariance of all pairs of coordinates too: d * d numbers"}
    )

    def start(self, layout: Layout) -> dict[str, Tensor]:
        """Return the accumulator of no draws: count [], mean and m2 [*shape], and c2 [d, d]."""
        shape = layout.arrays["draws"].shape[2:]
        extents = {"count": (), "mean": shape, "m2": shape}
        if self.covariance:
            extents["c2"] = (math.prod(shape),) * 2
        return {name: torch.zeros(extent, dtype=torch.float64) for name, extent in extents.items()}

    def update(self, acc: Mapping[str, Tensor], block: Block) -> dict[str, Tensor]:
        """Take in the draws of one group."""
        one = Block(*block[:4], {"draws": block.arrays["draws"].unsqueeze(0)})
        after = self.update_groups({name: value.unsqueeze(0) for name, value in acc.items()}, one)
        return {name: value[0] for name, value in after.items()}

    def update_groups(self, accs: Mapping[str, Tensor], block: Block) -> dict[str, Tensor]:
        """Take in the draws [G, chains, draws, *shape] of G groups, each with its accumulator."""
        x = block.arrays["draws"].double().flatten(1, 2)
        groups, draws = x.shape[:2]
        mean = _total(x) / draws
        rest = x - mean.unsqueeze(1)
        new = {"count": torch.full((groups,), draws, dtype=torch.float64), "mean": mean, "m2": _total(rest.square())}
        if self.covariance:
            # One product a group: how a batch of them rounds may depend on its size.
            new["c2"] = torch.stack([each.T @ each for each in rest.reshape(groups, draws, -1)])
        return _tensors(_joined(_arrays(accs), _arrays(new)))

    def merge(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join two groups, `a` first."""
        return _tensors(_joined(_arrays(a), _arrays(b)))

    def merge_groups(self, acc: Mapping[str, Tensor], accs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join G groups to `acc`, one after the other."""
        joined, stacked = _arrays(acc), _arrays(accs)
        for index in range(len(stacked["count"])):
            joined = _joined(joined, {name: value[index] for name, value in stacked.items()})
        return _tensors(joined)

    def finish(self, acc: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `mean` and `variance` [*shape], and `covariance` [*shape, *shape]; both divide by count - 1.

        Of a single draw they are 0.
        """
        degrees = (acc["count"] - 1.0).clamp(min=1.0)
        moments = {"mean": acc["mean"], "variance": acc["m2"] / degrees}
        if self.covariance:
            moments["covariance"] = (acc["c2"] / degrees).reshape(acc["mean"].shape * 2)
        return moments


def _total(x: Tensor) -> Tensor:
    """Return the sum over axis 1 of x [G, m, ...], by halves: its rounding depends on m alone, torch's on G too."""
    while x.shape[1] > 1:
        half, odd = divmod(x.shape[1], 2)
        joined = x[:, :half] + x[:, half : 2 * half]
        x = torch.cat([joined, x[:, -1:]], 1) if odd else joined
    return x[:, 0]


def _joined(a: Arrays, b: Arrays) -> Arrays:
    """Join two accumulators, or G pairs of them on axis 0; in numpy: for a few numbers a quarter of torch's price."""
    count = a["count"] + b["count"]
    part = b["count"] / np.maximum(count, 1.0)
    delta = b["mean"] - a["mean"]
    each = (..., *(None,) * (delta.ndim - count.ndim))
    joined = {
        "count": count,
        "mean": a["mean"] + delta * part[each],
        "m2": a["m2"] + b["m2"] + delta * delta * (a["count"] * part)[each],
    }
    if "c2" in a:
        flat = delta.reshape(*count.shape, -1)
        outer = flat[..., :, None] * flat[..., None, :]
        joined["c2"] = a["c2"] + b["c2"] + outer * (a["count"] * part)[..., None, None]
    return joined


def _arrays(acc: Mapping[str, Tensor]) -> Arrays:
    return {name: value.numpy() for name, value in acc.items()}


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in arrays.items()}
