"""Half precision is for the energy alone: the state stays float32, and so the law stays right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import ebmcore as ebm
from ebmcore.cli import main

HALF = ("bfloat16", "float16")


class Net(nn.Module):
    """Notes in which dtypes it is called."""

    shape = (2,)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 8)
        self.register_buffer("labels", torch.arange(3))
        self.seen = set()

    def forward(self, x, shift=None):
        self.seen |= {x.dtype, self.layer.weight.dtype, *([] if shift is None else [shift.dtype])}
        u = self.layer(x).tanh().sum(-1) + x.square().sum(-1)
        return u if shift is None else u + shift


@pytest.mark.parametrize("precision", HALF)
def test_the_variance_is_right_where_a_half_precision_state_gives_seven(precision):
    """The precision gate: 5 % of 1. The standard error of a variance of 20,000 draws is 1 %; the bias of ULA 0.05 %."""
    result = ebm.sample(
        ebm.use("gaussian"),
        ebm.use("ula", step_size=1e-3),
        chains=20_000,
        shape=(1,),
        steps=1500,
        seed=2,
        precision=precision,
    )
    assert result.final.dtype == torch.float32
    assert abs(float(result.final.var()) - 1) < 0.05


def test_the_same_steps_with_a_half_precision_state_are_wrong():
    """What the gate is for, in plain torch: the fault is seen at this step size."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(20_000, generator=generator).bfloat16()
    for _ in range(1500):
        x = x - 1e-3 * x + (2e-3**0.5 * torch.randn(len(x), generator=generator)).bfloat16()
    assert float(x.float().var()) > 1.5


@pytest.mark.parametrize("precision", HALF)
def test_the_energy_is_called_in_half_and_the_sampler_sees_float32(precision):
    net, dtype = Net(), getattr(torch, precision)
    energies = []

    class Watching:
        def init(self, energy, position, noise):
            energies.append(energy)
            return ebm.load("sampler", "ula")(step_size=0.01).init(energy, position, noise)

        def step(self, energy, state, noise):
            u, g = energy.value_and_gradient(state.position)
            assert {u.dtype, g.dtype, state.position.dtype} == {torch.float32}
            return ebm.load("sampler", "ula")(step_size=0.01).step(energy, state, noise)

    result = ebm.sample(
        net, dataclass(frozen=True)(Watching)(), chains=100, steps=5, seed=0, precision=precision, shared={}
    )
    assert result.draws.dtype == torch.float32
    assert energies[-1].model.seen == {dtype}
    assert energies[-1].model.labels.dtype == torch.int64
    assert net.layer.weight.dtype == torch.float32
    assert not net.seen


@pytest.mark.parametrize("precision", HALF)
def test_conditions_go_along(precision):
    ula = ebm.use("ula", step_size=0.01)
    run = {"chains": 100, "steps": 20, "seed": 0, "condition": {"shift": torch.linspace(0, 1, 100)}}
    half = ebm.sample(Net(), ula, precision=precision, **run)
    # The gradient is of order one, half a unit of the last place of it 1/512: over 20 steps of 0.01 less than 0.01.
    torch.testing.assert_close(half.final, ebm.sample(Net(), ula, **run).final, atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_start_in_half_precision_is_taken_as_float32_and_said_so(dtype):
    start = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    ula = ebm.use("ula", step_size=0.01)
    with pytest.warns(ebm.EbmcoreWarning, match="`init` should be float32 or float64") as caught:
        result = ebm.sample(Net(), ula, init=start, steps=5, seed=0)
    assert len(caught) == 1
    assert torch.equal(result.final, ebm.sample(Net(), ula, init=start.float(), steps=5, seed=0).final)
    with pytest.warns(ebm.EbmcoreWarning, match="positions should be float32 or float64"):
        x = ebm.Session(Net(), ula, seed=0).run(start, 5)
    assert torch.equal(x, ebm.Session(Net(), ula, seed=0).run(start.float(), 5))


def test_a_file_in_half_precision_is_taken_as_float32(tmp_path):
    start = np.linspace(-1, 1, 128, dtype=np.float16).reshape(64, 2)
    np.save(tmp_path / "start.npy", start)
    with pytest.warns(ebm.EbmcoreWarning, match="`init` should be float32"):
        result = ebm.sample(Net(), ebm.use("ula", step_size=1e-12), init=str(tmp_path / "start.npy"), steps=1, seed=0)
    np.testing.assert_allclose(result.final, start, atol=1e-4)


def test_a_run_file_and_its_record_name_it(tmp_path):
    file = tmp_path / "job.toml"
    file.write_text(
        '[model]\nuse = "mlp"\ndim = 2\nquadratic = 1.0\n[sampler]\nuse = "ula"\nstep_size = 0.01\n'
        '[run]\nchains = 64\nsteps = 5\nseed = 1\n[engine]\nprecision = "bfloat16"\n'
    )
    assert main(["run", str(file), "--quiet"]) == 0
    result = ebm.open_run(tmp_path / "runs" / "job")
    assert result.provenance["job"]["precision"] == "bfloat16"
    assert result.provenance["gradient"] == "autograd"
    assert np.load(tmp_path / "runs" / "job" / "data" / "npy" / "draws.npy").dtype == np.float32
