"""The state of every TorchEBM sampler that runs here: all of it is the positions."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class State(NamedTuple):
    """Where the chains are."""

    position: Tensor
    """[n, *shape]."""
