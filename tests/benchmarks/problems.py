"""What is computed: one problem, the same for every contender, as plain data that a worker process is sent.

All chains begin at N(0, 1) and make steps of ULA in float32: x <- x - eps * dU/dx + sqrt(2 * eps) * z.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Problem:
    """An energy, its chains, and how the result is wanted.

    Attributes:
        energy: `double_well`: 2 sum (x^2 - 1)^2; `mlp`: a network of SELU + |x|^2/2; `gaussian`: correlated, with
            variances 1 to 100; `conv`: a convolutional network + |x|^2/2.
        chains: Number of chains.
        shape: Shape of one position.
        steps: Steps a chain.
        step_size: eps.
        hidden: Widths of the network's hidden layers.
        mode: `memory`: the positions as an array; `disk`: in a .npy file; `calls`: `calls` times in a row.
        batch: Chains of a batch of the loop that stands for `disk` where there is no other way.
        measured: Batches that are run; their time is extended to all chains.
        calls: Times that all of it is done in one timing.
        workers: Workers, where a contender can be told; 0 for its default.
        warm: Chains of the first run, which is not counted; 0 for all, or a batch.
    """

    energy: Literal["double_well", "mlp", "gaussian", "conv"]
    chains: int
    shape: tuple[int, ...]
    steps: int
    step_size: float
    hidden: tuple[int, ...] = ()
    mode: Literal["memory", "disk", "calls"] = "memory"
    batch: int = 10_000
    measured: int = 2
    calls: int = 1
    workers: int = 0
    warm: int = 0

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Problem:
        """Return the problem of a line."""
        fields: dict[str, Any] = json.loads(line)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def layers(problem: Problem) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weight [outputs, inputs] and bias [outputs] of each layer of the `mlp`, the same in every process."""
    source = np.random.default_rng(0)
    widths = [*problem.shape, *problem.hidden, 1]
    return [
        (
            (source.standard_normal((outputs, inputs)) / inputs**0.5).astype(np.float32),
            (0.1 * source.standard_normal(outputs)).astype(np.float32),
        )
        for inputs, outputs in pairwise(widths)
    ]


def covariance(problem: Problem) -> np.ndarray:
    """Return the covariance [d, d] of the `gaussian`, float64: variances from 1 to 100 along random axes."""
    (d,) = problem.shape
    axes, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))
    return (axes * np.logspace(0, 2, d)) @ axes.T
