from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import ive

from ebmcore.errors import InputError
from ebmcore_models.rastrigin import Rastrigin


def test_value_is_the_equation():
    x = 5 * torch.randn(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for a in (10.0, 0.4):
        wanted = a * 3 + (x**2 - a * torch.cos(2 * math.pi * x)).sum(-1)
        torch.testing.assert_close(Rastrigin(a=a)(x), wanted, rtol=1e-12, atol=1e-12)


def test_published_values():
    """a = 10: the minimum U(0) = 0; U = 1 at a neighbouring whole number, 20.25 on the barrier, 40.25 at 4.5."""
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0], [4.5, 0.0], [4.5, 4.5]], dtype=torch.float64)
    torch.testing.assert_close(
        Rastrigin()(x), torch.tensor([0.0, 1.0, 20.25, 40.25, 80.5], dtype=torch.float64), rtol=1e-12, atol=0
    )
    assert Rastrigin()(torch.zeros(1, 7)).item() == 0
    assert Rastrigin().gradient(torch.zeros(1, 7)).abs().max() == 0


def test_a_small_energy_keeps_its_digits():
    """U = (1 + 2 pi^2 a) x^2 + O(x^4): at x = 1e-4 in float32, 10 - 10 cos would keep none of its digits."""
    x = torch.full((1, 1), 1e-4)
    assert float(Rastrigin()(x)) == pytest.approx((1 + 20 * math.pi**2) * 1e-8, rel=1e-5)


@pytest.mark.parametrize("a", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0, 1000.0])
def test_exact_moments_against_a_series_of_bessel_functions(a, temperature):
    """exp(k cos t) = I_0(k) + 2 sum_n I_n(k) cos(n t), and Gaussian integrals of x^2j cos(2 pi n x) are known."""
    n = np.arange(60)
    terms = np.where(n == 0, 1.0, 2.0) * ive(n, a / temperature) * np.exp(-((math.pi * n) ** 2) * temperature)
    second = (temperature / 2) * (1 - 2 * (math.pi * n) ** 2 * temperature)
    exact = Rastrigin(a=a).exact_moments(temperature)
    assert exact["variance"] == pytest.approx((terms * second).sum() / terms.sum(), rel=1e-11)
    assert exact["mean"] == 0


@pytest.mark.parametrize("a", [0.1, 10.0, 1e6])
@pytest.mark.parametrize("temperature", [0.01, 0.2, 1.0, 5.0])
def test_exact_moments_against_adaptive_quadrature(a, temperature):
    edge = math.ceil(math.sqrt(50 * temperature)) + 1

    def moment(power: int) -> float:
        def weighted(x: float) -> float:
            return x**power * math.exp(-(x**2 + 2 * a * math.sin(math.pi * x) ** 2) / temperature)

        # Told where each well is and how wide: adaptive quadrature would miss one that is a millionth wide.
        width = min(12 * math.sqrt(temperature / (2 + 4 * math.pi**2 * a)), 0.5)
        pieces = [(max(0.0, k + side * width), k + (side + 1) * width) for k in range(edge) for side in (-1, 0)]
        return sum(quad(weighted, lo, hi, epsabs=0, epsrel=1e-12, limit=200)[0] for lo, hi in pieces if hi > lo)

    exact = Rastrigin(a=a).exact_moments(temperature)
    assert exact["variance"] == pytest.approx(moment(2) / moment(0), rel=1e-9)
    assert exact["abs"] == pytest.approx(moment(1) / moment(0), rel=1e-9)


def test_exact_moments_in_known_limits():
    # Deep wells are Gaussians of stiffness 2 + 4 pi^2 a, well k a factor exp(-k^2/T) less likely than well 0, which
    # is alone at T = 0.02. Far above the barriers the cosine averages out: N(0, T/2).
    cold = Rastrigin(a=1e4).exact_moments(0.02)
    assert cold["variance"] == pytest.approx(0.02 / (2 + 4e4 * math.pi**2), rel=1e-4)
    hot = Rastrigin(a=1.0).exact_moments(1e4)
    assert hot["variance"] == pytest.approx(5e3, rel=1e-9)
    assert hot["abs"] == pytest.approx(math.sqrt(1e4 / math.pi), rel=1e-5)


def test_shape_is_fixed_by_dim_alone():
    assert not hasattr(Rastrigin(), "shape")
    fixed = Rastrigin(dim=3)
    assert copy.deepcopy(fixed).shape == pickle.loads(pickle.dumps(fixed)).shape == (3,)


def test_temperature_must_be_positive():
    with pytest.raises(InputError, match=r"^`temperature` must be > 0; got nan\. Choose"):
        Rastrigin().exact_moments(math.nan)
