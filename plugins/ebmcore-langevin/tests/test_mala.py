from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from ebmcore.errors import SamplerError
from ebmcore.protocols import HasNeeds
from ebmcore_langevin.mala import MALA, MALAState


class Energy:
    """An energy from a function of value and gradient, with a count of its calls."""

    def __init__(self, f) -> None:
        self.f, self.calls = f, 0

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.f(x)


class GeneratorNoise:
    """Noise from torch's generator that keeps what it gave: `z` and `coin` of the last step, and the calls."""

    step, steps = 0, 1

    def __init__(self, seed: int, dtype=torch.float64) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype
        self.calls: list[str] = []

    def perturb_(self, x, scale, /, *, drift, drift_scale):
        self.calls.append("perturb_")
        self.n = len(x)
        self.z = torch.randn(x.shape, dtype=x.dtype, generator=self.generator)
        return x.add_(drift, alpha=drift_scale).add_(self.z, alpha=scale)

    def uniform_per_chain(self):
        self.calls.append("uniform_per_chain")
        self.coin = torch.rand(self.n, dtype=self.dtype, generator=self.generator)
        return self.coin


def quartic(x: Tensor) -> tuple[Tensor, Tensor]:
    return (x**4).reshape(len(x), math.prod(x.shape[1:])).sum(1), 4 * x**3


def begin(energy, sampler, position, noise) -> MALAState:
    return sampler.init(energy, position.clone(), noise)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2)])
def test_acceptance_is_that_of_the_normal_densities(shape):
    """The oracle writes out U and both normal densities, chain by chain, in numpy."""
    n, eps = 40, 0.07
    start = torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    energy, noise, mala = Energy(quartic), GeneratorNoise(2), MALA(step_size=eps)
    state, info = mala.step(energy, begin(energy, mala, start, noise), noise)

    x, z, coin = start.numpy(), noise.z.numpy(), noise.coin.numpy()
    moved = 0
    for c in range(n):
        a = np.atleast_1d(x[c])
        b = a - eps * 4 * a**3 + np.sqrt(2 * eps) * np.atleast_1d(z[c])
        log_forth = -np.sum((b - a + eps * 4 * a**3) ** 2) / (4 * eps)
        log_back = -np.sum((a - b + eps * 4 * b**3) ** 2) / (4 * eps)
        ratio = np.sum(a**4) - np.sum(b**4) + log_back - log_forth
        rate = min(1.0, np.exp(ratio))
        end = b if coin[c] < rate else a
        moved += coin[c] < rate
        assert float(info.acceptance_rate[c]) == pytest.approx(rate, rel=1e-9, abs=1e-300)
        np.testing.assert_allclose(np.atleast_1d(state.position[c].numpy()), end, rtol=1e-14)
        assert float(info.lp[c]) == pytest.approx(-np.sum(end**4), rel=1e-13)
        assert bool(info.diverging[c]) == (ratio < -1000)
    assert 5 < moved < 35, "both outcomes are seen"


def test_value_and_gradient_follow_the_position():
    energy, noise, mala = Energy(quartic), GeneratorNoise(3), MALA(step_size=0.2)
    state = begin(energy, mala, torch.randn(200, 2, dtype=torch.float64, generator=noise.generator), noise)
    for _ in range(10):
        state, info = mala.step(energy, state, noise)
        value, gradient = quartic(state.position)
        assert torch.equal(state.value, value)
        assert torch.equal(state.gradient, gradient)
        assert torch.equal(info.lp, -value)


def test_a_step_makes_two_calls_of_noise_and_one_of_the_energy():
    energy, noise, mala = Energy(quartic), GeneratorNoise(4), MALA(step_size=0.1)
    state = begin(energy, mala, torch.zeros(5, 2, dtype=torch.float64), noise)
    assert (energy.calls, noise.calls) == (1, [])
    for _ in range(3):
        state, _ = mala.step(energy, state, noise)
    assert energy.calls == 4
    assert noise.calls == ["perturb_", "uniform_per_chain"] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("value", "gradient"),
    [(math.nan, 0.0), (math.inf, 0.0), (-math.inf, 0.0), (0.0, math.nan), (0.0, math.inf), (math.nan, math.nan)],
)
def test_a_proposal_that_is_not_finite_is_rejected(dtype, value, gradient):
    """Outside |x| < 1 the energy is broken. A sampler that took NaN for 0 would accept there."""

    def walled(x):
        inside = (x.abs() < 1).all(1)
        u, g = 0.5 * x.square().sum(1), x.clone()
        return torch.where(inside, u, value), torch.where(inside[:, None], g, gradient)

    start = torch.linspace(-0.9, 0.9, 100, dtype=dtype)[:, None].repeat(1, 2)
    energy, noise, mala = Energy(walled), GeneratorNoise(5, dtype), MALA(step_size=0.5)
    state = begin(energy, mala, start, noise)
    outside = 0
    for _ in range(20):
        before = state.position.clone()
        state, info = mala.step(energy, state, noise)
        proposal = before - 0.5 * before + noise.z
        out = ~(proposal.abs() < 1).all(1)
        outside += int(out.sum())
        assert torch.equal(state.position[out], before[out]), "to the bit"
        assert (info.acceptance_rate[out] == 0).all()
        assert info.diverging[out].all()
        assert not info.diverging[~out].any()
        assert all(field.isfinite().all() for field in (*state, info.acceptance_rate, info.lp))
        assert (state.position.abs() < 1).all()
    assert outside > 500


def test_a_log_ratio_below_minus_1000_is_marked():
    def steep(x):
        return 1e4 * x.square().sum(1), 2e4 * x

    energy, noise, mala = Energy(steep), GeneratorNoise(6), MALA(step_size=1.0)
    state = begin(energy, mala, torch.full((10, 1), 0.1, dtype=torch.float64), noise)
    after, info = mala.step(energy, state, noise)
    assert info.diverging.all()
    assert (info.acceptance_rate == 0).all()
    assert torch.equal(after.position, state.position)


def test_a_chain_outside_the_region_comes_in_and_one_at_nan_stays():
    def walled(x):
        u = 0.5 * x.square().sum(1)
        u = torch.where((x.abs() < 1).all(1), u, math.inf)
        return torch.where((x == 9).any(1), math.nan, u), x.clone()

    energy, noise, mala = Energy(walled), GeneratorNoise(7), MALA(step_size=0.5)
    state = begin(energy, mala, torch.tensor([[1.1]] * 50 + [[9.0]], dtype=torch.float64), noise)
    for _ in range(50):
        state, info = mala.step(energy, state, noise)
    assert (state.position[:-1].abs() < 1).all()
    assert state.position[-1] == 9
    assert info.diverging[-1]


def test_the_step_size_may_be_a_schedule():
    """The same noise through a schedule, and through plain numbers step by step."""

    def schedule(step, steps):
        return 0.1 / (step + 3) * steps

    energy = Energy(quartic)
    start = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    one, two = GeneratorNoise(9), GeneratorNoise(9)
    one.steps = 4
    scheduled = MALA(step_size=schedule)
    state, plain = begin(energy, scheduled, start, one), begin(energy, scheduled, start, two)
    for step in range(-2, 4):
        one.step = step
        state, _ = scheduled.step(energy, state, one)
        plain, _ = MALA(step_size=0.4 / (step + 3)).step(energy, plain, two)
        assert torch.equal(state.position, plain.position)


@pytest.mark.parametrize("value", [0.0, -0.5, math.nan, math.inf])
def test_a_schedule_must_stay_positive(value):
    energy, noise, mala = Energy(quartic), GeneratorNoise(1), MALA(step_size=lambda step, steps: value)
    noise.step, noise.steps = 7, 20
    state = begin(energy, mala, torch.zeros(2, 1, dtype=torch.float64), noise)
    with pytest.raises(SamplerError) as caught:
        mala.step(energy, state, noise)
    message = str(caught.value)
    assert message.startswith(f"`step_size` must be > 0 and finite at every step; got {value} at step 7 of 20. Choose")
    assert "\n" not in message


def test_settings_carry_bounds_and_descriptions():
    (step_size,) = dataclasses.fields(MALA)
    assert step_size.default is dataclasses.MISSING
    assert step_size.metadata["gt"] == 0
    assert step_size.metadata["description"]


def test_it_says_what_it_needs_and_is_a_value():
    mala = MALA(step_size=0.1)
    assert isinstance(mala, HasNeeds)
    assert mala.needs == {"value", "gradient"}
    assert pickle.loads(pickle.dumps(mala)) == mala == MALA(0.1)
