"""Several steps in one call, and the polynomials that they are for: formulas, bits, changes of the energy."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from ebmcore.errors import EnergyError
from ebmcore.protocols import Key
from ebmcore_kernels.mlp import MLP
from ebmcore_kernels.numba_noise import Numba
from ebmcore_kernels.polynomial import MOST, Polynomial

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.float64]
KEY = Key((7, 1), 5, 0)


class Well:
    """U = sum_i u(x_i) for u' of any coefficients."""

    def __init__(self, slope):
        self.slope = slope

    def __call__(self, x):
        powers = range(1, len(self.slope) + 1)
        return sum(c / k * x**k for k, c in zip(powers, self.slope, strict=True)).flatten(1).sum(1)


def positions(n, d, dtype=torch.float32):
    return torch.linspace(-1.5, 1.5, n * d, dtype=dtype).reshape(n, d).clone()


def stride(gradient, first, n, **factors):
    return Numba().stride(gradient, range(first, first + n), 0.1, **factors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("terms", [1, 2, 3, 4, 5, 8, 9])
def test_a_gradient_is_the_polynomials_value(dtype, terms):
    slope = tuple((-1.0) ** k * (k + 1) / 3 for k in range(terms))
    x = positions(41, 3, dtype)
    u, gradient = Polynomial().build(Well(slope), (3,), dtype, CPU)(x)
    exact = np.polynomial.polynomial.polyval(x.double().numpy(), slope)
    # Horner's rule: an ulp of the sum of the terms' magnitudes for each of them.
    bound = np.polynomial.polynomial.polyval(abs(x.double().numpy()), np.abs(slope)) * terms * torch.finfo(dtype).eps
    assert (np.abs(gradient.double().numpy() - exact) <= bound).all()
    assert torch.equal(u, Well(slope)(x))


@pytest.mark.parametrize("shape", [(1,), (4,), (2, 3, 3)])
def test_positions_may_have_any_shape(shape):
    x = torch.linspace(-1, 1, 5 * math.prod(shape)).reshape(5, *shape)
    _, gradient = Polynomial().build(Well((1.0, 2.0)), shape, torch.float32, CPU)(x)
    torch.testing.assert_close(gradient, 1 + 2 * x)


@pytest.mark.parametrize(
    ("energy", "dtype", "device"),
    [
        (lambda x: x.sum(1), torch.float32, "cpu"),
        (Well(()), torch.float32, "cpu"),
        (Well((1.0,) * (MOST + 1)), torch.float32, "cpu"),
        (Well((1.0, math.inf)), torch.float32, "cpu"),
        (Well(0.01), torch.float32, "cpu"),
        (Well(torch.ones(2)), torch.float32, "cpu"),
        (Well(("a", "b")), torch.float32, "cpu"),
        (Well((1.0, 2.0)), torch.bfloat16, "cpu"),
        (Well((1.0, 2.0)), torch.float32, "cuda"),
        (type("Mute", (), {"slope": (1.0, 2.0)})(), torch.float32, "cpu"),
    ],
    ids=[
        "no slope",
        "empty",
        "too long",
        "infinite",
        "a number",
        "a tensor",
        "words",
        "half precision",
        "another device",
        "no value",
    ],
)
def test_what_it_is_not_for_is_left_to_others(energy, dtype, device):
    assert Polynomial().build(energy, (2,), dtype, torch.device(device)) is None


def test_a_slope_is_read_anew_and_must_stay_one():
    energy = Well((0.0, 1.0))
    gradient = Polynomial().build(energy, (2,), torch.float32, CPU)
    x = positions(4, 2)
    energy.slope = (0.0, 3.0)
    torch.testing.assert_close(gradient(x)[1], 3 * x)
    energy.slope = (0.0, math.nan)
    with pytest.raises(EnergyError, match="`slope` must be a tuple of 1 to 64 finite numbers"):
        gradient(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), [(1, 1), (7, 3), (1500, 2), (900, 5), (3, 5000)])
@pytest.mark.parametrize("first", [0, 11, 2**40])
def test_a_stride_is_its_steps(dtype, n, d, first):
    gradient = Polynomial().build(Well((0.3, -2.0, 0.0, 2.0)), (d,), dtype, CPU)
    x = positions(n, d, dtype)
    one = x.clone()
    for t in range(6):
        drift = 0.3 - 2 * one + 2 * one**3
        one = (
            0.9 * one
            - 0.05 * drift
            + 0.1 * Numba().fill_(torch.empty_like(x), "normal", Key((7, 1), 5 + t, 0), range(first, first + n))
        )
    moved = stride(gradient, first, n, decay=0.9, drift_scale=-0.05)(x.clone(), KEY, 6)
    # A few roundings a step, which this contracting map does not grow.
    torch.testing.assert_close(moved, one, rtol=0, atol=30 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("cuts", [[8], [1] * 8, [3, 5], [7, 1]])
@pytest.mark.parametrize("edges", [[0, 1501], [0, 1, 640, 1501], [0, 1499, 1501]])
def test_any_cut_of_steps_and_chains_gives_the_same_bits(cuts, edges):
    gradient = Polynomial().build(Well((0.0, -8.0, 0.0, 8.0)), (3,), torch.float32, CPU)
    whole = stride(gradient, 5, 1501, drift_scale=-0.01)(positions(1501, 3), KEY, 8)
    x = positions(1501, 3)
    for lo, hi in pairwise(edges):
        part, t = stride(gradient, 5 + lo, hi - lo, drift_scale=-0.01), 5
        rows = x[lo:hi].clone()
        for count in cuts:
            part(rows, KEY._replace(t=t), count)
            t += count
        assert torch.equal(rows, whole[lo:hi])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))


def one_by_one(gradient, x, n, steps):
    for t in range(steps):
        Numba().perturb_(x, 0.1, KEY._replace(t=5 + t), range(n), drift=gradient(x)[1], drift_scale=-0.05)
    return x


def test_a_perceptrons_stride_has_the_bits_of_its_steps():
    gradient = MLP().build(network(), (3,), torch.float32, CPU)
    steps = one_by_one(gradient, positions(333, 3), 333, 5)
    assert torch.equal(stride(gradient, 0, 333, drift_scale=-0.05)(positions(333, 3), KEY, 5), steps)


def test_a_perceptron_that_becomes_something_else_is_followed_on():
    net = network()
    gradient = MLP().build(net, (3,), torch.float32, CPU)
    move = stride(gradient, 0, 50, drift_scale=-0.05)
    before = move(positions(50, 3), KEY, 4)
    net[1] = nn.Mish()  # no activation of the kernel's
    after = move(positions(50, 3), KEY, 4)
    x = positions(50, 3)
    for t in range(4):
        leaf = x.clone().requires_grad_(True)
        (drift,) = torch.autograd.grad(net(leaf).sum(), leaf)
        Numba().perturb_(x, 0.1, KEY._replace(t=5 + t), range(50), drift=drift, drift_scale=-0.05)
    torch.testing.assert_close(after, x)
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("chains", [torch.arange(4), range(0, 8, 2)])
def test_other_chains_are_taken_step_by_step(chains):
    gradient = Polynomial().build(Well((0.0, 1.0)), (2,), torch.float32, CPU)
    assert Numba().stride(gradient, chains, 0.1) is None


def test_other_gradients_are_taken_step_by_step():
    assert Numba().stride(lambda x: (x.sum(1), x), range(4), 0.1) is None


def test_memory_outside_is_not_touched():
    gradient = Polynomial().build(Well((0.0, 1.0)), (3,), torch.float32, CPU)
    held = torch.full((1503, 3), 7.0)
    stride(gradient, 1, 1501, drift_scale=-0.05)(held[1:1502], KEY, 3)
    assert (held[0] == 7).all()
    assert (held[-1] == 7).all()
    assert not (held[1:1502] == 7).any()


def test_strided_positions_are_taken_step_by_step():
    gradient = Polynomial().build(Well((0.0, 1.0)), (4,), torch.float32, CPU)
    x = positions(4, 6).t()
    expected = stride(gradient, 0, 6, drift_scale=-0.05)(x.contiguous(), KEY, 3)
    torch.testing.assert_close(stride(gradient, 0, 6, drift_scale=-0.05)(x, KEY, 3), expected)
