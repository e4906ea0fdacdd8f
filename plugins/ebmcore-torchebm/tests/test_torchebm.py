"""TorchEBM's parts in ebmcore: its energies as they are, its samplers with the same bits everywhere and their law."""

from __future__ import annotations

import math

import pytest
import torch
from torchebm.core import BaseModel, DoubleWellModel, GaussianModel
from torchebm.samplers import GradientDescentSampler, HamiltonianMonteCarlo, LangevinDynamics

import ebmcore as ebm
from ebmcore_torchebm.answering import answered

GAUSSIAN = {"mean": [0.0, 1.0], "cov": [[1.0, 0.3], [0.3, 0.5]]}
SAMPLERS = {
    "langevin": ebm.use("torchebm_langevin", step_size=0.05),
    "heun": ebm.use("torchebm_langevin", step_size=0.05, integrator="heun"),
    "clamped": ebm.use("torchebm_langevin", step_size=0.05, low=-0.5, high=2.0),
    "hmc": ebm.use("torchebm_hmc", step_size=0.3, n_leapfrog_steps=4),
    "hmc with a mass": ebm.use("torchebm_hmc", step_size=0.3, n_leapfrog_steps=4, mass=2.0),
    "gradient descent": ebm.use("torchebm_gradient_descent", step_size=0.05),
}


class Quartic(BaseModel):
    """One of a user's own, elementwise: the same bits for every cut of the chains."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, x):
        return self.strength * (x**4).sum(-1)


def run(energy, sampler, **settings):
    arguments = {"chains": 300, "shape": (2,), "steps": 6, "draws": 2, "seed": 4, **settings}
    return ebm.sample(energy, sampler, **arguments)


# ----------------------------------------------------------------------------------- energies


def test_an_instance_is_an_energy_as_it_is():
    wells = DoubleWellModel(barrier_height=1.0)
    ula = ebm.use("ula", step_size=0.01)
    one = run(wells, ula).final
    other = run(lambda x: (x.square() - 1).square().sum(-1), ula).final
    torch.testing.assert_close(one, other)


def test_a_class_by_name_takes_its_arguments_and_lists_become_tensors():
    made = ebm.load("model", "torchebm")(model="GaussianModel", arguments=GAUSSIAN)
    assert isinstance(made, GaussianModel)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    wanted = GaussianModel(torch.tensor(GAUSSIAN["mean"]), torch.tensor(GAUSSIAN["cov"]))
    assert torch.equal(made(x), wanted(x))


def test_a_class_of_ones_own_by_module_and_name(tmp_path, monkeypatch):
    (tmp_path / "my_energies.py").write_text(
        "from torchebm.core import BaseModel\n"
        "class Bowl(BaseModel):\n"
        "    def __init__(self, k: float = 1.0):\n"
        "        super().__init__()\n"
        "        self.k = k\n"
        "    def forward(self, x):\n"
        "        return 0.5 * self.k * x.square().sum(-1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    table = ebm.use("torchebm", model="my_energies:Bowl", arguments={"k": 4.0})
    result = run(table, ebm.use("ula", step_size=0.1), chains=20_000, steps=50, draws=1)
    variance = 1 / (4 * (1 - 0.1 * 4 / 2))
    # Standard error of a variance: sqrt(2 / n) of it.
    assert bool(((result.final.var(0) - variance).abs() < 5 * variance * math.sqrt(2 / 20_000)).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "Gausian"}, "`model` must name a class of torchebm.core"),
        ({"model": "no_such_module:A"}, "No module named 'no_such_module'"),
        ({"model": "torch.nn:Linear"}, "must name a subclass of torchebm.core.BaseModel"),
        ({"model": "GaussianModel"}, "`arguments` must suit GaussianModel; got: TypeError"),
        ({"model": "DoubleWellModel", "arguments": {"height": 2.0}}, "`arguments` must suit DoubleWellModel"),
    ],
)
def test_a_wrong_name_or_argument_is_refused_in_a_line(settings, message):
    with pytest.raises(ebm.SettingsError) as caught:
        run(ebm.use("torchebm", **settings), ebm.use("ula", step_size=0.1))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------- samplers


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_bits_with_any_workers_chunks_and_device_lists(name):
    whole = run(Quartic(), SAMPLERS[name], chunk_size=1000, devices=["cpu"])
    torch.manual_seed(99)  # what torch's own generator holds has no part in it
    for settings in ({"chunk_size": 64, "devices": ["cpu:0", "cpu:1"]}, {"chunk_size": 128}):
        assert torch.equal(run(Quartic(), SAMPLERS[name], **settings).draws, whole.draws)


@pytest.mark.parametrize("name", ["langevin", "hmc"])
def test_the_same_bytes_after_a_resume(name, tmp_path):
    whole = run(Quartic(), SAMPLERS[name], out=tmp_path / "whole", chunk_size=64)
    run(Quartic(), SAMPLERS[name], out=tmp_path / "run", chunk_size=64)
    log = tmp_path / "run" / "commits.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))
    (tmp_path / "run" / "summary.json").unlink()
    resumed = run(Quartic(), SAMPLERS[name], out=tmp_path / "run", chunk_size=64, resume=True)
    assert torch.equal(resumed.draws, whole.draws)


def test_torchs_own_generator_is_left_alone():
    before = torch.get_rng_state()
    for sampler in SAMPLERS.values():
        run(Quartic(), sampler)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_langevin_is_ula_with_the_same_random_numbers(precision):
    settings = {"precision": precision, "steps": 20, "draws": 20}
    ours = run(Quartic(0.3), ebm.use("ula", step_size=0.01, noise_scale=0.7), **settings)
    theirs = run(Quartic(0.3), ebm.use("torchebm_langevin", step_size=0.01, noise_scale=0.7), **settings)
    torch.testing.assert_close(theirs.draws, ours.draws, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["langevin", "hmc", "gradient descent"])
def test_a_step_is_what_torchebm_makes_of_the_same_numbers(name):
    """The oracle is TorchEBM: its sampler, run by itself, handed as its random numbers those that ebmcore gave."""
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
    ours = run(Quartic(), SAMPLERS[name], init=x, steps=1, draws=1)
    sampler = {
        "langevin": lambda: LangevinDynamics(Quartic(), step_size=0.05),
        "hmc": lambda: HamiltonianMonteCarlo(Quartic(), step_size=0.3, n_leapfrog_steps=4),
        "gradient descent": lambda: GradientDescentSampler(Quartic(), step_size=0.05),
    }[name]()
    with answered(_Recorded(4), x):
        wanted = sampler.sample(x, n_steps=1)
    torch.testing.assert_close(ours.final, wanted, rtol=1e-5, atol=1e-6)


class _Recorded:
    """The numbers of step 0 of a run with a seed, as a sampler of ebmcore sees them."""

    def __init__(self, seed):
        self.numbers = iter(self._draw(seed))

    def _draw(self, seed):
        from dataclasses import dataclass
        from typing import NamedTuple

        drawn = []

        class State(NamedTuple):
            position: torch.Tensor

        @dataclass(frozen=True)
        class Listen:
            def init(self, energy, position, noise):
                return State(position)

            def step(self, energy, state, noise):
                like = state.position
                drawn[:] = [noise.normal(like), noise.uniform(like[:, 0].contiguous())]
                return state, None

        ebm.sample(lambda x: x.square().sum(-1), Listen(), chains=300, shape=(2,), steps=1, seed=seed, chunk_size=1000)
        return drawn

    def normal(self, like):
        return next(self.numbers)

    def uniform(self, like):
        return next(self.numbers)


@pytest.mark.parametrize(
    ("sampler", "variance"),
    [
        # exp(-x^2 / 2) at step size e: ULA's is 1 / (1 - e / 2); HMC's is exact.
        (ebm.use("torchebm_langevin", step_size=0.2), 1 / (1 - 0.2 / 2)),
        (ebm.use("torchebm_hmc", step_size=0.5, n_leapfrog_steps=3), 1.0),
        (ebm.use("torchebm_hmc", step_size=0.5, n_leapfrog_steps=3, mass=2.0), 1.0),
    ],
)
def test_the_stationary_variance_of_a_gaussian(sampler, variance):
    result = run(lambda x: 0.5 * x.square().sum(-1), sampler, chains=20_000, steps=40, draws=1, init="normal")
    assert bool((result.final.mean(0).abs() < 5 * math.sqrt(variance / 20_000)).all())
    assert bool(((result.final.var(0) - variance).abs() < 5 * variance * math.sqrt(2 / 20_000)).all())


def test_hmc_at_a_temperature_and_its_acceptance():
    sampler = ebm.use("torchebm_hmc", step_size=0.5, n_leapfrog_steps=3)
    result = run(lambda x: 0.5 * x.square().sum(-1), sampler, chains=20_000, steps=40, draws=1, temperature=4.0)
    assert bool(((result.final.var(0) - 4.0).abs() < 5 * 4.0 * math.sqrt(2 / 20_000)).all())
    assert 0.8 < result.stats["acceptance_rate"].mean() <= 1.0


def test_clamped_positions_stay_in_their_bounds_and_gradient_descent_finds_the_minimum():
    clamped = run(Quartic(), SAMPLERS["clamped"], steps=20, draws=20)
    assert (clamped.draws.min(), clamped.draws.max()) == (-0.5, clamped.draws.max().clamp(max=2.0))
    down = run(ebm.use("torchebm", model="GaussianModel", arguments=GAUSSIAN), SAMPLERS["gradient descent"], steps=600)
    torch.testing.assert_close(down.final, torch.tensor([0.0, 1.0]).expand(300, 2), rtol=0, atol=1e-4)


def test_a_schedule_and_a_wrapper_of_other_plugins_go_with_them():
    shrinking = ebm.use("linear", start=0.1, end=0.001)
    table = ebm.use("projected", sampler=ebm.use("torchebm_langevin", step_size=shrinking), low=-1.0, high=1.0)
    assert float(run(Quartic(), table).draws.abs().max()) <= 1.0


def test_images_are_refused_by_hmc_and_sampled_by_langevin():
    def energy(x):
        return x.square().flatten(1).sum(-1)

    with pytest.raises(ebm.SamplerError, match=r"must have positions that are vectors"):
        run(energy, SAMPLERS["hmc"], shape=(1, 4, 4))
    assert run(energy, SAMPLERS["langevin"], shape=(1, 4, 4)).final.shape == (300, 1, 4, 4)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: torch.randn(3, 2), r"must draw one row a chain, here 5; got \[3, 2\]"),
        (lambda: torch.randn(()), r"must draw one row a chain, here 5; got \[\]"),
        (lambda: torch.randint(0, 2, (5,)), "got randint"),
        (lambda: torch.zeros(5).normal_(1.0, 2.0), "got normal_"),
        (lambda: torch.zeros(5).exponential_(), "got exponential_"),
    ],
)
def test_a_draw_that_cannot_be_answered_chain_by_chain_is_refused(draw, message):
    with answered(_Recorded(1), torch.zeros(5, 2)), pytest.raises(ebm.SamplerError, match=message):
        draw()


@pytest.mark.parametrize(("low", "high"), [(0.0, None), (None, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_half_a_clamp_or_an_empty_one_is_refused(low, high):
    with pytest.raises(ebm.SettingsError, match="`low` must be below `high`"):
        run(Quartic(), ebm.use("torchebm_langevin", step_size=0.1, low=low, high=high))
