from __future__ import annotations

import math

import pytest
import torch

from ebmcore_models.ackley import Ackley


def test_value_is_the_equation():
    x = 10 * torch.randn(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for a, b, c in ((20.0, 0.2, 2 * math.pi), (3.0, 1.1, 5.0)):
        r, m = (x**2).mean(-1).sqrt(), torch.cos(c * x).mean(-1)
        wanted = -a * torch.exp(-b * r) - torch.exp(m) + a + math.e
        torch.testing.assert_close(Ackley(a=a, b=b, c=c)(x), wanted, rtol=1e-12, atol=1e-12)


def test_defaults_are_torchebms_and_the_minimum_is_zero():
    assert (Ackley().a, Ackley().b, Ackley().c) == (20.0, 0.2, 2 * math.pi)
    assert Ackley()(torch.zeros(1, 5)).item() == 0
    # At a grid point the ripples are at their lowest, and the funnel alone is left.
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert float(Ackley()(x)) == pytest.approx(20 * (1 - math.exp(-0.2 * math.sqrt(12.5))), rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_at_the_cusp_is_zero_and_beside_it_the_funnels(dtype):
    """Beside 0, dU/dx = a b x / (d r) = (a b / sqrt(d)) x/|x|, even where the squares of x underflow."""
    model, d = Ackley(), 4
    assert model.gradient(torch.zeros(1, d, dtype=dtype)).abs().max() == 0
    tiny = 10 * torch.finfo(dtype).tiny ** 0.5
    direction = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5, -0.5, 0.5, 0.5]], dtype=dtype)
    torch.testing.assert_close(
        model.gradient(tiny * direction), 20 * 0.2 / math.sqrt(d) * direction, rtol=1e-4, atol=1e-10
    )
    assert model.gradient(1e-30 * torch.finfo(dtype).tiny ** 0.5 * direction).isfinite().all()


def test_it_is_bounded_and_so_no_density():
    """sup U = a + e - 1/e: exp(-U) stays above a positive number, and its integral over all x has no end."""
    x = torch.linspace(-1e6, 1e6, 200_001, dtype=torch.float64)[:, None] + 0.5
    u = Ackley()(x)
    bound = 20 + math.e - 1 / math.e
    assert u.max() <= bound
    assert u.max() == pytest.approx(bound, rel=1e-9)
    assert not hasattr(Ackley(), "exact_moments")
    assert not hasattr(Ackley(), "exact_draws")


def test_shape_is_fixed_by_dim_alone():
    assert not hasattr(Ackley(), "shape")
    assert Ackley(dim=3).shape == (3,)
