"""Eager torch: the loop that one writes instead of a library, on all threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.peers import Peer
from tests.benchmarks.peers.torch_energies import energy, gradient
from tests.benchmarks.problems import Problem


def closed_form(problem: Problem) -> Peer:
    """Return the loop with the gradient written by hand."""
    return _loop(problem, gradient(problem))


def autograd(problem: Problem) -> Peer:
    """Return the loop with autograd's gradient; weights that need none are told so."""
    model = energy(problem).requires_grad_(False)

    def slope(x: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_(True)
        return torch.autograd.grad(model(leaf).sum(), leaf)[0]

    return _loop(problem, slope)


def _loop(problem: Problem, slope: Callable[[Tensor], Tensor]) -> Peer:
    eps, scale = problem.step_size, (2 * problem.step_size) ** 0.5

    def sample(n: int) -> np.ndarray:
        x = torch.randn(n, *problem.shape)
        for _ in range(problem.steps):
            x.add_(slope(x), alpha=-eps).add_(torch.randn_like(x), alpha=scale)
        return x.numpy()

    return Peer(sample)
