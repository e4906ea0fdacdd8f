"""Energies that are perceptrons, in the forms in which people write them."""

from __future__ import annotations

import functools
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


def seeded(make, seed=0):
    """Return what `make` makes with torch's generator at `seed`, which stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def stack(d, widths, activation, bias=True):
    sizes = [d, *widths]
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b, bias), activation())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 1, bias))


class Net(nn.Module):
    """The guide's network, with a term that holds chains together."""

    def __init__(self, d=2, widths=(32, 32), activation=nn.SELU, quadratic=0.5, bias=True):
        super().__init__()
        self.layers = stack(d, widths, activation, bias)
        self.quadratic = quadratic

    def forward(self, x):
        return self.layers(x).squeeze(-1) + self.quadratic * x.square().sum(-1)


def raw():
    """Return weights as plain tensors."""
    return torch.randn(16, 2), torch.randn(16), torch.randn(16), torch.randn(1)


def by_hand():
    w, b, v, _ = raw()
    return lambda x: torch.tanh(x @ w.T + b) @ v


def by_addmm():
    w, b, v, c = raw()

    def energy(x):
        return torch.addmm(b, x, w.t()).relu().matmul(v) + c

    return energy


def with_functional():
    w, b, _, c = raw()
    v = torch.randn(1, 16)

    def energy(x, scale=2.0):
        h = F.leaky_relu(F.linear(x, w, b), 0.2)
        return scale * F.linear(h, v, c)[:, 0] - 1.5

    return energy


def partially():
    net = stack(2, (8,), nn.Tanh)

    def energy(k, x):
        return k * (x * x).sum(dim=1) + net(x).view(-1)

    return functools.partial(energy, 0.25)


class Method:
    """An energy that is a method of something."""

    def __init__(self):
        self.net = stack(2, (8, 8), nn.SiLU)

    def energy(self, x):
        return -self.net(x).flatten() / 2 + 3


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(2, 24)), nn.Parameter(torch.randn(24, 1))

    def forward(self, x):
        h = F.softplus(x @ self.w)
        return (h @ self.v).squeeze(1) + (x**2).sum(1) * 0.5


class Halves(nn.Module):
    """The quadratic term with its factors before the square."""

    def __init__(self):
        super().__init__()
        self.net = stack(2, (8,), nn.Tanh)

    def forward(self, x):
        return self.net(x).squeeze(-1) + (0.5 * x * x).sum(-1) + ((x / 2) ** 2).sum(1) - (x * -x).sum(-1)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.ELU(0.7, inplace=True))
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.net(x))[..., 0] + x.pow(2).sum(-1).mul(0.1)


class Evaluating(nn.Module):
    """Dropout that does nothing, and layers without bias."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8, bias=False), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 1, bias=False))
        self.eval()

    def forward(self, x):
        return self.net(x).sum(-1)


FORMS = {
    **{
        name: functools.partial(Net, activation=activation)
        for name, activation in {
            "selu": nn.SELU,
            "elu": nn.ELU,
            "elu 0.3": functools.partial(nn.ELU, 0.3),
            "relu": nn.ReLU,
            "leaky relu": nn.LeakyReLU,
            "silu": nn.SiLU,
            "tanh": nn.Tanh,
            "softplus": nn.Softplus,
            "gelu": nn.GELU,
            "gelu tanh": functools.partial(nn.GELU, approximate="tanh"),
            "identity": nn.Identity,
        }.items()
    },
    "halves": Halves,
    "one coordinate": functools.partial(Net, d=1, widths=(5,)),
    "64 coordinates": functools.partial(Net, d=64, widths=(20,)),
    "128 units": functools.partial(Net, widths=(128, 128)),
    "odd widths": functools.partial(Net, d=3, widths=(7, 13, 5)),
    "no bias": functools.partial(Net, bias=False),
    "four layers": functools.partial(Net, widths=(16, 16, 16, 16), activation=nn.Tanh),
    "by hand": by_hand,
    "addmm": by_addmm,
    "functional": with_functional,
    "partial": partially,
    "method": lambda: Method().energy,
    "transposed": Transposed,
    "in place": InPlace,
    "evaluating": Evaluating,
}


def dimension(energy):
    if not isinstance(energy, nn.Module):
        return 2
    return next((m.in_features for m in energy.modules() if isinstance(m, nn.Linear)), 2)


def by_autograd(energy, x):
    """Return U and dU/dx of an energy at `x`, in its precision."""
    leaf = x.detach().requires_grad_(True)
    u = energy(leaf)
    return u.detach(), torch.autograd.grad(u.sum(), leaf)[0]
