"""What is timed: for each piece of work its contenders, each a function that does all of it and returns the positions.

The first contender is the one that the others are divided by. All begin at N(0, 1), use float32,
and make the same number of ULA steps: x <- x - eps * dU/dx + sqrt(2 * eps) * z.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

import ebmcore as ebm

Gradient = Callable[[Tensor], Tensor]

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@dataclass(frozen=True)
class Work:
    """One piece of work and who does it."""

    title: str
    contenders: Mapping[str, Callable[[], Tensor]]


def all_work(scale: float) -> list[Work]:
    """Return every piece of work, with `scale` times its chains."""
    return [double_well(int(50_000 * scale), 1000, 0.01), mlp(int(10_000 * scale), 1000, 0.01)]


def double_well(chains: int, steps: int, eps: float) -> Work:
    """Return the double well U = 2 sum (x^2 - 1)^2 in two coordinates."""

    def energy(x: Tensor) -> Tensor:
        return 2 * ((x**2 - 1) ** 2).sum(-1)

    def gradient(x: Tensor) -> Tensor:
        return 8 * x * (x * x - 1)

    return Work(
        f"double well, {chains:,} x 2, {steps} steps",
        {
            "ebmcore": partial(_ebmcore, ebm.use("double_well", dim=2), chains, steps, eps),
            "ebmcore, the energy a lambda": partial(_ebmcore, energy, chains, steps, eps),
            "torch loop, gradient by hand": partial(_eager, gradient, chains, steps, eps),
            "torch loop, autograd": partial(_eager, partial(_autograd, energy), chains, steps, eps),
        },
    )


def mlp(chains: int, steps: int, eps: float) -> Work:
    """Return an MLP 2-32-32-1 of SELU, with |x|^2/2 that holds the chains together."""
    table = ebm.use("mlp", dim=2, hidden=[32, 32], quadratic=1.0)
    energy = ebm.load("model", "mlp")(dim=2, hidden=[32, 32], quadratic=1.0).requires_grad_(False)
    (w1, b1), (w2, b2), (w3, _) = ((layer.weight, layer.bias) for layer in energy.layers)

    def gradient(x: Tensor) -> Tensor:
        a1 = F.linear(x, w1, b1)
        a2 = F.linear(F.selu(a1), w2, b2)
        slope: Tensor = ((w3 * _selu_slope(a2)) @ w2 * _selu_slope(a1)) @ w1
        return slope + x

    return Work(
        f"MLP 2-32-32-1, {chains:,} x 2, {steps} steps",
        {
            "ebmcore": partial(_ebmcore, table, chains, steps, eps),
            "torch loop, gradient by hand": partial(_eager, gradient, chains, steps, eps),
            "torch loop, autograd": partial(_eager, partial(_autograd, energy), chains, steps, eps),
        },
    )


def _ebmcore(energy: object, chains: int, steps: int, eps: float) -> Tensor:
    return ebm.sample(energy, ebm.use("ula", step_size=eps), chains=chains, shape=(2,), steps=steps, seed=0).final


def _eager(gradient: Gradient, chains: int, steps: int, eps: float) -> Tensor:
    torch.manual_seed(0)
    x = torch.randn(chains, 2)
    for _ in range(steps):
        x = x - eps * gradient(x) + (2 * eps) ** 0.5 * torch.randn(chains, 2)
    return x


def _autograd(energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_(True)
    return torch.autograd.grad(energy(leaf).sum(), leaf)[0]


def _selu_slope(a: Tensor) -> Tensor:
    return SELU_SCALE * torch.where(a > 0, 1.0, SELU_ALPHA * a.exp())
