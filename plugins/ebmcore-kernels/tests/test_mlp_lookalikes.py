"""Energies that look like perceptrons and are not: each is left alone, or computed right. None is mistaken.

A wrong recognition would sample another distribution without a word. So each of these is either refused,
or agrees with autograd at every position tried, before and after whatever its trick is.
"""

from __future__ import annotations

import math
import random
import sys
import time

import numpy as np
import pytest
import torch
from perceptrons import Net, by_autograd, raw, seeded, stack
from torch import nn
from torch.nn import functional as F

from ebmcore_kernels.held import Refused
from ebmcore_kernels.mlp import MLP
from ebmcore_kernels.recording import record

CPU = torch.device("cpu")
W, B, V, C = seeded(raw)
FACTOR = 2.0
TABLE = {"k": 2.0}
GENERATOR = np.random.default_rng(0)


class Like(nn.Module):
    """A perceptron that the classes below spoil."""

    def __init__(self):
        super().__init__()
        self.net = stack(2, (8, 8), nn.Tanh)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return self.net(x).squeeze(-1)


class TrainingDropout(Like):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1))


class BatchNorm(Like):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)).eval()


class LayerNorm(Like):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))


class Residual(Like):
    def forward(self, x):
        h = torch.tanh(self.net[0](x))
        return self.out(h + torch.tanh(self.net[2](h))).squeeze(-1)


class Skip(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) + x.sum(-1)


class Detached(Like):
    def forward(self, x):
        return self.net(x.detach()).squeeze(-1) + x.square().sum(-1)


class NoGrad(Like):
    def forward(self, x):
        with torch.no_grad():
            h = self.net(x).squeeze(-1)
        return h + x.square().sum(-1)


class StraightThrough(torch.autograd.Function):
    """tanh forwards, the identity backwards."""

    @staticmethod
    def forward(ctx, x):
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, g):
        return g


class OwnGradient(Like):
    def forward(self, x):
        return self.out(StraightThrough.apply(self.net[0](x))).squeeze(-1)


class Branch(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) if bool((x > -100).all()) else x.sum(-1)


class BranchOnSize(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) * (1.0 if x.shape[0] < 100 else 2.0)


class BranchOnLength(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) * (1.0 if len(x) < 100 else 2.0)


class BranchOnElements(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) * (1.0 if x.numel() < 100 else 2.0)


class Item(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) * (1.0 + 0.0 * float(x[0, 0])) + x[0, 0].item()


class Numpy(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) + float(np.asarray(x.detach()).sum())


class Counter(Like):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.net(x).squeeze(-1) * self.calls


class CounterInAList(Like):
    def __init__(self):
        super().__init__()
        self.calls = [0]

    def forward(self, x):
        self.calls[0] += 1
        return self.net(x).squeeze(-1) * self.calls[0]


class CounterInABuffer(Like):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.net(x).squeeze(-1) * self.calls


class RandomNumber(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) * random.random()


class NumpyRandom(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) * float(np.random.rand())  # noqa: NPY002


class OwnGenerator(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) * float(GENERATOR.random())


class Noisy(Like):
    def forward(self, x):
        return self.net(x + 0.1 * torch.randn_like(x)).squeeze(-1)


class Clock(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) * (1.0 if time.monotonic() > 0 else 2.0)


class Clamped(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1).clamp(-1, 1)


class ClampedInput(Like):
    def forward(self, x):
        return self.net(x.clamp(-1, 1)).squeeze(-1)


class NanToNumber(Like):
    def forward(self, x):
        return torch.nan_to_num(self.net(x).squeeze(-1))


class InputOverwritten(Like):
    def forward(self, x):
        x = x.clone()
        x.mul_(2.0)
        return self.net(x).squeeze(-1)


class OverwrittenUnderAnotherName(Like):
    def forward(self, x):
        h = self.net[0](x)
        view = h.view(len(h), -1)
        F.relu(view, inplace=True)
        return self.out(h).squeeze(-1)


class OverwrittenSquare(nn.Module):
    """The hidden layer is activated in place after a second name was given to it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 1), nn.Linear(1, 1)

    def forward(self, x):
        h = self.a(x)
        kept = h.squeeze(-1)
        return self.b(F.relu(h, inplace=True)).squeeze(-1) * 0.5 + 0.0 + kept * 0.0


class Softmaxed(Like):
    def forward(self, x):
        return self.out(torch.softmax(self.net[0](x), -1)).squeeze(-1)


class Mean(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) - self.net(x).mean()


class ActivatedOutput(Like):
    def forward(self, x):
        return F.softplus(self.net(x)).squeeze(-1)


class OtherSoftplus(Like):
    def forward(self, x):
        return self.out(F.softplus(self.net[0](x), beta=2.0)).squeeze(-1)


class ActivatedTwice(Like):
    def forward(self, x):
        return self.out(torch.tanh(torch.tanh(self.net[0](x)))).squeeze(-1)


class ActivatedInput(Like):
    def forward(self, x):
        return self.net(torch.tanh(x)).squeeze(-1)


class FourthPower(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) + x.pow(4).sum(-1)


class ScaledSquares(Like):
    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(torch.tensor([1.0, 3.0]))

    def forward(self, x):
        return self.net(x).squeeze(-1) + (self.k * x.square()).sum(-1)


class ScaledInput(Like):
    def forward(self, x):
        return self.net(2.0 * x).squeeze(-1)


class ScaledSum(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) + (2.0 * x).sum(-1)


class ScaledCube(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) + (2.0 * x * x * x).sum(-1)


class SquaredOutput(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1).square()


class SumOfTwo(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) + self.out(torch.relu(self.net[0](x))).squeeze(-1)


class Broadcast(Like):
    def forward(self, x):
        return (self.net(x) + x.square().sum(-1)).sum(-1)


class ComputedWeight(Like):
    def forward(self, x):
        w = self.net[0].weight / self.net[0].weight.norm()
        return self.out(torch.tanh(F.linear(x, w))).squeeze(-1)


class WeightNorm(Like):
    def __init__(self):
        super().__init__()
        self.out = nn.utils.parametrizations.weight_norm(self.out)

    def forward(self, x):
        return self.out(torch.tanh(self.net[0](x))).squeeze(-1)


class Hooked(Like):
    def __init__(self):
        super().__init__()
        self.net[0].register_forward_hook(lambda module, args, out: out * 2)


class TensorHook(Like):
    def forward(self, x):
        h = self.net[0](x)
        h.register_hook(lambda g: 2 * g)
        return self.out(torch.tanh(h)).squeeze(-1)


class Slots:
    """A factor that is kept where attributes are not listed."""

    __slots__ = ("factor", "net")

    def __init__(self):
        self.net, self.factor = stack(2, (8,), nn.Tanh), 2.0

    def __call__(self, x):
        return self.factor * self.net(x).squeeze(-1)


class Autocast(Like):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x).squeeze(-1).float()


class Alpha(Like):
    def forward(self, x):
        return torch.add(self.net(x).squeeze(-1), x.square().sum(-1), alpha=3)


class Swapped(Like):
    """The axes of the input are exchanged: for as many chains as coordinates it looks the same."""

    def forward(self, x):
        return self.net(x.t().t()).squeeze(-1) + x.t().square().sum(0)


class Huge(Like):
    def forward(self, x):
        return 1e30 * (1e-30 * self.net(x).squeeze(-1))


class Subclass(torch.Tensor):
    """A tensor whose operations may mean anything."""


class SubclassWeight(Like):
    def __init__(self):
        super().__init__()
        self.w = torch.randn(8, 2).as_subclass(Subclass)

    def forward(self, x):
        return self.out(torch.tanh(F.linear(x, self.w))).squeeze(-1)


class SparseWeight(Like):
    def __init__(self):
        super().__init__()
        self.w = torch.eye(2).to_sparse()

    def forward(self, x):
        return self.net(torch.sparse.mm(self.w, x.t()).t()).squeeze(-1)


class DefaultSum(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) + 0.0 * x.square().sum()


class Infinite(Like):
    def forward(self, x):
        return self.net(x).squeeze(-1) * math.inf


def by_math():
    return lambda x: math.pi * (torch.tanh(x @ W.T + B) @ V)


def by_other_function():
    def inner(h):
        return torch.sin(h)

    return lambda x: inner(x @ W.T + B) @ V


def two_arguments():
    return lambda x, y=None: torch.tanh(x @ W.T + B) @ V if y is None else x.sum(-1)


def cosine():
    return lambda x: F.cosine_similarity(x @ W.T, B[None], dim=-1)


ALIKE = [
    *(value for value in list(globals().values()) if isinstance(value, type) and issubclass(value, Like)),
    OverwrittenSquare,
    Slots,
    by_math,
    by_other_function,
    two_arguments,
    cosine,
]
ALIKE.remove(Like)


def check(both, energy, seed=0):
    """Assert that the kernel, if there is one, agrees with autograd for few and many chains, near and far."""
    generator = torch.Generator().manual_seed(seed)
    for n, scale in ((1, 1.0), (3, 1.0), (200, 1.0), (200, 5.0)):
        x = scale * torch.randn(n, 2, generator=generator)
        own, wanted = both(x), by_autograd(energy, x)
        for a, b in zip(own, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize("make", ALIKE, ids=lambda make: make.__name__)
def test_what_looks_alike_is_left_alone_or_right(make):
    energy = seeded(make)
    before = [p.detach().clone() for p in energy.parameters()] if isinstance(energy, nn.Module) else []
    state = torch.get_rng_state(), random.getstate()
    both = MLP().build(energy, (2,), torch.float32, CPU)
    assert torch.equal(torch.get_rng_state(), state[0]), "the trial drew random numbers"
    assert random.getstate() == state[1]
    if before:
        assert all(map(torch.equal, before, energy.parameters()))
    if both is not None:
        check(both, energy)


def test_there_are_enough_of_them_and_most_are_refused():
    """What is right by luck would make the test above weak."""
    refused = 0
    for make in ALIKE:
        try:
            record(seeded(make), 2)
        except Refused:
            refused += 1
    assert len(ALIKE) >= 50
    assert refused >= len(ALIKE) - 4


@pytest.mark.parametrize("make", [Counter, CounterInAList, CounterInABuffer, BatchNorm], ids=lambda make: make.__name__)
def test_a_trial_leaves_the_energys_own_state_alone(make):
    energy, untouched = seeded(make), seeded(make)
    assert MLP().build(energy, (2,), torch.float32, CPU) is None
    assert torch.equal(torch.as_tensor(getattr(energy, "calls", 0)), torch.as_tensor(getattr(untouched, "calls", 0)))
    assert all(map(torch.equal, energy.state_dict().values(), untouched.state_dict().values()))


# ----------------------------------------------------------- what changes after it was recognised


def scaled(net):
    """Return a closure over a number, and what sets it."""
    factor = 1.5

    def energy(x):
        return factor * net(x).squeeze(-1)

    def put(value):
        nonlocal factor
        factor = value

    return energy, put


class Attribute(Like):
    factor = 1.5

    def forward(self, x):
        return self.factor * self.net(x).squeeze(-1)


def named_global(x):
    return FACTOR * (torch.tanh(x @ W.T + B) @ V)


def named_table(x):
    return TABLE["k"] * (torch.tanh(x @ W.T + B) @ V)


def other_weight(energy):
    energy.net[0].weight = nn.Parameter(3 * energy.net[0].weight.detach())


def other_data(energy):
    energy.net[0].weight.data = 3 * energy.net[0].weight.data.clone()


def other_layer(energy):
    energy.net[2] = nn.Linear(8, 8)


def other_activation(energy):
    energy.net[1] = nn.ReLU()


def wider(energy):
    energy.net = stack(2, (20, 20), nn.SiLU)


def no_perceptron_any_more(energy):
    energy.net = nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Linear(8, 1))


def added_hook(energy):
    energy.net[0].register_forward_hook(lambda module, args, out: out * 2)


def patched(energy):
    energy.forward = lambda x: 3 * energy.net(x).squeeze(-1)


def in_place(energy):
    with torch.no_grad():
        energy.net[0].weight.mul_(3)


def loaded(energy):
    energy.load_state_dict(seeded(Like, 9).state_dict())


@pytest.mark.parametrize(
    "change",
    [
        other_weight,
        other_data,
        other_layer,
        other_activation,
        wider,
        no_perceptron_any_more,
        added_hook,
        patched,
        in_place,
        loaded,
    ],
    ids=lambda change: change.__name__,
)
def test_a_module_that_is_changed_is_seen_as_it_is_now(change):
    energy = seeded(Like)
    both = MLP().build(energy, (2,), torch.float32, CPU)
    assert both is not None
    check(both, energy)
    seeded(lambda: change(energy), 5)
    check(both, energy)
    check(both, energy, seed=1)


def test_a_number_that_is_changed_is_seen_as_it_is_now(monkeypatch):
    energy, put = scaled(seeded(lambda: stack(2, (8,), nn.Tanh)))
    own = seeded(Attribute)
    module = sys.modules[__name__]
    cases = [
        (energy, lambda: put(-0.5)),
        (own, lambda: setattr(own, "factor", 0.25)),
        (own, lambda: monkeypatch.setattr(Attribute, "factor", 7.0)),
        (own, lambda: delattr(own, "factor")),
        (named_global, lambda: monkeypatch.setattr(module, "FACTOR", 0.1)),
        (named_global, lambda: monkeypatch.setattr(module, "W", 2 * W)),
        (named_table, lambda: monkeypatch.setitem(TABLE, "k", 5.0)),
    ]
    for target, change in cases:
        both = MLP().build(target, (2,), torch.float32, CPU)
        assert both is not None
        check(both, target)
        change()
        check(both, target)


def test_dropout_that_is_switched_on_is_left_to_autograd():
    """Without a seed there is nothing to compare: it must be random, so it is not the kernel's."""
    energy = seeded(TrainingDropout).eval()
    both = MLP().build(energy, (2,), torch.float32, CPU)
    assert both is not None
    x = torch.ones(50, 2)
    assert torch.equal(both(x)[0], both(x)[0])
    energy.train()
    assert not torch.equal(both(x)[0], both(x)[0])


def test_no_forms_share_what_was_recognised():
    """Two energies built one after the other keep their own weights."""
    first, second = seeded(Net, 1), seeded(Net, 2)
    one, two = (MLP().build(each, (2,), torch.float32, CPU) for each in (first, second))
    check(one, first)
    check(two, second)
