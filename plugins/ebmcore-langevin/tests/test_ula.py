from __future__ import annotations

import dataclasses
import math
import pickle

import pytest
import torch
from torch import Tensor

from ebmcore.errors import SamplerError, SettingsError
from ebmcore.protocols import HasNeeds
from ebmcore_langevin.ula import ULA


class Quadratic:
    """U/T = stiffness/2 x^2: just what a sampler that needs gradients may call."""

    def __init__(self, stiffness: float) -> None:
        self.stiffness = stiffness

    def gradient(self, x: Tensor) -> Tensor:
        return self.stiffness * x


class GeneratorNoise:
    """`Noise.perturb_` with torch's generator, and a count of the calls; `last` is the z of the last call."""

    step, steps = 0, 1

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.calls = 0

    def perturb_(self, x: Tensor, scale: float, /, *, decay: float = 1.0, drift: Tensor, drift_scale: float) -> Tensor:
        assert drift.data_ptr() != x.data_ptr() or not x.numel()
        self.calls += 1
        self.last = torch.randn(x.shape, dtype=x.dtype, generator=self.generator)
        return x.mul_(decay).add_(drift, alpha=drift_scale).add_(self.last, alpha=scale)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (0, 2), (4, 1, 2, 2)])
@pytest.mark.parametrize(
    ("settings", "std"),
    [
        ({}, math.sqrt(0.2)),
        ({"noise_scale": 0.5}, 0.5 * math.sqrt(0.2)),
        ({"noise_std": 0.01}, 0.01),
        ({"noise_scale": 0.0}, 0.0),
    ],
)
def test_one_step_is_the_update_equation(shape, settings, std):
    start = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    energy, noise, ula = Quadratic(3.0), GeneratorNoise(2), ULA(step_size=0.1, **settings)
    state = ula.init(energy, start.clone(), noise)
    torch.testing.assert_close(state.position, start, rtol=0, atol=0)
    state, info = ula.step(energy, state, noise)
    torch.testing.assert_close(state.position, start - 0.1 * 3.0 * start + std * noise.last, rtol=1e-14, atol=1e-14)
    assert info is None
    assert noise.calls == 1


def test_a_step_works_in_place():
    position, ula, energy, noise = torch.ones(4, 2), ULA(step_size=0.1), Quadratic(1.0), GeneratorNoise(0)
    state, _ = ula.step(energy, ula.init(energy, position, noise), noise)
    assert state.position.data_ptr() == position.data_ptr()


def test_the_two_ways_to_say_the_noise_are_one():
    def run(**settings: float) -> Tensor:
        ula, noise = ULA(step_size=0.05, **settings), GeneratorNoise(4)
        state = ula.init(Quadratic(1.0), torch.zeros(10, 2, dtype=torch.float64), noise)
        for _ in range(20):
            state, _ = ula.step(Quadratic(1.0), state, noise)
        return state.position

    torch.testing.assert_close(run(noise_scale=0.3), run(noise_std=0.3 * math.sqrt(2 * 0.05)), rtol=1e-12, atol=0)
    assert torch.equal(run(), run(noise_scale=1.0))


def stationary_variance(ula: ULA, stiffness: float, chains: int, steps: int) -> float:
    noise, energy = GeneratorNoise(11), Quadratic(stiffness)
    state = ula.init(energy, torch.zeros(chains, dtype=torch.float64), noise)
    for _ in range(steps):
        state, _ = ula.step(energy, state, noise)
    return float(state.position.square().mean())


@pytest.mark.parametrize("eps", [0.1, 0.5, 1.2])
@pytest.mark.parametrize(("settings", "temperature"), [({}, 1.0), ({"noise_scale": math.sqrt(2.5)}, 2.5)])
def test_stationary_variance_on_a_gaussian(eps, settings, temperature):
    """T / (k (1 - eps k / 2)) at k = 1.5.

    The variance of 50,000 independent normals, whose mean is known, has a relative standard error of
    sqrt(2 / 50,000) = 0.63 %; 5 of them are 3.2 %. The continuous process (no factor 1 - eps k / 2)
    would be off by 8 % at the smallest eps. From zero, 120 steps are off by (1 - eps k)^240 < 1e-16.
    """
    k, chains = 1.5, 50_000
    exact = temperature / (k * (1 - eps * k / 2))
    measured = stationary_variance(ULA(step_size=eps, **settings), k, chains, 120)
    assert abs(measured / exact - 1) < 5 * math.sqrt(2 / chains)


def test_stationary_variance_with_a_fixed_noise():
    """s^2 / (eps k (2 - eps k)), for the short-run recipe's kind of noise; tolerance as above."""
    eps, k, s, chains = 0.4, 2.0, 0.01, 50_000
    measured = stationary_variance(ULA(step_size=eps, noise_std=s), k, chains, 60)
    assert abs(measured / (s**2 / (eps * k * (2 - eps * k))) - 1) < 5 * math.sqrt(2 / chains)


@pytest.mark.parametrize(("settings", "std"), [({}, None), ({"noise_scale": 0.5}, None), ({"noise_std": 0.01}, 0.01)])
def test_the_step_size_may_be_a_schedule(settings, std):
    """x <- (1 - 3 eps_k) x + std_k z with eps_k = 0.3 / (k + 3), by hand."""
    ula, energy, noise = (
        ULA(step_size=lambda step, steps: 0.1 * steps / (step + 3), **settings),
        Quadratic(3.0),
        GeneratorNoise(2),
    )
    noise.steps = 3
    expected = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)
    state = ula.init(energy, expected.clone(), noise)
    for step in (-2, -1, 0, 1, 2):
        noise.step = step
        state, _ = ula.step(energy, state, noise)
        eps = 0.3 / (step + 3)
        noise_std = std if std is not None else settings.get("noise_scale", 1.0) * math.sqrt(2 * eps)
        expected = (1 - 3 * eps) * expected + noise_std * noise.last
        torch.testing.assert_close(state.position, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("value", [0.0, -0.5, math.nan, math.inf])
def test_a_schedule_must_stay_positive(value):
    ula, noise = ULA(step_size=lambda step, steps: value), GeneratorNoise(1)
    noise.step, noise.steps = -3, 20
    state = ula.init(Quadratic(1.0), torch.zeros(2, 1), noise)
    with pytest.raises(SamplerError) as caught:
        ula.step(Quadratic(1.0), state, noise)
    message = str(caught.value)
    assert message.startswith(f"`step_size` must be > 0 and finite at every step; got {value} at step -3 of 20. Choose")
    assert "\n" not in message


def test_both_noises_are_refused():
    with pytest.raises(
        SettingsError, match=r"^`noise_std` must be left out beside `noise_scale`; got 0.1 and 1.0. Set one: "
    ):
        ULA(step_size=0.1, noise_scale=1.0, noise_std=0.1)


def test_settings_carry_bounds_and_descriptions():
    fields = {f.name: f for f in dataclasses.fields(ULA)}
    assert list(fields) == ["step_size", "noise_scale", "noise_std"]
    assert fields["step_size"].default is dataclasses.MISSING
    assert fields["step_size"].metadata["gt"] == 0
    assert fields["noise_scale"].metadata["ge"] == fields["noise_std"].metadata["ge"] == 0
    assert all(f.metadata["description"] for f in fields.values())


def test_it_says_what_it_needs_and_is_a_value():
    ula = ULA(step_size=0.1)
    assert isinstance(ula, HasNeeds)
    assert ula.needs == {"gradient"}
    assert ula.fixed == (-0.1, math.sqrt(0.2))
    assert pickle.loads(pickle.dumps(ula)) == ula == ULA(0.1)
    assert dataclasses.replace(ula, step_size=0.4).fixed == (-0.4, math.sqrt(0.8))
    assert ULA(step_size=lambda step, steps: 0.1).fixed is None
