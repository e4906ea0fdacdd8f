"""The inner product of positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return sum_i a_i b_i [n] over the axes of a position; a, b: [n, *shape]."""
    # flatten(1) would refuse scalar positions, and reshape(n, -1) an empty batch.
    rows = (len(a), math.prod(a.shape[1:]))
    total: Tensor = torch.linalg.vecdot(a.reshape(rows), b.reshape(rows))
    return total
