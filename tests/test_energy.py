"""The energy around a user's callable: gradients, temperature, conditions, ownership, and what it refuses."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from ebmcore.energy import BoundEnergy, frozen, place
from ebmcore.energy_checks import check_energy, check_model
from ebmcore.errors import EbmcoreWarning, EnergyError

X = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))


def quartic(x):
    return ((x**2 - 1) ** 2).sum(-1)


class ScoreOnly:
    def gradient(self, x):
        return x


class ClosedForm:
    def __call__(self, x):
        return 0.5 * (x**2).sum(-1)

    def gradient(self, x):
        return x


class Pair:
    def value_and_gradient(self, x):
        return 0.5 * (x**2).sum(-1), x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.SELU(), nn.Linear(8, 1))

    def forward(self, x):
        return self.layers(x).squeeze(-1)


def bound(model, shape=(2,), **settings):
    return BoundEnergy(model, shape=shape, **settings)


def test_gradient_by_autograd_is_the_derivative():
    torch.testing.assert_close(bound(quartic).gradient(X), 4 * X * (X**2 - 1))


@pytest.mark.parametrize("model", [ScoreOnly(), ClosedForm(), Pair()])
def test_a_closed_form_is_preferred_and_owned_by_the_caller(model):
    energy = bound(model)
    x = X.clone()
    gradient = energy.gradient(x)
    assert torch.equal(gradient, X)
    gradient.zero_()
    assert torch.equal(x, X), "overwriting a gradient changed the positions"
    assert energy.gradient_source == "closed_form"


def test_autograd_results_can_be_overwritten_even_where_torch_expands_them():
    gradient = bound(lambda x: x.sum(-1)).gradient(X)
    gradient.mul_(2)
    assert torch.equal(gradient, torch.full_like(X, 2.0))


def test_results_are_detached():
    energy = bound(Net())
    value, gradient = energy.value_and_gradient(X)
    assert not value.requires_grad
    assert not gradient.requires_grad
    assert not energy.value(X).requires_grad


@pytest.mark.parametrize("model", [quartic, ClosedForm(), Pair()])
def test_temperature_divides_value_and_gradient(model):
    warm, plain = bound(model, temperature=4.0), bound(model)
    torch.testing.assert_close(warm.value(X), plain.value(X) / 4)
    torch.testing.assert_close(warm.gradient(X), plain.gradient(X) / 4)


def test_conditions_follow_their_chains_and_over_replaces_one_for_a_call():
    def energy(x, *, centre, scale):
        return scale * ((x - centre) ** 2).sum(-1)

    centre = torch.arange(5.0)[:, None]
    whole = bound(energy, condition={"centre": centre}, shared={"scale": torch.tensor(2.0)})
    torch.testing.assert_close(whole.value(X), 2 * ((X - centre) ** 2).sum(-1))
    index = torch.tensor([4, 0, 4])
    torch.testing.assert_close(whole.select(index).value(X[:3]), 2 * ((X[:3] - centre[index]) ** 2).sum(-1))
    torch.testing.assert_close(whole.rows(1, 3).value(X[:2]), 2 * ((X[:2] - centre[1:3]) ** 2).sum(-1))
    torch.testing.assert_close(whole.value(X, scale=torch.tensor(0.0)), torch.zeros(5))
    torch.testing.assert_close(whole.gradient(X, centre=X), torch.zeros(5, 2))


def test_a_scalar_position_has_no_axis_but_the_chains():
    energy = bound(lambda x: x**2, shape=())
    assert energy.gradient(torch.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]


def test_float64_energies_keep_the_precision_of_the_positions():
    energy = bound(lambda x: (x**2).sum(-1).double(), dtype=torch.float32)
    assert energy.value(X).dtype == energy.gradient(X).dtype == torch.float32
    exact = bound(quartic, dtype=torch.float64)
    assert exact.gradient(X.double()).dtype == torch.float64


def test_place_copies_only_what_does_not_fit():
    net = Net()
    cpu = torch.device("cpu")
    assert place(net, cpu, torch.float32) is net
    double = place(net, cpu, torch.float64)
    assert double is not net
    assert all(p.dtype == torch.float64 for p in double.parameters())
    assert place(net, cpu, torch.float32, own=True) is not net
    assert all(p.dtype == torch.float32 and p.requires_grad for p in net.parameters())


def test_frozen_restores_exactly_what_it_held_back():
    net = Net()
    net.layers[0].weight.requires_grad_(False)
    before = [p.requires_grad for p in net.parameters()]

    def fail():
        with frozen(net):
            assert not any(p.requires_grad for p in net.parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.requires_grad for p in net.parameters()] == before


# ------------------------------------------------------------------ what a wrong energy is told


def batch_mean(x):
    return ((x - x.mean(0)) ** 2).sum(-1)


class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x):
        return self.layer(x).squeeze(-1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: (x**2).sum(), r"got \[\]\. Return one energy a chain, not their sum"),
        (lambda x: (x**2).sum(-1, keepdim=True), r"got \[5, 1\]\. Drop the last axis with \.squeeze\(-1\)"),
        (lambda x: x**2, r"got \[5, 2\]\. Sum over the position's axes"),
        (lambda x: (x**2).sum(0), r"must be a tensor of shape \[n\], here \[5\]"),
        (lambda x: 1.0, "got float. Return a torch tensor"),
        (lambda x: (x.detach() ** 2).sum(-1), "differentiable in x; got a result without a graph"),
        (lambda x: torch.zeros(len(x)), "differentiable in x"),
        (batch_mean, "its own chain alone; got results that change when other chains leave"),
        (Raises(), r"must accept positions \[5, 2\].*it raised RuntimeError: mat1 and mat2"),
    ],
)
def test_a_wrong_energy_is_refused_with_its_mend(model, message):
    with pytest.raises(EnergyError, match=message) as caught:
        check_energy(bound(model), X, gradient=True)
    assert "\n" not in str(caught.value)


def test_a_wrong_gradient_shape_is_refused():
    class Wrong:
        def gradient(self, x):
            return x.sum(-1)

    with pytest.raises(EnergyError, match=r"gradient must be a tensor of shape \[n, \*shape\], here \[5, 2\]"):
        check_energy(bound(Wrong()), X, gradient=True)


def test_batch_norm_in_training_mode_is_refused_before_it_changes_its_buffers():
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0))
    before = net[1].running_mean.clone()
    with pytest.raises(EnergyError, match=r"evaluation mode.*'1'\. Call \.eval\(\)"):
        check_energy(bound(net), X, gradient=True)
    assert torch.equal(net[1].running_mean, before)
    check_energy(bound(net.eval()), X, gradient=True)


def test_dropout_in_training_mode_is_warned_of():
    net = nn.Sequential(nn.Linear(2, 64), nn.Dropout(0.5), nn.Linear(64, 1), nn.Flatten(0))
    torch.manual_seed(3)
    with pytest.warns(EbmcoreWarning, match="two different results at the same positions"):
        check_energy(bound(net), X, gradient=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_energy(bound(net.eval()), X, gradient=True)


def test_a_score_model_has_no_value():
    check_energy(bound(ScoreOnly()), X, gradient=True)
    with pytest.raises(EnergyError, match="a model with a gradient alone"):
        bound(ScoreOnly()).value(X)


def test_what_is_neither_callable_nor_has_a_gradient_is_no_energy():
    with pytest.raises(EnergyError, match="must be callable"):
        check_model(3)

    class NoForward(nn.Module):
        pass

    with pytest.raises(EnergyError, match="must be callable"):
        check_model(NoForward())


def test_energies_in_use_pass():
    for model in (quartic, ClosedForm(), Pair(), ScoreOnly(), Net()):
        check_energy(bound(model), X, gradient=True)
    check_energy(bound(lambda x: (x != 0).float().sum(-1)), X, gradient=False)
