"""Settings that change with the step: ULA against its recurrence written out, and the same bits."""

from __future__ import annotations

import math

import pytest
import torch

import ebmcore as ebm
from ebmcore.noise import STEP, CounterNoise
from ebmcore.reference import Reference
from tests.test_same_bits import ENERGIES, digest


def quadratic(x):
    return 0.5 * 2.0 * x.square().sum(-1)


EPS = {
    "constant": (ebm.use("constant", value=0.2), lambda f: 0.2),
    "linear": (ebm.use("linear", start=0.4, end=0.1), lambda f: 0.4 - 0.3 * f),
    "cosine": (ebm.use("cosine", start=0.4, end=0.1), lambda f: 0.1 + 0.15 * (1 + math.cos(math.pi * f))),
    "exponential": (ebm.use("exponential", start=0.4, end=0.1), lambda f: 0.4 * 0.25**f),
}


@pytest.mark.parametrize("name", EPS)
def test_scheduled_ula_is_its_recurrence(name):
    """x <- (1 - 2 eps_k) x + sqrt(2 eps_k) z_k, with eps at its start through 3 steps of warmup."""
    table, eps_of = EPS[name]
    start = torch.randn(70, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    result = ebm.sample(
        quadratic,
        ebm.use("ula", step_size=table),
        init=start,
        warmup=3,
        steps=9,
        draws=9,
        seed=5,
        precision="float64",
        noise="reference",
    )
    noise = CounterNoise(
        Reference(), 5, range(70), dtype=start.dtype, device=start.device, stream=STEP, t=0, step=0, steps=9
    )
    x, path = start, []
    for t in range(12):
        step = t - 3
        noise.advance(t, step)
        eps = eps_of(max(step, 0) / 8)
        x = (1 - 2 * eps) * x + math.sqrt(2 * eps) * noise.normal(x)
        path.append(x)
    torch.testing.assert_close(result.draws, torch.stack(path[3:], 1), rtol=1e-12, atol=1e-12)


def test_a_constant_schedule_has_the_bits_of_a_plain_number():
    run = {"chains": 200, "shape": (2,), "steps": 9, "seed": 1}
    for sampler in ("ula", "mala"):
        plain = ebm.sample(quadratic, ebm.use(sampler, step_size=0.1), **run)
        named = ebm.sample(quadratic, ebm.use(sampler, step_size=ebm.use("constant", value=0.1)), **run)
        assert torch.equal(plain.final, named.final)


def test_each_stage_has_its_schedule():
    """The second of two stages is a run of its own from where the first ended, but for its noise."""

    def still(start, end):
        return ebm.use("ula", step_size=ebm.use("linear", start=start, end=end), noise_std=0.0)

    start = torch.ones(10, 1)
    stages = [ebm.Stage(still(0.4, 0.2), steps=3), ebm.Stage(still(0.1, 0.2), steps=2, draws=2)]
    result = ebm.sample(quadratic, stages, init=start, seed=1)
    first = (1 - 0.8) * (1 - 0.6) * (1 - 0.4)
    expected = [first * (1 - 0.2), first * (1 - 0.2) * (1 - 0.4)]
    torch.testing.assert_close(result.draws[3, :, 0], torch.tensor(expected))


@pytest.mark.parametrize("sampler", ["ula", "mala"])
def test_a_schedule_that_leaves_the_positive_numbers_names_the_step(sampler):
    """0.4 - 0.1 k is 0 at k = 4."""
    table = ebm.use(sampler, step_size=ebm.use("linear", start=0.4, end=-0.4))
    with pytest.raises(ebm.SamplerError) as caught:
        ebm.sample(quadratic, table, chains=10, shape=(1,), warmup=5, steps=9, seed=1)
    message = str(caught.value)
    assert message.startswith("`step_size` must be > 0 and finite at every step; got 0.0 at step 4 of 9. Choose")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (ebm.use("linear", start=0.1), "`step_size.end` must be set"),
        (ebm.use("exponential", start=0.1, end=0.0), "`step_size.end` must be > 0; got 0.0"),
        (ebm.use("linear", start=0.1, end=0.2, power=2.0), "`step_size.power` is not a setting of"),
        (-0.1, "`step_size` must be > 0; got -0.1"),
    ],
)
def test_settings_are_checked(table, message):
    with pytest.raises(ebm.SettingsError) as caught:
        ebm.sample(quadratic, ebm.use("ula", step_size=table), chains=10, shape=(1,), steps=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ the same bits


def draw(energy, sampler, **settings):
    model, shape = ENERGIES[energy]
    table = ebm.use(sampler, step_size=ebm.use("cosine", start=0.01, end=0.001))
    arguments = {"chains": 3001, "shape": shape, "warmup": 4, "steps": 12, "draws": 3, "seed": 11, **settings}
    return ebm.sample(model, table, **arguments)


@pytest.mark.parametrize("energy", ENERGIES)
@pytest.mark.parametrize("sampler", ["ula", "mala"])
def test_executors_workers_and_chunk_sizes_do_not_matter(energy, sampler):
    serial = digest(draw(energy, sampler, executor="serial", chunk_size=3001))
    for size in (64, 1000, 3001):
        for workers in (1, 3):
            result = draw(energy, sampler, executor=ebm.use("threads", workers=workers), chunk_size=size)
            assert digest(result) == serial
