"""Multilayer perceptrons in the forms that users write them: recognised, and as precise as eager float32."""

from __future__ import annotations

import functools
from math import inf, nan

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ebmcore_kernels.mlp import MLP

SCALE = 0.75


def tensors(dtype, *shapes):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).mul(0.5).to(dtype) for shape in shapes]


def network(dtype, act=nn.SELU, widths=(2, 7, 9, 1), **options):
    generator = torch.Generator().manual_seed(5)
    layers = []
    for before, after in zip(widths, widths[1:], strict=False):
        linear = nn.Linear(before, after, dtype=dtype)
        for parameter in linear.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = (drawn / before**0.5).to(dtype)
        layers += [linear, act(**options)]
    return nn.Sequential(*layers[:-1])


class Plain(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).squeeze(-1)


class Quadratic(Plain):
    def __init__(self, net, k=0.25):
        super().__init__(net)
        self.k = k

    def penalty(self, x):
        return self.k * (x**2).sum(dim=-1)

    def forward(self, x):
        return super().forward(x) + self.penalty(x)


class ByHand(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        w1, b1, w2, b2 = tensors(dtype, (8, 2), (8,), (1, 8), (1,))
        self.w1, self.b1, self.w2 = nn.Parameter(w1), nn.Parameter(b1), nn.Parameter(w2)
        self.register_buffer("b2", b2)

    def forward(self, x):
        hidden = torch.tanh(x @ self.w1.T + self.b1)
        return (hidden @ self.w2.t() + self.b2)[:, 0]


class Callable:
    def __init__(self, dtype):
        self.net = network(dtype)

    def __call__(self, x):
        return self.net(x).flatten()

    def energy(self, x):
        return -self.net(x).view(-1)


def vector_head(dtype):
    w, b, v = tensors(dtype, (2, 6), (6,), (6,))
    return lambda x: F.silu(torch.addmm(b, x, w)) @ v + 1.5


def loop(dtype):
    weights = tensors(dtype, (5, 2), (5, 5), (1, 5))
    biases = tensors(dtype, (5,), (5,), (1,))

    def energy(x):
        h = x
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            h = F.linear(h, w, b)
            if i < len(weights) - 1:
                h = F.softplus(h)
        return h.reshape(-1)

    return energy


def with_k(net, x, k):
    return net(x).sum(-1) * SCALE + k * x.pow(2).sum(1)


def of(make):
    """Return a form: a function of a network, as one of a dtype."""
    return lambda dtype: make(network(dtype))


FORMS = {
    **{
        f"{act.__name__} {options}": functools.partial(
            lambda dtype, act, options: Plain(network(dtype, act, **options)), act=act, options=options
        )
        for act, options in (
            (nn.SELU, {}),
            (nn.SELU, {"inplace": True}),
            (nn.ELU, {}),
            (nn.ELU, {"alpha": 0.7}),
            (nn.ReLU, {}),
            (nn.ReLU, {"inplace": True}),
            (nn.LeakyReLU, {}),
            (nn.LeakyReLU, {"negative_slope": 0.2}),
            (nn.SiLU, {}),
            (nn.Tanh, {}),
            (nn.Softplus, {}),
            (nn.GELU, {}),
            (nn.GELU, {"approximate": "tanh"}),
            (nn.Identity, {}),
            (nn.Dropout, {}),
        )
    },
    "quadratic": of(Quadratic),
    "one hidden layer": lambda dtype: Plain(network(dtype, nn.SiLU, (2, 128, 1))),
    "four of it": lambda dtype: Plain(network(dtype, nn.GELU, (2, 4, 4, 4, 4, 1))),
    "by hand": ByHand,
    "callable object": Callable,
    "bound method": lambda dtype: Callable(dtype).energy,
    "vector head": vector_head,
    "loop": loop,
    "lambda": of(lambda net: lambda x: net(x)[..., 0]),
    "partial": of(lambda net: functools.partial(with_k, net, k=0.3)),
    "default": of(lambda net: lambda x, k=2.0: net(x).squeeze(1) / k),
    "sign": of(lambda net: lambda x: 1.0 - net(x).squeeze()),
    "negated": of(lambda net: lambda x: -0.5 * net(x).squeeze(-1) - 3),
    "x * x": of(lambda net: lambda x: net(x).squeeze(-1) + 0.5 * (x * x).sum(-1)),
    "half x times x": of(lambda net: lambda x: (0.5 * x * x).sum(-1) + net(x).squeeze(-1)),
    "square": of(lambda net: lambda x: net(x).squeeze(-1) + torch.square(x).sum(dim=(1,)) / 3),
    "scaled square": of(lambda net: lambda x: net(x).squeeze(-1) + (x / 2).pow(2).sum(-1)),
    "torch.sum": of(lambda net: lambda x: torch.sum(x**2, dim=1) - net(x).squeeze(-1)),
    "column": of(lambda net: lambda x: (net(x) + 0.1 * (x**2).sum(-1, keepdim=True)).squeeze(-1)),
    "mean": of(lambda net: lambda x: net(x).mean(-1) + (x**2).mean(-1)),
    "norm": of(lambda net: lambda x: net(x).squeeze(-1) + x.norm(dim=-1) ** 2),
    "vector norm": of(lambda net: lambda x: net(x).squeeze(-1) + 0.5 * torch.linalg.vector_norm(x, dim=1).pow(2)),
    "twice": of(lambda net: lambda x: 2 * (net(x).squeeze(-1) + 0.5 * (x**2).sum(-1) + 1)),
    "in place": of(lambda net: lambda x: net(x).squeeze(-1).mul_(2).add_(1)),
    "view": of(lambda net: lambda x: net(x.view(-1, 2)).view(-1)),
    "axes": of(lambda net: lambda x: net(x if x.ndim == 2 else x[None]).squeeze(-1)),
}

CPU = torch.device("cpu")


def truth(energy, x):
    leaf = x.clone().requires_grad_()
    u = energy(leaf)
    (g,) = torch.autograd.grad(u.sum(), leaf)
    return u.detach(), g


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_recognised_and_as_precise_as_eager(name):
    energy, exact = FORMS[name](torch.float32), FORMS[name](torch.float64)
    for module in (energy, exact):
        if isinstance(module, nn.Module):
            module.eval()
    fused = MLP().build(energy, (2,), torch.float32, CPU)
    assert fused is not None
    x = torch.randn(1001, 2, generator=torch.Generator().manual_seed(1)) * 2
    # Float32's rounding may put a unit on the other side of a kink: a position within 1e-6 of one is left out.
    settled = torch.ones(1001, dtype=torch.bool)
    if name.startswith(("ReLU", "LeakyReLU", "SELU", "ELU")):
        near = [truth(exact, x.double() + shift)[1] for shift in (-1e-5, 1e-5)]
        settled = (near[0] - near[1]).abs().amax(-1) < 1e-2
        assert settled.float().mean() > 0.98
    for ours, eager, best in zip(fused(x), truth(energy, x), truth(exact, x.double()), strict=True):
        limit = 2 * (eager[settled] - best[settled]).abs().max() + 4e-7 * best.abs().max()
        assert (ours[settled] - best[settled]).abs().max() <= limit


@pytest.mark.parametrize("act", [nn.SELU, nn.ELU, nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.Tanh, nn.Softplus, nn.GELU])
def test_no_nan_becomes_a_number(act):
    energy = Quadratic(network(torch.float32, act))
    fused = MLP().build(energy, (2,), torch.float32, CPU)
    x = torch.tensor([[nan, 0.0], [inf, 1.0], [-inf, 1.0], [1.0, nan], [1e30, -1e30], [3e38, 3e38], [0.5, 0.5]])
    (u, g), (v, h) = fused(x), truth(energy, x)
    assert (u.isnan() | ~v.isnan()).all()
    assert (g.isnan() | ~h.isnan()).all()
    torch.testing.assert_close(u[-1], v[-1])
    torch.testing.assert_close(g[-1], h[-1])
    assert torch.equal(u.isfinite(), v.isfinite())
    with torch.no_grad():
        energy.net[0].bias[0] = nan
    assert fused(x)[0].isnan().all()


@pytest.mark.parametrize("k", [True, False])
def test_values_at_infinity_are_those_of_eager(k):
    energy = (Quadratic if k else Plain)(network(torch.float32, nn.SELU))
    x = torch.tensor([[inf, 0.0], [-inf, 0.0], [inf, inf], [nan, 1.0]])
    torch.testing.assert_close(
        MLP().build(energy, (2,), torch.float32, CPU)(x)[0], truth(energy, x)[0], equal_nan=True
    )


@pytest.mark.parametrize("d", [1, 3, 5, 10, 64])
def test_any_number_of_dimensions(d):
    energy, exact = (Quadratic(network(dtype, nn.SiLU, (d, 13, 6, 1))) for dtype in (torch.float32, torch.float64))
    x = torch.randn(130, d, generator=torch.Generator().manual_seed(2))
    for ours, best in zip(
        MLP().build(energy, (d,), torch.float32, CPU)(x), truth(exact, x.double()), strict=True
    ):
        torch.testing.assert_close(ours.double(), best, rtol=1e-5, atol=1e-5)
