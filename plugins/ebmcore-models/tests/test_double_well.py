from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import pytest
import torch
from scipy.integrate import quad

from ebmcore.errors import InputError
from ebmcore.protocols import HasGradient, HasShape, HasValueAndGradient
from ebmcore_models.double_well import DoubleWell

WELLS = [
    DoubleWell(),
    DoubleWell(barrier_height=0.3, b=2.0),
    DoubleWell(barrier_height=7.0, b=0.0),
    DoubleWell(1.3, 0.7, dim=3),
]


@pytest.mark.parametrize("well", WELLS, ids=str)
def test_value_is_the_equation(well):
    x = torch.linspace(-2, 2, 30, dtype=torch.float64).reshape(10, 3)
    rows = [sum(well.barrier_height * (xi**2 - well.b**2) ** 2 for xi in row) for row in x.tolist()]
    torch.testing.assert_close(well(x), torch.tensor(rows, dtype=torch.float64), rtol=1e-12, atol=0)


def test_defaults_are_torchebms():
    """h = 2 and wells at -1 and 1: U(0) = 2 a coordinate, U(2) = 2 * 9."""
    assert DoubleWell()(torch.tensor([[0.0, 0.0], [1.0, -1.0], [2.0, 1.0]])).tolist() == [4.0, 0.0, 18.0]


def test_the_minima_are_stationary():
    assert DoubleWell(b=1.5).gradient(torch.tensor([[1.5, -1.5, 0.0]])).abs().max() == 0


def test_shape_is_fixed_by_dim_alone():
    free, fixed = DoubleWell(), DoubleWell(dim=3)
    assert not hasattr(free, "shape")
    assert not isinstance(free, HasShape)
    assert isinstance(fixed, HasShape)
    assert fixed.shape == (3,)
    assert copy.deepcopy(fixed).shape == pickle.loads(pickle.dumps(fixed)).shape == (3,)
    assert isinstance(free, HasGradient)
    assert isinstance(free, HasValueAndGradient)
    assert {f.name for f in dataclasses.fields(free) if f.init} == {"barrier_height", "b", "dim"}


@pytest.mark.parametrize("h", [0.05, 2.0, 300.0])
@pytest.mark.parametrize("b", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_exact_moments_against_adaptive_quadrature(h, b, temperature):
    def moment(power: int) -> float:
        # The mass sits within some widths of b: adaptive quadrature must be told where to look.
        width = 12 * min(math.sqrt(temperature / (8 * h)) / max(b, 1e-9), (temperature / h) ** 0.25)
        points = [max(0.0, b - width), b, b + width]

        def weighted(x: float) -> float:
            return x**power * math.exp(-h / temperature * (x * x - b * b) ** 2)

        return sum(
            quad(weighted, lo, hi, epsabs=0, epsrel=1e-12, limit=200)[0]
            for lo, hi in zip([0.0, *points], [*points, b + 2 * width], strict=True)
            if hi > lo
        )

    exact = DoubleWell(barrier_height=h, b=b).exact_moments(temperature)
    assert exact["mean"] == 0
    assert exact["abs"] == pytest.approx(moment(1) / moment(0), rel=1e-10)
    assert exact["variance"] == pytest.approx(moment(2) / moment(0), rel=1e-10)


def test_exact_moments_in_known_limits():
    # exp(-h x^4): E x^2 = Gamma(3/4) / Gamma(1/4) / sqrt(h); a very deep well: a narrow Gaussian at b.
    quartic = DoubleWell(barrier_height=3.0, b=0.0).exact_moments()
    assert quartic["variance"] == pytest.approx(math.gamma(0.75) / math.gamma(0.25) / math.sqrt(3.0), rel=1e-12)
    deep = DoubleWell(barrier_height=1e8, b=2.0).exact_moments()
    assert deep["variance"] == pytest.approx(4.0, rel=1e-7)
    assert deep["abs"] == pytest.approx(2.0, rel=1e-7)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(InputError, match="`temperature` must be > 0; got"):
        DoubleWell().exact_moments(temperature)
