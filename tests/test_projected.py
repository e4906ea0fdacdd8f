"""`projected` around samplers: exact laws where they are known, bounds, consistent states, and the same bits.

Tolerances are 5 standard errors, or a p-value as rare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pytest
import torch
from scipy import stats
from torch import Tensor

import ebmcore as ebm
from ebmcore.energy import BoundEnergy
from ebmcore.noise import INIT, STEP, CounterNoise
from ebmcore.reference import Reference
from tests.test_same_bits import ENERGIES, digest

FIVE_SIGMA = 2 * stats.norm.sf(5)


def flat(x):
    return 0.0 * x.sum(-1)


def quadratic(x):
    return 0.5 * x.square().sum(-1)


def projected(sampler, **settings):
    return ebm.load("sampler", "projected")(sampler, **settings)


def ula(step_size, **settings):
    return ebm.load("sampler", "ula")(step_size=step_size, **settings)


def mala(step_size):
    return ebm.load("sampler", "mala")(step_size=step_size)


@pytest.mark.parametrize("how", ["clamp", "reflect"])
@pytest.mark.parametrize("inner", [ula(0.3), ula(30.0), mala(0.3)], ids=["ula", "ula far out", "mala"])
@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.25), (0.0, None), (None, 0.75)])
def test_every_draw_is_within_the_bounds(how, inner, low, high):
    """The walk that steps 30 long goes some ten widths of the interval out each time."""
    model = flat if inner == ula(30.0) else quadratic
    result = ebm.sample(
        model, projected(inner, low=low, high=high, how=how), chains=500, shape=(3,), steps=30, draws=30, seed=1
    )
    assert low is None or (result.draws >= low).all()
    assert high is None or (result.draws <= high).all()
    on_a_bound = (result.draws == low) | (result.draws == high)
    assert on_a_bound.any() == (how == "clamp")


@pytest.mark.parametrize("step_size", [0.001, 0.1, 5.0])
def test_reflected_ula_keeps_the_uniform_law(step_size):
    """U = 0, from exact draws, at steps far shorter and longer than the interval."""
    start = torch.rand(40_000, 1, generator=torch.Generator().manual_seed(1)) * 3 - 1
    sampler = projected(ula(step_size), low=-1.0, high=2.0, how="reflect")
    result = ebm.sample(flat, sampler, init=start, steps=8, seed=2)
    assert stats.kstest(result.final.flatten().numpy(), stats.uniform(-1, 3).cdf).pvalue > FIVE_SIGMA
    assert float((result.final - start).abs().mean()) > 0.05, "they moved"


def test_clamped_ula_does_not():
    start = torch.rand(40_000, 1, generator=torch.Generator().manual_seed(1)) * 3 - 1
    result = ebm.sample(flat, projected(ula(0.1), low=-1.0, high=2.0), init=start, steps=8, seed=2)
    assert stats.kstest(result.final.flatten().numpy(), stats.uniform(-1, 3).cdf).pvalue < FIVE_SIGMA


@pytest.mark.parametrize("step_size", [0.2, 0.8])
def test_mirrored_at_a_symmetry_ula_has_the_law_of_its_absolute_value(step_size):
    """U = x^2 / 2 on x >= 0: E x^2 = 1 / (1 - eps / 2), as without the mirror."""
    sampler = projected(ula(step_size), low=0.0, how="reflect")
    result = ebm.sample(quadratic, sampler, chains=40_000, shape=(1,), steps=60, seed=3)
    x = result.final.double().flatten()
    exact = 1 / (1 - step_size / 2)
    assert abs(float((x**2).mean()) - exact) < 5 * float((x**2).std()) / math.sqrt(len(x))
    assert stats.kstest(x.numpy(), stats.halfnorm(scale=math.sqrt(exact)).cdf).pvalue > FIVE_SIGMA


def test_mirrored_at_a_symmetry_mala_is_exact():
    sampler = projected(mala(0.8), low=0.0, how="reflect")
    result = ebm.sample(quadratic, sampler, chains=40_000, shape=(1,), steps=40, seed=4)
    assert stats.kstest(result.final.flatten().numpy(), stats.halfnorm.cdf).pvalue > FIVE_SIGMA


def test_the_mass_that_clamping_leaves_on_a_bound_goes_with_the_square_root_of_the_step():
    """Half the noise's standard deviation, half the mass: 5 standard errors of the ratio 2 are 0.21.

    A mass that fell with the step itself would give 4, one that stayed 1.
    """
    mass = []
    for step_size in (0.01, 0.0025):
        sampler = projected(ula(step_size), low=0.0)
        result = ebm.sample(quadratic, sampler, chains=40_000, shape=(2,), steps=math.ceil(3 / step_size), seed=5)
        mass.append(float((result.final == 0).double().mean()))
    assert mass[1] > 0.01
    assert mass[0] / mass[1] == pytest.approx(2.0, abs=0.3)


def test_the_laws_error_falls_with_the_step_for_reflect_and_with_its_root_for_clamp():
    """The mean under exp(-3x) on [0, 1], of ULA: measured bias 1.5 eps for reflect, -0.6 sqrt(eps) for clamp.

    The tolerance is 5 standard errors, and 2 eps in the first case. Clamp's bias is 20 of them at the smaller step.
    """
    exact = 1 / 3 - math.exp(-3) / (1 - math.exp(-3))
    clamped = []
    for step_size in (0.02, 0.005):
        run = {"chains": 20_000, "shape": (2,), "init": "uniform", "steps": math.ceil(2 / step_size), "seed": 8}
        for how in ("reflect", "clamp"):
            sampler = projected(ula(step_size), low=0.0, high=1.0, how=how)
            x = ebm.sample(lambda x: 3 * x.sum(-1), sampler, **run).final.double()
            error, standard = float(x.mean()) - exact, float(x.std()) / math.sqrt(x.numel())
            if how == "reflect":
                assert abs(error) < 5 * standard + 2 * step_size
            else:
                assert error < -20 * standard
                clamped.append(error)
    assert clamped[0] / clamped[1] == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("how", ["clamp", "reflect"])
def test_what_mala_keeps_is_that_of_its_position(how):
    """At every step, to the bit: value and gradient are those of the energy where the chain is."""
    model = ebm.load("model", "double_well")(dim=2)
    energy = BoundEnergy(model, shape=(2,), temperature=0.7)
    sampler = projected(mala(0.2), low=-0.9, high=1.05, how=how)
    setting = {"dtype": torch.float32, "device": torch.device("cpu"), "step": 0, "steps": 50}
    noise = CounterNoise(Reference(), 6, range(300), stream=INIT, t=0, **setting)
    start = 3 * torch.randn(300, 2, generator=torch.Generator().manual_seed(7))
    state = sampler.init(energy, start, noise)
    assert torch.equal(state.position, sampler.init(energy, state.position, noise).position)
    noise = CounterNoise(Reference(), 6, range(300), stream=STEP, t=0, **setting)
    moved = 0
    for step in range(50):
        noise.advance(step, step)
        before = state
        state, info = sampler.step(energy, state, noise)
        value, gradient = energy.value_and_gradient(state.position)
        assert torch.equal(state.position, state.inner.position)
        assert torch.equal(state.inner.value, value)
        assert torch.equal(state.inner.gradient, gradient)
        moved += int((info.lp != -value).sum())
        stood = (state.position == before.position).all(1)
        assert 0 < int(stood.sum()) < 300
    assert moved > 100, "chains were projected, and their statistics are of before that"


class Weighted(NamedTuple):
    position: Tensor
    log_weight: Tensor


class WeightedInfo(NamedTuple):
    peak: Tensor


@dataclass(frozen=True)
class Pairs:
    """A sampler with everything that is optional."""

    needs: ClassVar = frozenset({"value"})
    ensemble_size: ClassVar = 96
    keep: ClassVar = ("log_weight",)
    reduce: ClassVar = {"peak": "max"}

    def init(self, energy, position, noise):
        return Weighted(position, torch.zeros(len(position)))

    def step(self, energy, state, noise):
        x = noise.perturb_(state.position, 0.5)
        return Weighted(x, state.log_weight + 1), WeightedInfo(torch.full((len(x),), float(noise.step)))


def test_the_host_sees_the_inner_samplers_abilities():
    sampler = projected(Pairs(), low=-1.0)
    result = ebm.sample(quadratic, sampler, chains=960, shape=(1,), steps=8, draws=2, seed=1, chunk_size=100)
    assert result.provenance["plan"]["grain"] == 192, "the least common multiple of 64 and 96"
    assert result.stats["peak"][0].tolist() == [3.0, 7.0]
    weight = result.read("state.log_weight")
    assert weight.min() == 0, "moved in this very step"
    assert weight.max() == 8, "never moved"
    with pytest.raises(ebm.InputError, match="ensemble_size 96"):
        ebm.sample(quadratic, sampler, chains=100, shape=(1,), steps=8)


def test_a_score_model_will_do_for_ula_and_not_for_mala():
    class Score:
        def gradient(self, x):
            return x

    run = {"chains": 10, "shape": (2,), "steps": 3}
    assert ebm.sample(Score(), projected(ula(0.1), low=0.0), **run).final.shape == (10, 2)
    with pytest.raises(ebm.InputError, match="must have the energy's value"):
        ebm.sample(Score(), projected(mala(0.1), low=0.0), **run)


def test_as_a_table_with_a_table_inside():
    table = ebm.use("projected", sampler=ebm.use("ula", step_size=0.1), low=0, high=1, how="reflect")
    run = {"chains": 200, "shape": (2,), "steps": 5, "seed": 1}
    one = ebm.sample(quadratic, table, **run)
    two = ebm.sample(quadratic, projected(ula(0.1), low=0.0, high=1.0, how="reflect"), **run)
    assert torch.equal(one.final, two.final)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "`low` or `high` must be set; got neither"),
        ({"low": 1.0, "high": 0.0}, "`low` must be < `high`; got 1.0 and 0.0"),
        ({"low": 0.0, "how": "mirror"}, "`how` must be 'clamp' or 'reflect'; got the string 'mirror'"),
        ({"low": math.inf}, "`low` must be finite"),
    ],
)
def test_settings_are_checked(settings, message):
    table = ebm.use("projected", sampler=ebm.use("ula", step_size=0.1), **settings)
    with pytest.raises(ebm.SettingsError, match=message) as caught:
        ebm.sample(quadratic, table, chains=10, shape=(2,), steps=1)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ the same bits

SAMPLERS = {
    "ula clamp": projected(ula(0.01), low=-0.8, high=0.9),
    "ula reflect": projected(ula(0.01), low=-0.8, high=0.9, how="reflect"),
    "ula mirror": projected(ula(0.01), high=0.4, how="reflect"),
    "mala clamp": projected(mala(0.1), low=-0.8, high=0.9),
    "mala reflect": projected(mala(0.1), low=-0.8, high=0.9, how="reflect"),
}


def draw(energy, sampler, **settings):
    model, shape = ENERGIES[energy]
    arguments = {"chains": 2001, "shape": shape, "steps": 10, "draws": 2, "seed": 11, **settings}
    return ebm.sample(model, SAMPLERS[sampler], **arguments)


@pytest.mark.parametrize("energy", ENERGIES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_executors_workers_and_chunk_sizes_do_not_matter(energy, sampler):
    serial = digest(draw(energy, sampler, executor="serial", chunk_size=2001))
    for size in (64, 1000, 2001):
        for workers in (1, 3):
            result = draw(energy, sampler, executor=ebm.use("threads", workers=workers), chunk_size=size)
            assert digest(result) == serial
