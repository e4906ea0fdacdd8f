"""The energies as someone writes them in torch: modules, and closed-form gradients where there is one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.benchmarks.peers import Missing
from tests.benchmarks.problems import Problem, covariance, layers

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class DoubleWell(nn.Module):
    """U = 2 sum (x^2 - 1)^2."""

    def forward(self, x: Tensor) -> Tensor:
        """Return U [n]."""
        return 2 * ((x**2 - 1) ** 2).sum(-1)


class Net(nn.Module):
    """A user's own network, as in docs/examples: layers(x) + |x|^2/2."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        *hidden, last = (_linear(weight, bias) for weight, bias in layers(problem))
        self.network = nn.Sequential(*(module for layer in hidden for module in (layer, nn.SELU())), last)

    def forward(self, x: Tensor) -> Tensor:
        """Return U [n]."""
        return self.network(x).squeeze(-1) + 0.5 * x.square().sum(-1)


class Gaussian(nn.Module):
    """U = x^T P x / 2."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.register_buffer("precision", torch.from_numpy(covariance(problem)).inverse().float())

    def forward(self, x: Tensor) -> Tensor:
        """Return U [n]."""
        return 0.5 * (x * (x @ self.precision)).sum(-1)


class Images(nn.Module):
    """A small convolutional network of images + |x|^2/2."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        channels, height, width = problem.shape
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * ((height + 3) // 4) * ((width + 3) // 4), 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return U [n]."""
        return self.network(x).squeeze(-1) + 0.5 * x.square().flatten(1).sum(-1)


def energy(problem: Problem) -> nn.Module:
    """Return the problem's energy."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "double_well": DoubleWell,
        "mlp": lambda: Net(problem),
        "gaussian": lambda: Gaussian(problem),
        "conv": lambda: Images(problem),
    }
    return makers[problem.energy]()


def gradient(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Return dU/dx in closed form, for networks of two hidden layers by hand."""
    if problem.energy == "double_well":
        return lambda x: 8 * x * (x * x - 1)
    if problem.energy == "gaussian":
        precision = torch.from_numpy(covariance(problem)).inverse().float()
        return lambda x: x @ precision
    if problem.energy == "mlp":
        return _mlp_gradient(problem)
    raise Missing(f"no closed form of {problem.energy}")


def _mlp_gradient(problem: Problem) -> Callable[[Tensor], Tensor]:
    (w1, b1), (w2, b2), (w3, _) = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in layers(problem)]

    def slope(a: Tensor) -> Tensor:
        return SELU_SCALE * torch.where(a > 0, 1.0, SELU_ALPHA * a.exp())

    def by_hand(x: Tensor) -> Tensor:
        a1 = F.linear(x, w1, b1)
        a2 = F.linear(F.selu(a1), w2, b2)
        return ((w3 * slope(a2)) @ w2 * slope(a1)) @ w1 + x

    return by_hand


def _linear(weight: object, bias: object) -> nn.Linear:
    weight, bias = torch.from_numpy(weight), torch.from_numpy(bias)
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
