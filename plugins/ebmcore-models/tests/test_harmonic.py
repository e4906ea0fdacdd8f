from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from scipy.stats import norm

from ebmcore.errors import InputError
from ebmcore.protocols import HasGradient, HasShape, HasValueAndGradient
from ebmcore_models.harmonic import Harmonic


def test_value_is_half_k_x_squared():
    """TorchEBM's: 0.5 * k * sum x^2, with k = 1 left out."""
    x = torch.tensor([[0.0, 0.0], [1.0, -2.0], [3.0, 4.0]])
    assert Harmonic()(x).tolist() == [0.0, 2.5, 12.5]
    assert Harmonic(k=4.0)(x).tolist() == [0.0, 10.0, 50.0]


@pytest.mark.parametrize("k", [0.2, 5.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_exact_moments_are_the_normals(k, temperature):
    law = norm(scale=math.sqrt(temperature / k))
    exact = Harmonic(k=k).exact_moments(temperature)
    assert exact["mean"] == 0
    assert exact["variance"] == pytest.approx(law.var(), rel=1e-14)
    assert exact["abs"] == pytest.approx(law.expect(abs), rel=1e-9)
    x = torch.tensor([[1.3]], dtype=torch.float64)
    log_ratio = law.logpdf(0.0) - law.logpdf(1.3)
    assert float(Harmonic(k=k)(x)) / temperature == pytest.approx(log_ratio, rel=1e-12)


def test_shape_is_fixed_by_dim_alone():
    free, fixed = Harmonic(), Harmonic(dim=3)
    assert not isinstance(free, HasShape)
    assert isinstance(fixed, HasShape)
    assert copy.deepcopy(fixed).shape == pickle.loads(pickle.dumps(fixed)).shape == (3,)
    assert isinstance(free, HasGradient)
    assert isinstance(free, HasValueAndGradient)


def test_temperature_must_be_positive():
    with pytest.raises(InputError, match=r"^`temperature` must be > 0; got -1\.0\. Choose"):
        Harmonic().exact_moments(-1.0)
