"""Sampling inside a training loop."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import ebmcore as ebm

ULA = ebm.use("ula", step_size=0.1)


class Well(nn.Module):
    def __init__(self, stiffness=1.0):
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(stiffness))

    def forward(self, x, *, centre=0.0):
        return 0.5 * self.stiffness * ((x - centre) ** 2).flatten(1).sum(-1)


def test_a_session_sees_new_weights():
    well = Well(1.0)
    session = ebm.Session(well, ULA, seed=1)
    x = session.run(torch.zeros(20_000, 1), 100)
    with torch.no_grad():
        well.stiffness.fill_(4.0)
    y = session.run(x, 100)
    # Variance of the ULA recurrence, 1 / (k (1 - eps k / 2)), within 5 standard errors.
    for draws, k in ((x, 1.0), (y, 4.0)):
        exact = 1 / (k * (1 - 0.1 * k / 2))
        assert abs(float(draws.var()) - exact) < 5 * exact * math.sqrt(2 / 20_000)


def test_no_call_repeats_noise_and_calls_join_to_one_trajectory():
    whole = ebm.Session(Well(), ULA, seed=1).run(torch.zeros(100, 2), 20)
    session = ebm.Session(Well(), ULA, seed=1)
    first = session.run(torch.zeros(100, 2), 10)
    assert session.t == 10
    again = session.run(torch.zeros(100, 2), 10)
    assert not torch.equal(first, again)
    parts = ebm.Session(Well(), ULA, seed=1)
    assert torch.equal(parts.run(parts.run(torch.zeros(100, 2), 10), 10), whole)


def test_the_module_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(2, 8), nn.SELU(), nn.Linear(8, 1), nn.Flatten(0))
    net.train()
    net[0].bias.requires_grad_(False)
    net(torch.randn(4, 2)).sum().backward()
    flags = [p.requires_grad for p in net.parameters()]
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    weights = copy.deepcopy(net.state_dict())
    x = torch.randn(300, 2, requires_grad=True)
    y = ebm.Session(net, ULA, seed=1).run(x, 5)
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == flags
    for before, p in zip(grads, net.parameters(), strict=True):
        assert (before is None and p.grad is None) or torch.equal(before, p.grad)
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    assert not y.requires_grad
    assert x.grad is None


def test_positions_given_are_not_overwritten():
    x = torch.ones(100, 2)
    ebm.Session(Well(), ULA, seed=1).run(x, 3)
    assert torch.equal(x, torch.ones(100, 2))


def test_workers_and_chunks_do_not_change_a_session():
    x = torch.randn(5000, 2, generator=torch.Generator().manual_seed(1))
    one = ebm.Session(Well(), ULA, seed=3, devices=["cpu"]).run(x, 5)
    for settings in (
        {"devices": ["cpu"] * 3, "chunk_size": 640},
        {"devices": ["cpu:0", "cpu:1"], "chunk_size": 64},
        {},
    ):
        assert torch.equal(ebm.Session(Well(), ULA, seed=3, **settings).run(x, 5), one)


def test_a_session_and_a_run_give_the_same_chains():
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    run = ebm.sample(Well(), ULA, init=x, steps=7, seed=3)
    assert torch.equal(ebm.Session(Well(), ULA, seed=3).run(x, 7), run.final)


def test_first_chain_shifts_the_chains():
    x = torch.zeros(128, 2)
    whole = ebm.Session(Well(), ULA, seed=3).run(x, 5)
    second = ebm.Session(Well(), ULA, seed=3, first_chain=64).run(x[:64], 5)
    assert torch.equal(second, whole[64:])


def test_conditions_are_given_a_call():
    centre = torch.tensor([[-50.0], [50.0]]).repeat(100, 1)
    y = ebm.Session(Well(), ULA, seed=3).run(torch.zeros(200, 1), 100, centre=centre)
    assert (y[::2] < -40).all()
    assert (y[1::2] > 40).all()
    with pytest.raises(
        ebm.InputError, match=r"condition 'centre' must have one row a chain, here 3; got shape \[2, 1\]"
    ):
        ebm.Session(Well(), ULA).run(torch.zeros(3, 1), 2, centre=centre[:2])


def test_a_saved_session_goes_on():
    x = torch.zeros(100, 2)
    session = ebm.Session(Well(), ULA, seed=9)
    middle = session.run(x, 4)
    state = session.state_dict()
    end = session.run(middle, 4)
    other = ebm.Session(Well(), ULA)
    other.load_state_dict(state)
    assert torch.equal(other.run(middle, 4), end)
    with pytest.raises(ebm.InputError, match="must have seed, t and first_chain"):
        other.load_state_dict({"seed": 1})


def test_training_with_a_session_learns():
    # Contrastive divergence on N(0, 1/4): the maximum-likelihood stiffness is 4; ULA at eps = 0.01 biases it by 2 %.
    well, data = Well(1.0), 0.5 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    session = ebm.Session(well, ebm.use("ula", step_size=0.01), seed=1)
    optimizer = torch.optim.SGD(well.parameters(), lr=2.0)
    x = torch.zeros(4000, 1)
    for _ in range(80):
        x = session.run(x, 20)
        optimizer.zero_grad()
        (well(data).mean() - well(x).mean()).backward()
        optimizer.step()
    assert 3.6 < float(well.stiffness.detach()) < 4.4


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), "must be a float32 or float64 tensor"),
        (torch.zeros(0, 2), "n > 0"),
        ([1.0], "got list"),
    ],
)
def test_positions_that_cannot_be_sampled_are_refused(x, message):
    with pytest.raises(ebm.InputError, match=message):
        ebm.Session(Well(), ULA).run(x, 2)


def test_batch_norm_in_training_mode_is_refused_at_every_call():
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0)).eval()
    session = ebm.Session(net, ULA)
    session.run(torch.randn(8, 2), 2)
    net.train()
    with pytest.raises(ebm.EnergyError, match="evaluation mode"):
        session.run(torch.randn(8, 2), 2)
